// Regimes in which several servers share one GPU: who executed when, and who drew the joules.
import type { Draw } from "./draws.ts";
import { arrivals, bursts, chat, dcgm, engine, guardLoad, pulses, steady } from "./draws.ts";
import type { Random } from "./random.ts";
import type { Engine, Request } from "./world.ts";

/** Long prompts that another server answers: one token each here, the others there as soon as the prompt may be done. */
function handedOver(random: Random): readonly [prompts: Request[], answers: Request[]] {
  const prompts = arrivals(random, { perSecond: 0.5, input: [3000, 12_000], output: [1, 1] });
  const answers = prompts.map(({ at, inputTokens }) => ({
    at: at + Math.round(inputTokens / 20),
    inputTokens: 1,
    outputTokens: random.whole(100, 300),
  }));
  return [prompts, answers];
}

/** Always busy, and short requests beside it. */
const busyAndGuard = (random: Random): Engine[] => [
  engine(random, "chat", "large", steady(random, random.between(2, 3))),
  engine(random, "guard", "guard", arrivals(random, guardLoad(random))),
];

/** Three servers that take turns, of quite different watts. */
const differentWatts = (random: Random): Engine[] => [
  engine(random, "hot", "large", pulses(random), { decodeWatts: random.between(330, 420) }),
  engine(random, "cool", "large", chat(random, [300, 800]), { decodeWatts: random.between(110, 170) }),
  engine(
    random,
    "small",
    "guard",
    bursts(random, { size: [2, 6], pause: [8, 16], input: [100, 400], output: [100, 300] }),
    { decodeWatts: random.between(180, 260) },
  ),
];

/** Regimes of one GPU for several by name. */
export const sharedRegimes: Readonly<Record<string, Draw>> = {
  "two guards": (r) => ({
    engines: [
      engine(r, "one", "guard", arrivals(r, guardLoad(r))),
      engine(r, "two", "guard", arrivals(r, guardLoad(r))),
    ],
  }),
  "two guards, one seldom asked": (r) => ({
    engines: [
      engine(r, "one", "guard", arrivals(r, guardLoad(r))),
      engine(
        r,
        "two",
        "guard",
        arrivals(r, { perSecond: r.between(0.2, 0.6), input: [100, 500], output: [1, 8] }),
      ),
    ],
  }),
  "two guards with durations": (r) => ({
    engines: [
      engine(r, "one", "guard", arrivals(r, guardLoad(r))),
      engine(r, "two", "guard", arrivals(r, guardLoad(r))),
    ],
    page: { durations: true },
  }),
  "three guards": (r) => ({
    engines: ["one", "two", "three"].map((id) => engine(r, id, "guard", arrivals(r, guardLoad(r)))),
  }),
  "two guards without shares": (r) => ({
    engines: [
      engine(r, "one", "guard", arrivals(r, guardLoad(r))),
      engine(r, "two", "guard", arrivals(r, guardLoad(r))),
    ],
    read: { processShares: false },
  }),
  "guard beside a chat that never rests": (r) => ({ engines: busyAndGuard(r) }),
  "three servers of different watts": (r) => ({ engines: differentWatts(r) }),
  "three steady servers of different watts": (r) => ({
    engines: [
      engine(r, "hot", "large", steady(r, 1.5), { decodeWatts: r.between(330, 420) }),
      engine(r, "cool", "large", steady(r, 1.5), { decodeWatts: r.between(110, 170) }),
      engine(r, "middle", "large", steady(r, 1), { decodeWatts: r.between(220, 280) }),
    ],
  }),
  "coarse 10 s, two servers": (r) => ({
    engines: [engine(r, "one", "large", pulses(r)), engine(r, "two", "large", chat(r, [300, 800]))],
    read: { ...dcgm, everyMs: 10_000 },
  }),
  "coarse 5 s, chat and guard": (r) => ({
    engines: [engine(r, "chat", "large", chat(r)), engine(r, "guard", "guard", arrivals(r, guardLoad(r)))],
    read: { ...dcgm, everyMs: 5000 },
  }),
  "prefill and decode as two servers": (r) => {
    const [prompts, answers] = handedOver(r);
    return { engines: [engine(r, "prefill", "large", prompts), engine(r, "decode", "large", answers)] };
  },
  "prefill and decode as two servers, no shares": (r) => {
    const [prompts, answers] = handedOver(r);
    return {
      engines: [engine(r, "prefill", "large", prompts), engine(r, "decode", "large", answers)],
      read: { processShares: false },
    };
  },
  "two servers, slow and fast": (r) => ({
    engines: [
      engine(r, "slow", "large", steady(r, 1), { decodeWatts: r.between(120, 180), stepMs: 18 }),
      engine(r, "fast", "guard", steady(r, 2), { decodeWatts: r.between(300, 400), stepMs: 4 }),
    ],
  }),
};
