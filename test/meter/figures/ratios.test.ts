import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { kpis } from "../../../agent/meter/figures/kpis.ts";
import { Convenience } from "../../../agent/meter/figures/ratios.ts";
import { Prices } from "../../../agent/meter/money/prices.ts";
import type { Gauge, GpuInfo, SettledInterval } from "../../../agent/model.ts";
import { catalogueOf } from "../../fakes/catalogue.ts";

const gpus = new Map<string, GpuInfo>([["GPU-a", { uuid: "GPU-a", index: 0, name: "H100", weight: 1 }]]);

function second(index: number, tokens: number, active: number): SettledInterval {
  const nanos = {
    token_active: active * 1e9,
    stalled: 0,
    parked: (1 - active) * 1e9,
    other: 0,
    free: 0,
    unobserved: 0,
  };
  const millijoules = {
    token_active: 400_000 * active,
    stalled: 0,
    parked: 0,
    other: 0,
    free: 0,
    unobserved: 0,
    unattributed: 0,
  };
  return {
    from: index * 1e9,
    to: (index + 1) * 1e9,
    lateSamples: 0,
    violations: [],
    gpus: [
      {
        gpu: "GPU-a",
        nanos,
        millijoules,
        busyNanos: 0,
        activityMethod: "counter_gpu",
        energyMethod: "counter",
        rejectedMillijoules: 0,
        residents: [{ server: "s", nanos, millijoules, method: "direct" }],
      },
    ],
    servers: [
      {
        server: "s",
        nanos: { token_active: 0, stalled: 0, parked: 0, unknown: 0 },
        activityMethod: "counter_gpu",
        increments: [
          {
            server: "s",
            family: "engine",
            role: "combined",
            tokens: { output: tokens },
            reasoningTokens: 0,
            requests: {},
            latencies: {},
            resets: 0,
            late: false,
            at: 0,
          },
        ],
      },
    ],
  };
}

