// How busy the GPU is while the server executes (its level), and whether requests fill the work that is seen.
// Long requests fill it: a pause between two steps belongs to a request, and a window at work is execution as a whole.
// Short ones do not: several come and go inside a window, which then counts with its busy share over the level.
// Which of the two holds is learned from the gauge: polls inside seen work that read no request in flight speak against
// long ones, and how often a request is read in windows of a busy share says what the level is. Before there are polls
// enough, neighbouring windows decide: long requests keep the GPU evenly busy, short ones do not.

import type { Nanos, ServerPoll } from "../../model.ts";
import type { ActivityWindow } from "./evidence.ts";
import type { Level } from "./learned.ts";
import { areSighted, endedFew } from "./lengths.ts";
import { workingBusyRatio } from "./runs.ts";

/** Levels considered, and what is thought of them before any evidence: most engines keep the GPU busy. */
const levels = [0.05, 0.08, 0.12, 0.18, 0.25, 0.35, 0.5, 0.65, 0.8, 0.9, 1];
const priors = [0.0005, 0.0007, 0.001, 0.002, 0.003, 0.005, 0.012, 0.06, 0.26, 0.42, 0.24].map(Math.log);
/** The same of engines whose decode steps keep the GPU busy for less than this: their hosts take longer than it does. */
const hostBound = [0.02, 0.04, 0.08, 0.12, 0.14, 0.14, 0.13, 0.11, 0.1, 0.07, 0.05].map(Math.log);
const shortStepNanos = 2_500_000;
/** Steps that it takes. */
const stepsMin = 100;
/** No single poll proves anything: gauges lag, clocks differ. */
const [oddsMin, oddsMax] = [0.02, 0.98];
/** Polls this near to an edge of seen work do not tell on which side they fell. */
const edgeNanos = 200_000_000;
/** How much of the time around a poll has to be covered by windows. */
const coveredRatio = 0.9;
/** Windows this busy are execution whatever the level. */
const fullBusyRatio = 0.9;
/** Older evidence fades with each poll: engines change their load. */
const fadeRatio = 0.995;
/** Weight of the newest pair of windows in the roughness. */
const roughnessRatio = 0.05;
/** What is thought of it before the first pair, and how many pairs that weighs. */
const [roughnessFirst, pairsFirst] = [0.15, 4];
/** Roughness at which short and long requests are equally likely, and how much the distance from it says. */
const evenRoughness = 0.4;
const roughnessWeight = 15;
const roughnessMax = 4;
/** Even windows say the more the more there are: once at so many pairs, at most so often. */
const [pairsOnce, evenMax] = [10, 2.5];
/** Polls it takes to rely on a level. */
const gaugesMin = 8;
/** Half of the distance between two levels, as logarithms. */
const gridError = 0.05;
/** Polls that have to read a request to go by how often they do, and how far off that is however many there are. */
const [readMin, readError] = [40, 0.02];
/** A level is ruled out by windows busier than it, by this weight; one odd window is not enough. */
const [peakRatio, peakFadeRatio, beatenLog] = [0.95, 0.9998, -8];
/** Length of a driver's window. */
const driverNanos = 200_000_000;
/** Longer windows hide when work began and ended. */
export const coarseNanos = 500_000_000;

/** Returns a level with nothing learned. */
export function createLevel(): Level {
  return {
    short: new Float64Array(levels.length),
    long: 0,
    roughness: roughnessFirst,
    pairs: 0,
    gauges: 0,
    read: 0,
    unread: 0,
    readBusy: 0,
    peak: 0,
    steps: 0,
    presence: 0,
    present: 0,
    inside: 0,
    polls: 0,
    ended: 0,
    sightNanos: 0,
    bursts: 0,
    stepNanos: 0,
    flying: 0,
    stayed: 0,
    presumed: 1,
    lent: 0,
    rested: 0,
    longest: 0,
    lasted: 0,
    made: 0,
    makings: 0,
  };
}

