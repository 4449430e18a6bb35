// Durations on the command line: `200ms`, `20s`, `5m`, `1h`, `35d`, always with a unit.
import { ArgumentError } from "./errors.ts";

const MILLISECONDS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** Milliseconds of a duration such as `1.5s`; more than 0. Throws ArgumentError when it cannot be read. */
export function parseDurationMs(text: string): number {
  const match = /^(\d+(?:\.\d+)?|\.\d+)(ms|s|m|h|d)$/.exec(text.trim());
  const unit = MILLISECONDS[match?.[2] ?? ""];
  const milliseconds = unit === undefined ? Number.NaN : Number(match?.[1]) * unit;
  if (!(milliseconds > 0)) {
    throw new ArgumentError(`Wanted a duration with its unit, such as 200ms, 20s, 5m or 1h.`);
  }
  return milliseconds;
}

/** The shortest exact writing of a duration: `90000` is `90s`, `3600000` is `1h`. */
export function formatDurationMs(milliseconds: number): string {
  for (const unit of ["d", "h", "m", "s"]) {
    const size = MILLISECONDS[unit] ?? 1;
    if (milliseconds >= size && milliseconds % size === 0) return `${milliseconds / size}${unit}`;
  }
  return `${milliseconds}ms`;
}
