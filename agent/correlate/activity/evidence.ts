// The nouns of this folder: what goes into an estimator, what it concludes on the way, and what comes out.
// Windows of GPU work and polls of one server go in; runs of work, intervals between polls and claims follow; segments of
// the server's own state come out.

import type { ActivityMethod, Nanos, ProgressKind, ServerPoll, UncertainReason } from "../../model.ts";

/** One fine window of GPU activity, typically 200 ms of the driver's ring; over several GPUs the busiest one's. */
export interface ActivityWindow {
  readonly from: Nanos;
  readonly to: Nanos;
  /** 0 to 1. */
  readonly busyRatio: number;
  /** The ratio is that of the driver's last window alone, which stands for a longer time. */
  readonly sampled?: boolean;
}

/** A stretch in which the GPU works, or (`seen` false) in which no reading says whether it does. */
export interface WorkRun {
  readonly from: Nanos;
  readonly to: Nanos;
  readonly seen: boolean;
}

/**
 * `moved`: the progress counters rose. `held`: they stood still with a request in flight at an end of the interval.
 * `quiet`: neither.
 */
export type IntervalKind = "moved" | "held" | "quiet";

/** A stretch between two readings of the driver's shares per process, and whether it credited a process of the server. */
export interface Credit {
  readonly from: Nanos;
  readonly to: Nanos;
  readonly credited: boolean;
  /** The share that it was credited with; undefined = half. */
  readonly ratio?: number;
  /** Busy time whose owner the reading tells, and the server's own part of it, with sums of their squares and products: split.ts. */
  readonly owned?:
    | {
        readonly own: Nanos;
        readonly seen: Nanos;
        readonly ownOwn: number;
        readonly ownSeen: number;
        readonly seenSeen: number;
      }
    | undefined;
}

/** Sums over intervals beside others, older ones fading: split.ts. */
export interface Beside {
  /** Busy time whose owner the driver's credits tell. */
  readonly owned: NonNullable<Credit["owned"]>;
  /** All busy time of these intervals, and the progress made in them. */
  readonly busyNanos: Nanos;
  readonly progress: number;
  /** Of progress (x) and busy time (y) in intervals without others: how many, sums, squares and products. */
  readonly alone: {
    readonly count: number;
    readonly x: number;
    readonly y: Nanos;
    readonly xx: number;
    readonly xy: number;
    readonly yy: number;
  };
  readonly told: Told;
  /** Of progress (x) and busy time (y) over the time of each interval: how many, sums, squares and products. */
  readonly weight: number;
  readonly x: number;
  readonly y: number;
  readonly xx: number;
  readonly xy: number;
  readonly yy: number;
}

/** What durations of short requests beside others add up to, older intervals fading: told.ts. */
export interface Told {
  /** Polls that read a request in execution, and how many requests these read in the server. */
  readonly flying: number;
  readonly inside: number;
  /** Progress, that of each interval as many times as execution takes longer there than the GPU is busy for it. */
  readonly slowed: number;
  /** Requests that ended, those of them that the engine timed itself, how long they took, and over how long a time. */
  readonly requests: number;
  readonly exact: number;
  readonly nanos: Nanos;
  readonly wallNanos: Nanos;
}

/** Requests that ended before a poll and after the one before it, and how long they took; their waiting, if counted. */
export interface Ended {
  readonly requests: number;
  readonly nanos: Nanos;
  /** Requests that gave their first token in it, and how long they had been there. */
  readonly firstTokens: number;
  readonly firstTokenNanos: Nanos;
  /** Waiting is no part of `nanos`. */
  readonly isExecution: boolean;
  /** The server timed both phases itself, each request by itself. */
  readonly isPhased?: boolean;
}

