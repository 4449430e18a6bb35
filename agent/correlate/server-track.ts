// What is known of one server over time: its polls, its own states, and the tokens to book.
// Polls wait sorted until an interval needs them, then go to the activity estimator with the windows of the server's
// GPUs. A first poll that already counts tokens means that the counters began at zero while we watched: that is said
// to the estimator as a poll of zeros.
import type {
  ActivityMethod,
  Nanos,
  ProgressKind,
  ServerInfo,
  ServerPoll,
  TokenIncrement,
} from "../model.ts";
import {
  busyBetween,
  copyActivity,
  createActivity,
  decidableUntil,
  observeCredit,
  observePeer,
  observePlace,
  observePoll,
  observeWindow,
  settle,
} from "./activity/activity.ts";
import type { Activity, ActivityWindow, Ended, SeenPoll } from "./activity/evidence.ts";
import { endedBetween, endedOf, together } from "./ended.ts";
import type { OwnStates, OwnStretch } from "./own-states.ts";
import { appendKnown, joined } from "./own-states.ts";
import { PageAge } from "./page-age.ts";
import type { ShareReading } from "./timeline.ts";

/** Tokens a server made between two polls. */
export interface TokenStep {
  readonly from: Nanos;
  readonly to: Nanos;
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** Requests that ended in it. */
  readonly requests: number;
  /** Requests running at its ends, where the server says so. */
  readonly inFlightFrom: number | undefined;
  readonly inFlightTo: number | undefined;
  readonly progress: ProgressKind;
  /** What the durations of its requests add up to, where the server says so. */
  readonly ended?: Ended | undefined;
  /** Its counters stood for another instant than its poll, or are known less well for another reason. */
  readonly isDoubted: boolean;
}

/** Polls and increments waiting at most. */
const pendingMax = 4096;
/** The estimator is fed this far ahead of the interval to decide: longer than it ever looks. */
const feedAhead = 15_000_000_000;
/** Token steps are kept this long for token shares. */
const stepsKept = 60_000_000_000;
/** Without a next poll, the state is still known for this many polls. */
const openPolls = 2;
/** After this many failed polls in a row no interval waits for a server, until it answers or its process appears. */
const failuresMax = 2;
/** Reported over three polls ago: not live any more (METERING.md 2, "live source"). */
const livePolls = 3;

/** The estimator of a server on one GPU. */
interface Place {
  readonly activity: Activity;
  windowsUntil: Nanos;
  creditsUntil: Nanos;
}

/** What is around a server. */
export interface Surroundings {
  /** Servers on some of the same GPUs. */
  readonly peers: readonly ServerTrack[];
  /** Activity of its GPUs, by UUID. */
  readonly windows: ReadonlyMap<string, readonly ActivityWindow[]>;
}

/** What an increment says of the time between two polls beside its tokens. */
interface Moves {
  readonly at: Nanos;
  readonly requests: number;
  readonly input: number;
  readonly cached: number;
  readonly ended: Ended | undefined;
}

/** Name of the place of a server none of whose GPUs is known. */
const nowhere = "";

/** One server. */
export class ServerTrack {
  info: ServerInfo;
  readonly since: Nanos;
  until: Nanos | undefined;
  /** GPUs its processes were seen on; their windows explain its polls. */
  readonly gpus = new Set<string>();
  /** Since when it is expected to answer: announced, or its process appeared. */
  expectedFrom: Nanos;
  method: ActivityMethod = "unknown";
  readonly steps: TokenStep[] = [];
  dropped = 0;
  /** An estimator per GPU; under the empty name while no GPU of the server is known. */
  readonly #places = new Map<string, Place>();
  readonly #polls: ServerPoll[] = [];
  #increments: TokenIncrement[] = [];
  readonly #moves: Moves[] = [];
  #fed: ServerPoll | undefined;
  readonly #age = new PageAge();
  #firstAt: Nanos | undefined;
  #latest: Nanos = Infinity;
  /** Failed polls since the last good one. */
  #failures = 0;
  #beganLate = false;

  constructor(info: ServerInfo, since: Nanos, stallAfterNanos: Nanos) {
    this.info = info;
    this.since = since;
    this.expectedFrom = since;
    const activity = createActivity({ from: since, pollNanos: this.pollNanos, stallAfterNanos });
    this.#places.set(nowhere, { activity, windowsUntil: -Infinity, creditsUntil: -Infinity });
  }

  /** The distance its readings reach: as configured, or longer where answers are slow or the page is a copy. */
  get pollNanos(): Nanos {
    const { pollMs } = this.info;
    const configured = Math.round((Number.isFinite(pollMs) && pollMs > 0 ? pollMs : 1000) * 1e6);
    return Math.max(this.#age.distanceNanos(configured), this.#age.copyNanos ?? 0);
  }

  /** Whether anyone asks for its states: a gateway has no GPU. */
  get #isEstimated(): boolean {
    return this.info.family === "engine";
  }

  /** Time of the newest poll. */
  get polledAt(): Nanos | undefined {
    return this.#polls.at(-1)?.at ?? this.#age.newest;
  }

