// waiting-batch.ts: audit entries and rows wait for the disk up to a bound, and those beyond it are counted.
import { expect, test } from "vitest";
import type { AuditEntry, BucketRow } from "../../../agent/model.ts";
import { WaitingBatch } from "../../../agent/store/ledger/waiting-batch.ts";

test("says how many audit entries there was no room for", () => {
  const waiting = new WaitingBatch();
  const entries = (kind: AuditEntry["kind"], count: number): AuditEntry[] =>
    Array.from({ length: count }, (_, n) => ({ at: String(n), kind, body: {} }));
  const keep = (time: string, audit: readonly AuditEntry[]): void =>
    waiting.keepRows({ sequence: 1, time, series: [], removed: [], state: [], rows: [], closed: [], audit });
  keep("10", entries("gap", 9_999));
  expect(waiting.audit).toHaveLength(9_999);
  keep("20", [...entries("config", 1), ...entries("gap", 2), ...entries("conflict", 3)]);
  expect(waiting.audit).toHaveLength(10_001);
  expect(waiting.audit.slice(-2)).toEqual([
    { at: "0", kind: "config", body: {} },
    {
      at: "20",
      kind: "loss",
      body: { why: "too many audit entries waited for the disk", unwritten: { gap: 2, conflict: 3 } },
    },
  ]);
  waiting.rowsStored();
  expect(waiting.audit).toEqual([]);
});

test("keeps the newest form of each row, gives up the oldest buckets whole and counts their rows", () => {
  const waiting = new WaitingBatch();
  const row = (bucket: number, series: number, amount = 1n): BucketRow => ({
    bucket,
    series,
    revision: 0,
    amount,
  });
  const keep = (...rows: BucketRow[]): void =>
    waiting.keepRows({
      sequence: 1,
      time: "0",
      series: [],
      removed: [],
      state: [],
      rows,
      closed: [],
      audit: [],
    });
  keep(row(0, 1), row(0, 2), row(0, 3), row(1, 1), row(1, 2));
  keep(row(1, 2, 5n));
  expect([waiting.rows, waiting.lostRows]).toEqual([5, 0]);
  keep(row(192, 1));
  expect([waiting.rows, waiting.lostRows]).toEqual([3, 3]);
  const written: BucketRow[] = [];
  const writer = { rows: (rows: Iterable<BucketRow>) => written.push(...rows) };
  waiting.writeRows(writer as never);
  expect(written).toEqual([row(1, 1), row(1, 2, 5n), row(192, 1)]);
});