/** A poll of a server, and what ended before it, where its page has durations. */
export interface SeenPoll extends ServerPoll {
  /** Requests that ended since the poll before. */
  readonly requests?: number;
  readonly ended?: Ended | undefined;
  /** Of a data-parallel rank: the server's own poll. */
  readonly whole?: SeenPoll;
  /** That the rank is on this GPU is an assumption. */
  readonly isAssumed?: true;
  /** The page may be a copy, made at this instant at the earliest (copies.ts); whether it showed nothing new. */
  readonly shownFrom?: Nanos;
  readonly isRepeated?: boolean;
  /** The page is known to be a copy. */
  readonly isOfCopy?: true | undefined;
  /** Polls of copies were left out before it. */
  readonly isRenewal?: true;
}

/** The time between two polls of a server. The last one is `open`: no poll has ended it yet. */
export interface PollInterval {
  readonly from: Nanos;
  readonly to: Nanos;
  readonly open: boolean;
  readonly kind: IntervalKind;
  /** Progress in decode steps; in output tokens of a server that does not say how many requests run. */
  readonly progress: number;
  /** The same of short requests, each by itself: prompts and the tokens after the first. */
  readonly lone: number;
  /** Decode steps alone; 0 where the server does not say how many requests run. */
  readonly steps: number;
  /** Decode steps, prompts included, as they take time on a GPU of its own; 0 where it does not say how many run. */
  readonly ownSteps: number;
  /** Increment of the server's own busy time, where it publishes one. */
  readonly activeNanos: number | undefined;
  /** The busy time of other ranks, for which the GPU of this one may have worked too: lent.ts. */
  readonly othersNanos?: Nanos;
  readonly inFlightFrom: number | undefined;
  readonly inFlightTo: number | undefined;
  /** Pieces of GPU work inside, in order. */
  readonly all: readonly WorkRun[];
  /** Those of them that may be the server's. */
  readonly work: readonly WorkRun[];
  readonly workNanos: Nanos;
  /** Work inside that others did, by the driver's shares per process. */
  readonly spared: readonly WorkRun[];
  /** Another server moved tokens or had requests in flight somewhere in the interval: the work may be its work. */
  readonly contended: boolean;
  /** All of those others leave the GPU nearly idle. */
  readonly besideThin: boolean;
  /** A process that no server owns may have done it. */
  readonly beside: boolean;
  /** The requests that ended in it, and how long they took. */
  readonly ended: Ended | undefined;
  /** How many requests ended in it, where that is counted. */
  readonly requests?: number | undefined;
  /** What the poll that ended it says against trusting it. */
  readonly doubt: UncertainReason | undefined;
  /** It says what the server as a whole did: lent.ts. */
  readonly isLent?: true;
  /** As many requests ended in it as were in flight at its start: those at its end may all be others. */
  readonly mayPause?: true | undefined;
  /** The page may be a copy: tokens counted in it may have been made before it. */
  readonly mayBeLate?: true | undefined;
  /** The poll that began it showed nothing new, and may be of a copy: what it counts may have taken longer than it is. */
  readonly mayBeLonger?: true | undefined;
  /** The poll that ended it showed nothing new, and may be of a copy. */
  readonly mayBeStale?: true | undefined;
  /** The poll that ended it is of a page that is known to be a copy. */
  readonly isOfCopy?: true | undefined;
  /** Polls inside it were copies: it is as long as the page let it be. */
  readonly isCopied?: true | undefined;
}

/** A stretch in which another server on the same GPUs moved its counters or had something in flight. */
export interface PeerStretch {
  readonly from: Nanos;
  readonly to: Nanos;
  /** No server: its work is no execution. */
  readonly stranger: boolean;
  /** A server of short requests, which leave the GPU nearly idle. */
  readonly thin?: boolean;
}

/** A stretch in which a process that no server owns holds the GPU. */
export interface Guest {
  readonly from: Nanos;
  /** Undefined while it is there. */
  readonly to: Nanos | undefined;
}

