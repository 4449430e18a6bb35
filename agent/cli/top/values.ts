// How values are written on the terminal screen. What is not known is a dash, never 0.

/** What stands for a value that is not known. */
export const NOTHING = "-";

type Value = number | null | undefined;

/** `1,234`, with so many digits behind the point. */
export function number(value: Value, digits = 0): string {
  if (value === null || value === undefined) return NOTHING;
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** Three figures: `1,234`, `12.3`, `0.123`. */
export function figure(value: Value): string {
  if (value === null || value === undefined) return NOTHING;
  const size = Math.abs(value);
  return number(value, size >= 100 || size === 0 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3);
}

/** `12.3 M`, `456 k`, `1,234`. */
export function compact(value: Value): string {
  if (value === null || value === undefined) return NOTHING;
  if (value >= 1e9) return `${figure(value / 1e9)}G`;
  if (value >= 1e6) return `${figure(value / 1e6)}M`;
  return value >= 1e5 ? `${figure(value / 1e3)}k` : number(value);
}

/** `54%`. */
export function percent(ratio: Value, digits = 0): string {
  return ratio === null || ratio === undefined ? NOTHING : `${number(100 * ratio, digits)}%`;
}

/** A value with its unit. */
export function unit(value: Value, name: string, digits = 0): string {
  return value === null || value === undefined ? NOTHING : `${number(value, digits)}${name}`;
}

/** An amount of money, with the currency where one is known. */
export function money(value: Value, currency: string | null): string {
  return value === null || value === undefined || currency === null
    ? NOTHING
    : `${number(value, 2)} ${currency}`;
}

/** Gibibytes without a unit. */
export function gibibytes(bytes: Value): string {
  return bytes === null || bytes === undefined ? NOTHING : number(bytes / 2 ** 30);
}

/** `5 s`, `12 min`, `3.4 h`, `9 days`. */
export function duration(seconds: number): string {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${number(seconds / 3600, 1)} h` : `${Math.round(seconds / 86_400)} days`;
}

/** `123 J`, `4.56 Wh`, `7.89 kWh`. */
export function energy(joules: Value): string {
  if (joules === null || joules === undefined) return NOTHING;
  if (joules >= 3.6e6) return `${figure(joules / 3.6e6)} kWh`;
  return joules >= 3600 ? `${figure(joules / 3600)} Wh` : `${figure(joules)} J`;
}

/** `1 GPU`, `8 GPUs`. */
export function counted(amount: number, one: string): string {
  return `${number(amount)} ${one}${amount === 1 ? "" : "s"}`;
}