/** Takes in how busy a window was. */
export function observePeak(level: Level, { busyRatio }: ActivityWindow): void {
  level.peak = busyRatio > level.peak ? (level.peak + busyRatio) / 2 : level.peak * peakFadeRatio;
}

/**
 * Takes in a window, the last of `windows` up to `end`. What counts is inside seen work: the middle two of four windows at work,
 * and an idle window between two at work, which no long request leaves.
 */
export function observeRoughness(
  level: Level,
  windows: readonly ActivityWindow[],
  end = windows.length,
): void {
  const fourth = windows[end - 1];
  if (!isWork(fourth)) return;
  const first = windows[end - 4];
  const second = windows[end - 3];
  const third = windows[end - 2];
  if (first === undefined || second === undefined || third === undefined) return;
  // Last windows of the driver are no neighbours: what was between them is not known.
  if (third.sampled || fourth?.sampled || !isWork(second)) return;
  if (isWork(third) && !isWork(first)) return;
  const change = Math.abs(second.busyRatio - third.busyRatio);
  const rough = isWork(third) ? change / Math.max(second.busyRatio, third.busyRatio) : 1;
  level.pairs++;
  const weight = Math.max(roughnessRatio, 1 / (level.pairs + pairsFirst));
  level.roughness += (rough - level.roughness) * weight;
}

/** Takes in decode steps, and how long the GPU was busy while they were made. */
export function observeSteps(level: Level, steps: number, busyNanos: Nanos): void {
  if (!(steps > 0)) return;
  level.steps = level.steps * fadeRatio + steps;
  level.stepNanos = level.stepNanos * fadeRatio + busyNanos;
}

/** The level by what polls say alone: beside others windows are as busy as all of them together. */
export function withoutPeak(level: Level): Level {
  return { ...level, peak: 0 };
}

/** True while too little was learned to go without what was not learned yet. */
export function isNew(level: Level): boolean {
  return level.steps < stepsMin && endedFew(level);
}

/**
 * Takes in what a poll read in flight, with the windows around it. A poll that shows nothing new and nothing in flight
 * (`isQuiet`) inside fine windows at work may be of a copied page that is not known as one yet: it says nothing.
 */
export function observeGauge(
  level: Level,
  poll: ServerPoll,
  windows: readonly ActivityWindow[],
  isQuiet = false,
  shownFrom = poll.at,
  blurNanos = 0,
): void {
  if (poll.inFlight === undefined) return;
  if (blurNanos > edgeNanos) {
    observeBlurred(level, poll.inFlight > 0, windows, poll.at, blurNanos);
    return;
  }
  const index = windows.findLastIndex(({ from }) => from <= poll.at);
  const window = windows[index];
  if (window === undefined || window.to <= poll.at || window.from > shownFrom) return;
  const { busyRatio } = window;
  if (busyRatio >= fullBusyRatio) return;
  // A last window of the driver tells of its own time alone, and not of what was around it.
  if (window.sampled && (busyRatio < workingBusyRatio || poll.at < window.to - driverNanos)) return;
  if (isQuiet && window.to - window.from <= coarseNanos) return;
  const isPause = busyRatio < workingBusyRatio;
  if (isPause && !(isWork(windows[index - 1]) && isWork(windows[index + 1]))) return;
  const seen = poll.inFlight > 0;
  // Before levels learn from this poll.
  const sampleOdds = window.sampled ? longOddsOfSample(level, windows, index, seen) : undefined;
  if (!window.sampled) observeRead(level, seen, busyRatio);
  // At an edge a long request fills its window as little as a short one.
  const inside =
    isWorkAt(windows, index, poll.at - edgeNanos) && isWorkAt(windows, index, poll.at + edgeNanos);
  weigh(level, seen, busyRatio, sampleOdds ?? (inside || isPause ? 1 : busyRatio));
}

/**
 * The same of a page that takes long to answer: what it shows is of any instant around its poll, so that a request is read as
 * often as there is one on average.
 */
