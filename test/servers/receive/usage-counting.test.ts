// Records counted once, corrected and contradicted, against an oracle that keeps them all in one map: whatever is sent again,
// in whatever order, two calls at a time, over restarts and with nothing in memory but what no commit has taken.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ServerInfo, UsagePiece } from "../../../agent/model.ts";
import { ReceiverMemory } from "../../../agent/servers/receive/memory.ts";
import type { UsageRecord } from "../../../agent/servers/receive/usage-counting.ts";
import { UsageCounting } from "../../../agent/servers/receive/usage-counting.ts";
import { UsageTotals } from "../../../agent/servers/receive/usage-totals.ts";

const info: ServerInfo = { id: "gw", type: "usage-reports", family: "gateway", address: "a", pollMs: 1000 };
const clock = { now: () => 0, unixNanos: () => 1_793_491_200_000_000_000n };
const ids = ["a", "b", "c", "d", "e"];

interface Sent {
  readonly id: string;
  readonly corrects: string;
  readonly isVoid: boolean;
  readonly tokens: number;
}
const sent: fc.Arbitrary<Sent> = fc.record({
  id: fc.constantFrom(...ids),
  corrects: fc.oneof(
    { weight: 2, arbitrary: fc.constant("") },
    { weight: 1, arbitrary: fc.constantFrom(...ids) },
  ),
  isVoid: fc.boolean(),
  tokens: fc.integer({ min: 1, max: 5 }),
});

function recordOf({ corrects, id, isVoid, tokens }: Sent): UsageRecord {
  const usage = { tenant: `t-${id}`, outcome: "ok" as const, tokens: { output: tokens }, requests: 1 };
  return { id, corrects, isVoid, endTime: clock.unixNanos(), usage };
}

/** A disk: what was committed, by key. */
class Disk {
  readonly rows = new Map<string, string>();
  readonly find = async (keys: readonly string[]): Promise<ReadonlyMap<string, string>> =>
    new Map(keys.flatMap((key) => (this.rows.has(key) ? [[key, this.rows.get(key) ?? ""]] : [])));

  commit(memory: ReceiverMemory): void {
    for (const { key, value } of memory.takeChanges())
      this.rows.set((JSON.parse(key) as string[])[1] ?? "", value);
  }
}

/** What is counted when each id is new, and what the answers add up to. */
class Oracle {
  readonly #known = new Map<string, Sent & { replaced: boolean }>();
  readonly tokens = new Map<string, number>();

  take(one: Sent): "accepted" | "duplicate" | "conflict" | "refused" {
    if (one.isVoid && one.corrects === "") return "refused";
    if (one.id === one.corrects) return "refused";
    const before = this.#known.get(one.id);
    const same = before !== undefined && before.corrects === one.corrects && before.isVoid === one.isVoid;
    if (before !== undefined)
      return same && (one.isVoid || before.tokens === one.tokens) ? "duplicate" : "conflict";
    const original = this.#known.get(one.corrects);
    if (one.corrects !== "" && (original === undefined || original.replaced)) return "refused";
    if (original !== undefined) {
      original.replaced = true;
      if (!original.isVoid) this.#add(`t-${original.id}`, -original.tokens);
    }
    this.#known.set(one.id, { ...one, replaced: false });
    if (!one.isVoid) this.#add(`t-${one.id}`, one.tokens);
    return "accepted";
  }

  #add(tenant: string, tokens: number): void {
    this.tokens.set(tenant, (this.tokens.get(tenant) ?? 0) + tokens);
  }
}

