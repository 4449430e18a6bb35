// The nouns of this folder: what goes into an estimator, what it concludes on the way, and what comes out.
// Windows of GPU work and polls of one server go in; runs of work, intervals between polls and claims follow; segments of
// the server's own state come out.

import type { ActivityMethod, Nanos, ProgressKind, ServerPoll, UncertainReason } from "../../model.ts";
import type { Beside, Durations, Level, Owned, Rates } from "./learned.ts";

/** Readings of a kind kept at most; older ones are dropped, and what they would have explained stays as it is. */
export const readingsMax = 1024;

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
  /** What it tells of the owner of busy time. */
  readonly owned?: Owned | undefined;
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

/** The estimator of one server. Owned by its caller; only the functions of this file change it. */
export interface Activity {
  readonly stallAfterNanos: Nanos;
  pollNanos: Nanos;
  /** A poll failed since the last one that did not. */
  isFailing: boolean;
  /** How far off the instants of its polls may be: what a slow page shows is of any instant before its answer. */
  blurNanos: Nanos;
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