describe("Convenience", () => {
  test("gives ratios of sums over its windows, per server and product, once per 10 s", () => {
    const windows = new Convenience();
    const batches: (readonly Gauge[])[] = [];
    for (let index = 0; index < 120; index++)
      batches.push(windows.takeInterval(second(index, index < 60 ? 0 : 100, 0.5), gpus));
    expect(batches.filter((batch) => batch.length > 0)).toHaveLength(12);
    const last = batches.at(-1) ?? [];
    const value = (metric: string, window: string, key: string): number | undefined =>
      last.find(
        (gauge) =>
          gauge.metric === metric &&
          gauge.dimensions["tokenwatt.window"] === window &&
          key in gauge.dimensions,
      )?.value;
    for (const key of ["tokenwatt.server.id", "hw.model"]) {
      expect(value("tokenwatt.tokens_per_gpu_hour", "1m", key)).toBeCloseTo(360_000, 6);
      expect(value("tokenwatt.tokens_per_gpu_hour", "1h", key)).toBeCloseTo(180_000, 6);
      expect(value("tokenwatt.token_active_utilization", "1m", key)).toBeCloseTo(0.5, 9);
      expect(value("tokenwatt.tokens_per_joule", "1m", key)).toBeCloseTo(0.5, 9);
    }
  });

  test("leaves out tokens that met no time of this host: late ones, and those of ranks on other hosts", () => {
    const ratesWith = (more: object): unknown => {
      const windows = new Convenience();
      const base = second(20, 100, 0.5);
      const servers = base.servers.map((server) => ({
        ...server,
        increments: server.increments.flatMap((one) => [one, { ...one, ...more, tokens: { output: 9000 } }]),
      }));
      return windows.takeInterval({ ...base, servers }, gpus);
    };
    const alone = ratesWith({ family: "gateway" });
    expect(ratesWith({ late: true })).toEqual(alone);
    expect(ratesWith({ elsewhere: true })).toEqual(alone);
    expect(ratesWith({})).not.toEqual(alone);
  });

  test("gives nothing where a denominator is empty", () => {
    const windows = new Convenience();
    const idle = { ...second(20, 0, 0), gpus: [] };
    expect(windows.takeInterval(idle, gpus)).toEqual([]);
  });

  /** 120 s at half activity, 100 tokens a second; prices as a function of the second. */
  function costs(priceOf: (second: number) => number | undefined, products = ["H100"]): Map<string, number> {
    const windows = new Convenience();
    const boards = new Map<string, GpuInfo>(
      products.map((name, index) => [`GPU-${index}`, { uuid: `GPU-${index}`, index, name, weight: 1 }]),
    );
    const facts = { gpus: boards, servers: new Map() };
    const prices = new Map<number | undefined, Prices>();
    let last: readonly Gauge[] = [];
    for (let index = 0; index < 120; index++) {
      const pricePerGpuHour = priceOf(index);
      const gpus = pricePerGpuHour === undefined ? [] : [{ gpu: "H100", pricePerGpuHour }];
      const catalogue = catalogueOf({ version: "v", currency: "USD", gpus });
      const known = prices.get(pricePerGpuHour) ?? new Prices(catalogue);
      prices.set(pricePerGpuHour, known);
      const base = second(index, 100, 0.5);
      const interval = {
        ...base,
        gpus: [...boards.keys()].flatMap((gpu) => base.gpus.map((one) => ({ ...one, gpu }))),
      };
      const money = known.priceInterval(interval, facts, BigInt(index + 1) * 1_000_000_000n);
      last = windows.takeInterval(interval, boards, money);
    }
    return new Map(
      last
        .filter(({ metric }) => metric === "tokenwatt.cost_per_million_tokens")
        .map(({ dimensions, value }) => [
          [
            dimensions["hw.model"] ?? dimensions["tokenwatt.server.id"],
            dimensions["tokenwatt.window"],
            dimensions["tokenwatt.basis"],
            dimensions["tokenwatt.currency"],
          ].join(" "),
          value,
        ]),
    );
  }

  test("gives the cost of a million tokens per product on three bases, per server on the two it has", () => {
    const found = costs(() => 3.6);
    // 0.001 USD and 100 tokens a second: 10 USD a million, of which half was token-active.
    for (const window of ["1m", "1h"]) {
      for (const row of ["H100", "s"]) {
        expect(found.get(`${row} ${window} allocation USD`)).toBeCloseTo(10, 6);
        expect(found.get(`${row} ${window} active USD`)).toBeCloseTo(5, 6);
      }
      expect(found.get(`H100 ${window} fleet USD`)).toBeCloseTo(10, 6);
    }
    expect(found.size).toBe(10);
  });

  test("gives no cost for a window or server of which a part has no price", () => {
    expect(costs(() => undefined).size).toBe(0);
    const late = costs((second) => (second < 30 ? undefined : 3.6));
    expect([...new Set([...late.keys()].map((key) => key.split(" ")[1]))]).toEqual(["1m"]);
    const gone = costs((second) => (second < 90 ? 3.6 : undefined));
    expect([...gone.keys()]).toEqual([]);
    const mixed = costs(() => 3.6, ["H100", "B300"]);
    expect([...new Set([...mixed.keys()].map((key) => key.split(" ")[0]))]).toEqual([]);
  });

  test("gives the key figures of all intervals in a window, added up one by one", () => {
    const board = fc.record({
      product: fc.constantFrom("H100", "B300"),
      server: fc.constantFrom("s", "t"),
      nanos: fc.tuple(...states.map(() => fc.nat({ max: 1e9 }))),
      millijoules: fc.tuple(...states.map(() => fc.nat({ max: 7e5 }))),
      isKnown: fc.boolean(),
    });
    const one = fc.record({ boards: fc.array(board, { maxLength: 3 }), tokens: fc.nat({ max: 900 }) });
    fc.assert(
      fc.property(fc.array(one, { minLength: 70, maxLength: 100 }), (seconds) => {
        const windows = new Convenience();
        const intervals = seconds.map(({ boards, tokens }, index) => intervalOf(boards, tokens, index));
        const infos = new Map(
          ["H100", "B300"].map((name, index) => [name, { uuid: name, index, name, weight: 1 }]),
        );
        const last = intervals.map((interval) => windows.takeInterval(interval, infos));
        for (const [at, gauges] of last.entries()) {
          if (gauges.length === 0) continue;
          const within = intervals.filter(({ from }) => from >= Math.max(0, (at + 1 - 60) * 1e9));
          for (const name of ["H100", "B300"]) {
            const wanted = figuresOf(
              within.filter(({ to }) => to <= (at + 1) * 1e9),
              name,
            );
            const found = gauges.filter(
              ({ dimensions }) => dimensions["hw.model"] === name && dimensions["tokenwatt.window"] === "1m",
            );
            const value = (metric: string) => found.find((gauge) => gauge.metric === metric)?.value;
            expect(value("tokenwatt.tokens_per_joule")).toBe(wanted.tokensPerJoule);
            expect(value("tokenwatt.tokens_per_gpu_hour")).toBe(wanted.tokensPerGpuHour);
            expect(value("tokenwatt.token_active_utilization")).toBe(wanted.tokenActiveUtilization);
          }
        }
      }),
      { numRuns: 20 },
    );
  });
});

