// Regimes of neighbours on one GPU that are not alike: in how long their requests are, in what their pages say, and in when they
// come, start again and go.
import type { Draw } from "./draws.ts";
import { arrivals, bursts, chat, engine, guardLoad, job, pulses, steady } from "./draws.ts";
import type { Random } from "./random.ts";
import type { Request } from "./world.ts";

/** Long prompts that get a token or two: a reranker, a judge of documents. */
const readings = (random: Random): Request[] =>
  bursts(random, { size: [2, 8], pause: [6, 14], input: [2000, 9000], output: [1, 3] });

/** Requests of an embedding model, many at once, then none. */
const batches = (random: Random): Request[] =>
  bursts(random, { size: [40, 120], pause: [12, 25], input: [100, 600], output: [1, 1] });

/** Regimes of unlike neighbours by name. */
export const neighbourRegimes: Readonly<Record<string, Draw>> = {
  "two servers without gauges or shares": (r) => ({
    engines: [engine(r, "one", "large", chat(r)), engine(r, "two", "large", pulses(r))],
    page: { gauge: false },
    read: { processShares: false },
  }),
  "guard without gauge beside chat": (r) => ({
    engines: [engine(r, "chat", "large", chat(r)), engine(r, "guard", "guard", arrivals(r, guardLoad(r)))],
    pages: { guard: { gauge: false } },
  }),
  "self-timed embedding beside chat": (r) => ({
    engines: [engine(r, "chat", "large", chat(r)), engine(r, "embedding", "embedding", batches(r))],
    pages: { embedding: { activeTime: true } },
  }),
  "chat beside a self-timed guard": (r) => ({
    engines: [engine(r, "chat", "large", chat(r)), engine(r, "guard", "guard", arrivals(r, guardLoad(r)))],
    pages: { guard: { activeTime: true } },
  }),
  "embedding in batches beside a busy server": (r) => ({
    engines: [
      engine(r, "busy", "large", steady(r, r.between(1.5, 2.5))),
      engine(r, "batches", "embedding", batches(r)),
    ],
  }),
  "reranker beside chat": (r) => ({
    engines: [engine(r, "chat", "large", chat(r)), engine(r, "reranker", "guard", readings(r))],
  }),
  "reranker beside chat, no shares": (r) => ({
    engines: [engine(r, "chat", "large", chat(r)), engine(r, "reranker", "guard", readings(r))],
    read: { processShares: false },
  }),
  "chat beside one that starts again": (r) => ({
    engines: [
      engine(r, "chat", "large", chat(r)),
      engine(r, "again", "large", [
        ...bursts(r, { size: [2, 8], pause: [8, 14], input: [200, 900], output: [150, 400], to: 100 }),
        ...bursts(r, { size: [2, 8], pause: [8, 14], input: [200, 900], output: [150, 400], from: 140 }),
      ]),
    ],
    pages: { again: { restart: { from: 112_000, to: 135_000 } } },
  }),
  "guard that comes beside chat": (r) => ({
    engines: [
      engine(r, "chat", "large", chat(r)),
      engine(r, "guard", "guard", arrivals(r, { ...guardLoad(r), from: 105 }), { from: 100_000 }),
    ],
  }),
  "guard that goes beside chat": (r) => ({
    engines: [
      engine(r, "chat", "large", chat(r)),
      engine(r, "guard", "guard", arrivals(r, { ...guardLoad(r), to: 125 }), { to: 135_000 }),
    ],
  }),
  "guard beside a notebook": (r) => ({
    engines: [engine(r, "guard", "guard", arrivals(r, guardLoad(r)))],
    jobs: [job(r, { busyMs: r.whole(300, 1500), restMs: r.whole(4000, 9000) })],
  }),
  "guard beside training with pauses, read each 5 s": (r) => ({
    engines: [engine(r, "guard", "guard", arrivals(r, guardLoad(r)))],
    jobs: [job(r, { busyMs: r.whole(500, 1500), restMs: r.whole(500, 1500) })],
    read: { everyMs: 5000 },
  }),
  "copy of 10 s beside chat": (r) => ({
    engines: [engine(r, "chat", "large", chat(r)), engine(r, "copied", "large", chat(r, [60, 200]))],
    pages: { copied: { refreshMs: 10_000 } },
  }),
};