/** Output-token equivalents per nanosecond of activity; undefined = not learned yet. */
export interface Rates {
  readonly alone: number | undefined;
  readonly contended: number | undefined;
  /** Alone, with requests in flight at both ends of an interval. */
  readonly flying: number | undefined;
  /** The most that was made where requests were in flight at one end of it, and how many such intervals there were. */
  readonly fastest: { readonly rate: number; readonly intervals: number };
  /** Of the contended intervals so far, older ones fading. */
  readonly gauged: Gauged;
}

/** A pace, and its standard error over itself; undefined where it was seen as it is. */
export interface Pace {
  readonly rate: number;
  readonly error: number | undefined;
}

/** What contended intervals add up to. */
export interface Gauged {
  readonly progress: number;
  /** The execution their gauges stand for, and how long they were. */
  readonly nanos: Nanos;
  readonly wallNanos: Nanos;
  /** GPU work of one of them on average. */
  readonly workNanos: Nanos;
  /** Requests that ended in them, and how long they took. */
  readonly endedNanos: Nanos;
  readonly requests: number;
  /** Polls that read a request in flight, and how many they read. */
  readonly flying: number;
  readonly inside: number;
}

/** An assumption, and how much of what rests on it may be otherwise: all of it, or what a fit says of its own error. */
export interface Doubt {
  readonly reason: UncertainReason;
  readonly ratio: number;
}

/** A stretch in which the server executed requests, and how that is known. */
export interface Claim {
  readonly from: Nanos;
  readonly to: Nanos;
  readonly method: ActivityMethod;
  readonly doubt?: Doubt | undefined;
}

/** The end of an interval at which the server is known to be busy. */
export type Side = "start" | "end" | "both";

/** `active`: a request in execution. `waiting`: in flight without execution. `idle`: nothing in flight. */
export type ServerState = "active" | "waiting" | "idle";

/** A settled stretch of a server's own state. */
export interface ActivitySegment {
  readonly from: Nanos;
  readonly to: Nanos;
  readonly state: ServerState;
  readonly method: ActivityMethod;
  /**
   * The GPU worked, this server and a peer both moved tokens, and this server's tokens are accounted for elsewhere. If
   * no resident is `active` in it, the GPU still is: whose execution it was is not known.
   */
  readonly contested?: true | undefined;
  /** What the GPU does in it is a part of executions that are placed beside it: windows hide where they were. */
  readonly accounted?: true | undefined;
  /** The assumption the state rests on. */
  readonly doubt?: Doubt | undefined;
}

/** What is learned of a server on one GPU. */
export interface Level {
  /** Log likelihood of each level in `levels`, and of long requests, by the polls so far. */
  readonly short: Float64Array;
  long: number;
  /** Change of the busy share from window to window, over the busy share, and how many pairs it was learned from. */
  roughness: number;
  pairs: number;
  /** Polls that read a request in flight, and those of them after which the next one did as well; both fade. */
  flying: number;
  stayed: number;
  /** How much of what is thought of that before any poll is left. */
  presumed: number;
  /** Polls that said something of the level. */
  gauges: number;
  /** Those in windows that are not full: that read a request in flight, that read none, and how busy the windows were; all fade. */
  read: number;
  unread: number;
  readBusy: number;
  /** How busy the busiest windows were. */
  peak: number;
  /** Decode steps, and how long the GPU was busy while they were made; both fade. */
  steps: number;
  stepNanos: Nanos;
  /** How busy the GPU is at the least while a request is in flight, and polls that said so. */
  presence: number;
  present: number;
  /** What polls read in flight, how many of them were of a GPU at work, requests that ended before them; all fade. */
  inside: number;
  polls: number;
  ended: number;
  /** How long the GPU was seen at work meanwhile, and in how many pieces, long ones counted as several; both fade. */
  sightNanos: Nanos;
  bursts: number;
  /** Intervals in which a rank had nothing to do and others did: its GPU worked for them, or rested; both fade. */
  lent: number;
  rested: number;
  /** Requests that ended, and the progress they made, each by itself; both fade. */
  made: number;
  makings: number;
}

