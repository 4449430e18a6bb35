// How a simulated host is drawn by chance: engines of a kind, loads, jobs, and ways to read them.
import type { GpuReading, PageReading, Regime } from "./meters.ts";
import type { Random } from "./random.ts";
import type { Engine, Job, Rank, Request } from "./world.ts";

/** How fast an engine is, and how its steps are. */
export type Speed = "large" | "small" | "guard" | "embedding";
/** A regime, drawn. */
export type Draw = (random: Random) => Draft;

/** What a regime is drawn as; what is left out is as usual. */
export interface Draft {
  readonly seconds?: number;
  readonly gpus?: number;
  readonly engines: readonly Engine[];
  readonly jobs?: readonly Job[];
  readonly read?: Partial<GpuReading>;
  readonly page?: Partial<PageReading>;
  readonly mig?: readonly number[];
  readonly order?: Regime["order"];
  readonly pages?: Readonly<Record<string, Partial<PageReading>>>;
}

/** Length of a recording. */
export const lengthSeconds = 240;

/** A driver with its history. */
export const nvml: GpuReading = {
  everyMs: 1000,
  activity: "rings",
  counter: true,
  processes: true,
  processShares: true,
  lostShare: 0,
  lostWindows: 0,
};
/** nvidia-smi: the last window of the driver. */
export const smi: Partial<GpuReading> = { activity: "window", counter: false, processShares: false };
/** dcgm-exporter: means, no processes. */
export const dcgm: Partial<GpuReading> = { activity: "mean", processes: false, processShares: false };

/** An engine of a kind, its figures drawn. */
export function engine(
  random: Random,
  id: string,
  speed: Speed,
  requests: readonly Request[],
  more: Partial<Engine> = {},
): Engine {
  const kinds: Readonly<Record<Speed, () => Partial<Engine>>> = {
    large: () => ({
      prefillPerMs: random.between(25, 55),
      stepMs: random.between(6, 16),
      stepPerRequestMs: random.between(0.03, 0.12),
      hostMs: random.whole(0, 1),
      prefillWatts: random.between(380, 520),
      decodeWatts: random.between(220, 330),
    }),
    small: () => ({
      prefillPerMs: random.between(100, 200),
      stepMs: random.between(0.8, 1.8),
      stepPerRequestMs: 0.01,
      hostMs: random.whole(4, 8),
      prefillWatts: random.between(250, 380),
      decodeWatts: random.between(90, 180),
    }),
    guard: () => ({
      prefillPerMs: random.between(10, 25),
      stepMs: random.between(5, 9),
      stepPerRequestMs: 0.1,
      hostMs: 1,
      prefillWatts: random.between(300, 450),
      decodeWatts: random.between(180, 260),
    }),
    embedding: () => ({
      prefillPerMs: random.between(60, 120),
      stepMs: 1,
      stepPerRequestMs: 0.05,
      hostMs: 0,
      prefillWatts: random.between(250, 400),
      decodeWatts: 150,
    }),
  };
  const pid = random.whole(1000, 30_000);
  return {
    id,
    ranks: [{ gpus: [0], role: "combined", pids: [pid] }],
    from: 0,
    batchMax: 64,
    prefillChunk: 8192,
    ...(kinds[speed]() as Pick<
      Engine,
      "prefillPerMs" | "stepMs" | "stepPerRequestMs" | "hostMs" | "prefillWatts" | "decodeWatts"
    >),
    ...more,
    requests: [...requests].sort((left, right) => left.at - right.at),
  };
}

/** How often requests come, how long they are, and which rank gets each. */
export interface Load {
  readonly perSecond: number;
  readonly input: readonly [number, number];
  readonly output: readonly [number, number];
  readonly from?: number;
  readonly to?: number;
  readonly rank?: (random: Random) => number;
}

/** Requests that come by chance. */
export function arrivals(random: Random, load: Load): Request[] {
  const { perSecond, input, output, from = 4, to = lengthSeconds - 12 } = load;
  const requests: Request[] = [];
  for (let at = from + random.wait(1 / perSecond); at < to; at += random.wait(1 / perSecond))
    requests.push({
      at: Math.round(at * 1000),
      inputTokens: random.whole(...input),
      outputTokens: random.whole(...output),
      ...(load.rank === undefined ? {} : { rank: load.rank(random) }),
    });
  return requests;
}

