// What is known of one server over time: its polls, its own states, and the tokens to book.
// Polls wait sorted until an interval needs them, then go to the activity estimator with the windows of the server's
// GPUs. A first poll that already counts tokens means that the counters began at zero while we watched: that is said
// to the estimator as a poll of zeros.
import type { ActivityMethod, Nanos, ServerInfo, TokenIncrement, UncertainReason } from "../model.ts";
import {
  busyBetween,
  createActivity,
  decidableUntil,
  observePeer,
  observePoll,
  observeWindow,
  settle,
} from "./activity/activity.ts";
import type { Activity, ActivitySegment, ActivityWindow, ServerPoll } from "./activity/evidence.ts";

/** A server's own state in a stretch; `unknown` where no poll speaks of it. */
export interface OwnStretch {
  readonly from: Nanos;
  readonly to: Nanos;
  readonly state: "active" | "waiting" | "idle" | "unknown";
  readonly method: ActivityMethod;
  /** The GPU worked for this server or a peer; which of them is not known. */
  readonly contested: boolean;
  /** The assumption the state rests on; undefined = none. */
  readonly doubt: UncertainReason | undefined;
}

/** Tokens a server made between two polls. */
export interface TokenStep {
  readonly from: Nanos;
  readonly to: Nanos;
  readonly inputTokens: number;
  readonly outputTokens: number;
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
export const livePolls = 3;

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
  readonly #activity: Activity;
  readonly #polls: ServerPoll[] = [];
  #increments: TokenIncrement[] = [];
  #fed: ServerPoll | undefined;
  #firstAt: Nanos | undefined;
  #windowsUntil: Nanos = -Infinity;
  #latest: Nanos = Infinity;
  /** Failed polls since the last good one. */
  #failures = 0;
  #beganLate = false;

  constructor(info: ServerInfo, since: Nanos, stallAfterNanos: Nanos) {
    this.info = info;
    this.since = since;
    this.expectedFrom = since;
    this.#activity = createActivity({ from: since, pollNanos: this.pollNanos, stallAfterNanos });
  }

  get pollNanos(): Nanos {
    const { pollMs } = this.info;
    return Math.round((Number.isFinite(pollMs) && pollMs > 0 ? pollMs : 1000) * 1e6);
  }

  /** Time of the newest poll. */
  get polledAt(): Nanos | undefined {
    return this.#polls.at(-1)?.at ?? this.#fed?.at;
  }

  /** True while increments wait to be booked. */
  get hasIncrements(): boolean {
    return this.#increments.length > 0;
  }

  /** Takes a poll and what it saw move; false when the poll does not follow the ones already used. */
  takePoll(given: ServerPoll | undefined, increments: readonly TokenIncrement[]): boolean {
    this.#increments.push(...increments);
    if (increments.some(({ late }) => late)) this.#beganLate = true;
    if (given === undefined) return true;
    const poll = Number.isInteger(given.at) ? given : { ...given, at: Math.round(given.at) };
    if (!Number.isFinite(poll.at) || (this.#fed !== undefined && poll.at <= this.#fed.at)) return false;
    let place = this.#polls.length;
    while (place > 0 && (this.#polls[place - 1] as ServerPoll).at > poll.at) place--;
    if (this.#polls[place - 1]?.at === poll.at) return false;
    this.#polls.splice(place, 0, poll);
    if (this.#polls.length > pendingMax) {
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

  /** Hands the estimator what it needs to decide up to `until`; `peers` learn what this server did. */
  feed(until: Nanos, windows: readonly ActivityWindow[], peers: readonly ServerTrack[]): void {
    const ahead = until + feedAhead;
    while (this.#polls.length > 0) {
      const poll = this.#polls[0] as ServerPoll;
      if (poll.at > ahead && (this.#fed?.at ?? -Infinity) >= until) break;
      this.#polls.shift();
      this.#take(valid(poll, this.#fed), peers);
    }
    this.#activity.pollNanos = this.pollNanos;
    for (const window of windows) {
      if (window.to <= this.#windowsUntil) continue;
      const from = Math.max(window.from, this.#windowsUntil);
      if (observeWindow(this.#activity, { ...window, from })) this.#windowsUntil = window.to;
    }
  }

  /** Returns the instant up to which the estimator can decide. */
  decidableUntil(now: Nanos, settleNanos: Nanos): Nanos {
    return decidableUntil(this.#activity, now, settleNanos);
  }

  /** Decides `[from, until)` for good. */
  settle(from: Nanos, until: Nanos): OwnStretch[] {
    const known = {
      from: this.#firstAt ?? Infinity,
      to: (this.#fed?.at ?? -Infinity) + openPolls * this.pollNanos,
    };
    const stretches: OwnStretch[] = [];
    for (const segment of settle(this.#activity, until)) append(stretches, segment, from, known);
    return stretches;
  }

  /** Increments whose polls ended at or before `until`, all of them if it is undefined; each is handed out once. */
  takeIncrements(until: Nanos | undefined): TokenIncrement[] {
    const waits = (at: Nanos): boolean => until !== undefined && at > until && at <= this.#latest;
    const due = this.#increments.filter(({ at }) => !waits(at));
    if (due.length > 0) this.#increments = this.#increments.filter(({ at }) => waits(at));
    return due;
  }

  #take(poll: ServerPoll, peers: readonly ServerTrack[]): void {
    const previous = this.#fed ?? this.#began(poll);
    if (!observePoll(this.#activity, poll)) return;
    this.#firstAt ??= poll.at;
    this.#fed = poll;
    if (previous === undefined) return;
    const step = {
      from: previous.at,
      to: poll.at,
      inputTokens: poll.inputTokens - previous.inputTokens,
      outputTokens: poll.outputTokens - previous.outputTokens,
    };
    this.steps.push(step);
    while (this.steps.length > 0 && (this.steps[0] as TokenStep).to < poll.at - stepsKept) this.steps.shift();
    if (busyBetween(previous, poll))
      for (const peer of peers) observePeer(peer.#activity, previous.at, poll.at);
  }

  /** The poll of zeros before a first poll that already counts. */
  #began(poll: ServerPoll): ServerPoll | undefined {
    const at = Math.max(this.#activity.decidedUntil, this.since);
    if (this.#beganLate || poll.inputTokens + poll.outputTokens <= 0 || at >= poll.at) return undefined;
    const zero: ServerPoll = {
      at,
      inputTokens: 0,
      outputTokens: 0,
      progress: poll.progress,
      ...(poll.inFlight === undefined ? {} : { inFlight: 0 }),
      ...(poll.activeNanos === undefined ? {} : { activeNanos: 0 }),
    };
    if (!observePoll(this.#activity, zero)) return undefined;
    this.#firstAt = at;
    return zero;
  }
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

/** Appends a segment from `from` on; what lies outside `known` is unknown. */
function append(
  stretches: OwnStretch[],
  segment: ActivitySegment,
  from: Nanos,
  known: { readonly from: Nanos; readonly to: Nanos },
): void {
  const cuts = [segment.from, known.from, known.to, segment.to];
  const edges = cuts.map((cut) => Math.round(Math.min(segment.to, Math.max(segment.from, from, cut))));
  edges.sort((left, right) => left - right);
  for (let index = 0; index + 1 < edges.length; index++) {
    const start = edges[index] as Nanos;
    const end = edges[index + 1] as Nanos;
    if (end <= start) continue;
    const state = start >= known.from && end <= known.to ? segment.state : "unknown";
    const contested = state !== "unknown" && segment.contested === true;
    const { method, doubt } = segment;
    stretches.push({ from: start, to: end, state, method, contested, doubt });
  }
}
