// Which rank is on which GPU, where no process says so: the places that leave the least work unexplained (evidence.ts). The order
// of GPUs stands until others are better by far, and then these stand; a GPU whose rank can be no other one is learned.
import type { Nanos } from "../../model.ts";
import { cheapestSeats } from "./assignment.ts";
import type { RankEvidence } from "./evidence.ts";

/** The rank of a GPU, and whether what was seen leaves no other one. */
export interface Seat {
  readonly rank: string;
  readonly isLearned: boolean;
}

/** Places are better by far that leave this much less unexplained, and so much more of what they leave themselves. */
const [aheadNanosMin, aheadRatio] = [6_000_000_000, 0.5];

/** Returns the rank of each GPU; GPUs are left out where nothing says one. `before`: the places so far. */
export function orderOf(
  evidence: RankEvidence,
  before: ReadonlyMap<string, Seat>,
): ReadonlyMap<string, Seat> {
  return freely(evidence, before) ?? shared(evidence, before) ?? before;
}

/** Each GPU by itself, where that leaves one rank for every one of them: some ranks may be on no GPU here. */
function freely(
  evidence: RankEvidence,
  before: ReadonlyMap<string, Seat>,
): ReadonlyMap<string, Seat> | undefined {
  const { gpus, ranks } = evidence;
  const seats = new Map<string, Seat>();
  for (let gpu = 0; gpu < gpus.length; gpu++) {
    let [best, least, second] = [-1, Infinity, Infinity];
    for (let rank = 0; rank < ranks.length; rank++) {
      const cost = evidence.against(gpu, rank);
      if (cost < least) [best, least, second] = [rank, cost, least];
      else if (cost < second) second = cost;
    }
    const known = before.get(gpus[gpu] as string);
    if (isFarBelow(least, second))
      seats.set(gpus[gpu] as string, { rank: ranks[best] as string, isLearned: true });
    else if (
      known?.isLearned === true &&
      !isFarBelow(least, evidence.against(gpu, ranks.indexOf(known.rank)))
    )
      seats.set(gpus[gpu] as string, known);
    else return undefined;
  }
  return seats;
}

/** All together, as many GPUs for each rank. */
function shared(
  evidence: RankEvidence,
  before: ReadonlyMap<string, Seat>,
): ReadonlyMap<string, Seat> | undefined {
  const { gpus, ranks } = evidence;
  const each = gpus.length / ranks.length;
  if (!Number.isInteger(each) || !isEven(before, ranks, each)) return undefined;
  const costOf = (gpu: number, seat: number): Nanos => evidence.against(gpu, Math.floor(seat / each));
  const best = cheapestSeats(gpus.length, gpus.length, costOf);
  const rankAt = (gpu: number): number => ranks.indexOf(before.get(gpus[gpu] as string)?.rank ?? "");
  let cost = 0;
  for (let gpu = 0; gpu < gpus.length; gpu++) cost += evidence.against(gpu, rankAt(gpu));
  const isBeaten = isFarBelow(best.cost, cost);
  const isDoubted = cost - best.cost > aheadNanosMin / 2;
  const seats = new Map<string, Seat>();
  for (let gpu = 0; gpu < gpus.length; gpu++) {
    const uuid = gpus[gpu] as string;
    const rank = isBeaten ? Math.floor((best.seats[gpu] as number) / each) : rankAt(gpu);
    const known = before.get(uuid);
    const wasLearned = known?.isLearned === true && known.rank === ranks[rank] && !isDoubted;
    const without = (one: number, seat: number): Nanos =>
      one === gpu && Math.floor(seat / each) === rank ? forbidden : costOf(one, seat);
    const isLearned =
      wasLearned ||
      isFarBelow(isBeaten ? best.cost : cost, cheapestSeats(gpus.length, gpus.length, without).cost);
    seats.set(uuid, { rank: ranks[rank] as string, isLearned });
  }
  return seats;
}

/** More than anything that can be seen. */
const forbidden: Nanos = 1e15;

function isEven(seats: ReadonlyMap<string, Seat>, ranks: readonly string[], each: number): boolean {
  return ranks.every((rank) => [...seats.values()].filter((seat) => seat.rank === rank).length === each);
}

function isFarBelow(one: Nanos, other: Nanos): boolean {
  return other - one >= aheadNanosMin + aheadRatio * one;
}