describe("UsageCounting", () => {
  test("counts what an oracle counts, over restarts, with records that are sent twice at a time", async () => {
    const call = fc.record({
      records: fc.array(sent, { minLength: 1, maxLength: 4 }),
      twice: fc.boolean(),
      restart: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(call, { maxLength: 12 }), async (calls) => {
        const [disk, oracle] = [new Disk(), new Oracle()];
        const counted = new Map<string, number>();
        let memory = new ReceiverMemory("gw");
        const totals = new UsageTotals(info, 0, "e");
        const open = (): UsageCounting => new UsageCounting({ totals, clock, memory, stored: disk });
        let counting = open();
        for (const { records, restart, twice } of calls) {
          const all = records.map(recordOf);
          const answers = await Promise.all(
            Array.from({ length: twice ? 2 : 1 }, () => counting.count("gw", all)),
          );
          const verdicts = Array.from({ length: twice ? 2 : 1 }, () =>
            records.map((one) => oracle.take(one)),
          );
          for (const [index, { answer }] of answers.entries()) {
            const wanted = verdicts[index] ?? [];
            const count = (...which: string[]): number => wanted.filter((one) => which.includes(one)).length;
            expect([answer.accepted, answer.duplicates, answer.conflicts, answer.refused.length]).toEqual([
              count("accepted"),
              count("duplicate"),
              count("conflict"),
              count("refused", "conflict"),
            ]);
          }
          disk.commit(memory);
          for (const { onRecorded } of answers) onRecorded();
          for (const { takesBack, tenant = "", tokens } of totals.sample(0, "gateway").usage ?? []) {
            const amount = (takesBack === true ? -1 : 1) * (tokens.output ?? 0);
            counted.set(tenant, (counted.get(tenant) ?? 0) + amount);
          }
          if (!restart) continue;
          memory = new ReceiverMemory("gw");
          counting = open();
        }
        const nonZero = (of: ReadonlyMap<string, number>) =>
          new Map([...of].filter(([, tokens]) => tokens !== 0).sort());
        expect(nonZero(counted)).toEqual(nonZero(oracle.tokens));
      }),
    );
  });

  test("asks to send again where what was counted would no longer be known", async () => {
    const totals = new UsageTotals(info, 0, "e");
    const counting = new UsageCounting({ totals, clock, memory: new ReceiverMemory("gw"), pendingMax: 2000 });
    const ten = (call: number): UsageRecord[] =>
      Array.from({ length: 10 }, (_, index) =>
        recordOf({ id: `${call}-${index}`, corrects: "", isVoid: false, tokens: 1 }),
      );
    for (let call = 0; call < 200; call++) await counting.count("gw", ten(call));
    await expect(counting.count("gw", ten(200))).rejects.toMatchObject({ code: 14 });
    const { answer } = await counting.count("gw", []);
    expect(answer.accepted).toBe(0);
  });

  test("observes a request's duration once, whatever corrects its record", async () => {
    const totals = new UsageTotals(info, 0, "e");
    const counting = new UsageCounting({ totals, clock, memory: new ReceiverMemory("gw") });
    const record = (id: string, corrects: string, more: object): UsageRecord => {
      const sent = recordOf({ id, corrects, isVoid: false, tokens: 1 });
      return { ...sent, usage: { ...sent.usage, ...more } };
    };
    await counting.count("gw", [record("a", "", { seconds: { request_duration: 2 }, outcome: "error" })]);
    const repeated = { seconds: { request_duration: 2, time_to_first_token: 1 } };
    await counting.count("gw", [record("b", "a", repeated)]);
    const observed = totals
      .sample(0, "gateway")
      .readings.flatMap(({ latencies = {} }) =>
        Object.entries(latencies).map(([key, { count }]) => [key, count]),
      );
    expect(observed).toEqual([
      ["request_duration error", 1],
      ["time_to_first_token ok", 1],
    ]);
  });

  test("does not take back what an engine made", async () => {
    const counting = new UsageCounting({
      totals: new UsageTotals(info, 0, "e"),
      clock,
      memory: new ReceiverMemory("gw"),
      isEngine: true,
    });
    await counting.count("gw", [recordOf({ id: "a", corrects: "", isVoid: false, tokens: 1 })]);
    const { answer } = await counting.count("gw", [
      recordOf({ id: "b", corrects: "a", isVoid: true, tokens: 1 }),
    ]);
    expect(answer.refused[0]?.reason).toContain("cannot be taken back");
  });

  /** Counting over a disk, and what it counted per tenant: tokens and requests. */
  function counted() {
    const disk = new Disk();
    const memory = new ReceiverMemory("gw");
    const totals = new UsageTotals(info, 0, "e");
    const counting = new UsageCounting({ totals, clock, memory, stored: disk });
    const sums = new Map<string, [number, number]>();
    const count = async (caller: string, one: UsageRecord) => {
      const { answer, onRecorded } = await counting.count("gw", [one], caller);
      disk.commit(memory);
      onRecorded();
      for (const { requests, takesBack, tenant = "", tokens } of totals.sample(0, "gateway").usage ?? []) {
        const sign = takesBack === true ? -1 : 1;
        const [all, calls] = sums.get(tenant) ?? [0, 0];
        sums.set(tenant, [all + sign * (tokens.output ?? 0), calls + sign * requests]);
      }
      return answer;
    };
    return { count, disk, sums };
  }
  const plain = (id: string, tokens: number, corrects = "") =>
    recordOf({ id, corrects, isVoid: false, tokens });

  test("gives the tokens of a later record to a request that came without any, once", async () => {
    const { count, sums } = counted();
    const stranger: UsageRecord = { ...plain("a", 0), usage: { ...plain("a", 0).usage, tenant: "t-x" } };
    expect((await count("u", stranger)).accepted).toBe(1);
    expect((await count("u", plain("a", 5))).accepted).toBe(1);
    expect([sums.get("t-x"), sums.get("t-a")]).toEqual([
      [0, 1],
      [5, 0],
    ]);
    expect((await count("u", plain("a", 5))).duplicates).toBe(1);
    expect((await count("u", stranger)).duplicates).toBe(1);
    expect((await count("u", plain("a", 6))).conflicts).toBe(1);
    expect((await count("u", plain("b", 3, "a"))).accepted).toBe(1);
    expect(Object.fromEntries(sums)).toEqual({ "t-x": [0, 0], "t-a": [0, 0], "t-b": [3, 1] });
  });

  test("takes back what was counted as it was counted, whatever is configured since", async () => {
    const disk = new Disk();
    const instants = [1_793_491_200_000_000_000n, 1_793_491_261_234_567_890n];
    const pieces: UsagePiece[] = [];
    for (const [run, records] of [
      [plain("a", 5), { ...plain("b", 7), usage: { ...plain("b", 7).usage, upstream: "10.0.0.2" } }],
      [plain("c", 2, "a"), plain("d", 2, "b")],
    ].entries()) {
      const memory = new ReceiverMemory("gw");
      const endpoint = run === 0 ? "chat" : "batch";
      const totals = new UsageTotals({ ...info, endpoint }, 0, "e", 10, run === 0 ? ["10.0.0.1"] : undefined);
      const here = records.map((one) =>
        one.id === "a" ? { ...one, usage: { ...one.usage, upstream: "10.0.0.1" } } : one,
      );
      const now = { now: () => 0, unixNanos: () => instants[run] ?? 0n };
      const counting = new UsageCounting({ totals, clock: now, memory, stored: disk });
      const { answer } = await counting.count("gw", here);
      expect(answer.accepted).toBe(2);
      disk.commit(memory);
      pieces.push(...(totals.sample(0, "gateway").usage ?? []));
    }
    const shown = pieces.map(({ countedAt, endpoint, takesBack = false, tokens }) => {
      return [tokens.output, endpoint, countedAt, takesBack];
    });
    // Record b was of an upstream that was not counted: nothing is taken back of it.
    expect(shown).toEqual([
      [5, "chat", 1_793_491_200_000_000_000n, false],
      [5, "chat", 1_793_491_200_000_000_000n, true],
      [2, "batch", 1_793_491_261_234_000_000n, false],
      [2, "batch", 1_793_491_261_234_000_000n, false],
    ]);
  });

  test("keeps the ids of two callers apart, but knows a repeat whoever brings it", async () => {
    const { count, sums } = counted();
    const [own, other] = [plain("a", 5), plain("a", 7)];
    expect((await count("uid 1", own)).accepted).toBe(1);
    expect((await count("uid 2", own)).duplicates).toBe(1);
    expect((await count("uid 2", other)).accepted).toBe(1);
    expect((await count("uid 2", other)).duplicates).toBe(1);
    expect((await count("uid 1", other)).conflicts).toBe(1);
    expect((await count("uid 1", own)).duplicates).toBe(1);
    expect((await count("uid 3", plain("b", 1, "a"))).refused).toHaveLength(1);
    expect(sums.get("t-a")).toEqual([12, 2]);
    expect((await count("uid 2", plain("c", 1, "a"))).accepted).toBe(1);
    expect(sums.get("t-a")).toEqual([5, 1]);
  });

  test("knows what was counted before callers were told apart", async () => {
    const { count, disk, sums } = counted();
    await count("", plain("a", 5));
    expect([...disk.rows.values()].join()).not.toContain('"by"');
    expect((await count("uid 1", plain("a", 5))).duplicates).toBe(1);
    expect((await count("uid 1", plain("a", 6))).conflicts).toBe(1);
    expect((await count("uid 1", plain("b", 1, "a"))).accepted).toBe(1);
    expect(sums.get("t-a")).toEqual([0, 0]);
  });
});
