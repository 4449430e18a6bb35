// A truly full disk: a small tmpfs in a mount namespace of our own, which needs no root where user namespaces are on.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const SHELL = 'mount -t tmpfs -o size="$3" tmpfs "$0" && exec "$1" "$2" "$0"';

/** What a child prints that has a disk of this size to itself. */
function onSmallDisk(name: string, size: string): Record<string, unknown> {
  const folder = mkdtempSync(join(tmpdir(), "full-"));
  const child = fileURLToPath(new URL(name, import.meta.url));
  const words = ["-rm", "sh", "-c", SHELL, folder, process.execPath, child, size];
  const output = execFileSync("unshare", words, { encoding: "utf8" });
  rmSync(folder, { recursive: true, force: true });
  console.log(output.trim());
  return JSON.parse(output) as Record<string, unknown>;
}

function hasNamespaces(): boolean {
  const tried = spawnSync("unshare", ["-rm", "true"], { encoding: "utf8" });
  if (tried.status === 0) return true;
  console.warn(
    `SKIPPED: no small disk without user and mount namespaces: ${tried.error?.message ?? tried.stderr.trim()}`,
  );
  return false;
}

test.skipIf(!hasNamespaces())(
  "a full disk costs nothing it was not told to cost, and the spool returns to disk",
  () => {
    const seen = onSmallDisk("disk-full-child.ts", "4m");
    expect(seen["freeWhenFull"]).toBe(0);
    expect(seen).toMatchObject({
      missingWhenFull: 0,
      newestWhenFull: 250,
      newestAfter: 350,
      ascending: true,
    });
    expect((seen["lossesAfter"] as { why: string }[]).every((loss) => loss.why === "disk_full")).toBe(true);
  },
);

test.skipIf(!hasNamespaces())(
  "a full disk stops no commit of totals, and the ledger is whole afterwards",
  () => {
    const seen = onSmallDisk("ledger-full-child.ts", "24m");
    expect(seen["freeWhenFull"]).toBeLessThanOrEqual(4096);
    expect(seen).toMatchObject({ beats: 1504, failed: 0, lostTokens: 0, healed: "all", problems: 0 });
  },
);
