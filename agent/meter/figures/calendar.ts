// Local hours, days, weeks and months as instants, for sums of 15-minute buckets (METERING.md 8).
// Offsets come from the runtime's own time-zone data through Intl. A day may have 23, 24 or 25 hours; a skipped midnight
// begins where the clock lands, a repeated one where it comes first.

/** One piece of a calendar: half-open, in unix milliseconds. */
export interface Period {
  readonly from: number;
  readonly to: number;
  /** Local name: `2026-11-01`, `2026-11`, `2026-11-01T07:00+05:45`. */
  readonly name: string;
}

/** The periods of a calendar. */
export type PeriodUnit = "hour" | "day" | "week" | "month";

const hourMillis = 3_600_000;
const dayMillis = 86_400_000;
const formats = new Map<string, Intl.DateTimeFormat>();

/** Whether the runtime knows a time zone. */
export function isTimeZone(zone: string): boolean {
  try {
    formatOf(zone);
    return true;
  } catch {
    return false;
  }
}

/** The pieces of `[from, to)` by local calendar; the first and last are cut to the range. */
export function periods(from: number, to: number, unit: PeriodUnit, zone: string): readonly Period[] {
  const pieces: Period[] = [];
  for (let at = from; at < to; ) {
    const next = Math.min(nextStart(at, unit, zone), to);
    pieces.push({ from: at, to: next, name: nameOf(at, unit, zone) });
    at = next;
  }
  return pieces;
}

/** The instant of a local date and time, in unix milliseconds. */
export function localInstant(wall: number, zone: string): number {
  const before = offsetOf(wall - dayMillis, zone);
  const after = offsetOf(wall + dayMillis, zone);
  const candidates = [wall - before, wall - after].filter((at) => at + offsetOf(at, zone) === wall);
  return candidates.length === 0 ? wall - before : Math.min(...candidates);
}

/** Milliseconds a zone's clocks are ahead of UTC at an instant. */
function offsetOf(at: number, zone: string): number {
  const fields: Record<string, number> = {};
  for (const { type, value } of formatOf(zone).formatToParts(at)) {
    if (type !== "literal") fields[type] = Number(value);
  }
  const wall = Date.UTC(
    fields["year"] ?? 0,
    (fields["month"] ?? 1) - 1,
    fields["day"],
    fields["hour"],
    fields["minute"],
    fields["second"],
  );
  return wall - Math.floor(at / 1000) * 1000;
}

function nextStart(at: number, unit: PeriodUnit, zone: string): number {
  const wall = at + offsetOf(at, zone);
  if (unit === "hour") return at + hourMillis - (((wall % hourMillis) + hourMillis) % hourMillis);
  const date = new Date(wall);
  const [year, month, day] = [date.getUTCFullYear(), date.getUTCMonth(), date.getUTCDate()];
  if (unit === "month") return localInstant(Date.UTC(year, month + 1, 1), zone);
  const days = unit === "day" ? 1 : 7 - daysSinceMonday(date);
  return localInstant(Date.UTC(year, month, day + days), zone);
}

/** Start of the local day, week or month an instant lies in. Weeks begin on Monday (ISO 8601). */
export function startOf(at: number, unit: Exclude<PeriodUnit, "hour">, zone: string): number {
  const date = new Date(at + offsetOf(at, zone));
  const [year, month, day] = [date.getUTCFullYear(), date.getUTCMonth(), date.getUTCDate()];
  if (unit === "month") return localInstant(Date.UTC(year, month, 1), zone);
  return localInstant(Date.UTC(year, month, day - (unit === "day" ? 0 : daysSinceMonday(date))), zone);
}

/** End of the local day, week or month an instant lies in, exclusive. */
export function endOfPeriod(at: number, unit: PeriodUnit, zone: string): number {
  return nextStart(at, unit, zone);
}

function daysSinceMonday(date: Date): number {
  return (date.getUTCDay() + 6) % 7;
}

/** `2026-W45` of ISO 8601: a week belongs to the year its Thursday is in. */
function weekName(wall: number): string {
  const date = new Date(wall);
  const thursday = new Date(wall + (3 - daysSinceMonday(date)) * dayMillis);
  const year = thursday.getUTCFullYear();
  const week = Math.floor((thursday.getTime() - Date.UTC(year, 0, 1)) / dayMillis / 7) + 1;
  return `${year}-W${String(week).padStart(2, "0")}`;
}

function nameOf(at: number, unit: PeriodUnit, zone: string): string {
  const offset = offsetOf(at, zone);
  const wall = new Date(at + offset).toISOString();
  if (unit === "month") return wall.slice(0, 7);
  if (unit === "week") return weekName(at + offset);
  if (unit === "day") return wall.slice(0, 10);
  return wall.slice(0, 16) + offsetName(offset);
}

/** `Z`, `+05:45`. */
function offsetName(offset: number): string {
  if (offset === 0) return "Z";
  const minutes = Math.abs(offset) / 60_000;
  const two = (value: number): string => String(Math.floor(value)).padStart(2, "0");
  return `${offset < 0 ? "-" : "+"}${two(minutes / 60)}:${two(minutes % 60)}`;
}

function formatOf(zone: string): Intl.DateTimeFormat {
  const known = formats.get(zone);
  if (known !== undefined) return known;
  const format = new Intl.DateTimeFormat("en-US", {
    timeZone: zone,
    calendar: "gregory",
    numberingSystem: "latn",
    hourCycle: "h23",
    year: "numeric",
    month: "numeric",
    day: "numeric",
    hour: "numeric",
    minute: "numeric",
    second: "numeric",
  });
  formats.set(zone, format);
  return format;
}