/** What the durations of requests add up to, older ones fading. */
export interface Durations {
  /** Requests that ended, those of them that the engine timed itself, how long they took, and over how long a time. */
  requests: number;
  exact: number;
  nanos: Nanos;
  wallNanos: Nanos;
  /** Polls that read a request in execution, and how many requests these read in the server. */
  flying: number;
  inside: number;
  /** Polls with a gauge. */
  gauges: number;
  /** How long the GPU was busy where the server may have executed; how many busy samples say so, 0 where windows do. */
  busyNanos: Nanos;
  busySamples: number;
  /** How many last windows of the driver caught work; those among them while a request was in flight, and how full they were. */
  hits: number;
  heldHits: number;
  heldSamples: number;
  /** How much of that time is seen work. */
  workNanos: Nanos;
  /** Progress in that time, and the same in decode steps of a GPU of its own. */
  progress: number;
  ownSteps: number;
}

/** The estimator of one server. Owned by its caller; only the functions of this file change it. */
export interface Activity {
  readonly stallAfterNanos: Nanos;
  pollNanos: Nanos;
  /** The server has other GPUs: its counters and gauges speak of all of them together. */
  hasOthers: boolean;
  /** Windows of those others of which its polls speak as well. */
  siblings: readonly (readonly ActivityWindow[])[];
  /** All of them work together, so that counters and gauges speak of each. */
  isTied: boolean;
  readonly windows: ActivityWindow[];
  readonly polls: SeenPoll[];
  readonly peers: PeerStretch[];
  readonly credits: Credit[];
  /** On the GPU of a rank. */
  guests: readonly Guest[];
  /** Everything before is decided and final. */
  decidedUntil: Nanos;
  /** When tokens last moved, or nothing was in flight. */
  lastProgressAt: Nanos;
  /** The last poll that showed that what the GPU does is not the server's: copies.ts. */
  refutedAt: Nanos;
  /** Before this instant the rates have been learned. */
  learnedUntil: Nanos;
  rates: Rates;
  /** Busy share of a window wholly at work, for runs of a single window. */
  plateau: number | undefined;
  /** It was learned from three windows in a row. */
  plateauOfThree: boolean;
  /** Requests running on average, where any were read. */
  batch: number | undefined;
  readonly level: Level;
  readonly durations: Durations;
  beside: Beside;
  /** Others were seen on the GPU. */
  isShared: boolean;
  /** Its place among the servers beside it, 0 to 1: where they execute in one stretch, they begin at different ends of it. */
  seat: number;
  /** What the readings so far say together; undefined until it is asked for again after one was taken in. */
  outlook: Outlook | undefined;
  /** From where that cannot be decided yet; asked for after every poll of other servers too. */
  held: { readonly outlook: Outlook; readonly from: Nanos } | undefined;
  /** What they said when that was worked out last. */
  known: KnownIntervals | undefined;
}

/** The runs of work, the polls that are readings, and the intervals between them, of all readings so far. */
export interface Outlook {
  readonly polls: readonly SeenPoll[];
  readonly runs: readonly WorkRun[];
  readonly intervals: readonly PollInterval[];
}

/** The intervals of an outlook, one from each of the polls, and what else they were made of. */
export interface KnownIntervals {
  readonly polls: readonly SeenPoll[];
  readonly intervals: readonly PollInterval[];
  readonly progress: ProgressKind;
  readonly batch: number | undefined;
  /** Of the time from here on it was said since that others were busy, or were credited. */
  until: Nanos;
}

/** True where two assumptions are the same one, as weak. */
export function isSameDoubt(one: Doubt | undefined, other: Doubt | undefined): boolean {
  return one?.reason === other?.reason && one?.ratio === other?.ratio;
}

/** The polls whose gauges speak of this GPU: none where the server has others. */
export function gaugesOf({ hasOthers, polls }: Activity): readonly SeenPoll[] {
  return hasOthers ? [] : polls;
}
