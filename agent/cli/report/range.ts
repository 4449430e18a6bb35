// The range and the calendar of a report: `--from`, `--to`, `--time-zone`, and hours, days, weeks or months inside them.
// `7d` and `24h` count back from the end of the ledger; `last-week` and `last-month` name their own end.
// A date or time without a zone is local to --time-zone. Edges must lie on the 15-minute grid: nothing finer is kept.
import type { Period, PeriodUnit } from "../../meter/figures/calendar.ts";
import { endOfPeriod, isTimeZone, localInstant, periods, startOf } from "../../meter/figures/calendar.ts";
import { bucketMillis } from "../../meter/ledger/grid.ts";
import { UsageError } from "../common/errors.ts";

const DAY_MILLIS = 86_400_000;
const LOCAL = /^(\d{4})-(\d{2})(?:-(\d{2})(?:[T ](\d{2}):(\d{2})(?::00)?)?)?$/;

const NAMED = /^(this|last)-(week|month)$/;
const BACK = /^(\d{1,4})([dh])$/;

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
  const zone = readZone(options.timeZone);
  const from =
    options.from === undefined ? startOf(now, "day", zone) : readEdge("--from", options.from, zone, now);
  const end = Math.ceil(now / bucketMillis) * bucketMillis;
  const to =
    options.to === undefined
      ? Math.max(namedEnd(options.from, from, zone) ?? end, from)
      : readEdge("--to", options.to, zone, now);
  if (to < from || (to === from && options.to !== undefined)) {
    throw new UsageError(
      `Cannot report from ${new Date(from).toISOString()} to ${new Date(to).toISOString()}: the range is empty`,
      "--to is exclusive and must lie after --from",
    );
  }
  const whole = { from, to, name: "" };
  return { from, to, zone, periods: unit === undefined ? [whole] : periods(from, to, unit, zone) };
}

/** The zone an option names. Throws UsageError. */
export function readZone(zone: string): string {
  if (isTimeZone(zone)) return zone;
  throw new UsageError(
    `Cannot use --time-zone: got "${zone}"`,
    'wanted an IANA name, for example "Europe/Berlin"',
  );
}

/** A past week or month that is named ends where it ends, not where the ledger does. */
function namedEnd(text: string | undefined, from: number, zone: string): number | undefined {
  const [, which, unit] = NAMED.exec(text ?? "") ?? [];
  return which === "last" ? endOfPeriod(from, unit as "week" | "month", zone) : undefined;
}

/** The instant an option names, to the minute, in unix milliseconds; `now` is what `7d` counts back from. Throws UsageError. */
export function readInstant(flag: string, text: string, zone: string, now: number): number {
  const at = parseInstant(text, zone, now);
  if (at === undefined) {
    throw new UsageError(
      `Cannot read ${flag}: got "${text}"`,
      "wanted today, yesterday, 7d, 24h, last-week, last-month, 2026-11, 2026-11-01, 2026-11-01T06:15 (local to --time-zone) or 2026-11-01T06:15Z",
    );
  }
  return at;
}

/** The same on the grid of the ledger. */
function readEdge(flag: string, text: string, zone: string, now: number): number {
  const at = readInstant(flag, text, zone, now);
  if (at % bucketMillis !== 0) {
    throw new UsageError(
      `Cannot use ${flag} ${text}: the ledger is kept in steps of 15 minutes`,
      "use :00, :15, :30 or :45",
    );
  }
  return at;
}

function parseInstant(text: string, zone: string, now: number): number | undefined {
  if (text === "today") return startOf(now, "day", zone);
  if (text === "yesterday") return startOf(startOf(now, "day", zone) - 1, "day", zone);
  const named = NAMED.exec(text);
  if (named !== null) {
    const unit = named[2] as "week" | "month";
    const start = startOf(now, unit, zone);
    return named[1] === "this" ? start : startOf(start - 1, unit, zone);
  }
  const back = BACK.exec(text);
  if (back !== null) {
    const millis = Number(back[1]) * (back[2] === "d" ? DAY_MILLIS : DAY_MILLIS / 24);
    return Math.floor((Math.ceil(now / bucketMillis) * bucketMillis - millis) / bucketMillis) * bucketMillis;
  }
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
