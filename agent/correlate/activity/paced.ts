// Execution between two polls by the server's own pace, where coarse windows (5 to 30 s of a dcgm-exporter) hide it: decode
// steps over those it makes while it executes throughout. A request read in flight at one end alone ends, or begins, there.
import type { Nanos } from "../../model.ts";
import type { PollInterval, WorkRun } from "./evidence.ts";

/** Polls closer together see begin and end of a request themselves. */
const apartNanosMin = 2_000_000_000;

/**
 * Returns the stretch of an interval in which long requests were executed, empty for none; undefined where the gauges or the
 * pace, in decode steps per nanosecond, are not known.
 */
export function pacedStretch(pace: number | undefined, interval: PollInterval): WorkRun | undefined {
  const { from, inFlightFrom, inFlightTo, progress, to } = interval;
  if (pace === undefined || inFlightFrom === undefined || inFlightTo === undefined) return undefined;
  if (to - from <= apartNanosMin) return undefined;
  if (inFlightFrom > 0 && inFlightTo > 0) return { from, to, seen: true };
  const amount: Nanos = Math.min(to - from, Math.round(progress / pace));
  const rest = to - from - amount;
  const start = inFlightFrom > 0 ? from : inFlightTo > 0 ? from + rest : from + Math.floor(rest / 2);
  return { from: start, to: start + amount, seen: true };
}
