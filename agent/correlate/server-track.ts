// What is known of one server over time: its polls, its own states, and the tokens to book.
// Polls wait sorted until an interval needs them, then go to the activity estimator with the windows of the server's
// GPUs. A first poll that already counts tokens means that the counters began at zero while we watched: that is said
// to the estimator as a poll of zeros.

import type { ActivityMethod, Nanos, ServerInfo, ServerPoll, TokenIncrement } from "../model.ts";
import { createActivity, decidableUntil, isThin, observePlace, settle } from "./activity/activity.ts";
import type { Activity, ActivityWindow, Guest, SeenPoll } from "./activity/evidence.ts";
import { copyHoldNanos } from "./activity/hold.ts";
import { busyBetween, observePeer } from "./activity/others.ts";
import { openPolls } from "./activity/unread.ts";
import { ByChance } from "./by-chance.ts";
import { DueIncrements } from "./due-increments.ts";
import { endedBetween } from "./ended.ts";
import type { OwnStates, OwnStretch } from "./own-states.ts";
import { knownStretches } from "./own-states.ts";
import { PageAge } from "./page-age.ts";
import type { Readings } from "./place.ts";
import { Place } from "./place.ts";
import { PollQueue } from "./poll-queue.ts";
import type { RankPlaces } from "./rank-places.ts";
import { placedIncrements } from "./rank-places.ts";
import type { RankOrder } from "./ranks/finder.ts";
import { RankFinder } from "./ranks/finder.ts";
import { Ties } from "./ties.ts";
import type { StepFacts, TokenStep } from "./token-step.ts";
import { keepStep, noFacts, StepQueue, stepBetween } from "./token-step.ts";
import { validPoll, zeroPoll } from "./valid-polls.ts";
import { endOver } from "./windows.ts";

/** The estimator is fed this far ahead of the interval to decide: longer than it ever looks, or a copy of a page lives. */
const feedAhead = 31_000_000_000;
/** After this many failed polls in a row no interval waits for a server, until it answers or its process appears. */
const failuresMax = 3;
/** Polls ago that it reported last, half of one for being late, from which on it is not live any more (METERING.md 2, "live source"). */
const livePolls = 3.5;

/** What is around a server. */
export interface Surroundings {
  /** Servers on some of the same GPUs. */
  readonly peers: readonly ServerTrack[];
  /** Activity of the GPUs it is on now, else those it was on last: by UUID, in the order of their indices. */
  readonly windows: ReadonlyMap<string, readonly ActivityWindow[]>;
  /** Data-parallel ranks that its processes on each GPU are named after. */
  readonly named: ReadonlyMap<string, ReadonlySet<string>>;
  /** Processes that no server owns, on each of its GPUs. */
  readonly guests: ReadonlyMap<string, readonly Guest[]>;
  /** Its place among those servers by name, 0 to 1. */
  readonly seat: number;
}

const noGuests: readonly Guest[] = [];
const noIncrements: readonly TokenIncrement[] = [];
const noSiblings: Activity["siblings"] = [];
const noneApart: ReadonlySet<string> = new Set();
const noGpus: OwnStates["byGpu"] = new Map();
/** Name of the place of a server none of whose GPUs is known. */
const nowhere = "";

/** One server. */
export class ServerTrack {
  info: ServerInfo;
  readonly since: Nanos;
  until: Nanos | undefined;
  /** GPUs its processes were ever seen on. */
  readonly gpus = new Set<string>();
  /** Since when it is expected to answer: announced, or its process appeared. */
  expectedFrom: Nanos;
  method: ActivityMethod = "unknown";
  readonly steps: TokenStep[] = [];
  /** An estimator per GPU; under the empty name while no GPU of the server is known. */
  readonly #places = new Map<string, Place>();
  readonly #polls = new PollQueue();
  readonly #increments = new DueIncrements();
  readonly #queue = new StepQueue();
  readonly #finder: RankFinder;
  #fed: ServerPoll | undefined;
  readonly #age = new PageAge();
  readonly #ties = new Ties();
  readonly #byChance = new ByChance();
  /** What was around it last. */
  #around: Surroundings | undefined;
  #firstAt: Nanos | undefined;
  /** It was not handed on yet. */
  #hasNews = true;
  /** Failed polls since the last good one. */
  #failures = 0;
  #beganLate = false;

