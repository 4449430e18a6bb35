// Regimes of pages that are old or late: copies of every age, kept on a timer or on demand, in several places, polls without an
// answer, and copies in front of coarse readings of the GPU.
import type { Draw } from "./draws.ts";
import {
  alone,
  arrivals,
  bursts,
  chat,
  dcgm,
  engine,
  guardLoad,
  job,
  pulses,
  ranked,
  ranks,
  smi,
} from "./draws.ts";

const dcgm10 = { ...dcgm, everyMs: 10_000 };

/** Those regimes by name. */
export const latePageRegimes: Readonly<Record<string, Draw>> = {
  "copy of 7 s": (r) => alone(r, "large", chat(r), {}, { refreshMs: 7000 }),
  "copy of 7 s on demand": (r) => alone(r, "large", chat(r), {}, { refreshMs: 7000, onDemand: true }),
  "copy of 30 s": (r) => alone(r, "large", chat(r), {}, { refreshMs: 30_000 }),
  "copy of 10 s, guard": (r) => alone(r, "guard", arrivals(r, guardLoad(r)), {}, { refreshMs: 10_000 }),
  "copy of 10 s without gauge": (r) => alone(r, "large", chat(r), {}, { refreshMs: 10_000, gauge: false }),
  "copy of 10 s, finish only": (r) => alone(r, "large", chat(r), {}, { refreshMs: 10_000, kind: "finish" }),
  "copy of 10 s, own busy time": (r) =>
    alone(r, "large", chat(r), {}, { refreshMs: 10_000, activeTime: true }),
  "copy of 10 s, two replicas": (r) => alone(r, "large", chat(r), {}, { refreshMs: 10_000, replicas: 2 }),
  "copy of 10 s, coarse 10 s": (r) => alone(r, "large", chat(r), dcgm10, { refreshMs: 10_000 }),
  "copy of 7 s, coarse 10 s": (r) => alone(r, "large", pulses(r), dcgm10, { refreshMs: 7000 }),
  "copy of 10 s, coarse 15 s, pulses": (r) =>
    alone(r, "large", pulses(r), { ...dcgm, everyMs: 15_000 }, { refreshMs: 10_000 }),
  "copy of 10 s, nvidia-smi": (r) => alone(r, "large", chat(r), smi, { refreshMs: 10_000 }),
  "copy of 10 s, restarted": (r) =>
    alone(
      r,
      "large",
      [
        ...bursts(r, { size: [2, 8], pause: [8, 14], input: [200, 900], output: [150, 400], to: 100 }),
        ...bursts(r, { size: [2, 8], pause: [8, 14], input: [200, 900], output: [150, 400], from: 140 }),
      ],
      {},
      { refreshMs: 10_000, restart: { from: 112_000, to: 135_000 } },
    ),
  "copy of 10 s beside training": (r) => ({
    engines: [engine(r, "engine", "large", chat(r, [60, 200]))],
    jobs: [job(r)],
    page: { refreshMs: 10_000 },
  }),
  "copy of 10 s, ranks": (r) => ({
    ...ranked(
      r,
      arrivals(r, {
        perSecond: 0.25,
        input: [500, 2500],
        output: [300, 900],
        rank: (x) => (x.next() < 0.8 ? 0 : 1),
      }),
      ranks(r, 2),
    ),
    page: { ranks: true, refreshMs: 10_000 },
    read: { titles: true },
  }),
  "polls missed, chat": (r) => alone(r, "large", chat(r), {}, { lostPolls: 0.25 }),
  "polls missed, guard": (r) => alone(r, "guard", arrivals(r, guardLoad(r)), {}, { lostPolls: 0.25 }),
};