  /** True while increments wait to be booked. */
  get hasIncrements(): boolean {
    return this.#increments.length > 0;
  }

  /** Takes a poll and what it saw move; false when the poll does not follow the ones already used. */
  takePoll(given: ServerPoll | undefined, increments: readonly TokenIncrement[]): boolean {
    for (const increment of increments) this.#increments.push(increment);
    if (this.#isEstimated) {
      for (const increment of increments) this.#moves.push(movesOf(increment));
      if (this.#moves.length > pendingMax) this.#moves.splice(0, this.#moves.length - pendingMax);
    }
    if (increments.some(({ late }) => late)) this.#beganLate = true;
    if (given === undefined) return true;
    const poll = Number.isInteger(given.at) ? given : { ...given, at: Math.round(given.at) };
    if (!Number.isFinite(poll.at) || poll.at <= (this.#age.newest ?? -Infinity)) return false;
    let place = this.#polls.length;
    while (place > 0 && (this.#polls[place - 1] as ServerPoll).at > poll.at) place--;
    if (this.#polls[place - 1]?.at === poll.at) return false;
    this.#polls.splice(place, 0, poll);
    // What is never asked for need not wait: the newest says when it was read.
    if (!this.#isEstimated) this.#polls.splice(0, this.#polls.length - 1);
    else if (this.#polls.length > pendingMax) {
      this.#polls.shift();
      this.dropped++;
    }
    this.#failures = 0;
    return true;
  }

  /** Notes that the server could not be read. */
  notePollFailed(): void {
    this.#failures++;
  }

  /** Drops waiting polls from after `latest`: their clock is wrong. What they counted is due at once. Returns how many. */
  dropAfter(latest: Nanos): number {
    this.#latest = latest;
    let keep = this.#polls.length;
    while (keep > 0 && (this.#polls[keep - 1] as ServerPoll).at > latest) keep--;
    return this.#polls.splice(keep).length;
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

  /** Hands the estimators what they need to decide up to `until`; peers learn what this server did. */
  feed(until: Nanos, { peers, windows }: Surroundings): void {
    for (const gpu of windows.keys()) this.#settleOn(gpu);
    const ahead = until + feedAhead;
    while (this.#polls.length > 0) {
      const poll = this.#polls[0] as ServerPoll;
      if (poll.at > ahead && (this.#fed?.at ?? -Infinity) >= until) break;
      this.#polls.shift();
      const read = valid(poll, this.#fed);
      if (!this.#age.repeats(read)) this.#take(this.#doubted(read), peers);
    }
    for (const [gpu, place] of this.#places) {
      observePlace(place.activity, this.pollNanos, this.#places.size > 1);
      observeWindows(place, windows.get(gpu) ?? []);
    }
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

  /** Decides `[from, until)` for good. */
  settle(from: Nanos, until: Nanos): OwnStates {
    const known = {
      from: this.#firstAt ?? Infinity,
      to: (this.#fed?.at ?? -Infinity) + openPolls * this.pollNanos,
    };
    const byGpu = new Map<string, OwnStretch[]>();
    for (const [gpu, { activity }] of this.#places) {
      const stretches: OwnStretch[] = [];
      for (const segment of settle(activity, until)) appendKnown(stretches, segment, from, known);
      byGpu.set(gpu, stretches);
    }
    return joined(byGpu);
  }

  /** Takes in that a server, or a stranger, on some of the same GPUs was busy in `[from, to)`. */
  observePeerOn(gpus: ReadonlySet<string>, from: Nanos, to: Nanos, stranger: boolean): void {
    for (const [gpu, { activity }] of this.#places)
      if (gpus.has(gpu)) observePeer(activity, from, to, stranger);
  }

  /** Takes in which of the driver's readings on one of its GPUs credited the processes `pids` of this server. */
  observeCreditsOn(gpu: string, shares: readonly ShareReading[], pids: readonly number[]): void {
    const place = this.#places.get(gpu);
    if (place === undefined) return;
    for (
      let index = shares.findLastIndex(({ to }) => to <= place.creditsUntil) + 1;
      index < shares.length;
      index++
    ) {
      const { from, to, ratios } = shares[index] as ShareReading;
      observeCredit(place.activity, { from, to, credited: pids.some((pid) => (ratios.get(pid) ?? 0) > 0) });
      place.creditsUntil = to;
    }
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
    } else
      this.#places.set(gpu, {
        activity: copyActivity(place.activity),
        windowsUntil: -Infinity,
        creditsUntil: -Infinity,
      });
  }

  /** Increments whose polls ended at or before `until`, all of them if it is undefined; each is handed out once. */
  takeIncrements(until: Nanos | undefined): TokenIncrement[] {
    const waits = (at: Nanos): boolean => until !== undefined && at > until && at <= this.#latest;
    if (!this.#increments.some(({ at }) => !waits(at))) return [];
    const due = this.#increments.filter(({ at }) => !waits(at));
    this.#increments = this.#increments.filter(({ at }) => waits(at));
    return due;
  }

  #take(poll: ServerPoll, peers: readonly ServerTrack[]): void {
    const previous = this.#fed ?? this.#began(poll);
    const moves = this.#takeMoves(poll.at);
    const ended = endedBetween(this.#fed, poll) ?? moves.ended;
    if (!this.#observe(ended === undefined ? poll : { ...poll, ended })) return;
    this.#firstAt ??= poll.at;
    this.#fed = poll;
    if (previous === undefined) return;
    const step = {
      from: previous.at,
      to: poll.at,
      inputTokens: (poll.inputTokens - previous.inputTokens) * (1 - moves.cachedRatio),
      outputTokens: poll.outputTokens - previous.outputTokens,
      requests: moves.requests,
      inFlightFrom: previous.inFlight,
      inFlightTo: poll.inFlight,
      progress: poll.progress,
      isDoubted: poll.doubt !== undefined,
      ended,
    };
    this.steps.push(step);
    while (this.steps.length > 0 && (this.steps[0] as TokenStep).to < poll.at - stepsKept) this.steps.shift();
    if (busyBetween(previous, poll))
      for (const peer of peers) peer.observePeerOn(this.gpus, previous.at, poll.at, false);
  }

  /** What the increments of the polls up to `at` say of a step beside its tokens. */
  #takeMoves(at: Nanos): {
    readonly requests: number;
    readonly cachedRatio: number;
    readonly ended: Ended | undefined;
  } {
    let [requests, input, cached] = [0, 0, 0];
    let ended: Ended | undefined;
    while (this.#moves.length > 0 && (this.#moves[0] as Moves).at <= at) {
      const move = this.#moves.shift() as Moves;
      requests += move.requests;
      input += move.input;
      cached += move.cached;
      ended = together(ended, move.ended);
    }
    return { requests, cachedRatio: input > 0 ? cached / input : 0, ended };
  }

  /** Counters of a copied page stood for an older instant than their poll; so may those of one that never changed yet. */
  #doubted(poll: ServerPoll): ServerPoll {
    const isCopy = this.#age.copyNanos !== undefined || this.#age.mayBeCopy;
    return !isCopy || poll.doubt !== undefined ? poll : { ...poll, doubt: "cached_page" };
  }

  #observe(poll: SeenPoll): boolean {
    let taken = false;
    for (const { activity } of this.#places.values()) taken = observePoll(activity, poll) || taken;
    return taken;
  }

  /** The poll of zeros before a first poll that already counts. */
  #began(poll: ServerPoll): ServerPoll | undefined {
    const decided = [...this.#places.values()].map(({ activity }) => activity.decidedUntil);
    const at = Math.max(...decided, this.since);
    if (this.#beganLate || poll.inputTokens + poll.outputTokens <= 0 || at >= poll.at) return undefined;
    const zero: ServerPoll = {
      at,
      inputTokens: 0,
      outputTokens: 0,
      progress: poll.progress,
      ...(poll.inFlight === undefined ? {} : { inFlight: 0 }),
      ...(poll.activeNanos === undefined ? {} : { activeNanos: 0 }),
    };
    if (!this.#observe(zero)) return undefined;
    this.#firstAt = at;
    return zero;
  }
}

/** Takes in the windows after those already taken; they are in order. */
function observeWindows(place: Place, windows: readonly ActivityWindow[]): void {
  let index = windows.length;
  while (index > 0 && (windows[index - 1] as ActivityWindow).to > place.windowsUntil) index--;
  for (; index < windows.length; index++) {
    const window = windows[index] as ActivityWindow;
    const isCut = window.from < place.windowsUntil;
    const rest = isCut ? { ...window, from: place.windowsUntil } : window;
    if (observeWindow(place.activity, rest)) place.windowsUntil = window.to;
  }
}

function movesOf(increment: TokenIncrement): Moves {
  const { at, requests, tokens } = increment;
  const cached = tokens.input_cached ?? 0;
  const input = cached + (tokens.input_uncached ?? 0) + (tokens.input_unsplit ?? 0);
  const ended = (requests.ok ?? 0) + (requests.error ?? 0) + (requests.aborted ?? 0);
  return { at, requests: ended, input, cached, ended: endedOf(increment) };
}

/** Never falling, finite and not negative, whatever was handed in. */
function valid(poll: ServerPoll, last: ServerPoll | undefined): ServerPoll {
  const rising = (value: number, floor: number): number =>
    Number.isFinite(value) && value >= floor && value <= Number.MAX_SAFE_INTEGER ? value : floor;
  const { inFlight, activeNanos, ...rest } = poll;
  return {
    ...rest,
    inputTokens: rising(poll.inputTokens, last?.inputTokens ?? 0),
    outputTokens: rising(poll.outputTokens, last?.outputTokens ?? 0),
    ...(inFlight !== undefined && inFlight >= 0 && Number.isFinite(inFlight) ? { inFlight } : {}),
    ...(activeNanos !== undefined && Number.isFinite(activeNanos)
      ? { activeNanos: Math.round(rising(activeNanos, last?.activeNanos ?? 0)) }
      : {}),
  };
}