  constructor(info: ServerInfo, since: Nanos, stallAfterNanos: Nanos, order?: RankOrder) {
    this.info = info;
    this.#finder = new RankFinder(order);
    this.since = since;
    this.expectedFrom = since;
    const activity = createActivity({ from: since, pollNanos: this.pollNanos, stallAfterNanos });
    this.#places.set(nowhere, new Place(activity));
  }

  /** The distance its readings reach: as configured, or longer where answers are slow or the page is a copy. */
  get pollNanos(): Nanos {
    return Math.max(this.#age.distanceNanos(this.#configuredNanos), this.#age.copyNanos ?? 0);
  }

  get #configuredNanos(): Nanos {
    const { pollMs } = this.info;
    return Math.round((Number.isFinite(pollMs) && pollMs > 0 ? pollMs : 1000) * 1e6);
  }

  /** Whether anyone asks for its states: a gateway has no GPU. */
  get #isEstimated(): boolean {
    return this.info.family === "engine";
  }

  /** Time of the newest poll. */
  get polledAt(): Nanos | undefined {
    return this.#polls.newest?.at ?? this.#age.newest;
  }

  /** Polls dropped by a bound. */
  get dropped(): number {
    return this.#polls.dropped;
  }

  /** True while increments wait to be booked. */
  get hasIncrements(): boolean {
    return !this.#increments.isEmpty;
  }

  /** Takes a poll and what it saw move; false when the poll does not follow the ones already used. */
  takePoll(given: ServerPoll | undefined, increments: readonly TokenIncrement[]): boolean {
    this.#hasNews = true;
    this.#increments.add(increments);
    this.#beganLate ||= increments.some(({ late }) => late);
    if (this.#isEstimated) {
      this.#queue.queueMoves(increments);
      this.#finder.progress.noteCounted(increments);
    }
    if (given === undefined) return true;
    const poll = Number.isInteger(given.at) ? given : { ...given, at: Math.round(given.at) };
    if (!Number.isFinite(poll.at) || poll.at <= (this.#age.newest ?? -Infinity)) return false;
    if (!this.#polls.queue(poll)) return false;
    // What is never asked for need not wait: the newest says when it was read.
    if (!this.#isEstimated) this.#polls.keepNewest();
    this.#failures = 0;
    return true;
  }

  /** How far its next reading may be from its last: a poll that fails leaves it to the one after. */
  get expectedNanos(): Nanos {
    return this.pollNanos * (1 + this.#failures);
  }

  /** Notes that the server could not be read. */
  notePollFailed(): void {
    this.#failures++;
  }

  /** Drops waiting polls from after `latest`: their clock is wrong. What they counted is due at once. Returns how many. */
  dropAfter(latest: Nanos): number {
    return this.#polls.dropAfter(latest);
  }

  /** True while a reading of this server can be expected soon. */
  isLive(now: Nanos): boolean {
    const heard = Math.max(this.polledAt ?? -Infinity, this.expectedFrom);
    if (now - heard > livePolls * this.pollNanos) return false;
    return this.#failures < failuresMax || this.expectedFrom > (this.polledAt ?? -Infinity);
  }

  /** Notes that a process of it was seen on a GPU, since when. */
  expectOn(gpu: string, since: Nanos): void {
    this.gpus.add(gpu);
    this.expectedFrom = Math.max(this.expectedFrom, since);
  }

  /** True where a poll waits to be handed on, and of ranks, whose places are weighed anew. */
  get hasNews(): boolean {
    return this.#hasNews || this.ranks !== undefined || this.rankNames !== undefined;
  }

  /**
   * Hands the estimators what they need to decide up to `until`; peers learn what this server did. True where it moved.
   */
  feed(until: Nanos, surroundings: Surroundings): boolean {
    const { peers, windows } = surroundings;
    const hasMoved = surroundings !== this.#around;
    this.#hasNews = false;
    if (hasMoved) this.#move(surroundings);
    this.#settleRanks(surroundings);
    if (windows.size > 1) this.#ties.observe([...windows.values()], until);
    const ahead = Math.max(until + feedAhead, endOver(windows.values(), until));
    for (let poll = this.#polls.first; poll !== undefined; poll = this.#polls.first) {
      if (poll.at > ahead && (this.#fed?.at ?? -Infinity) >= until) break;
      this.#polls.take();
      const read = validPoll(poll, this.#fed);
      if (!this.#age.repeats(read)) this.#take(this.#doubted(read), peers);
    }
    const isOneRank = this.ranks === undefined && this.#ties.areTied;
    for (const [gpu, place] of this.#places) {
      const siblings = this.#siblingsOf(gpu, place, windows);
      observePlace(
        place.activity,
        this.pollNanos,
        siblings.length > 0,
        siblings,
        isOneRank,
        this.#age.blurNanos(this.#configuredNanos),
      );
      place.takeWindows(windows.get(gpu) ?? []);
    }
    return hasMoved;
  }

  /** Gives each GPU around it an estimator, and takes those of others away. */
  #move(surroundings: Surroundings): void {
    const { seat, windows } = surroundings;
    this.#around = surroundings;
    for (const gpu of windows.keys()) this.#settleOn(gpu);
    if (windows.size > 0)
      for (const gpu of this.#places.keys()) if (!windows.has(gpu)) this.#places.delete(gpu);
    for (const { activity } of this.#places.values()) activity.seat = seat;
  }

  /** Returns the instant up to which the estimators can decide. */
  decidableUntil(now: Nanos, settleNanos: Nanos, wanted: Nanos): Nanos {
    let least = Infinity;
    for (const { activity } of this.#places.values()) {
      if (least < wanted) break;
      least = Math.min(least, decidableUntil(activity, now, settleNanos, wanted));
    }
    return least;
  }

  /** How long an interval may have to wait for its page, which may be a copy, beyond its polls; 0 where it need not. */
  get copyHoldNanos(): Nanos {
    let longest = 0;
    for (const { activity } of this.#places.values()) longest = Math.max(longest, copyHoldNanos(activity));
    return longest;
  }

  /** Decides `[from, until)` for good. */
  settle(from: Nanos, until: Nanos): OwnStates {
    const known = {
      from: this.#firstAt ?? Infinity,
      to: (this.#fed?.at ?? -Infinity) + openPolls * this.pollNanos,
    };
    for (const { activity } of this.#places.values()) activity.isFailing = this.#failures > 0;
    if (this.#places.size === 1)
      for (const { activity } of this.#places.values())
        return { all: knownStretches(settle(activity, until), from, known), byGpu: noGpus };
    const byGpu = new Map<string, readonly OwnStretch[]>();
    let apart: Set<string> | undefined;
    for (const [gpu, { activity, ranks }] of this.#places) {
      const stretches = knownStretches(settle(activity, until), from, known);
      if (ranks?.isAssumed === false) apart = (apart ?? new Set()).add(gpu);
      byGpu.set(gpu, stretches);
    }
    return this.#byChance.joined(byGpu, apart ?? noneApart, this.ranks !== undefined, this.#ties);
  }

  /** Takes in that a server, or a stranger, on some of the same GPUs was busy in `[from, to)`. */
  observePeerOn(gpus: ReadonlySet<string>, from: Nanos, to: Nanos, stranger: boolean, thin = false): void {
    for (const [gpu, { activity }] of this.#places)
      if (gpus.has(gpu)) observePeer(activity, from, to, stranger, thin);
  }

  /** Takes in which of the driver's readings on one of its GPUs credited the processes `pids` of this server. */
  observeCreditsOn(timeline: Readings, pids: readonly number[]): void {
    this.#places.get(timeline.info.uuid)?.observeCredits(timeline, pids);
  }

  /** Gives a GPU an estimator: the first one goes on with what is known without a GPU, later ones with a copy of it. */
  #settleOn(gpu: string): void {
    if (this.#places.has(gpu)) return;
    const first = [...this.#places][0];
    if (first === undefined) return;
    const [name, place] = first;
    if (name === nowhere) {
      this.#places.delete(nowhere);
      this.#places.set(gpu, place);
    } else this.#places.set(gpu, place.copied());
  }

  /** Increments whose polls ended at or before `until`, all of them if it is undefined; each is handed out once. */
  takeIncrements(until: Nanos | undefined, latest: Nanos): readonly TokenIncrement[] {
    if (this.#increments.isEmpty) return noIncrements;
    const due = this.#increments.take(until, latest);
    return this.ranks === undefined ? due : placedIncrements(due, this.ranks, this.#finder.progress);
  }

  /** The data-parallel ranks its polls tell apart; undefined where they tell none. */
  get rankNames(): readonly string[] | undefined {
    return (this.#polls.ranks ?? this.#fed?.ranks)?.map(({ rank }) => rank);
  }

  /** What was learned of the order of its ranks, in this run or an earlier one. */
  get rankOrder(): RankOrder | undefined {
    return this.#finder.order;
  }

  /** Where its ranks are; undefined while they are not told apart. */
  get ranks(): RankPlaces | undefined {
    return this.#finder.places;
  }

  /** Finds where its ranks are, and who else is there. */
  #settleRanks({ guests, named, windows }: Surroundings): void {
    const ranks = this.rankNames;
    if (ranks === undefined && this.ranks === undefined) return;
    const gpus = [...windows.keys()];
    this.#finder.weigh(windows, (gpu, from, to) => {
      const isThere = (other: Guest): boolean => other.from < to && (other.to ?? Infinity) > from;
      return (
        guests.get(gpu)?.some(isThere) === true ||
        this.#places.get(gpu)?.activity.peers.some(isThere) === true
      );
    });
    const facts = ranks === undefined ? undefined : { ranks, gpus, named, configured: this.info.gpus };
    this.#finder.find(facts, this.expectedFrom);
    for (const [gpu, place] of this.#places) {
      place.seatRanks(this.ranks?.byGpu.get(gpu));
      if (place.ranks !== undefined) place.activity.guests = guests.get(gpu) ?? noGuests;
    }
  }

  /** What is known of it on one of its GPUs. */
  placeOn(gpu: string): Place | undefined {
    return this.#places.get(gpu);
  }

  #take(poll: ServerPoll, peers: readonly ServerTrack[]): void {
    const previous = this.#fed ?? this.#began(poll);
    const facts = this.#queue.take(poll.at);
    const whole = facts();
    const ended = endedBetween(this.#fed, poll) ?? whole.ended;
    const { requests } = whole;
    const { isCopy, isRepeated, shownFrom } = this.#age;
    const seen: SeenPoll =
      shownFrom === undefined
        ? { ...poll, requests, ended }
        : { ...poll, requests, ended, shownFrom, isRepeated, isOfCopy: isCopy ? true : undefined };
    if (!this.#observe(seen, previous, facts)) return;
    this.#firstAt ??= poll.at;
    this.#fed = poll;
    if (previous === undefined) return;
    this.#finder.takePoll(previous, poll);
    keepStep(this.steps, stepBetween(previous, poll, { ...whole, ended }));
    if (!busyBetween(previous, poll) || peers.length === 0) return;
    const busy = new Set<string>();
    for (const [gpu, place] of this.#places) if (place.wasBusy(previous, poll)) busy.add(gpu);
    for (const peer of peers) peer.observePeerOn(busy, previous.at, poll.at, false, this.#isThin());
  }

  /** Counters of a copied page stood for an older instant than their poll; so may those of one that never changed yet. */
  #doubted(poll: ServerPoll): ServerPoll {
    if (poll.doubt !== undefined) return poll;
    if (this.#age.isCopy || this.#age.mayBeCopy) return { ...poll, doubt: "cached_page" };
    return this.ranks?.isUnplaced === true ? { ...poll, doubt: "assumed_ranks" } : poll;
  }

  /** What the other GPUs did of which the polls of a place speak as well. */
  #siblingsOf(gpu: string, { ranks }: Place, windows: Surroundings["windows"]): Activity["siblings"] {
    if (ranks === undefined && this.#places.size < 2) return noSiblings;
    const siblings: (readonly ActivityWindow[])[] = [];
    for (const other of ranks === undefined ? this.#places.keys() : (this.ranks?.byGpu.keys() ?? [])) {
      if (other === gpu) continue;
      const there = this.ranks?.byGpu.get(other)?.ranks;
      if (ranks === undefined || there?.some((rank) => ranks.ranks.includes(rank)))
        siblings.push(windows.get(other) ?? []);
    }
    return siblings;
  }

  #isThin(): boolean {
    return [...this.#places.values()].every(({ activity }) => isThin(activity));
  }

  #observe(
    poll: SeenPoll,
    previous: ServerPoll | undefined,
    facts: (ranks?: readonly string[]) => StepFacts,
  ): boolean {
    let taken = false;
    for (const place of this.#places.values()) taken = place.observe(poll, previous, facts) || taken;
    return taken;
  }

  /** The poll of zeros before a first poll that already counts. */
  #began(poll: ServerPoll): ServerPoll | undefined {
    const decided = [...this.#places.values()].map(({ activity }) => activity.decidedUntil);
    const at = Math.max(...decided, this.since);
    if (this.#beganLate || poll.inputTokens + poll.outputTokens <= 0 || at >= poll.at) return undefined;
    const zero = zeroPoll(poll, at);
    if (!this.#observe(zero, undefined, noFacts)) return undefined;
    this.#firstAt = at;
    return zero;
  }
}
