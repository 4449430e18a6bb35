// What the durations of requests say of execution: the sum of them, which pages count as requests end, over the requests
// in the server at a time while any executes (by its gauges) is the time of execution (Little's law). The sum alone is
// never less than it. So it says what a second of busy GPU stands for where requests are short and the gauge sees few.
// Durations are measured where requests enter: what a front end adds to each is too much for requests of a few ms.
import type { Nanos } from "../../model.ts";
import { atATimeByChance, executedByChance, togetherByChance } from "./at-a-time.ts";
import type { ActivityWindow, PollInterval, SeenPoll } from "./evidence.ts";
import type { Durations, Level } from "./learned.ts";
import type { Guess } from "./level.ts";
import { executionError, executionPerBusy, likely, withoutPeak } from "./level.ts";
import { workingBusyRatio } from "./runs.ts";
import type { StepPace } from "./sampled.ts";

/** Older polls fade. */
const keptRatio = 0.995;
/** Requests it takes to say anything. */
const requestsMin = 20;
/** Shorter requests than this share of a poll's distance were executed in the interval in which they ended. */
const shortRatio = 0.2;
/** Requests longer than this share of the time ended too seldom. */
const lengthRatioMax = 0.05;
/** Shorter requests are as much the front end's as the engine's. */
const nanosMin = 25_000_000;
/** Up to so many requests at a time chance weighs as much as so many polls with a request in execution. */
const [fewRatio, chancePolls] = [0.5, 8];
/** What front ends add to each request, give or take as much. */
const frontEndNanos = 4_000_000;
/** How far off durations are otherwise, as a logarithm. */
const errorLeast = 0.03;
/** Of the busy time of a GPU that is read now and then, before chance. */
const sampledVariance = 0.005;
/** How much the requests at a time vary beyond those that overlap by chance. */
const variedRatio = 0.05;
/** Durations are the engine's own where this share of the requests was timed by it. */
const exactRatio = 0.9;
/** The driver's last window is this long, and so many have to catch work. */
const [driverNanos, hitsMin] = [200_000_000, 3];
/** Seen work that is longer than all requests together by this ratio has pauses between requests in it. */
const pausesRatio = 1.15;

/** Progress that it takes to make a pace of it. */
const progressMin = 20;
/** What a decode step takes before any was seen, and as how many sights of work that counts. */
const [stepFirstNanos, hitsFirst] = [10_000_000, 1];

/** Returns the durations of a server none of whose requests ended yet. */
export function createDurations(): Durations {
  return {
    ...{ requests: 0, exact: 0, nanos: 0, wallNanos: 0, apartNanos: 0, squares: 0, last: 0 },
    ...{ flying: 0, inside: 0, gauges: 0 },
    ...{ busyNanos: 0, busySamples: 0, workNanos: 0, progress: 0, ownSteps: 0 },
    ...{ hits: 0, readings: 0, heldHits: 0, heldSamples: 0 },
  };
}

/** Takes in an interval that is decided, the poll that ended it, and the windows over it. */
export function observeDurations(
  durations: Durations,
  interval: PollInterval,
  poll: SeenPoll,
  windows: readonly ActivityWindow[],
): void {
  const { from, kind, to, workNanos } = interval;
  const { ended, inFlight } = poll;
  const add = (key: keyof Durations, amount: number): void => {
    durations[key] = durations[key] * keptRatio + amount;
  };
  add("requests", ended?.requests ?? 0);
  add("exact", ended?.isPhased === true ? ended.requests : 0);
  add("nanos", ended?.nanos ?? 0);
  add("wallNanos", to - from);
  add("apartNanos", executedByChance(ended?.nanos ?? 0, to - from));
  add("squares", ((ended?.requests ?? 0) - durations.last) ** 2 / 2);
  durations.last = ended?.requests ?? 0;
  add("gauges", inFlight === undefined ? 0 : 1);
  const flies = (inFlight ?? 0) > 0;
  add("flying", flies ? 1 : 0);
  add("inside", flies ? (inFlight ?? 0) + (ended?.isExecution === true ? 0 : (poll.waiting ?? 0)) : 0);
  const busy = kind === "quiet" ? nothingBusy : busyIn(windows, from, to);
  add("busyNanos", busy.nanos);
  add("busySamples", busy.samples);
  const isHeld = isOneThroughout(interval);
  add("hits", busy.hits);
  add("readings", busy.readings);
  add("heldHits", isHeld ? busy.hits : 0);
  add("heldSamples", isHeld ? busy.samples : 0);
  add("workNanos", kind === "quiet" ? 0 : workNanos);
  add("progress", interval.progress);
  add("ownSteps", interval.ownSteps);
}

