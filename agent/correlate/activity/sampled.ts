// Execution where a GPU is read now and then (nvidia-smi): a reading tells of the driver's last window alone, a gauge of the
// instant of its poll. Between two such signs that agree a long request was executed throughout, or not at all; between two
// that differ it began or ended half-way, give or take as much. How many tokens moved says more where signs are far apart.
import type { Nanos } from "../../model.ts";
import type { ActivityWindow, PollInterval, WorkRun } from "./evidence.ts";
import { workingBusyRatio } from "./runs.ts";

/** What execution a decode step stands for, and how far off its logarithm is. */
export interface StepPace {
  readonly nanosPerStep: number;
  readonly error: number;
}

/** The driver's window that a reading tells of ended at it, and was this long. */
const driverNanos = 200_000_000;
/** An edge is anywhere between two signs that differ: its variance over the square of their distance. */
const edgeVariance = 1 / 12;
/** Share of the longest time between signs that execution takes which none of them saw, where no step was made. */
const unseenShare = 0.25;
/** How far off the steps of an interval are: with a request in flight at none of its ends, at one, or at both. */
const stepsErrors = [0.7, 0.35, 0.25] as const;
/** So many standard errors refute what signs say. */
const errors = 2;

/** Whether the server was executing at an instant. */
interface Sign {
  readonly at: Nanos;
  readonly isOn: boolean;
}

/**
 * Returns the stretches of an interval in which requests that fill windows were executed; undefined where not all of it is
 * covered by last windows of the driver.
 */
export function sampledStretches(
  windows: readonly ActivityWindow[],
  interval: PollInterval,
  pace: StepPace,
): readonly WorkRun[] | undefined {
  const { from, inFlightFrom, inFlightTo, to } = interval;
  if (inFlightFrom === undefined || inFlightTo === undefined) return undefined;
  if (interval.kind === "quiet") return [];
  const signs: Sign[] = [{ at: from, isOn: inFlightFrom > 0 }];
  let covered = 0;
  for (const window of windows) {
    if (window.to <= from || window.from >= to) continue;
    if (window.sampled !== true) return undefined;
    covered += Math.min(window.to, to) - Math.max(window.from, from);
    const at = window.to - driverNanos / 2;
    if (at > from && at < to) signs.push({ at, isOn: window.busyRatio >= workingBusyRatio });
  }
  if (2 * covered < to - from) return undefined;
  signs.push({ at: to, isOn: inFlightTo > 0 });
  return stretchesBetween(signs, interval, pace);
}

function stretchesBetween(
  signs: readonly Sign[],
  { inFlightFrom = 0, inFlightTo = 0, ownSteps, requests = 0 }: PollInterval,
  pace: StepPace,
): readonly WorkRun[] {
  let [sure, open, squares, widest] = [0, 0, 0, 0];
  for (let index = 0; index + 1 < signs.length; index++) {
    const [one, next] = [signs[index] as Sign, signs[index + 1] as Sign];
    const length = next.at - one.at;
    if (one.isOn && next.isOn) sure += length;
    else if (one.isOn === next.isOn) widest = Math.max(widest, length);
    else {
      open += length;
      squares += length * length;
    }
  }
  const isSeen = sure + open > 0;
  let amount = isSeen ? sure + open / 2 : unseenShare * widest;
  let full = 1;
  if (ownSteps > 0) {
    const told = ownSteps * pace.nanosPerStep;
    const ends = stepsErrors[(inFlightFrom > 0 ? 1 : 0) + (inFlightTo > 0 ? 1 : 0)] as number;
    const error = Math.hypot(ends, pace.error) * told;
    const byEdges = edgeVariance * squares;
    // So few tokens, of requests that ended, are those of short ones, which signs caught by chance.
    const areShort = requests >= Math.max(1, inFlightFrom);
    if (areShort && told + errors * error < sure) full = told / (sure + open / 2);
    else if (isSeen) amount += ((told - amount) * byEdges) / Math.max(1, byEdges + error ** 2);
    else amount = Math.min(told, widest);
  }
  const part = full < 1 ? full / 2 : open > 0 ? Math.min(1, Math.max(0, amount - sure) / open) : 0;
  const pieces: WorkRun[] = [];
  for (let index = 0; index + 1 < signs.length; index++) {
    const [one, next] = [signs[index] as Sign, signs[index + 1] as Sign];
    const length = next.at - one.at;
    const taken =
      one.isOn === next.isOn ? (one.isOn ? Math.round(full * length) : 0) : Math.round(part * length);
    if (taken > 0) append(pieces, one.isOn ? one.at : next.at - taken, taken);
    else if (!isSeen && length === widest && pieces.length === 0)
      append(pieces, one.at + Math.floor((length - amount) / 2), Math.floor(amount));
  }
  return pieces;
}

function append(pieces: WorkRun[], from: Nanos, length: Nanos): void {
  const last = pieces.at(-1);
  if (last?.to === from) pieces[pieces.length - 1] = { ...last, to: from + length };
  else if (length > 0) pieces.push({ from, to: from + length, seen: true });
}
