// Regimes that hosts have less often: engines that restart, slow down or guess ahead, and readings of several kinds at once.
import type { Draft, Draw } from "./draws.ts";
import {
  alone,
  arrivals,
  bursts,
  busyAndTrickle,
  chat,
  dcgm,
  engine,
  guardLoad,
  job,
  prefillApart,
  pulses,
  ranked,
  ranks,
  smallPulses,
  smi,
  steady,
  tensorParallel,
} from "./draws.ts";
import type { Random } from "./random.ts";
import type { Rank, Request } from "./world.ts";

/** Requests of an embedding model, some 2 to 8 ms each. */
const embeddings = (random: Random): Request[] =>
  arrivals(random, { perSecond: random.between(4, 14), input: [100, 600], output: [1, 1] });

/** A dcgm-exporter without profiling fields: the energy counter, and the driver's last window. */
const sampledEach = (seconds: number): Draft["read"] => ({
  ...dcgm,
  activity: "window",
  everyMs: seconds * 1000,
});

/** Ranks on the GPUs in reverse order. */
const backwards = (random: Random, count: number): Rank[] =>
  ranks(random, count).map((rank) => ({ ...rank, gpus: rank.gpus.map((gpu) => count - 1 - gpu) }));

/** Four ranks of a guard model, asked alike. */
const rankedGuard = (random: Random): Draft => {
  const { perSecond, ...load } = guardLoad(random);
  const rank = (draw: Random): number => Math.floor(4 * draw.next());
  const places = ranks(random, 4);
  const requests = arrivals(random, { ...load, perSecond: 3 * perSecond, rank });
  return {
    gpus: 4,
    engines: [engine(random, "engine", "guard", requests, { ranks: places })],
    page: { ranks: true },
  };
};

