// A disk that takes no writes for a while, as one does that is frozen for a snapshot: the beat waits, the main thread, and
// with it metering, does not. An ext4 file system of our own behind a loop device, frozen by fsfreeze(8): needs root.
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { LedgerStore } from "../../../agent/store/ledger/store.ts";
import { verifyLedger } from "../../../agent/store/ledger/verify.ts";
import { ledgerPath } from "../../../agent/store/state-folder.ts";
import { booksOf, START, tokens } from "../../store/ledger/fixture.ts";

const FREEZES = 8;
/** Turns of the main thread that must pass while a beat waits. */
const TURNS = 100;
/** Were the main thread to wait too, nothing of ours could thaw the disk. */
const GUARD_SECONDS = 20;

/** A small file system and how to put it away; undefined where none can be mounted. */
function mountSmallDisk(): { readonly folder: string; readonly remove: () => void } | undefined {
  const work = mkdtempSync(join(tmpdir(), "frozen-"));
  const script = "truncate -s 64M image && mkfs.ext4 -q image && mkdir disk && mount -o loop image disk";
  const made = spawnSync("sh", ["-c", script], { cwd: work, encoding: "utf8" });
  if (made.status === 0 && spawnSync("fsfreeze", ["--version"]).status === 0) {
    const remove = (): void => {
      execFileSync("umount", ["--lazy", join(work, "disk")]);
      rmSync(work, { recursive: true, force: true });
    };
    return { folder: join(work, "disk"), remove };
  }
  if (made.status === 0) execFileSync("umount", [join(work, "disk")]);
  rmSync(work, { recursive: true, force: true });
  console.warn(`SKIPPED: no disk to freeze without root, loop devices and fsfreeze: ${made.stderr.trim()}`);
  return undefined;
}

const disk = mountSmallDisk();

test.skipIf(disk === undefined)("a beat waits for a frozen disk, and nothing else does", async () => {
  if (disk === undefined) return;
  try {
    await freezeUnder(disk.folder);
    expect(verifyLedger(ledgerPath(disk.folder)).problems).toEqual([]);
  } finally {
    disk.remove();
  }
});

async function freezeUnder(folder: string): Promise<void> {
  const books = booksOf(0);
  const store = await LedgerStore.open({ folder, pid: process.pid, freeBytesMin: 0 });
  let beats = 0;
  const commit = (): Promise<unknown> => {
    const seconds = ++beats * 10;
    const names = Array.from({ length: 2_000 }, (_, at) => tokens(`s${at}`, 1));
    books.ledger.postUntil(names, START + BigInt(seconds) * 1_000_000_000n);
    return store.commit(books.commit(START + BigInt(seconds) * 1_000_000_000n, seconds * 1e9).batch);
  };
  await commit();
  for (let freeze = 0; freeze < FREEZES; freeze++) {
    execFileSync("fsfreeze", ["--freeze", folder]);
    const guard = spawn("sh", ["-c", `sleep ${GUARD_SECONDS} && fsfreeze --unfreeze ${folder}`]);
    let isStored = false;
    const beat = commit().then(() => (isStored = true));
    for (let turn = 0; turn < TURNS; turn++) await sleep(1);
    expect(isStored).toBe(false);
    guard.kill();
    execFileSync("fsfreeze", ["--unfreeze", folder]);
    await beat;
  }
  await store.close();
}