function observeBlurred(
  level: Level,
  seen: boolean,
  windows: readonly ActivityWindow[],
  at: Nanos,
  blurNanos: Nanos,
): void {
  let [nanos, busyNanos, workNanos] = [0, 0, 0];
  for (let index = windows.length - 1; index >= 0; index--) {
    const window = windows[index] as ActivityWindow;
    if (window.to <= at - blurNanos) break;
    const inside = Math.min(window.to, at + blurNanos) - Math.max(window.from, at - blurNanos);
    if (inside <= 0) continue;
    if (window.sampled) return;
    nanos += inside;
    busyNanos += inside * window.busyRatio;
    if (isWork(window)) workNanos += inside;
  }
  const busyRatio = busyNanos / nanos;
  if (!(workNanos > 0) || nanos < coveredRatio * 2 * blurNanos || busyRatio >= fullBusyRatio) return;
  observeRead(level, seen, busyRatio);
  weigh(level, seen, busyRatio, workNanos / nanos);
}

/** Takes in what a poll says of levels, where the GPU was so busy, and of long requests, which it reads at such odds. */
function weigh(level: Level, seen: boolean, busyRatio: number, longOdds: number): void {
  const says = (odds: number): number => Math.log(seen ? bounded(odds) : 1 - bounded(odds));
  level.gauges++;
  levels.forEach((value, place) => {
    level.short[place] = (level.short[place] as number) * fadeRatio + says(busyRatio / value);
  });
  level.long = level.long * fadeRatio + says(longOdds);
}

/** Takes in whether a poll read a request in flight in a window. */
function observeRead(level: Level, seen: boolean, busyRatio: number): void {
  level.read = level.read * fadeRatio + (seen ? 1 : 0);
  level.unread = level.unread * fadeRatio + (seen ? 0 : 1);
  level.readBusy = level.readBusy * fadeRatio + busyRatio;
}

/**
 * The odds that a poll reads a long request in flight in a last window of the driver. What was right beside it is not known, so
 * that it may have begun or ended in it: alone among idle ones it says no more of long requests than of short ones. Between two
 * at work it is inside, unless it is emptier than they are.
 */
function longOddsOfSample(
  level: Level,
  windows: readonly ActivityWindow[],
  index: number,
  seen: boolean,
): number {
  const [before, window, after] = [windows[index - 1], windows[index], windows[index + 1]];
  const busy = window?.busyRatio ?? 0;
  if (!isWork(before) || !isWork(after)) return shortOdds(level, busy);
  if (seen) return 1;
  return (1 + busy / Math.max(busy, before?.busyRatio ?? 0, after?.busyRatio ?? 0)) / 2;
}

/** The odds that a poll reads short requests in flight in a window, by what is thought of levels. */
function shortOdds(level: Level, busyRatio: number): number {
  const logs = posterior(level);
  const whole = logSum(logs);
  let odds = 0;
  for (let place = 0; place < levels.length; place++)
    odds += Math.exp((logs[place] as number) - whole) * bounded(busyRatio / (levels[place] as number));
  return odds;
}

function bounded(odds: number): number {
  return Math.min(oddsMax, Math.max(oddsMin, odds));
}

function isWork(window: ActivityWindow | undefined): boolean {
  return window !== undefined && window.busyRatio >= workingBusyRatio;
}

function isWorkAt(windows: readonly ActivityWindow[], near: number, at: number): boolean {
  for (let index = Math.max(0, near - 2); index <= near + 2 && index < windows.length; index++) {
    const window = windows[index] as ActivityWindow;
    if (window.from <= at && window.to > at) return isWork(window);
  }
  return false;
}

/** True where requests come and go inside the windows. */
export function hasShortRequests(level: Level): boolean {
  const by = (evenRoughness - level.roughness) * roughnessWeight;
  const prior = Math.min(roughnessMax, Math.max(-roughnessMax, by));
  const presumed = areSighted(level) ? prior : prior * evenness(level) + longAt(level);
  return logSum(posterior(level)) > level.long + presumed;
}