/** Rarer regimes by name. */
export const rarerRegimes: Readonly<Record<string, Draw>> = {
  "embedding beside chat": (r) => ({
    engines: [engine(r, "chat", "large", chat(r)), engine(r, "embedding", "embedding", embeddings(r))],
  }),
  "slow page, 4 s, guard": (r) => alone(r, "guard", arrivals(r, guardLoad(r)), {}, { answerMs: 4000 }),
  "cached page, never at rest": (r) => alone(r, "large", steady(r), {}, { refreshMs: 10_000 }),
  "cached page beside training": (r) => ({
    ...alone(r, "large", chat(r), {}, { refreshMs: 10_000 }),
    jobs: [job(r)],
  }),
  "cached page, 15 s": (r) => alone(r, "large", chat(r), {}, { refreshMs: 15_000 }),
  "tensor parallel 8, short": (r) => ({
    gpus: 8,
    engines: [
      engine(
        r,
        "engine",
        "guard",
        arrivals(r, { perSecond: r.between(2, 6), input: [100, 400], output: [1, 3] }),
        { ranks: tensorParallel(r, 8) },
      ),
    ],
  }),
  "mig, chat and embedding": (r) => ({
    gpus: 2,
    engines: [
      engine(r, "chat", "large", chat(r)),
      engine(r, "embedding", "embedding", embeddings(r), {
        ranks: [{ gpus: [1], role: "combined", pids: [77_001] }],
      }),
    ],
    read: { activity: "mean" },
    mig: [4, 2],
  }),
  "trickle with durations beside a busy server": (r) => ({
    engines: busyAndTrickle(r),
    page: { durations: true },
  }),
  "trickle beside a busy server, no shares": (r) => ({
    engines: busyAndTrickle(r),
    read: { processShares: false },
  }),
  "two servers without gauges": (r) => ({
    engines: [engine(r, "one", "large", chat(r)), engine(r, "two", "large", pulses(r))],
    page: { gauge: false },
  }),
  "mig, three instances of different watts": (r) => ({
    gpus: 3,
    engines: [
      engine(r, "hot", "large", pulses(r), { decodeWatts: r.between(180, 240), prefillWatts: 250 }),
      engine(r, "cool", "large", chat(r, [300, 800]), {
        ...{ decodeWatts: r.between(60, 100), prefillWatts: 150 },
        ranks: [{ gpus: [1], role: "combined", pids: [77_001] }],
      }),
      engine(r, "guard", "guard", arrivals(r, guardLoad(r)), {
        ...{ decodeWatts: r.between(40, 80), prefillWatts: 100 },
        ranks: [{ gpus: [2], role: "combined", pids: [77_002] }],
      }),
    ],
    read: { activity: "mean" },
    mig: [3, 2, 2],
  }),
  "notebook beside chat": (r) => ({
    engines: [engine(r, "engine", "large", chat(r))],
    jobs: [job(r, { busyMs: r.whole(300, 1500), restMs: r.whole(4000, 9000) })],
  }),
  "never idle, finish only": (r) => alone(r, "large", steady(r), {}, { kind: "finish" }),
  "coarse 30 s, guard": (r) => alone(r, "guard", arrivals(r, guardLoad(r)), { ...dcgm, everyMs: 30_000 }),
  "two servers, one self-timed": (r) => ({
    engines: [engine(r, "timed", "large", pulses(r)), engine(r, "other", "large", chat(r))],
    pages: { timed: { activeTime: true } },
  }),
  "nvidia-smi each 5 s, guard": (r) =>
    alone(r, "guard", arrivals(r, guardLoad(r)), { ...smi, everyMs: 5000 }),
  "coarse 10 s, long prefill without gauge": (r) =>
    alone(
      r,
      "large",
      bursts(r, { size: [1, 2], pause: [14, 30], input: [60_000, 200_000], output: [50, 250] }),
      { ...dcgm, everyMs: 10_000 },
      { gauge: false },
    ),
  "counter and last window each 5 s, pulses": (r) => alone(r, "large", pulses(r), sampledEach(5)),
  "counter and last window each 5 s, chat": (r) => alone(r, "large", chat(r), sampledEach(5)),
  "counter and last window each 5 s, guard": (r) =>
    alone(r, "guard", arrivals(r, guardLoad(r)), sampledEach(5)),
  "counter and last window each 2 s, host-bound": (r) => alone(r, "small", smallPulses(r), sampledEach(2)),
  "counter and last window each 30 s, chat": (r) => alone(r, "large", chat(r), sampledEach(30)),
  "counter and last window each 10 s, two servers": (r) => ({
    engines: [engine(r, "one", "large", pulses(r)), engine(r, "two", "large", chat(r, [300, 800]))],
    read: { ...sampledEach(10), processes: true },
  }),
  "nvidia-smi each 15 s, pulses": (r) => alone(r, "large", pulses(r), { ...smi, everyMs: 15_000 }),
  "nvidia-smi each 30 s, chat": (r) => alone(r, "large", chat(r), { ...smi, everyMs: 30_000 }),
  "coarse 15 s, chat": (r) => alone(r, "large", chat(r), { ...dcgm, everyMs: 15_000 }),
  "coarse 30 s, chat": (r) => alone(r, "large", chat(r), { ...dcgm, everyMs: 30_000 }),
  "coarse 30 s, host-bound": (r) => alone(r, "small", smallPulses(r), { ...dcgm, everyMs: 30_000 }),
  "nvidia-smi each 2 s, chat": (r) => alone(r, "large", chat(r), { ...smi, everyMs: 2000 }),
  "nvidia-smi each 5 s, pulses": (r) => alone(r, "large", pulses(r), { ...smi, everyMs: 5000 }),
  "nvidia-smi each 10 s, chat": (r) => alone(r, "large", chat(r), { ...smi, everyMs: 10_000 }),
  "guard, seldom asked": (r) =>
    alone(r, "guard", arrivals(r, { perSecond: r.between(0.25, 0.6), input: [100, 500], output: [1, 4] })),
  "guard beside embedding": (r) => ({
    engines: [
      engine(r, "guard", "guard", arrivals(r, guardLoad(r))),
      engine(r, "embedding", "embedding", embeddings(r)),
    ],
    page: { durations: true, phaseTimes: true },
  }),
  restarted: (r) =>
    alone(
      r,
      "large",
      [
        ...bursts(r, { size: [2, 8], pause: [8, 14], input: [200, 900], output: [150, 400], to: 100 }),
        ...bursts(r, { size: [2, 8], pause: [8, 14], input: [200, 900], output: [150, 400], from: 140 }),
      ],
      {},
      { restart: { from: 112_000, to: 135_000 } },
    ),
  "prefill and decode apart, coarse 5 s": (r) => ({
    ...prefillApart(r),
    read: { ...dcgm, everyMs: 5000 },
  }),
  "training beside ranks in lockstep": (r) => ({
    ...ranked(
      r,
      arrivals(r, {
        perSecond: 0.2,
        input: [300, 2500],
        output: [200, 700],
        rank: (x) => (x.next() < 0.7 ? 0 : 1),
      }),
      ranks(r, 2),
      { lockstep: true },
    ),
    jobs: [job(r, { gpu: 1 })],
    read: { titles: true },
  }),
  "eight ranks, uneven, in the wrong order": (r) =>
    ranked(
      r,
      arrivals(r, {
        perSecond: 0.8,
        input: [300, 2500],
        output: [200, 700],
        rank: (x) => Math.floor(8 * x.next() ** 2),
      }),
      backwards(r, 8),
    ),
  "ranks with short requests": (r) => ({ ...rankedGuard(r), read: { titles: true } }),
  "data parallel, short requests": (r) => ({ ...rankedGuard(r), page: {} }),
  throttled: (r) => ({
    engines: [
      engine(r, "engine", "large", chat(r), {
        throttle: { from: 80_000, to: 170_000, ratio: r.between(0.35, 0.6) },
      }),
    ],
  }),
  "speculative decoding": (r) => ({
    engines: [engine(r, "engine", "large", chat(r, [300, 900]), { tokensPerStepMax: r.whole(3, 6) })],
  }),
  "nvidia-smi, speculative": (r) => ({
    engines: [engine(r, "engine", "large", pulses(r), { tokensPerStepMax: r.whole(3, 6) })],
    read: smi,
  }),
};
