// access-record.ts: tallies of listeners become one entry for each bucket, over kills too.
import { expect, test } from "vitest";
import { AccessRecord } from "../../agent/daemon/access-record.ts";
import type { StateRow } from "../../agent/model.ts";
import { AccessCounts } from "../../agent/platform/access-counts.ts";

const START = 1_793_491_200_000_000_000n;
const unixNanos = (at: number): bigint => START + BigInt(at);
const seconds = (n: number): number => n * 1e9;
const unix = (n: number): string => String(unixNanos(seconds(n)));

function keeper(now = 0, restored: readonly StateRow[] = []) {
  const entries: unknown[] = [];
  const books = { noteAudit: (...entry: unknown[]) => void entries.push(entry) };
  return { entries, record: new AccessRecord(books, unixNanos, now, restored) };
}

test("a bucket's calls become one entry for each listener; a quiet listener has none", () => {
  const { entries, record } = keeper();
  record.take("server:usage", [{ caller: "loopback uid 7", result: "ok", calls: 3 }]);
  record.take("http", []);
  record.writeDue(seconds(10));
  record.take("server:usage", [
    { caller: "loopback uid 7", result: "ok", calls: 2 },
    { caller: "loopback uid 7", result: "refused", calls: 1 },
    { caller: "bearer:01234567", result: "ok", calls: 1 },
  ]);
  record.writeDue(seconds(890));
  expect(entries).toEqual([]);
  record.writeDue(seconds(905));
  record.writeDue(seconds(1900));
  const callers = { "loopback uid 7": { ok: 5, refused: 1 }, "bearer:01234567": { ok: 1 } };
  expect(entries).toEqual([
    ["access", seconds(905), { listener: "server:usage", from: unix(0), to: unix(905), callers }],
  ]);
});

test("an agent that was killed goes on with what was committed, and one that stops writes the rest", () => {
  const first = keeper();
  first.record.take("http", [{ caller: "loopback", result: "ok", calls: 4 }]);
  const stored = first.record.takeChanges();
  expect(first.record.takeChanges()).toEqual([]);
  const next = keeper(seconds(60), stored);
  next.record.take("http", [{ caller: "loopback", result: "ok", calls: 1 }]);
  next.record.writeDue(seconds(70), true);
  const body = { listener: "http", from: unix(0), to: unix(70), callers: { loopback: { ok: 5 } } };
  expect(next.entries).toEqual([["access", seconds(70), body]]);
  expect(next.record.takeChanges()).toEqual([{ key: '["access"]', value: "" }]);
  expect(keeper(0, [{ key: '["access"]', value: "{" }]).entries).toEqual([]);
});

test("callers are fifty at most, the rest is `other`; names are one line of printable text", () => {
  const counts = new AccessCounts();
  for (let n = 0; n < 200; n++) counts.count(`address 10.0.0.${n}`, "refused");
  counts.count("address 10.0.0.1", "ok");
  const all = counts.take();
  expect(all).toHaveLength(52);
  expect(all.reduce((sum, { calls }) => sum + calls, 0)).toBe(201);
  expect(all).toContainEqual({ caller: "other", result: "refused", calls: 150 });
  counts.count("certificate C=DE\nCN=a\u0007", "ok");
  expect(counts.take()).toEqual([{ caller: "certificate C=DE, CN=a?", result: "ok", calls: 1 }]);
});
