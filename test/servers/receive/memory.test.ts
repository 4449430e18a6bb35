import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { SourceMemory } from "../../../agent/daemon/source-memory.ts";
import type { StateRow } from "../../../agent/model.ts";
import { LastPoints } from "../../../agent/servers/otlp/last-points.ts";
import { MetricsReader } from "../../../agent/servers/otlp/metrics.ts";
import { SeriesTable } from "../../../agent/servers/otlp/series.ts";
import { ReceiverMemory } from "../../../agent/servers/receive/memory.ts";
import { SeenIds } from "../../../agent/servers/receive/seen-ids.ts";
import { UsageTotals } from "../../../agent/servers/receive/usage-totals.ts";
import type { MetricSpec } from "../otlp-messages.ts";
import { metricsRequest } from "../otlp-messages.ts";

/** State rows as the ledger keeps them. */
function store(): { readonly rows: () => StateRow[]; commit(changes: readonly StateRow[]): void } {
  const kept = new Map<string, string>();
  return {
    rows: () => [...kept].map(([key, value]) => ({ key, value })),
    commit: (changes) => {
      for (const { key, value } of changes) value === "" ? kept.delete(key) : kept.set(key, value);
    },
  };
}

describe("SeenIds", () => {
  const bounds = { idsMax: 3000, seconds: 100 };

  test("knows over any restarts what was committed, and nothing else", () => {
    fc.assert(
      fc.property(fc.array(fc.array(fc.nat(2500), { maxLength: 300 }), { maxLength: 12 }), (runs) => {
        const disk = store();
        const known = new Set<number>();
        for (const ids of runs) {
          const memory = new ReceiverMemory("one", disk.rows());
          const seen = new SeenIds(memory, "ids", bounds);
          for (const id of ids) {
            expect(seen.remember(String(id), 5)).toBe(!known.has(id));
            known.add(id);
          }
          disk.commit(memory.takeChanges());
        }
      }),
      { numRuns: 30 },
    );
  });

  test("forgets by number and by age, on disk too", () => {
    const disk = store();
    const memory = new ReceiverMemory("one");
    const seen = new SeenIds(memory, "ids", bounds);
    for (let id = 0; id < 10_000; id++) expect(seen.remember(`a${id}`, 5)).toBe(true);
    disk.commit(memory.takeChanges());
    expect(disk.rows()).toHaveLength(3);
    expect(seen.remember("a9999", 5)).toBe(false);
    expect(seen.remember("a0", 5)).toBe(true);
    for (let id = 0; id < 1000; id++) seen.remember(`b${id}`, 200);
    disk.commit(memory.takeChanges());
    expect(disk.rows().length).toBeLessThanOrEqual(2);
  });
});

describe("ReceiverMemory", () => {
  test("reads its own rows only, and passes over what it cannot read", () => {
    const rows = [
      { key: '["receiver","one","signals","a"]', value: '"metrics"' },
      { key: '["receiver","two","signals","b"]', value: '"logs"' },
      { key: "{", value: "{" },
      { key: '["receiver","one","signals","c"]', value: "cut" },
    ];
    const memory = new ReceiverMemory("one", rows);
    expect(memory.restored("signals")).toEqual([{ name: "a", value: "metrics" }]);
  });
});

describe("LastPoints", () => {
  const DAY = 86_400 * 1e9;
  const point = (sum: number, time: number, start: number, delta: boolean): MetricSpec => ({
    name: "gen_ai.client.token.usage",
    histogram: true,
    delta,
    points: [{ sum, start, time, attributes: { "gen_ai.token.type": "output" } }],
  });
  /** One life of a receiver; returns the output tokens it counted. */
  const live = (disk: ReturnType<typeof store>, now: number, specs: readonly MetricSpec[]): number => {
    const memory = new ReceiverMemory("one", disk.rows());
    const info = { id: "one", type: "otlp", family: "gateway", address: "x", pollMs: 1000 } as const;
    const totals = new UsageTotals(info, 0, "e");
    const reader = new MetricsReader(new SeriesTable(new LastPoints(now, memory)), {});
    for (const spec of specs) reader.take(metricsRequest([spec]), totals, () => true);
    disk.commit(memory.takeChanges());
    return totals.sample(1, "gateway").readings[0]?.tokens.output ?? 0;
  };

  test("goes on where a cumulative series stood, and refuses redelivered deltas", () => {
    for (const delta of [false, true]) {
      const disk = store();
      expect(live(disk, DAY, [point(10, DAY + 10, DAY + 1, delta)])).toBe(10);
      const again = [point(10, DAY + 10, DAY + 1, delta), point(delta ? 5 : 15, DAY + 30, DAY + 1, delta)];
      expect(live(disk, DAY + 20, again)).toBe(5);
    }
  });

  test("counts whole what began after the first life, from its next look what began before", () => {
    const disk = store();
    live(disk, DAY, []);
    expect(live(disk, DAY + 100, [point(7, DAY + 200, DAY + 50, false)])).toBe(7);
    expect(live(store(), DAY + 100, [point(7, DAY + 200, DAY + 50, false)])).toBe(0);
  });

  test("forgets points of two days ago, and then does not count their whole value again", () => {
    const disk = store();
    live(disk, DAY, [point(10, DAY + 10, DAY + 1, false)]);
    expect(live(disk, 4 * DAY, [point(11, 4 * DAY + 1, DAY + 1, false)])).toBe(0);
    expect(disk.rows().some(({ value }) => value.includes(`${DAY + 10}`))).toBe(false);
  });
});

