// Where ranks are by what they and the GPUs do: never learned wrong, learned where it can be known, and kept.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ActivityWindow } from "../../../agent/correlate/activity/evidence.ts";
import { cheapestSeats } from "../../../agent/correlate/ranks/assignment.ts";
import type { IsShared } from "../../../agent/correlate/ranks/evidence.ts";
import { RankEvidence } from "../../../agent/correlate/ranks/evidence.ts";
import type { Seat } from "../../../agent/correlate/ranks/order.ts";
import { orderOf } from "../../../agent/correlate/ranks/order.ts";
import type { ServerPoll } from "../../../agent/model.ts";
import { second } from "../trace-replay.ts";

describe("cheapestSeats()", () => {
  const costs = fc.integer({ min: 1, max: 6 }).chain((workers) =>
    fc.integer({ min: workers, max: 7 }).chain((seats) =>
      fc.array(fc.array(fc.nat(9), { minLength: seats, maxLength: seats }), {
        minLength: workers,
        maxLength: workers,
      }),
    ),
  );

  /** The least cost of all ways there are. */
  function leastOf(rows: readonly (readonly number[])[], taken: readonly number[] = []): number {
    const [row, ...rest] = rows;
    if (row === undefined) return 0;
    return Math.min(
      ...row.flatMap((cost, seat) => (taken.includes(seat) ? [] : cost + leastOf(rest, [...taken, seat]))),
    );
  }

  test("costs as little as the best of all ways, each worker on a seat of its own", () => {
    fc.assert(
      fc.property(costs, (rows) => {
        const seats = rows[0]?.length ?? 0;
        const found = cheapestSeats(rows.length, seats, (worker, seat) => rows[worker]?.[seat] ?? NaN);
        expect(new Set(found.seats).size).toBe(rows.length);
        expect(found.cost).toBe(leastOf(rows));
      }),
    );
  });
});

const seconds = 150;
type Load = readonly boolean[];

/** In which seconds each rank executes: stretches of some seconds, with pauses. */
const load: fc.Arbitrary<Load> = fc
  .array(fc.record({ work: fc.integer({ min: 2, max: 12 }), rest: fc.integer({ min: 0, max: 12 }) }), {
    minLength: 4,
    maxLength: 24,
  })
  .map((stretches) => {
    const all = stretches.flatMap(({ rest, work }) => [
      ...Array.from({ length: rest }, () => false),
      ...Array.from({ length: work }, () => true),
    ]);
    return Array.from({ length: seconds }, (_, at) => all[at % Math.max(1, all.length)] ?? false);
  });
const idle: Load = Array.from({ length: seconds }, () => false);
const loads = fc.array(fc.oneof({ weight: 5, arbitrary: load }, fc.constant(idle)), {
  minLength: 2,
  maxLength: 4,
});

interface World {
  /** Of every rank the page shows. */
  readonly ranks: readonly Load[];
  /** The rank of each GPU here. */
  readonly truth: readonly number[];
  readonly windowNanos: number;
  readonly busyRatio: number;
  readonly lockstep?: boolean;
  /** A window says what the GPU did at its end. */
  readonly isSampled?: boolean;
  /** The order assumed; undefined = none. */
  readonly assumed?: readonly number[] | undefined;
  readonly pollSeconds?: number;
  /** Windows of every GPU that were lost, in a row. */
  readonly lost?: number;
  /** Polls at which a rank counts tokens that it did not make then. */
  readonly odd?: readonly { readonly rank: number; readonly at: number }[];
}

function polls({ odd = [], pollSeconds = 1, ranks }: World): ServerPoll[] {
  const list: ServerPoll[] = [];
  const counted = ranks.map(() => 0);
  for (let at = 0; at <= seconds; at++) {
    if (at > 0)
      for (const [rank, own] of ranks.entries()) if (own[at - 1]) counted[rank] = (counted[rank] ?? 0) + 50;
    for (const one of odd) if (one.at === at) counted[one.rank] = (counted[one.rank] ?? 0) + 1;
    if (at % pollSeconds > 0) continue;
    const told = ranks.map((own, rank) => ({
      ...{ rank: String(rank), inputTokens: 0, outputTokens: counted[rank] ?? 0 },
      inFlight: at > 0 && own[at - 1] === true && own[at] === true ? 1 : 0,
    }));
    list.push({ at: at * second, inputTokens: 0, outputTokens: 0, progress: "step", ranks: told });
  }
  return list;
}

