// A ledger that was brought back from a copy is told from the one that was last written.
import { copyFileSync, mkdtempSync, renameSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterAll, describe, expect, test } from "vitest";
import { fileIdentity, isCopy, isSameFile } from "../../../agent/store/ledger/file-identity.ts";
import { LedgerGone } from "../../../agent/store/ledger/files.ts";
import { ledgerPath } from "../../../agent/store/state-folder.ts";
import { Bookkeeper, temporaryFolder, tokens } from "./fixture.ts";
import { LedgerAtOnce } from "./ledger-at-once.ts";

const root = mkdtempSync(join(tmpdir(), "identity-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

describe("isCopy()", () => {
  test("knows a file through writes and a move, and tells a copy in its place, written to or not", async () => {
    const path = join(root, "a");
    writeFileSync(path, "one");
    await new Promise((resolve) => setImmediate(resolve));
    let identity: string | undefined;
    for (let i = 0; i < 1000 && identity === undefined; i++) {
      writeFileSync(path, "two");
      identity = fileIdentity(path);
    }
    // Some file systems say nothing of birth: then nothing may be claimed either.
    if (identity === undefined) return expect(isCopy(path, undefined)).toBe(false);
    renameSync(path, join(root, "b"));
    expect(isCopy(join(root, "b"), identity)).toBe(false);
    copyFileSync(join(root, "b"), path);
    expect(isCopy(path, identity)).toBe(true);
    writeFileSync(path, "three");
    expect(isCopy(path, identity)).toBe(true);
    expect(isCopy(path, undefined)).toBe(false);
  });

  test("a path that is gone is not the same file", () => {
    expect(isSameFile(join(root, "nowhere"), 1n)).toBe(false);
  });
});

describe("LedgerDatabase", () => {
  function committed(folder: string): void {
    for (const seconds of [0, 20]) {
      const keeper = new Bookkeeper(folder, { seconds });
      keeper.post(seconds + 5, tokens("a", 100));
      keeper.beat(seconds + 10);
      keeper.close();
    }
  }

  function isCopied(folder: string): boolean {
    const ledger = new LedgerAtOnce({ folder, pid: 1, freeBytesMin: 0 });
    const { copiedAt } = ledger.opened;
    ledger.close();
    return copiedAt !== undefined && Date.now() - copiedAt < 60_000;
  }

  test("says that it was opened on a copy until the totals that follow from it are stored", () => {
    const { folder, remove } = temporaryFolder();
    committed(folder);
    expect(isCopied(folder)).toBe(false);
    const path = ledgerPath(folder);
    copyFileSync(path, `${path}.backup`);
    renameSync(path, `${path}.newer`);
    copyFileSync(`${path}.backup`, path);
    expect([isCopied(folder), isCopied(folder)]).toEqual([true, true]);
    const keeper = new Bookkeeper(folder, { seconds: 40 });
    keeper.post(45, tokens("a", 1));
    keeper.beat(50);
    keeper.close();
    expect(isCopied(folder)).toBe(false);
    remove();
  });

  test("knows its file after a first beat that was taken back as a whole", () => {
    const { folder, remove } = temporaryFolder();
    const keeper = new Bookkeeper(folder);
    const other = new DatabaseSync(ledgerPath(folder), { timeout: 0 });
    // Rows are stored last: by then the file's identity was written in the same transaction.
    other.exec(
      "CREATE TRIGGER refuse BEFORE INSERT ON open_pages BEGIN SELECT raise(ABORT, 'disk is full'); END",
    );
    keeper.post(5, tokens("a", 100));
    expect(() => keeper.beat(10)).toThrow("disk is full");
    other.exec("DROP TRIGGER refuse");
    keeper.beat(20);
    const identity = fileIdentity(ledgerPath(folder));
    const kept = other.prepare("SELECT value FROM meta WHERE key = 'file'").get();
    other.close();
    keeper.close();
    expect(kept?.["value"]).toBe(identity);
    remove();
  });

  test("takes no beat once its journal was removed or replaced under it, and loses none of those before", () => {
    for (const act of [unlinkSync, (path: string) => renameSync(path, `${path}.old`)]) {
      const { folder, remove } = temporaryFolder();
      const keeper = new Bookkeeper(folder);
      for (const seconds of [10, 20]) {
        keeper.post(seconds - 5, tokens("a", 100));
        keeper.beat(seconds);
      }
      act(`${ledgerPath(folder)}-wal`);
      expect(() => keeper.beat(30)).toThrow(LedgerGone);
      keeper.close();
      const ledger = new LedgerAtOnce({ folder, pid: 1, freeBytesMin: 0 });
      expect(ledger.opened.restored?.series).toMatchObject([{ total: "200" }]);
      ledger.close();
      remove();
    }
  });

  test("takes no beat once its file was removed under it", () => {
    const { folder, remove } = temporaryFolder();
    const keeper = new Bookkeeper(folder);
    keeper.post(5, tokens("a", 100));
    keeper.beat(10);
    unlinkSync(ledgerPath(folder));
    keeper.post(15, tokens("a", 100));
    expect(() => keeper.beat(20)).toThrow(LedgerGone);
    keeper.close();
    remove();
  });
});
