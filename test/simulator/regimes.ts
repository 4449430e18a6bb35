// The regimes that hosts have, each with its figures drawn by seed: what was measured well once must be measured well
// at other loads, speeds and powers too.
import type { GpuReading, PageReading, Regime } from "./meters.ts";
import { Random } from "./random.ts";
import type { Engine, Host, Job, Rank, Request } from "./world.ts";

type Speed = "large" | "small" | "guard" | "embedding";
type Draw = (random: Random) => Draft;

interface Draft {
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

const lengthSeconds = 240;

const nvml: GpuReading = {
  everyMs: 1000,
  activity: "rings",
  counter: true,
  processes: true,
  processShares: true,
  lostShare: 0,
  lostWindows: 0,
};
const smi: Partial<GpuReading> = { activity: "window", counter: false, processShares: false };
const dcgm: Partial<GpuReading> = { activity: "mean", processes: false, processShares: false };

/** An engine of a kind, its figures drawn. */
function engine(
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

interface Load {
  readonly perSecond: number;
  readonly input: readonly [number, number];
  readonly output: readonly [number, number];
  readonly from?: number;
  readonly to?: number;
  readonly rank?: (random: Random) => number;
}

/** Requests that come by chance. */
function arrivals(random: Random, load: Load): Request[] {
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
function bursts(
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

const guardLoad = (random: Random): Load => ({
  perSecond: random.between(2, 5),
  input: [100, 500],
  output: [1, 5],
});
const chat = (random: Random, output: readonly [number, number] = [150, 400]): Request[] =>
  bursts(random, { size: [1, 6], pause: [9, 20], input: [200, 1200], output });
const pulses = (random: Random): Request[] =>
  bursts(random, { size: [16, 40], pause: [11, 17], input: [200, 600], output: [300, 600] });
const steady = (random: Random, perSecond = random.between(2, 4)): Request[] =>
  arrivals(random, { perSecond, input: [200, 900], output: [150, 400] });
const smallPulses = (random: Random): Request[] =>
  bursts(random, { size: [8, 30], pause: [10, 16], input: [100, 400], output: [400, 1000] });

function job(random: Random, more: Partial<Job> = {}): Job {
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

function ranks(random: Random, count: number, role: Rank["role"] = "combined"): Rank[] {
  return Array.from({ length: count }, (_, gpu) => ({
    gpus: [gpu],
    role,
    pids: [random.whole(1000, 30_000) * 10 + gpu],
  }));
}

function tensorParallel(random: Random, count: number): Rank[] {
  const gpus = Array.from({ length: count }, (_, gpu) => gpu);
  return [{ gpus, role: "combined", pids: gpus.map((gpu) => random.whole(1000, 30_000) * 10 + gpu) }];
}

const alone = (
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

/** Four ranks of which the last gets no request. */
const rankedIdle = (r: Random, more: Partial<Engine> = {}): Draft => ({
  gpus: 4,
  engines: [
    engine(
      r,
      "engine",
      "large",
      arrivals(r, {
        perSecond: 0.3,
        input: [1000, 5000],
        output: [300, 900],
        rank: (x) => x.pick([0, 0, 0, 1, 1, 2]),
      }),
      { ranks: ranks(r, 4), ...more },
    ),
  ],
  page: { ranks: true },
});
/** Two ranks, one of which gets most. */
const rankedUneven = (r: Random): Draft => ({
  gpus: 2,
  engines: [
    engine(
      r,
      "engine",
      "large",
      arrivals(r, {
        perSecond: 0.25,
        input: [500, 2500],
        output: [300, 900],
        rank: (x) => (x.next() < 0.8 ? 0 : 1),
      }),
      { ranks: ranks(r, 2) },
    ),
  ],
  page: { ranks: true },
});

/** Every regime by name. */
export const regimes: Readonly<Record<string, Draw>> = {
  "guard, short requests": (r) => alone(r, "guard", arrivals(r, guardLoad(r))),
  "guard with durations": (r) => alone(r, "guard", arrivals(r, guardLoad(r)), {}, { durations: true }),
  "guard with durations, no gauge": (r) =>
    alone(r, "guard", arrivals(r, guardLoad(r)), {}, { durations: true, gauge: false }),
  "guard with times of its phases": (r) =>
    alone(r, "guard", arrivals(r, guardLoad(r)), {}, { durations: true, phaseTimes: true }),
  "nvidia-smi, guard with times of its phases": (r) =>
    alone(r, "guard", arrivals(r, guardLoad(r)), smi, { durations: true, phaseTimes: true }),
  "coarse 15 s, guard with durations": (r) =>
    alone(r, "guard", arrivals(r, guardLoad(r)), { ...dcgm, everyMs: 15_000 }, { durations: true }),
  "nvidia-smi, guard with durations": (r) =>
    alone(r, "guard", arrivals(r, guardLoad(r)), smi, { durations: true }),
  "embedding with durations": (r) =>
    alone(
      r,
      "embedding",
      arrivals(r, { perSecond: r.between(4, 14), input: [200, 800], output: [1, 1] }),
      {},
      { durations: true },
    ),
  "embedding, shorter still": (r) =>
    alone(r, "embedding", arrivals(r, { perSecond: r.between(4, 14), input: [200, 800], output: [1, 1] })),
  "chat, a few at a time": (r) => alone(r, "large", chat(r)),
  "pulses, large": (r) => alone(r, "large", pulses(r)),
  "pulses, host-bound": (r) => alone(r, "small", smallPulses(r)),
  "never idle": (r) => alone(r, "large", steady(r)),
  "coarse 5 s, pulses": (r) => alone(r, "large", pulses(r), { ...dcgm, everyMs: 5000 }),
  "coarse 10 s, chat": (r) => alone(r, "large", chat(r), { ...dcgm, everyMs: 10_000 }),
  "coarse 15 s, guard": (r) => alone(r, "guard", arrivals(r, guardLoad(r)), { ...dcgm, everyMs: 15_000 }),
  "coarse 30 s, pulses": (r) => alone(r, "large", pulses(r), { ...dcgm, everyMs: 30_000 }),
  "coarse 15 s, last window only": (r) =>
    alone(r, "large", pulses(r), { ...dcgm, activity: "window", everyMs: 15_000 }),
  "coarse 10 s, host-bound": (r) => alone(r, "small", smallPulses(r), { ...dcgm, everyMs: 10_000 }),
  "nvidia-smi, low duty": (r) =>
    alone(r, "large", bursts(r, { size: [1, 2], pause: [12, 30], input: [100, 400], output: [20, 60] }), smi),
  "nvidia-smi, pulses": (r) => alone(r, "large", pulses(r), smi),
  "lost samples": (r) => alone(r, "large", pulses(r), { lostShare: 0.05, lostWindows: 0.08 }),
  "slow page, pulses": (r) => alone(r, "large", pulses(r), {}, { answerMs: 3000 }),
  "slow page, chat": (r) => alone(r, "large", chat(r), {}, { answerMs: 2600 }),
  "cached page, pulses": (r) => alone(r, "large", pulses(r), {}, { refreshMs: 10_000 }),
  "cached page, chat": (r) => alone(r, "large", chat(r), {}, { refreshMs: 10_000 }),
  "long prefill without gauge": (r) =>
    alone(
      r,
      "large",
      bursts(r, { size: [1, 1], pause: [25, 35], input: [200_000, 330_000], output: [30, 90] }),
      {},
      { gauge: false },
    ),
  "pulses without gauge": (r) => alone(r, "large", pulses(r), {}, { gauge: false }),
  "finish only with gauge": (r) => alone(r, "large", chat(r), {}, { kind: "finish" }),
  "finish only, short": (r) => alone(r, "guard", arrivals(r, guardLoad(r)), {}, { kind: "finish" }),
  "own busy time": (r) => alone(r, "large", chat(r), {}, { activeTime: true }),
  "data parallel, one rank idle": (r) => ({
    gpus: 4,
    engines: [
      engine(
        r,
        "engine",
        "large",
        arrivals(r, {
          perSecond: 0.3,
          input: [1000, 5000],
          output: [800, 1600],
          rank: (x) => x.pick([0, 0, 0, 1, 1, 2]),
        }),
        { ranks: ranks(r, 4) },
      ),
    ],
  }),
  "data parallel, uneven": (r) => ({
    gpus: 2,
    engines: [
      engine(
        r,
        "engine",
        "large",
        arrivals(r, {
          perSecond: 0.25,
          input: [500, 2500],
          output: [300, 900],
          rank: (x) => (x.next() < 0.8 ? 0 : 1),
        }),
        { ranks: ranks(r, 2) },
      ),
    ],
  }),
  "ranks of an idle one": (r) => ({ ...rankedIdle(r), read: { titles: true } }),
  "ranks, uneven, page with gaps": (r) => ({
    ...rankedUneven(r),
    page: { ranks: true, lostRanks: 0.1 },
    read: { titles: true },
  }),
  "ranks by order, uneven, coarse 5 s": (r) => ({ ...rankedUneven(r), read: { ...dcgm, everyMs: 5000 } }),
  "ranks by order, idle one, coarse 15 s": (r) => ({ ...rankedIdle(r), read: { ...dcgm, everyMs: 15_000 } }),
  "ranks by order, last window only": (r) => ({
    ...rankedUneven(r),
    read: { ...dcgm, activity: "window", everyMs: 10_000 },
  }),
  "ranks in the wrong order": (r) => ({
    ...rankedIdle(r),
    read: dcgm,
    order: ({ ranks: all }) => all.flatMap(({ gpus }) => gpus).reverse(),
  }),
  "ranks that finish only": (r) => ({
    ...rankedUneven(r),
    page: { ranks: true, kind: "finish" },
    read: { titles: true },
  }),
  "ranks with their own busy time": (r) => ({
    ...rankedUneven(r),
    page: { ranks: true, activeTime: true },
    read: { titles: true },
  }),
  "ranks in lockstep": (r) => ({ ...rankedIdle(r, { lockstep: true }), read: { titles: true } }),
  "ranks in lockstep, by order": (r) => rankedIdle(r, { lockstep: true }),
  "training beside an idle rank": (r) => ({
    ...rankedIdle(r),
    jobs: [job(r, { gpu: 3 })],
    read: { titles: true, processShares: false },
  }),
  "another server beside an idle rank": (r) => ({
    ...rankedIdle(r),
    engines: [
      ...rankedIdle(r).engines,
      engine(r, "other", "large", chat(r), {
        ranks: [{ gpus: [3], role: "combined", pids: [r.whole(61_000, 62_000)] }],
      }),
    ],
    pages: { engine: { ranks: true }, other: {} },
    page: {},
    read: { titles: true, processShares: false },
  }),
  "prefill and decode apart": (r) => ({
    gpus: 2,
    engines: [
      engine(
        r,
        "engine",
        "large",
        arrivals(r, { perSecond: 0.5, input: [4000, 20_000], output: [100, 300] }),
        {
          ranks: [
            { gpus: [0], role: "prefill", pids: [r.whole(1000, 30_000)] },
            { gpus: [1], role: "decode", pids: [r.whole(30_001, 60_000)] },
          ],
        },
      ),
    ],
  }),
  "tensor parallel 2, short": (r) => ({
    gpus: 2,
    engines: [engine(r, "engine", "guard", arrivals(r, guardLoad(r)), { ranks: tensorParallel(r, 2) })],
  }),
  "tensor parallel 8, chat": (r) => ({
    gpus: 8,
    engines: [engine(r, "engine", "large", chat(r), { ranks: tensorParallel(r, 8) })],
  }),
  "training beside an idle server": (r) => ({
    engines: [
      engine(
        r,
        "engine",
        "large",
        bursts(r, { size: [6, 10], pause: [900, 901], input: [200, 400], output: [80, 120], from: 10 }),
      ),
    ],
    jobs: [job(r)],
    read: { processShares: false },
  }),
  "training beside light load": (r) => ({
    engines: [engine(r, "engine", "large", chat(r, [60, 200]))],
    jobs: [job(r)],
    read: { processShares: false },
  }),
  "training beside light load, shares": (r) => ({
    engines: [engine(r, "engine", "large", chat(r, [60, 200]))],
    jobs: [job(r)],
  }),
  "three servers, never parked": (r) => ({
    engines: [
      engine(r, "heavy", "large", steady(r, r.between(2.5, 3.5))),
      engine(
        r,
        "bursty",
        "large",
        bursts(r, { size: [5, 10], pause: [18, 28], input: [800, 1600], output: [300, 500] }),
      ),
      engine(r, "trickle", "guard", arrivals(r, { perSecond: 0.06, input: [20, 80], output: [15, 30] })),
    ],
  }),
  "two servers, equal time, unequal watts": (r) => ({
    engines: [
      engine(r, "hot", "large", steady(r, 2), {
        decodeWatts: r.between(380, 450),
        stepMs: 10,
        stepPerRequestMs: 0.05,
      }),
      engine(r, "cool", "large", steady(r, 2), {
        decodeWatts: r.between(120, 180),
        stepMs: 10,
        stepPerRequestMs: 0.05,
      }),
    ],
  }),
  "two servers, taking turns": (r) => ({
    engines: [engine(r, "one", "large", pulses(r)), engine(r, "two", "large", chat(r, [300, 800]))],
  }),
  "two servers without shares": (r) => ({
    engines: [engine(r, "one", "large", pulses(r)), engine(r, "two", "small", smallPulses(r))],
    read: { processShares: false },
  }),
  "trickle beside a busy server": (r) => ({
    engines: [
      engine(r, "busy", "large", steady(r, r.between(2, 3))),
      engine(r, "trickle", "large", arrivals(r, { perSecond: 0.1, input: [50, 200], output: [10, 30] })),
    ],
  }),
  "two self-timed servers": (r) => ({
    engines: [engine(r, "one", "large", pulses(r)), engine(r, "two", "large", chat(r))],
    page: { activeTime: true },
  }),
  "mig, activity by GPM": (r) => ({
    gpus: 2,
    engines: [
      engine(r, "one", "large", pulses(r)),
      engine(r, "two", "guard", arrivals(r, guardLoad(r)), {
        ranks: [{ gpus: [1], role: "combined", pids: [77_001] }],
      }),
    ],
    read: { activity: "mean" },
    mig: [4, 3],
  }),
};

/** The regime of a name, drawn by a seed, with pages polled every `pollMs`. */
export function regime(name: string, seed: number, pollMs: number): Regime {
  const draw = regimes[name];
  if (draw === undefined)
    throw new Error(`no regime "${name}"; wanted one of ${Object.keys(regimes).join(", ")}`);
  const random = new Random(seed);
  const draft = draw(random);
  const floorWatts = random.between(95, 145);
  const host: Host = {
    milliseconds: (draft.seconds ?? lengthSeconds) * 1000,
    gpus: Array.from({ length: draft.gpus ?? draft.mig?.length ?? 1 }, () => ({
      floorWatts,
      freeWatts: floorWatts - 45,
    })),
    engines: draft.engines,
    jobs: draft.jobs ?? [],
  };
  const page: PageReading = {
    pollMs,
    answerMs: 4,
    refreshMs: 0,
    gauge: true,
    durations: false,
    phaseTimes: false,
    kind: "step",
    activeTime: false,
    ...draft.page,
  };
  return {
    name,
    seed,
    host,
    gpus: { ...nvml, ...draft.read },
    pages: Object.fromEntries(draft.engines.map(({ id }) => [id, { ...page, ...draft.pages?.[id] }])),
    gpuName: "NVIDIA H100 80GB HBM3",
    ...(draft.mig === undefined ? {} : { mig: draft.mig }),
    ...(draft.order === undefined ? {} : { order: draft.order }),
  };
}
