// shares.ts: whoever fills a bound, another caller finds room.
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { addressScope } from "../../../agent/servers/receive/callers.ts";
import { ReceiverMemory } from "../../../agent/servers/receive/memory.ts";
import { SharedBound } from "../../../agent/servers/receive/shares.ts";
import { UsageCounting } from "../../../agent/servers/receive/usage-counting.ts";
import { UsageTotals } from "../../../agent/servers/receive/usage-totals.ts";

const info = { id: "r", type: "usage-reports", family: "gateway", address: "x", pollMs: 1000 } as const;

describe("SharedBound", () => {
  test("holds its bound and a quarter, and refuses nobody who holds little because of one who holds much", () => {
    const step = fc.record({
      caller: fc.constantFrom("hog", "a"),
      by: fc.integer({ min: 1, max: 20 }),
      back: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 60 }), fc.array(step, { maxLength: 80 }), (max, steps) => {
        const bound = new SharedBound(max);
        const held = new Map<string, number>();
        const little = Math.ceil(max / 4);
        for (const { back, by, caller } of steps) {
          const own = held.get(caller) ?? 0;
          const amount = back ? -Math.min(own, by) : by;
          if (amount > 0 && !bound.has(caller, amount)) {
            // Alone it has the whole bound, beside another at least a quarter.
            const isAlone = [...held.keys()].every((one) => one === caller);
            expect(own + amount).toBeGreaterThan(isAlone ? max : little);
            continue;
          }
          bound.change(caller, amount);
          if (own + amount === 0) held.delete(caller);
          else held.set(caller, own + amount);
          const all = [...held.values()].reduce((sum, one) => sum + one, 0);
          expect(all).toBeLessThanOrEqual(max + little);
        }
      }),
    );
  });
});

describe("one caller who fills a receiver", () => {
  const clock = { now: () => 0, unixNanos: () => 10n ** 18n };
  const record = (id: string) => ({ id, endTime: 10n ** 18n, corrects: "", isVoid: false, usage: {} });

  test("of records that wait leaves others room, and more once they are stored", async () => {
    const counting = new UsageCounting({
      totals: new UsageTotals(info, 0, "e"),
      clock,
      memory: new ReceiverMemory("r"),
      stored: { find: async () => new Map() },
      pendingMax: 8,
    });
    const send = (caller: string, ids: readonly string[]) =>
      counting.count(
        "gateway",
        ids.map((id) => record(`${caller} ${id}`)),
        caller,
      );
    const ids = Array.from({ length: 8 }, (_, n) => String(n));
    const { onRecorded } = await send("uid 1", ids);
    await expect(send("uid 1", ["more"])).rejects.toMatchObject({
      details: "too many records wait to be stored",
    });
    expect((await send("uid 2", ["one", "two"])).answer).toMatchObject({ accepted: 2 });
    await expect(send("uid 2", ["three"])).rejects.toMatchObject({ details: /too many/ });
    onRecorded();
    expect((await send("uid 2", ["three"])).answer).toMatchObject({ accepted: 1 });
  });

  test("of label sets leaves names for others", () => {
    const totals = new UsageTotals(info, 0, "e", 8);
    for (let n = 0; n < 100; n++) totals.addUsage({ tenant: `made-up-${n}`, tokens: { output: 1 } }, "uid 1");
    totals.addUsage({ tenant: "acme", tokens: { output: 5 } }, addressScope);
    totals.addUsage({ tenant: "made-up-100", tokens: { output: 1 } }, "uid 1");
    const { readings } = totals.sample(0, "gateway");
    const of = (tenant: string) => readings.find((one) => one.tenant === tenant)?.tokens.output;
    expect([of("acme"), of("other")]).toEqual([5, 93]);
    expect(readings).toHaveLength(10);
  });
});
