// A ledger that was not closed, in a folder where nothing can be made: read from a copy, or refused in words.
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { LedgerReader } from "../../../agent/store/ledger/reader.ts";
import { verifyLedger } from "../../../agent/store/ledger/verify.ts";
import { ledgerPath } from "../../../agent/store/state-folder.ts";
import { Bookkeeper, START, temporaryFolder, tokens } from "./fixture.ts";

const removing: (() => void)[] = [];
afterEach(() => {
  for (const remove of removing.splice(0)) remove();
});

/** A ledger as a killed agent leaves it: its last beats are in the journal alone. */
function leftOpen(): string {
  const [{ folder, remove }, left] = [temporaryFolder(), temporaryFolder()];
  removing.push(remove, left.remove);
  const keeper = new Bookkeeper(folder);
  keeper.post(5, tokens("a", 100));
  keeper.beat(10);
  for (const suffix of ["", "-wal"]) cpSync(ledgerPath(folder) + suffix, ledgerPath(left.folder) + suffix);
  keeper.close();
  // In the place of the index no file can be made, as in a folder that cannot be written, whoever runs this.
  mkdirSync(`${ledgerPath(left.folder)}-shm`);
  return left.folder;
}

test("report and verify read a ledger with a leftover journal in a folder that cannot be written, and change nothing", () => {
  const folder = leftOpen();
  const path = ledgerPath(folder);
  const before = readFileSync(`${path}-wal`);
  const copies = (): string[] => readdirSync(tmpdir()).filter((name) => name.startsWith("tokenwatt-ledger-"));
  const there = copies().length;
  const reader = new LedgerReader(path);
  const series = reader.series(new Set(["tokenwatt.tokens"]));
  const bucket = Number(START / 900_000_000_000n);
  expect([...reader.sums(bucket, bucket + 1, series).values()]).toEqual([100n]);
  reader.close();
  expect(verifyLedger(path).problems).toEqual([]);
  expect(readFileSync(`${path}-wal`).equals(before)).toBe(true);
  expect(copies()).toHaveLength(there);
});

test("a ledger that cannot be read at all is refused with what to do", () => {
  const { folder, remove } = temporaryFolder();
  removing.push(remove);
  writeFileSync(ledgerPath(folder), "no ledger at all, and long enough to be taken for one".repeat(100));
  expect(() => new LedgerReader(ledgerPath(folder))).toThrow(
    expect.objectContaining({
      kind: "misconfigured",
      message: expect.stringMatching(/^Cannot read ledger /),
    }),
  );
  expect(existsSync(join(folder, "ledger.db-shm"))).toBe(false);
});
