// verify.ts: a changed byte is found and named, wherever it is; a rewritten history needs the heads that left.
import { copyFileSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { ChainHead, Verdict } from "../../../agent/store/ledger/verify.ts";
import { verifyLedger } from "../../../agent/store/ledger/verify.ts";
import { LedgerWriter } from "../../../agent/store/ledger/writer.ts";
import { ledgerPath } from "../../../agent/store/state-folder.ts";
import { Bookkeeper, temporaryFolder, tokens } from "./fixture.ts";

const whole = temporaryFolder();
const heads: ChainHead[] = [];
let folder: string;
let remove: () => void;

beforeAll(() => {
  const keeper = new Bookkeeper(whole.folder);
  for (let at = 0; at < 100; at++) {
    keeper.post(at * 900 + 10, tokens("a", 100 + at), tokens("b", 7));
    heads.push(keeper.beat(at * 900 + 20).stored.head);
  }
  keeper.close();
});
afterAll(() => whole.remove());
beforeEach(() => {
  ({ folder, remove } = temporaryFolder());
  copyFileSync(ledgerPath(whole.folder), ledgerPath(folder));
});
afterEach(() => remove());

function bend(sql: string): Verdict {
  const database = new DatabaseSync(ledgerPath(folder));
  database.exec(sql);
  database.close();
  return verifyLedger(ledgerPath(folder));
}

describe("verifyLedger()", () => {
  it("finds nothing in a sound ledger", () => {
    const verdict = verifyLedger(ledgerPath(folder), heads);
    expect(verdict).toMatchObject({ problems: [], buckets: 99, days: 1, series: 2 });
    expect(verdict.records).toBeGreaterThan(99);
  });
  it.each([
    [
      "UPDATE closed_rows SET amount = amount + 1 WHERE series = 1 AND bucket = (SELECT min(bucket) + 5 FROM closed_rows)",
      /bucket 2026-11-01T01:15Z, series 1 tokenwatt\.tokens .*"a"/,
    ],
    [
      "DELETE FROM closed_rows WHERE series = 2 AND bucket = (SELECT min(bucket) FROM closed_rows)",
      /bucket 2026-11-01T00:00Z/,
    ],
    [
      "UPDATE total_pages SET totals = json_set(totals, '$[2]', (totals ->> 2) - 1)",
      /series 2 tokenwatt\.tokens/,
    ],
    ["UPDATE total_pages SET totals = replace(totals, ',', ';')", /^series$/m],
    [`UPDATE names SET dimensions = replace(dimensions, '"a"', '"c"')`, /series 1/],
    ["UPDATE days SET amount = amount + 1 WHERE series = 1", /rollup of 2026-11-01, series 1/],
    [
      `UPDATE audit SET body = replace(body, '"rows":2', '"rows":3') WHERE sequence = 17`,
      /audit record 17 \(close\)/,
    ],
    ["UPDATE audit SET hash = replace(hash, 'a', 'b') WHERE sequence = 30", /audit record 30/],
    ["DELETE FROM audit WHERE sequence = 12", /audit record 13/],
    [
      "UPDATE buckets SET digest = replace(digest, 'a', 'b') WHERE bucket = (SELECT min(bucket) FROM buckets)",
      /bucket 2026-11-01T00:00Z/,
    ],
    ["UPDATE state SET value = value || ' '", /state \["capacity"\]/],
  ])("pinpoints %s", (sql, where) => {
    const { problems } = bend(sql);
    expect(problems.map((problem) => problem.where).join("\n")).toMatch(where);
  });
  it("finds a rewritten history that is consistent in itself, by a head that left the host", () => {
    const database = new DatabaseSync(ledgerPath(folder));
    const entries = database.prepare("SELECT at, kind, body FROM audit ORDER BY sequence").all();
    database.exec("DELETE FROM audit");
    const writer = new LedgerWriter(database);
    for (const { at, kind, body } of entries) {
      writer.audit({ at: `${at}1`, kind: kind as "close", body: JSON.parse(String(body)) });
    }
    database.close();
    expect(verifyLedger(ledgerPath(folder)).problems).toEqual([]);
    expect(verifyLedger(ledgerPath(folder), heads).problems[0]?.message).toContain("rewritten");
  });
  it("finds a record cut off at the end, by a head that left the host", () => {
    const database = new DatabaseSync(ledgerPath(folder));
    database.exec("DELETE FROM audit WHERE sequence > 50");
    database.close();
    expect(
      verifyLedger(ledgerPath(folder), heads).problems.some((one) =>
        one.message.includes("chain ends at 50"),
      ),
    ).toBe(true);
  });
});
