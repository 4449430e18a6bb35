// Numbers on the command line: `3`, `0.7`, `30e6`; money and ratios exactly, as integers of 1e-9.
import { ArgumentError } from "./errors.ts";

/** One unit in 1e-9 of it. */
export const NANO = 1_000_000_000n;

const DECIMAL = /^(\d{1,18})(?:\.(\d{1,18}))?(?:[eE]([+-]?\d{1,2}))?$/;

/** A number of 0 or more in 1e-9, exactly. Throws ArgumentError when it cannot be read or is finer than 1e-9. */
export function parseNano(text: string): bigint {
  const match = DECIMAL.exec(text);
  if (match === null) throw new ArgumentError("Wanted a number of 0 or more, such as 3, 0.7 or 30e6.");
  const [, whole = "0", fraction = "", exponent = "0"] = match;
  const shift = 9 + Number(exponent) - fraction.length;
  const digits = BigInt(whole + fraction);
  if (shift >= 0) return digits * 10n ** BigInt(shift);
  const divisor = 10n ** BigInt(-shift);
  if (digits % divisor !== 0n) throw new ArgumentError("Wanted at most 9 digits after the decimal point.");
  return digits / divisor;
}

/** A ratio between 0 and 1 in 1e-9, exactly. Throws ArgumentError when it cannot be read. */
export function parseNanoRatio(text: string): bigint {
  const value = parseNano(text);
  if (value > NANO) throw new ArgumentError("Wanted a ratio between 0 and 1, such as 0.7 for 70 %.");
  return value;
}

/** A number of 0 or more. Throws ArgumentError when it cannot be read. */
export function parseNumber(text: string): number {
  if (!DECIMAL.test(text)) throw new ArgumentError("Wanted a number of 0 or more, such as 3, 0.7 or 30e6.");
  return Number(text);
}

/** A number above 0. Throws ArgumentError when it cannot be read. */
export function parsePositive(text: string): number {
  const value = parseNumber(text);
  if (value === 0) throw new ArgumentError("Wanted a number above 0, such as 1 or 2.5.");
  return value;
}

/** 1e-9 units as an exact decimal without trailing zeros: `18396`, `0.0725`. */
export function formatNano(value: bigint): string {
  const sign = value < 0n ? "-" : "";
  const absolute = value < 0n ? -value : value;
  const fraction = (absolute % NANO).toString().padStart(9, "0").replace(/0+$/, "");
  return `${sign}${absolute / NANO}${fraction === "" ? "" : `.${fraction}`}`;
}
