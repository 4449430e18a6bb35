// Where the data-parallel ranks of one server are, over time: by the names of processes, else by the order of its GPUs until what
// ranks and GPUs do says another one (order.ts). Servers of very many ranks keep their order.
import type { Nanos, ServerPoll } from "../../model.ts";
import type { ActivityWindow } from "../activity/evidence.ts";
import type { RankFacts, RankPlaces } from "../rank-places.ts";
import { placeRanks, withSeats } from "../rank-places.ts";
import type { IsShared } from "./evidence.ts";
import { RankEvidence } from "./evidence.ts";
import type { Seat } from "./order.ts";
import { orderOf } from "./order.ts";
import { RankProgress } from "./progress.ts";

/** GPUs and ranks of a server whose order is learned at most. */
const [gpusMax, ranksMax] = [16, 64];
/** How often places are looked at again. */
const decisionNanos: Nanos = 5_000_000_000;

/** The rank of each GPU of a server, by UUID. */
export type RankOrder = Readonly<Record<string, string>>;

/** The ranks of one server. */
export class RankFinder {
  /** Undefined while its page tells none apart. */
  places: RankPlaces | undefined;
  /** How much each made lately. */
  readonly progress = new RankProgress();
  #evidence: RankEvidence | undefined;
  #seats: ReadonlyMap<string, Seat> = new Map();
  #since: Nanos = -Infinity;
  #decidedAt: Nanos = -Infinity;
  #polledAt: Nanos = -Infinity;
  readonly #before: RankOrder | undefined;

  /** `before`: what an earlier run learned, a guess as good as the order of GPUs until more is seen. */
  constructor(before?: RankOrder) {
    this.#before = before;
  }

  /** What was learned of all GPUs, else what an earlier run had; undefined where nobody learned anything. */
  get order(): RankOrder | undefined {
    const seats = [...this.#seats];
    if (seats.length === 0 || !seats.every(([, { isLearned }]) => isLearned)) return this.#before;
    return Object.fromEntries(seats.map(([gpu, { rank }]) => [gpu, rank]));
  }

  /** Finds the places again; `since`: when the newest of its processes appeared. Without ranks there are none. */
  find(facts: RankFacts | undefined, since: Nanos): void {
    if (facts === undefined) {
      this.places = undefined;
      this.#evidence = undefined;
      return;
    }
    const places = placeRanks(facts);
    if (!isOpen(facts, places)) this.#evidence = undefined;
    else if (this.#evidence === undefined || !isOf(this.#evidence, facts)) {
      this.#evidence = new RankEvidence(facts.ranks, facts.gpus);
      this.#seats = seatsBefore(this.#before, facts) ?? seatsOf(places);
    } else if (since > this.#since) {
      // It may have been started again with its GPUs in another order.
      this.#evidence.clear();
      this.#seats = new Map([...this.#seats].map(([gpu, { rank }]) => [gpu, { rank, isLearned: false }]));
    }
    this.#since = since;
    this.places = this.#evidence === undefined ? places : withSeats(places, facts, this.#seats);
  }

  /** Takes in what ranks did between two polls. */
  takePoll(before: ServerPoll, poll: ServerPoll): void {
    this.#evidence?.takePoll(before, poll);
    if (poll.ranks !== undefined) this.progress.takePoll(before, poll);
    this.#polledAt = poll.at;
  }

  /** Takes in what the GPUs did beside it. */
  weigh(windows: ReadonlyMap<string, readonly ActivityWindow[]>, isShared: IsShared): void {
    const evidence = this.#evidence;
    if (evidence?.weigh(windows, isShared) !== true || this.#polledAt < this.#decidedAt + decisionNanos)
      return;
    this.#decidedAt = this.#polledAt;
    this.#seats = orderOf(evidence, this.#seats);
  }
}

/** Nothing but their order says where they are. */
function isOpen({ gpus, ranks }: RankFacts, { byGpu }: RankPlaces): boolean {
  if (ranks.length < 2 || gpus.length === 0 || gpus.length > gpusMax || ranks.length > ranksMax) return false;
  return [...byGpu.values()].every(({ isAssumed }) => isAssumed);
}

function isOf(evidence: RankEvidence, { gpus, ranks }: RankFacts): boolean {
  return (
    gpus.length === evidence.gpus.length &&
    ranks.length === evidence.ranks.length &&
    gpus.every((gpu) => evidence.gpus.includes(gpu)) &&
    ranks.every((rank) => evidence.ranks.includes(rank))
  );
}

/** The places an earlier run learned, as a guess; undefined where the GPUs or the ranks are not those of then. */
function seatsBefore(
  before: RankOrder | undefined,
  { gpus, ranks }: RankFacts,
): ReadonlyMap<string, Seat> | undefined {
  const then = Object.entries(before ?? {});
  const isSame =
    then.length === gpus.length && then.every(([gpu, rank]) => gpus.includes(gpu) && ranks.includes(rank));
  return isSame && then.length > 0
    ? new Map(then.map(([gpu, rank]) => [gpu, { rank, isLearned: false }]))
    : undefined;
}

function seatsOf({ byGpu }: RankPlaces): ReadonlyMap<string, Seat> {
  return new Map(
    [...byGpu].flatMap(([gpu, { ranks }]) => ranks.map((rank) => [gpu, { rank, isLearned: false }])),
  );
}
