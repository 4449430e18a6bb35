// The regimes that hosts have, each with its figures drawn by seed: what was measured well once must be measured well
// at other loads, speeds and powers too.
import type { Draft, Draw, Load } from "./draws.ts";
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
  lengthSeconds,
  nvml,
  prefillApart,
  pulses,
  ranked,
  ranks,
  smallPulses,
  smi,
  steady,
  tensorParallel,
} from "./draws.ts";
import { latePageRegimes } from "./late-pages.ts";
import type { PageReading, Regime } from "./meters.ts";
import { neighbourRegimes } from "./neighbours.ts";
import { Random } from "./random.ts";
import { rarerRegimes } from "./rarer.ts";
import { sharedRegimes } from "./shared.ts";
import type { Engine, Host } from "./world.ts";

/** Requests of four ranks of which the last gets none. */
const idleLoad = (output: Load["output"]): Load => ({
  ...{ perSecond: 0.3, input: [1000, 5000], output },
  rank: (x) => x.pick([0, 0, 0, 1, 1, 2]),
});
/** Four ranks of which the last gets no request. */
const rankedIdle = (r: Random, more: Partial<Engine> = {}): Draft =>
  ranked(r, arrivals(r, idleLoad([300, 900])), ranks(r, 4), more);
/** Two ranks, one of which gets most. */
const rankedUneven = (r: Random): Draft =>
  ranked(
    r,
    arrivals(r, {
      perSecond: 0.25,
      input: [500, 2500],
      output: [300, 900],
      rank: (x) => (x.next() < 0.8 ? 0 : 1),
    }),
    ranks(r, 2),
  );

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
    ...ranked(r, arrivals(r, idleLoad([800, 1600])), ranks(r, 4)),
    page: {},
  }),
  "data parallel, uneven": (r) => ({ ...rankedUneven(r), page: {} }),
  "data parallel, own busy time": (r) => ({ ...rankedUneven(r), page: { activeTime: true } }),
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
  "ranks in lockstep with their own busy time": (r) => ({
    ...rankedIdle(r, { lockstep: true }),
    page: { ranks: true, activeTime: true },
    read: { titles: true },
  }),
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
  "prefill and decode apart": prefillApart,
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
  "trickle beside a busy server": (r) => ({ engines: busyAndTrickle(r) }),
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
  ...rarerRegimes,
  ...latePageRegimes,
  ...sharedRegimes,
  ...neighbourRegimes,
};

/** The regime of a name, drawn by a seed, with pages polled every `pollMs`. */
export function regime(name: string, seed: number, pollMs: number): Regime {
  const draw = regimes[name];
  if (draw === undefined)
    throw new Error(`no regime "${name}"; wanted one of ${Object.keys(regimes).join(", ")}`);
  const random = new Random(seed);
  return regimeOf({ name, seed, pollMs }, draw(random), random);
}

/** The regime of a draft, where pages that say nothing else are polled every `pollMs`. */
export function regimeOf(
  { name, pollMs, seed }: { readonly name: string; readonly seed: number; readonly pollMs: number },
  draft: Draft,
  random: Random,
): Regime {
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
