// Losses on the audit record: each is told once, sums are complete, and a bad day fills nothing.
import { describe, expect, test } from "vitest";
import type { ToldLoss } from "../../agent/daemon/loss-record.ts";
import { LossRecord } from "../../agent/daemon/loss-record.ts";

const MINUTE = 60e9;

function loss(from: number, points: number, rest: Partial<ToldLoss> = {}): ToldLoss {
  return { from: BigInt(from), to: BigInt(from + 1), records: 1, points, why: "evicted_bytes", ...rest };
}

describe("LossRecord", () => {
  test("tells the first at once, later ones as a sum per quarter of an hour, the rest at the end", () => {
    const told: Record<string, unknown>[] = [];
    const record = new LossRecord((at, body) => told.push({ at: at / MINUTE, ...body }));
    for (let minute = 0; minute <= 40; minute++) {
      record.add(loss(minute, 10));
      record.tell(minute * MINUTE);
    }
    record.tell(41 * MINUTE, true);
    expect(told.map(({ at, from, to, points, records }) => [at, from, to, points, records])).toEqual([
      [0, "0", "1", 10, 1],
      [15, "1", "16", 150, 15],
      [30, "16", "31", 150, 15],
      [41, "31", "41", 100, 10],
    ]);
  });

  test("tells kinds apart by why, reason and destination, and says nothing without a loss", () => {
    const told: unknown[] = [];
    const record = new LossRecord((_, body) => told.push(body));
    record.tell(0);
    record.add(loss(1, 1));
    record.add(loss(1, 2, { why: "refused", reason: "UNAUTHENTICATED", destination: "main" }));
    record.add(loss(1, 4, { why: "refused", reason: "INVALID_ARGUMENT", destination: "main" }));
    record.tell(0);
    record.tell(90 * MINUTE, true);
    expect(told).toHaveLength(3);
    expect(told[1]).toEqual({
      why: "refused",
      reason: "UNAUTHENTICATED",
      destination: "main",
      from: "1",
      to: "2",
      records: 1,
      points: 2,
    });
  });

  test("drops none of many reasons: beyond 200 kinds they are told as one", () => {
    const told: Record<string, unknown>[] = [];
    const record = new LossRecord((_, body) => told.push(body));
    for (let n = 0; n < 1000; n++) record.add(loss(n, 3, { why: "refused", reason: `words ${n}` }));
    record.tell(0);
    expect(told).toHaveLength(201);
    expect(told.at(-1)).toEqual({
      why: "refused",
      reason: "other",
      from: "200",
      to: "1000",
      records: 800,
      points: 2400,
    });
  });
});
