// The range and the calendar of a report: `--from`, `--to`, `--time-zone`, and hours, days or months inside them.
// A date or time without a zone is local to --time-zone. Edges must lie on the 15-minute grid: nothing finer is kept.
import type { Period, PeriodUnit } from "../../meter/figures/calendar.ts";
import { isTimeZone, localInstant, offsetOf, periods } from "../../meter/figures/calendar.ts";
import { bucketMillis } from "../../meter/ledger/grid.ts";
import { UsageError } from "../common/errors.ts";

const DAY_MILLIS = 86_400_000;
const LOCAL = /^(\d{4})-(\d{2})(?:-(\d{2})(?:[T ](\d{2}):(\d{2})(?::00)?)?)?$/;

/** A half-open range in unix milliseconds, on the grid. */
export interface ReportRange {
  readonly from: number;
  readonly to: number;
  readonly zone: string;
  readonly periods: readonly Period[];
}

/** The range the options name; `now` is the end of what the ledger holds. Throws UsageError. */
export function readRange(
  options: { readonly from?: string; readonly to?: string; readonly timeZone: string },
  unit: PeriodUnit | undefined,
  now: number,
): ReportRange {
  const zone = options.timeZone;
  if (!isTimeZone(zone)) {
    throw new UsageError(
      `Cannot use --time-zone: got "${zone}"`,
      'wanted an IANA name, for example "Europe/Berlin"',
    );
  }
  const from =
    options.from === undefined ? startOfDay(now, zone) : readInstant("--from", options.from, zone, now);
  const end = Math.ceil(now / bucketMillis) * bucketMillis;
  const to = options.to === undefined ? Math.max(end, from) : readInstant("--to", options.to, zone, now);
  if (to < from || (to === from && options.to !== undefined)) {
    throw new UsageError(
      `Cannot report from ${new Date(from).toISOString()} to ${new Date(to).toISOString()}: the range is empty`,
      "--to is exclusive and must lie after --from",
    );
  }
  const whole = { from, to, name: "" };
  return { from, to, zone, periods: unit === undefined ? [whole] : periods(from, to, unit, zone) };
}

function readInstant(flag: string, text: string, zone: string, now: number): number {
  const at = parseInstant(text, zone, now);
  if (at === undefined) {
    throw new UsageError(
      `Cannot read ${flag}: got "${text}"`,
      "wanted today, yesterday, 2026-11, 2026-11-01, 2026-11-01T06:15 (local to --time-zone) or 2026-11-01T06:15Z",
    );
  }
  if (at % bucketMillis !== 0) {
    throw new UsageError(
      `Cannot use ${flag} ${text}: the ledger is kept in steps of 15 minutes`,
      "use :00, :15, :30 or :45",
    );
  }
  return at;
}

function parseInstant(text: string, zone: string, now: number): number | undefined {
  if (text === "today") return startOfDay(now, zone);
  if (text === "yesterday") return startOfDay(startOfDay(now, zone) - 1, zone);
  const local = LOCAL.exec(text);
  if (local !== null) {
    const [year = 0, month = 1, day = 1, hour = 0, minute = 0] = local
      .slice(1)
      .map((part) => (part === undefined ? undefined : Number(part)));
    const wall = Date.UTC(year, month - 1, day, hour, minute);
    const echoed = new Date(wall);
    if (echoed.getUTCMonth() !== month - 1 || echoed.getUTCDate() !== day || hour > 24 || minute > 59)
      return undefined;
    return localInstant(wall, zone);
  }
  if (!/(Z|[+-]\d{2}:\d{2})$/.test(text)) return undefined;
  const at = Date.parse(text);
  return Number.isFinite(at) ? at : undefined;
}

function startOfDay(at: number, zone: string): number {
  const wall = at + offsetOf(at, zone);
  return localInstant(Math.floor(wall / DAY_MILLIS) * DAY_MILLIS, zone);
}
