// The windows quotas count in: half-open, as unix milliseconds. Minutes and hours are fixed UTC windows, as in
// envoyproxy/ratelimit, so that both give the same answer for the same calls; days, weeks (from Monday) and months are
// those of the policy's time zone, where a day may have 23 or 25 hours. All but minutes are sums of 15-minute buckets.
import { endOfPeriod, startOf } from "../meter/figures/calendar.ts";

/** The lengths a quota may count over. */
export const windowUnits = ["minute", "hour", "day", "week", "month"] as const;

/** One of them. */
export type WindowUnit = (typeof windowUnits)[number];

/** One window: half-open, unix milliseconds. */
export interface Window {
  readonly from: number;
  readonly to: number;
}

const fixedMillis = { minute: 60_000, hour: 3_600_000 } as const;

/** The window an instant lies in. */
export function windowAt(atMillis: number, unit: WindowUnit, zone: string): Window {
  if (unit === "minute" || unit === "hour") {
    const length = fixedMillis[unit];
    const from = Math.floor(atMillis / length) * length;
    return { from, to: from + length };
  }
  return { from: startOf(atMillis, unit, zone), to: endOfPeriod(atMillis, unit, zone) };
}