/** What a GPU did: busy in the seconds of its rank, or of any in lockstep. */
function windowsOf(
  { busyRatio, isSampled, lockstep, lost = 0, ranks, windowNanos }: World,
  rank: number,
): ActivityWindow[] {
  const works = (at: number): boolean =>
    lockstep ? ranks.some((own) => own[at]) : (ranks[rank]?.[at] ?? false);
  const windows: ActivityWindow[] = [];
  for (let from = 0; from < seconds * second; from += windowNanos) {
    const to = Math.min(seconds * second, from + windowNanos);
    let busy = 0;
    for (let at = Math.floor(from / second); at * second < to; at++)
      if (works(at)) busy += Math.min(to, (at + 1) * second) - Math.max(from, at * second);
    if (isSampled)
      windows.push({ from, to, busyRatio: works(to / second - 1) ? busyRatio : 0, sampled: true });
    else windows.push({ from, to, busyRatio: (busyRatio * busy) / (to - from) });
  }
  const first = windows.length >> 2;
  return windows.filter((_, index) => index < first || index >= first + lost);
}

/** The places at every time they were decided. */
function* learning(world: World): Generator<ReadonlyMap<string, Seat>> {
  const { assumed, ranks, truth } = world;
  const gpus = truth.map((_, gpu) => `g${gpu}`);
  const evidence = new RankEvidence(
    ranks.map((_, rank) => String(rank)),
    gpus,
  );
  const all = new Map(truth.map((rank, gpu) => [`g${gpu}`, windowsOf(world, rank)]));
  let seats: ReadonlyMap<string, Seat> = new Map(
    (assumed ?? []).map((rank, gpu) => [`g${gpu}`, { rank: String(rank), isLearned: false }]),
  );
  let before: ServerPoll | undefined;
  for (const poll of polls(world)) {
    if (before !== undefined) evidence.takePoll(before, poll);
    before = poll;
    // Windows come as they end.
    const seen = new Map([...all].map(([gpu, list]) => [gpu, list.filter(({ to }) => to <= poll.at)]));
    if (!evidence.weigh(seen, () => false) || poll.at % (5 * second) > 0) continue;
    seats = orderOf(evidence, seats);
    yield seats;
  }
}

/** How long one of two ranks executes without the other, the least of both ways; `Infinity` for the same rank. */
function apart(one: Load, other: Load): number {
  const without = (a: Load, b: Load): number => a.filter((works, at) => works && b[at] !== true).length;
  return Math.max(without(one, other), without(other, one));
}

const readingKinds = [
  ...[second / 5, second, 5 * second].map((windowNanos) => ({ windowNanos })),
  ...[second, 10 * second].map((windowNanos) => ({ windowNanos, isSampled: true })),
];
const kinds = fc
  .record({
    reading: fc.constantFrom(...readingKinds),
    busyRatio: fc.constantFrom(0.2, 0.6, 0.95),
    pollSeconds: fc.constantFrom(1, 5),
    lost: fc.constantFrom(0, 80),
  })
  .map(({ reading, ...kind }) => ({ ...kind, ...reading }));
const shuffledOf = (count: number): fc.Arbitrary<number[]> =>
  fc.shuffledSubarray(
    Array.from({ length: count }, (_, rank) => rank),
    { minLength: count },
  );
const shuffled = loads.chain((ranks) => shuffledOf(ranks.length).map((truth) => ({ ranks, truth })));