const states = ["token_active", "stalled", "parked", "other", "free", "unobserved"] as const;

function statesOf(amounts: readonly number[]): Record<(typeof states)[number], number> {
  return Object.fromEntries(states.map((state, place) => [state, amounts[place] ?? 0])) as never;
}

interface Board {
  readonly product: string;
  readonly server: string;
  readonly nanos: readonly number[];
  readonly millijoules: readonly number[];
  readonly isKnown: boolean;
}

/** A second in which boards, each named like its product, are held by a server; every server has the same tokens. */
function intervalOf(boards: readonly Board[], tokens: number, index: number): SettledInterval {
  const base = second(index, tokens, 0);
  const [row] = base.gpus;
  const [server] = base.servers;
  if (row === undefined || server === undefined) throw new Error("a second has a GPU and a server");
  return {
    ...base,
    gpus: boards.map(({ isKnown, millijoules, nanos, product, server }) => ({
      ...row,
      gpu: product,
      nanos: statesOf(nanos),
      millijoules: { ...statesOf(millijoules), unattributed: 0 },
      activityMethod: isKnown ? "counter_gpu" : "unknown",
      residents: [{ ...row.residents[0], server, method: "direct" as const, ...held(nanos, millijoules) }],
    })),
    servers: ["s", "t"].map((id) => ({ ...server, server: id })),
  };
}

function held(nanos: readonly number[], millijoules: readonly number[]) {
  return { nanos: statesOf(nanos), millijoules: statesOf(millijoules), timeMethod: "direct" as const };
}

/** The key figures of a product: tokens are those of servers that held no other in their second. */
function figuresOf(intervals: readonly SettledInterval[], product: string) {
  const [gpuNanos, gpuMillijoules] = [statesOf([]), statesOf([])];
  let [unknownNanos, outputTokens] = [0, 0];
  for (const { gpus, servers } of intervals) {
    for (const row of gpus.filter(({ gpu }) => gpu === product)) {
      for (const state of states) {
        gpuNanos[state] += row.nanos[state];
        gpuMillijoules[state] += row.millijoules[state];
      }
      const { parked, stalled, token_active } = row.nanos;
      if (row.activityMethod === "unknown") unknownNanos += parked + stalled + token_active;
    }
    for (const { increments, server } of servers) {
      const homes = gpus.filter(({ residents }) => residents.some((one) => one.server === server));
      if (homes.length === 0 || homes.some(({ gpu }) => gpu !== product)) continue;
      outputTokens += increments.reduce((sum, { tokens }) => sum + (tokens.output ?? 0), 0);
    }
  }
  return kpis({ gpuNanos, gpuMillijoules, unknownNanos, inputTokens: 0, outputTokens });
}
