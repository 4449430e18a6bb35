// What is learned of a server on one GPU: its paces, how busy it keeps the GPU, how long its requests take, and what it does
// beside others. All of it sums over what was seen so far, older evidence fading.

import type { Nanos } from "../../model.ts";

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
  /** How long those took that ended between two polls, on average, at the most so far, and how many that was seen of; both fade. */
  longest: Nanos;
  lasted: number;
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
  /** How long any was there if those of each interval came by chance. */
  apartNanos: Nanos;
  /** Half of the squares by which neighbouring intervals differ in how many ended, and how many did in the last one. */
  squares: number;
  last: number;
  /** Polls that read a request in execution, and how many requests these read in the server. */
  flying: number;
  inside: number;
  /** Polls with a gauge. */
  gauges: number;
  /** How long the GPU was busy where the server may have executed; how many busy samples say so, 0 where windows do. */
  busyNanos: Nanos;
  busySamples: number;
  /** How many last windows of the driver caught work, and of how many; those among them while a request was in flight, and how full they were. */
  hits: number;
  readings: number;
  heldHits: number;
  heldSamples: number;
  /** How much of that time is seen work. */
  workNanos: Nanos;
  /** Progress in that time, and the same in decode steps of a GPU of its own. */
  progress: number;
  ownSteps: number;
}

/** Busy time whose owner readings tell, and the server's own part of it, with sums of their squares and products: split.ts. */
export interface Owned {
  readonly own: Nanos;
  readonly seen: Nanos;
  readonly ownOwn: number;
  readonly ownSeen: number;
  readonly seenSeen: number;
}

/** Sums over intervals beside others, older ones fading: split.ts. */
export interface Beside {
  /** Busy time whose owner the driver's credits tell. */
  readonly owned: Owned;
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
  /** Requests that ended, those of them that the engine timed itself, how long they took, and how long if each interval's came by chance. */
  readonly requests: number;
  readonly exact: number;
  readonly nanos: Nanos;
  readonly apartNanos: Nanos;
  /** Half of the squares by which neighbouring intervals differ in how many ended, and how many did in the last one. */
  readonly squares: number;
  readonly last: number;
}