/** True where fewer requests ended than were in flight at both ends: one of them was there throughout. */
function isOneThroughout({ inFlightFrom, inFlightTo, mayPause, requests }: PollInterval): boolean {
  return requests !== undefined && mayPause !== true && (inFlightFrom ?? 0) > 0 && (inFlightTo ?? 0) > 0;
}

/**
 * Returns the logarithm of the execution a second of busy GPU stands for, and its standard error, undefined while too few
 * requests ended.
 */
function perBusyByDurations(durations: Durations): Guess | undefined {
  const { busyNanos, flying, gauges, inside, nanos, requests, wallNanos } = durations;
  if (requests < requestsMin || busyNanos <= 0) return undefined;
  const length = nanos / requests;
  const isExact = durations.exact >= exactRatio * requests;
  if ((length < nanosMin && !isExact) || length > lengthRatioMax * wallNanos) return undefined;
  // Few requests come by chance: then they are this many at a time while there are any.
  const load = nanos / wallNanos;
  const byChance = atATimeByChance(load);
  const chance = load < fewRatio ? chancePolls : 1;
  const together = Math.max(1, (inside + chance * byChance) / (flying + chance));
  const added = isExact ? 0 : frontEndNanos / length;
  if (gauges <= 0) {
    const apart = togetherByChance(durations);
    const inAll = Math.max(1, Math.min((nanos * (1 - added)) / apart.together, wallNanos) / busyNanos);
    return { value: Math.log(inAll), error: Math.hypot(errorLeast, added, apart.error) };
  }
  const perBusy = Math.max(1, Math.min((nanos * (1 - added)) / together, wallNanos) / busyNanos);
  return {
    value: Math.log(perBusy),
    error: Math.hypot(
      errorLeast,
      added,
      Math.sqrt((together - 1 + variedRatio) / (flying + chance)) / together,
    ),
  };
}

/**
 * Returns the execution a second of busy GPU stands for, 1 or more, and how far off its logarithm is: by the gauges, and by the
 * durations of requests where there are any, each by how far off it may be.
 */
export function executionOfBusy(
  level: Level,
  durations: Durations,
): { readonly perBusy: number; readonly error: number } {
  const most = executionPerBusyMax(durations);
  const byGauges = executionError(level);
  const value = Math.log(executionPerBusy(level));
  if (durations.busySamples > 0) {
    const by = perBusyByHits(durations);
    // Prompts keep a GPU busier than decode steps: no single level is right.
    const { error, value: seen } = by === undefined ? likely(level) : likely(withoutPeak(level), by);
    return { perBusy: Math.min(Math.exp(seen), most), error };
  }
  const by = perBusyByDurations(durations);
  if (by === undefined) return { perBusy: Math.min(Math.exp(value), most), error: byGauges };
  if (durations.gauges <= 0) {
    // Nothing was learned of levels, and what is thought of them is no normal error.
    const { error, value: thought } = likely(level, by);
    return { perBusy: Math.min(Math.exp(thought), most), error };
  }
  const share = byGauges ** 2 / (byGauges ** 2 + by.error ** 2);
  const perBusy = Math.min(Math.exp(value + share * (by.value - value)), most);
  return { perBusy, error: (byGauges * by.error) / Math.hypot(byGauges, by.error) };
}

/**
 * The same of a GPU that is read now and then, by how many of the driver's last windows caught work over how busy they were: each
 * was execution, but for where requests began or ended in it.
 */
function perBusyByHits(durations: Durations): Guess | undefined {
  const { busySamples, hits } = durations;
  const inside = executionOfHit(durations);
  if (inside === 0 || hits < hitsMin || busySamples <= 0) return undefined;
  const perBusy = Math.max(1, (inside * hits) / busySamples);
  return { value: Math.log(perBusy), error: Math.hypot(errorLeast, (1 - inside) / 2, 1 / Math.sqrt(hits)) };
}

/**
 * Returns how much of a last window of the driver that caught work is execution, by how long requests take: they begin or end in so
 * many of those. 0 where too few of them ended to say so.
 */
export function executionOfHit({ nanos, requests, wallNanos }: Durations): number {
  const length = nanos / requests;
  return requests < hitsMin || length > lengthRatioMax * wallNanos ? 0 : length / (length + driverNanos);
}

