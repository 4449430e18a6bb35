// Arbitrary input for the Correlator: readings, polls, gaps and inventories of any value at any time.
import fc from "fast-check";
import type { Correlator } from "../../agent/correlate/correlator.ts";
import type { GpuInfo, GpuSample, RankPoll, TokenIncrement } from "../../agent/model.ts";
import { ringOf } from "../tools/rings.ts";
import { incrementOf } from "./correlator-replay.ts";
import { gpuInfo, serverInfo } from "./scene.ts";

export const ms = 1_000_000;

/** Something handed to a correlator, at the instant it speaks of. */
export interface Event {
  readonly kind: "gpu" | "server" | "gap" | "failure" | "inventory";
  readonly at: number;
  readonly give: (correlator: Correlator) => void;
  readonly tokens?: number;
}

export const inventories: readonly (readonly GpuInfo[])[] = [
  [gpuInfo("g"), gpuInfo("h")],
  [
    gpuInfo("g"),
    gpuInfo("h"),
    gpuInfo("m1", { parent: "h", weight: 3 / 7 }),
    gpuInfo("m2", { parent: "h", weight: 1 / 7 }),
  ],
  [gpuInfo("g", { powerLimitWatts: 0 })],
];
const uuids = ["g", "h", "m1", "m2", "unknown"];
export const servers = [
  serverInfo("a", { pids: [1] }),
  serverInfo("b", { pids: [2], pollMs: 5000 }),
  serverInfo("c", { gpus: ["m2"], pollMs: 500 }),
];

const absurd = fc.constantFrom(Number.NaN, Infinity, -Infinity, -1, 1e300, 2 ** 60, -1e9, 1e-320);
const number = (max: number) =>
  fc.oneof(
    { weight: 6, arbitrary: fc.double({ min: 0, max, noNaN: true }) },
    { weight: 1, arbitrary: absurd },
  );
const instant = fc.oneof(
  { weight: 12, arbitrary: fc.integer({ min: 0, max: 20_000 }).map((t) => t * ms) },
  { weight: 1, arbitrary: absurd },
);
const ring = (max: number) =>
  fc.array(fc.record({ at: instant, value: number(max) }), { maxLength: 6 }).map(ringOf);
/** Any reading of a GPU, absurd values included. */
export const sample: fc.Arbitrary<GpuSample> = fc.record(
  {
    gpu: fc.constantFrom(...uuids),
    at: instant,
    energyMillijoules: number(3e6),
    energyEpoch: fc.constantFrom("x", "x", "x", "y"),
    powerWatts: number(800),
    powerInstantWatts: number(800),
    utilizationRatio: number(1),
    utilizationRing: ring(1),
    powerRing: ring(800),
    graphicsActiveRatio: number(1),
    smActiveRatio: number(1),
    memoryUsedBytes: number(8e10),
    processes: fc.array(
      fc.record({ pid: fc.constantFrom(1, 2, 3, -4, Number.NaN), type: fc.constant("compute" as const) }),
      {
        maxLength: 4,
      },
    ),
    processShares: fc.array(fc.record({ pid: fc.constantFrom(1, 2, 3), at: instant, smRatio: number(1) }), {
      maxLength: 3,
    }),
  },
  { requiredKeys: ["gpu", "at"] },
);

const rank: fc.Arbitrary<RankPoll> = fc.record(
  {
    rank: fc.constantFrom("0", "1", "2", "x"),
    inputTokens: number(1e6),
    outputTokens: number(1e6),
    inFlight: number(4),
    activeNanos: number(2e10),
  },
  { requiredKeys: ["rank", "inputTokens", "outputTokens"] },
);

/** Anything a correlator may be told. */
export const event: fc.Arbitrary<Event> = fc.oneof(
  {
    weight: 10,
    arbitrary: sample.map((reading) => ({
      kind: "gpu" as const,
      at: reading.at,
      give: (to: Correlator) => to.acceptGpu(reading),
    })),
  },
  {
    weight: 5,
    arbitrary: fc
      .record({
        server: fc.constantFrom("a", "b", "c", "nobody"),
        at: instant,
        inputTokens: number(1e6),
        outputTokens: number(1e6),
        inFlight: fc.option(number(4), { nil: undefined }),
        activeNanos: fc.option(number(2e10), { nil: undefined }),
        phaseTimes: fc.option(
          fc.record({ requests: number(50), prefillNanos: number(2e10), decodeNanos: number(2e10) }),
          { nil: undefined },
        ),
        ranks: fc.option(fc.array(rank, { maxLength: 3 }), { nil: undefined }),
        progress: fc.constantFrom("step" as const, "finish" as const, "estimate" as const),
        tokens: fc.nat({ max: 1000 }),
      })
      .map(({ server, tokens, inFlight, activeNanos, phaseTimes, ranks, ...poll }) => ({
        kind: "server" as const,
        at: poll.at,
        tokens,
        give: (to: Correlator) =>
          to.acceptTokens(
            server,
            {
              ...poll,
              ...(inFlight === undefined ? {} : { inFlight }),
              ...(activeNanos === undefined ? {} : { activeNanos }),
              ...(phaseTimes === undefined ? {} : { phaseTimes }),
              ...(ranks === undefined ? {} : { ranks }),
            },
            [increment(server, poll.at, tokens)],
          ),
      })),
  },
  {
    weight: 1,
    arbitrary: fc
      .record({ source: fc.constantFrom("gpu", "gpu:g", "server:a", "gpu:zzz", "?"), at: instant })
      .map((gap) => ({
        kind: gap.source.startsWith("server:") ? ("failure" as const) : ("gap" as const),
        at: gap.at,
        give: (to: Correlator) => to.acceptGap({ ...gap, reason: "lost" }),
      })),
  },
  {
    weight: 1,
    arbitrary: fc.record({ infos: fc.constantFrom(...inventories), at: instant }).map(({ infos, at }) => ({
      kind: "inventory" as const,
      at,
      give: (to: Correlator) => to.setGpus(infos, at),
    })),
  },
  {
    weight: 1,
    arbitrary: fc.record({ count: fc.nat({ max: 3 }), at: instant }).map(({ count, at }) => ({
      kind: "inventory" as const,
      at,
      give: (to: Correlator) => to.setServers(servers.slice(0, count), at),
    })),
  },
);

function increment(server: string, at: number, output: number): TokenIncrement {
  return incrementOf(server, at, { input: 0, output: 0, requests: 0 }, { input: 0, output, requests: 0 });
}
