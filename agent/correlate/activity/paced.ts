// Execution between two polls by the server's own pace, where coarse windows (5 to 30 s of a dcgm-exporter) hide it: decode
// steps over those it makes while it executes throughout. A request read in flight at one end alone ends, or begins, there.
import type { Nanos } from "../../model.ts";
import type { Activity, PollInterval, WorkRun } from "./evidence.ts";
import { areLong, requestsWereSeenToStay } from "./lengths.ts";
import { flyingPace, flyingPaceError, paceByFastest } from "./rates.ts";
import { place } from "./stretches.ts";

/** Polls closer together see begin and end of a request themselves. */
const apartNanosMin = 2_000_000_000;
/** The pace is not known better than this. */
const pauseRatioMin = 0.15;

/**
 * Returns the stretches of an interval in which long requests were executed; undefined where the gauges or the pace, in
 * decode steps per nanosecond, are not known. Requests read in flight at both ends were executed throughout, unless they may
 * all be others and made too few steps for it.
 */
export function pacedStretches(
  pace: number | undefined,
  interval: PollInterval,
): readonly WorkRun[] | undefined {
  const { from, inFlightFrom, inFlightTo, mayPause, ownSteps, to } = interval;
  if (pace === undefined || inFlightFrom === undefined || inFlightTo === undefined) return undefined;
  if (to - from <= apartNanosMin || !(ownSteps > 0)) return undefined;
  const whole = { from, to, seen: true };
  const isSure = inFlightFrom > 0 && inFlightTo > 0;
  if (isSure && !mayPause) return [whole];
  const amount: Nanos = Math.min(to - from, Math.round(ownSteps / pace));
  const rest = to - from - amount;
  if (isSure && rest <= pauseRatioMin * (to - from)) return [whole];
  if (isSure) return place([whole], amount, "both");
  const start = inFlightFrom > 0 ? from : inFlightTo > 0 ? from + rest : from + Math.floor(rest / 2);
  return amount > 0 ? [{ from: start, to: start + amount, seen: true }] : [];
}

/** Decode steps per nanosecond of execution, undefined where it is not known, and how far off its logarithm is. */
export interface Pace {
  readonly pace: number | undefined;
  readonly paceError: number;
}

/**
 * Returns the pace of long requests: learned, and else as the readings show it that are not learned yet. That requests are long
 * is known where fewer ended than were in flight, or from what polls saw of them before.
 */
export function paceOf(
  { learnedUntil, level, rates }: Pick<Activity, "learnedUntil" | "level" | "rates">,
  intervals: readonly PollInterval[],
): Pace {
  const isCounted = level.ended > 0;
  if (isCounted ? !areLong(level) : !requestsWereSeenToStay(level)) return { pace: undefined, paceError: 0 };
  const ahead = intervals.filter(({ from }) => from >= learnedUntil);
  const flying = rates.flying ?? (isCounted ? flyingPace(ahead) : undefined);
  if (flying !== undefined || !isCounted) return { pace: flying, paceError: flyingPaceError };
  const { error, pace } = paceByFastest(rates.fastest, ahead);
  return { pace, paceError: Math.hypot(error, flyingPaceError) };
}