describe("SeriesTable", () => {
  const HOUR = 3600 * 1e9;
  const START = 1000 * HOUR;

  /** A receiver with room for ten series; `send` returns the output tokens counted so far. */
  function table(disk = store()) {
    const memory = new ReceiverMemory("one", disk.rows());
    const info = { id: "one", type: "otlp", family: "gateway", address: "x", pollMs: 1000 } as const;
    const totals = new UsageTotals(info, 0, "e");
    const reader = new MetricsReader(new SeriesTable(new LastPoints(START, memory), 10), {}, () => 1e18);
    const send = (request: string, sum: number, time: number, delta: boolean, start = START + 1): number => {
      const attributes = { "gen_ai.token.type": "output", request };
      const points = [{ sum, start, time, attributes }];
      const spec = { name: "gen_ai.client.token.usage", histogram: true, delta, points };
      reader.take(metricsRequest([spec]), totals, () => true);
      disk.commit(memory.takeChanges());
      return totals.sample(1, "gateway").readings[0]?.tokens.output ?? 0;
    };
    return { disk, send };
  }

  test("lets go of series without a point for an hour, so that a series per request goes on for ever", () => {
    const { disk, send } = table();
    let counted = 0;
    for (let hour = 0; hour < 50; hour++) {
      for (let n = 0; n < 5; n++) counted = send(`${hour} ${n}`, 1, START + hour * 2 * HOUR + 10 + n, true);
    }
    expect(counted).toBe(250);
    expect(disk.rows().length).toBeLessThan(10);
  });

  test.each([true, false])("counts what it let go of no second time, delta: %s", (delta) => {
    const { disk, send } = table();
    send("first", 7, START + 10, delta);
    for (let n = 0; n < 9; n++) send(`${n}`, 1, START + 20, delta);
    expect(send("other", 1, START + 2 * HOUR, delta, START + HOUR)).toBe(17);
    expect(send("first", 7, START + 10, delta)).toBe(17);
    // A cumulative series that comes back counts from what it says then.
    expect(send("first", 9, START + 2 * HOUR + 1, delta)).toBe(delta ? 26 : 17);
    expect(send("first", 12, START + 2 * HOUR + 2, delta)).toBe(delta ? 38 : 20);
    expect(table(disk).send("first", 7, START + 10, delta)).toBe(0);
  });

  test("keeps series that have points: those beyond its room are refused", () => {
    const { send } = table();
    for (let n = 0; n < 10; n++) send(`${n}`, 1, START + 10 + n, false);
    expect(send("more", 1, START + 30, false)).toBe(10);
    expect(send("3", 5, START + 40, false)).toBe(14);
  });
});

describe("SourceMemory", () => {
  test("hands a source its rows of this run and the one before", () => {
    const memory = new SourceMemory([
      { key: '["receiver","one","ids","1"]', value: "1" },
      { key: '["receiver","one","ids","2"]', value: "2" },
      { key: '["sample","one"]', value: "3" },
    ]);
    const rows = [
      { key: '["receiver","one","ids","1"]', value: "" },
      { key: '["receiver","one","ids","3"]', value: "4" },
    ];
    const info = { id: "one", type: "otlp", family: "gateway", address: "x", pollMs: 1000 } as const;
    memory.collect({ kind: "push", info, run: async () => {}, close: async () => {}, state: () => rows });
    expect(memory.of("one").map(({ value }) => value)).toEqual(["2", "4"]);
    expect(memory.of("on")).toEqual([]);
    expect(memory.takeChanges()).toEqual(rows);
    expect(memory.takeChanges()).toEqual([]);
  });

  test("hands them back as they were given, however long they are", () => {
    const value = fc.oneof(
      fc.string({ unit: "grapheme", maxLength: 20 }),
      fc.string({ unit: "grapheme", minLength: 4000, maxLength: 9000, size: "max" }),
    );
    fc.assert(
      fc.property(
        fc.array(
          value.filter((text) => text !== ""),
          { maxLength: 6 },
        ),
        (values) => {
          const rows = values.map((text, index) => ({ key: `["receiver","one",${index}]`, value: text }));
          expect(new SourceMemory(rows).of("one")).toEqual(rows);
        },
      ),
      { numRuns: 30 },
    );
  });
});