/** How much even windows say: the more, the more of them there were. Where requests come and go unseen, few say little. */
function evenness({ pairs, roughness }: Level): number {
  return roughness > evenRoughness ? 1 : Math.min(evenMax, (pairs + pairsFirst) / pairsOnce);
}

/** What is thought of long requests that fill no window more than the busiest one so far: it is the level of the engine. */
function longAt(level: Level): number {
  if (level.peak < workingBusyRatio) return 0;
  const thought = thoughtOf(level);
  let [best, most] = [0, Number.NEGATIVE_INFINITY];
  for (let place = 0; place < levels.length; place++) {
    if ((levels[place] as number) <= level.peak / peakRatio) best = place;
    most = Math.max(most, thought[place] as number);
  }
  return (thought[best] as number) - most;
}

/** True once enough polls spoke for a level to rely on it. */
export function isLearned({ gauges }: Level): boolean {
  return gauges >= gaugesMin;
}

/** Returns the execution a second of busy GPU stands for, 1 or more. */
export function executionPerBusy(level: Level): number {
  return Math.exp(guessed(level).value);
}

/** How far off the logarithm of `executionPerBusy()` is, as one standard error. */
export function executionError(level: Level): number {
  return guessed(level).error;
}

/**
 * Logarithm of the execution a second of busy GPU stands for: the middle of the likely levels, and how often polls read a request
 * over how busy their windows were, each by the square of its error. Prompts keep the GPU busier than decode steps do, so that
 * no single level is right of an engine; a count of polls needs none. Both rest on the same polls, so that their errors add up.
 */
function guessed(level: Level): Guess {
  const byLevels = likely(level);
  const { read, readBusy, unread } = level;
  if (read < readMin) return byLevels;
  const value = Math.max(0, Math.log(read / readBusy));
  const chance = Math.sqrt((read * unread) / (read + unread) + 1) / read;
  const error = Math.hypot(chance, readError);
  const share = byLevels.error ** 2 / (byLevels.error ** 2 + error ** 2);
  return {
    value: byLevels.value + share * (value - byLevels.value),
    error: share * error + (1 - share) * byLevels.error,
  };
}

/** A logarithm, and its standard error. */
export interface Guess {
  readonly value: number;
  readonly error: number;
}

/** The same by the middle of the likely levels, as likely as something else says it as well. */
export function likely(level: Level, by?: Guess): Guess {
  const logs = posterior(level);
  if (by !== undefined)
    for (let place = 0; place < levels.length; place++)
      logs[place] =
        (logs[place] as number) - ((Math.log(levels[place] as number) + by.value) / by.error) ** 2 / 2;
  const whole = logSum(logs);
  let mean = 0;
  let square = 0;
  for (let place = 0; place < levels.length; place++) {
    const value = -Math.log(levels[place] as number);
    const odds = Math.exp((logs[place] as number) - whole);
    mean += odds * value;
    square += odds * value * value;
  }
  return { value: mean, error: Math.hypot(Math.sqrt(Math.max(0, square - mean * mean)), gridError) };
}

/** Where the weights of levels are worked out, one question after the other. */
const draft = new Float64Array(levels.length);

/** What is thought of levels by the length of decode steps. */
function thoughtOf({ stepNanos, steps }: Level): readonly number[] {
  return steps >= stepsMin && stepNanos < shortStepNanos * steps ? hostBound : priors;
}

/** Log weight of each level; one that windows were busier than cannot be. */
function posterior(level: Level): Float64Array {
  const before = thoughtOf(level);
  for (let place = 0; place < levels.length; place++) {
    const beaten = (levels[place] as number) < peakRatio * level.peak ? beatenLog : 0;
    draft[place] = (level.short[place] as number) + (before[place] as number) + beaten;
  }
  return draft;
}

function logSum(logs: Float64Array): number {
  let most = Number.NEGATIVE_INFINITY;
  for (let place = 0; place < logs.length; place++) most = Math.max(most, logs[place] as number);
  let sum = 0;
  for (let place = 0; place < logs.length; place++) sum += Math.exp((logs[place] as number) - most);
  return most + Math.log(sum);
}