/**
 * Returns the execution that a second of requests stands for, undefined while too few of them ended, or where they are too
 * long to have been executed where they ended: by what a second of busy GPU stands for, and by the durations themselves,
 * each by how far off it may be. Of a GPU that is read now and then, the busy time is a matter of chance.
 */
export function executionPerDuration(
  durations: Durations,
  perBusy: number,
  interval: Nanos,
): number | undefined {
  const { busyNanos, busySamples, nanos, requests } = durations;
  if (requests < requestsMin || !(nanos > 0) || nanos / requests > shortRatio * interval) return undefined;
  const byBusy = Math.log((busyNanos * Math.min(perBusy, executionPerBusyMax(durations))) / nanos);
  const byDurations = perBusyByDurations(durations);
  if (byDurations === undefined || busySamples === 0) return Math.exp(byBusy);
  const variance = sampledVariance + 1 / busySamples;
  const share = variance / (variance + byDurations.error ** 2);
  return Math.exp(byBusy + share * (byDurations.value + Math.log(busyNanos / nanos) - byBusy));
}

/**
 * The most a second of busy GPU can stand for: no more was executed than requests took. Exported for its test: a bound is not
 * seen from what is learned beside it.
 */
export function executionPerBusyMax({ busyNanos, nanos, requests, wallNanos }: Durations): number {
  if (requests < requestsMin || busyNanos <= 0 || nanos / requests > lengthRatioMax * wallNanos)
    return Number.POSITIVE_INFINITY;
  return Math.max(1, nanos / busyNanos);
}

/** Returns how long the GPU is busy for some progress, undefined while little was made without others. */
export function busyPerProgress({ busyNanos, progress }: Durations): number | undefined {
  return progress >= progressMin && busyNanos > 0 ? busyNanos / progress : undefined;
}

/**
 * Returns the execution that a decode step stands for on a GPU that is read now and then. Both its readings and the gauges are
 * samples: each counts by how often it caught work, beside what GPUs make of a step before any did. A reading caught as much as
 * it is as full as those while a request was in flight.
 */
export function executionPerStep(durations: Durations, perBusy: number): StepPace {
  const { busyNanos, busySamples, flying, gauges, heldHits, heldSamples, ownSteps, wallNanos } = durations;
  const steps = Math.max(ownSteps, 1);
  const perHeld = (heldHits + hitsFirst) / (heldSamples + hitsFirst / perBusy);
  const caughtBySamples = Math.max(busySamples * perBusy, Math.min(durations.hits, busySamples * perHeld));
  const caught = caughtBySamples + flying + hitsFirst;
  const perNano =
    (busySamples > 0 ? busySamples / busyNanos : 0) + (gauges > 0 && wallNanos > 0 ? gauges / wallNanos : 0);
  const nanos = caught / (perNano + hitsFirst / (stepFirstNanos * steps));
  return { nanosPerStep: nanos / steps, error: 1 / Math.sqrt(caught) };
}

/** True where seen work is longer than all requests together: there are pauses between them in it. */
export function hasPauses({ nanos, requests, wallNanos, workNanos }: Durations): boolean {
  if (requests < requestsMin || nanos / requests > lengthRatioMax * wallNanos) return false;
  return workNanos > pausesRatio * nanos;
}

/** How long the GPU was busy, how many full last windows of the driver that is known from, how many there were, and how many caught work. */
interface Busy {
  readonly hits: number;
  readonly nanos: Nanos;
  readonly readings: number;
  readonly samples: number;
}
const nothingBusy: Busy = { hits: 0, nanos: 0, readings: 0, samples: 0 };

/** Returns how long the GPU was busy. */
export function busyIn(windows: readonly ActivityWindow[], from: Nanos, to: Nanos): Busy {
  let hits = 0;
  let nanos = 0;
  let readings = 0;
  let samples = 0;
  for (let index = windows.length - 1; index >= 0; index--) {
    const window = windows[index] as ActivityWindow;
    if (window.to <= from) break;
    const inside = Math.max(0, Math.min(window.to, to) - Math.max(window.from, from));
    nanos += inside * window.busyRatio;
    if (!window.sampled) continue;
    const part = inside / (window.to - window.from);
    readings += part;
    samples += part * window.busyRatio;
    if (window.busyRatio >= workingBusyRatio) hits += part;
  }
  return { hits, nanos, readings, samples };
}