describe("orderOf()", () => {
  test("learns no place that is wrong, but one of a rank that did the same", () => {
    fc.assert(
      fc.property(shuffled, kinds, ({ ranks, truth }, kind) => {
        const assumed = ranks.map((_, rank) => rank);
        for (const seats of learning({ ...kind, ranks, truth, assumed }))
          truth.forEach((rank, gpu) => {
            const seat = seats.get(`g${gpu}`);
            if (seat?.isLearned && seat.rank !== String(rank))
              expect(apart(ranks[rank] ?? idle, ranks[Number(seat.rank)] ?? idle)).toBeLessThanOrEqual(5);
          });
      }),
      { numRuns: 60 },
    );
  });

  test("finds every place where the GPUs are read finely and ranks differ for long, whatever the order assumed", () => {
    fc.assert(
      fc.property(shuffled, fc.constantFrom(0.2, 0.6, 0.95), ({ ranks, truth }, busyRatio) => {
        const pairs = ranks.flatMap((one, at) => ranks.slice(at + 1).map((other) => apart(one, other)));
        fc.pre(pairs.every((length) => length > 60));
        const assumed = ranks.map((_, rank) => rank);
        const last = [...learning({ ranks, truth, assumed, busyRatio, windowNanos: second / 5 })].at(-1);
        expect(truth.map((_, gpu) => last?.get(`g${gpu}`))).toEqual(
          truth.map((rank) => ({ rank: String(rank), isLearned: true })),
        );
      }),
      { numRuns: 40 },
    );
  });

  test("keeps the places that stand, whatever two odd looks at a rank say", () => {
    const look = fc.integer({ min: 0, max: seconds / 5 - 1 });
    // Ranks that hardly do anything: an odd look weighs as much as all that is known.
    const light = look.map((at) => idle.map((_, place) => Math.floor(place / 5) === at));
    const world = fc.record({
      ranks: fc.array(light, { minLength: 2, maxLength: 4 }),
      looks: fc.array(look, { maxLength: 2 }),
    });
    fc.assert(
      fc.property(world, ({ looks, ranks }) => {
        const truth = ranks.map((_, rank) => rank);
        const odd = looks.map((at) => ({ rank: 0, at: 5 * at + 2 }));
        for (const seats of learning({
          ranks,
          truth,
          assumed: truth,
          odd,
          busyRatio: 0.9,
          windowNanos: second / 5,
          pollSeconds: 5,
        }))
          expect([...seats.values()].map(({ rank }) => rank)).toEqual(truth.map(String));
      }),
      { numRuns: 60 },
    );
  });

  test("learns nothing from ranks that step together", () => {
    fc.assert(
      fc.property(shuffled, kinds, ({ ranks, truth }, kind) => {
        const assumed = ranks.map((_, rank) => rank);
        for (const seats of learning({ ...kind, ranks, truth, assumed, lockstep: true }))
          expect([...seats.values()]).toEqual(
            assumed.map((rank) => ({ rank: String(rank), isLearned: false })),
          );
      }),
      { numRuns: 40 },
    );
  });

  test("finds the two GPUs of each rank, however they lie", () => {
    const pairs = load.chain((first) =>
      fc.record({
        ranks: fc.constant([first, first.map((works) => !works)]),
        truth: shuffledOf(4).map((order) => order.map((place) => place % 2)),
      }),
    );
    fc.assert(
      fc.property(pairs, ({ ranks, truth }) => {
        fc.pre(ranks.every((own) => own.filter(Boolean).length > 30));
        const world = { ranks, truth, assumed: [0, 0, 1, 1], busyRatio: 0.9, windowNanos: second / 5 };
        const last = [...learning(world)].at(-1);
        expect(truth.map((_, gpu) => last?.get(`g${gpu}`)?.rank)).toEqual(truth.map(String));
      }),
      { numRuns: 30 },
    );
  });

  test("says of ranks on several hosts which are here, or nothing", () => {
    const several = fc
      .array(load, { minLength: 3, maxLength: 4 })
      .chain((ranks) => shuffledOf(ranks.length).map((order) => ({ ranks, truth: order.slice(0, 2) })));
    fc.assert(
      fc.property(several, kinds, ({ ranks, truth }, kind) => {
        for (const seats of learning({ ...kind, ranks, truth }))
          truth.forEach((rank, gpu) => {
            const seat = seats.get(`g${gpu}`);
            if (seat !== undefined && seat.rank !== String(rank))
              expect(apart(ranks[rank] ?? idle, ranks[Number(seat.rank)] ?? idle)).toBeLessThanOrEqual(5);
          });
      }),
      { numRuns: 40 },
    );
  });
});

describe("RankEvidence", () => {
  // The second rank alone works, in every other stretch of five seconds, on the first GPU.
  const turns = idle.map((_, at) => Math.floor(at / 5) % 2 === 1);
  const world = { ranks: [idle, turns], truth: [1, 0], busyRatio: 0.9, windowNanos: second / 5 };
  const worked = turns.filter(Boolean).length * second;

  /** What speaks against the first rank on the GPU that works, and against the second on the one at rest. */
  function against(isShared: IsShared, change: (poll: ServerPoll) => ServerPoll = (poll) => poll) {
    const evidence = new RankEvidence(["0", "1"], ["g0", "g1"]);
    const all = polls(world).map(change);
    all.slice(1).forEach((poll, index) => {
      evidence.takePoll(all[index] as ServerPoll, poll);
    });
    evidence.weigh(new Map(world.truth.map((rank, gpu) => [`g${gpu}`, windowsOf(world, rank)])), isShared);
    return { evidence, found: [evidence.against(0, 0), evidence.against(1, 1)] as const };
  }

  test("counts work and rest where the GPUs are the server's alone, less the older it is, until it is cleared", () => {
    const { evidence, found } = against(() => false);
    for (const nanos of found) {
      expect(nanos).toBeGreaterThan(0.7 * worked);
      expect(nanos).toBeLessThan(0.95 * worked);
    }
    evidence.clear();
    expect([evidence.against(0, 0), evidence.against(1, 1)]).toEqual([0, 0]);
  });

  test("takes no work for the server's that may be another's, be it in a window or between two polls", () => {
    const isLong: IsShared = (_gpu, from, to) => to - from > second / 2;
    for (const isShared of [isLong, (...given: Parameters<IsShared>) => !isLong(...given)]) {
      const [unexplained, rested] = against(isShared).found;
      expect(unexplained).toBe(0);
      expect(rested).toBeGreaterThan(0.7 * worked);
    }
  });

  test("has nothing against anything from polls whose counters stand for another instant", () => {
    const { found } = against(
      () => false,
      (poll) => ({ ...poll, doubt: "cached_page" }),
    );
    expect(found[1]).toBe(0);
  });
});