/** Several requests at once, then a pause. */
export function bursts(
  random: Random,
  shape: {
    readonly size: readonly [number, number];
    readonly pause: readonly [number, number];
    readonly input: readonly [number, number];
    readonly output: readonly [number, number];
    readonly from?: number;
    readonly to?: number;
  },
): Request[] {
  const requests: Request[] = [];
  for (
    let at = shape.from ?? 4;
    at < (shape.to ?? lengthSeconds - 14);
    at += random.between(...shape.pause)
  ) {
    const size = random.whole(...shape.size);
    for (let index = 0; index < size; index++)
      requests.push({
        at: Math.round(at * 1000) + index * 3,
        inputTokens: random.whole(...shape.input),
        outputTokens: random.whole(...shape.output),
      });
  }
  return requests;
}

/** Requests of a guard model. */
export const guardLoad = (random: Random): Load => ({
  perSecond: random.between(2, 5),
  input: [100, 500],
  output: [1, 5],
});
/** A few at a time. */
export const chat = (random: Random, output: readonly [number, number] = [150, 400]): Request[] =>
  bursts(random, { size: [1, 6], pause: [9, 20], input: [200, 1200], output });
/** Many at a time, then a pause. */
export const pulses = (random: Random): Request[] =>
  bursts(random, { size: [16, 40], pause: [11, 17], input: [200, 600], output: [300, 600] });
/** Always some. */
export const steady = (random: Random, perSecond = random.between(2, 4)): Request[] =>
  arrivals(random, { perSecond, input: [200, 900], output: [150, 400] });
/** A server that is always busy, and one that is seldom asked. */
export const busyAndTrickle = (random: Random): Engine[] => [
  engine(random, "busy", "large", steady(random, random.between(2, 3))),
  engine(
    random,
    "trickle",
    "large",
    arrivals(random, { perSecond: 0.1, input: [50, 200], output: [10, 30] }),
  ),
];
/** Pulses of a model that its host holds up. */
export const smallPulses = (random: Random): Request[] =>
  bursts(random, { size: [8, 30], pause: [10, 16], input: [100, 400], output: [400, 1000] });

/** A training job. */
export function job(random: Random, more: Partial<Job> = {}): Job {
  return {
    pid: random.whole(40_000, 60_000),
    gpu: 0,
    from: 40_000,
    to: lengthSeconds * 1000,
    busyMs: random.whole(600, 1400),
    restMs: random.whole(10, 60),
    workFrom: 45_000,
    workTo: lengthSeconds * 1000,
    watts: random.between(380, 540),
    ...more,
  };
}

/** Ranks of a GPU each. */
export function ranks(random: Random, count: number, role: Rank["role"] = "combined"): Rank[] {
  return Array.from({ length: count }, (_, gpu) => ({
    gpus: [gpu],
    role,
    pids: [random.whole(1000, 30_000) * 10 + gpu],
  }));
}

/** One server of several ranks, each counted by itself. */
export const ranked = (
  random: Random,
  requests: readonly Request[],
  places: readonly Rank[],
  more: Partial<Engine> = {},
): Draft => ({
  gpus: places.length,
  engines: [engine(random, "engine", "large", requests, { ranks: places, ...more })],
  page: { ranks: true },
});

/** One rank over several GPUs. */
export function tensorParallel(random: Random, count: number): Rank[] {
  const gpus = Array.from({ length: count }, (_, gpu) => gpu);
  return [{ gpus, role: "combined", pids: gpus.map((gpu) => random.whole(1000, 30_000) * 10 + gpu) }];
}

/** One server that prefills on one GPU and decodes on another. */
export const prefillApart = (random: Random): Draft => ({
  gpus: 2,
  engines: [
    engine(
      random,
      "engine",
      "large",
      arrivals(random, { perSecond: 0.5, input: [4000, 20_000], output: [100, 300] }),
      {
        ranks: [
          { gpus: [0], role: "prefill", pids: [random.whole(1000, 30_000)] },
          { gpus: [1], role: "decode", pids: [random.whole(30_001, 60_000)] },
        ],
      },
    ),
  ],
});

/** One server on one GPU. */
export const alone = (
  random: Random,
  speed: Speed,
  requests: readonly Request[],
  read?: Partial<GpuReading>,
  page?: Partial<PageReading>,
): Draft => ({
  engines: [engine(random, "engine", speed, requests)],
  ...(read === undefined ? {} : { read }),
  ...(page === undefined ? {} : { page }),
});
