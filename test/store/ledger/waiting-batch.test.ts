// waiting-batch.ts: audit entries wait for the disk up to a bound, and those beyond it are on record as a sum.
import { expect, test } from "vitest";
import type { AuditEntry } from "../../../agent/model.ts";
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
