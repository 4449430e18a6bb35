// Numbers on the command line: `3`, `0.7`, `30e6`; money and ratios exactly, as integers of 1e-9.
import { parseDecimal } from "../../meter/money/decimal.ts";
import { ArgumentError } from "./errors.ts";

/** One unit in 1e-9 of it. */
export const NANO = 1_000_000_000n;

/** A number of 0 or more in 1e-9, exactly. Throws ArgumentError when it cannot be read or is finer than 1e-9. */
export function parseNano(text: string): bigint {
  const nano = parseDecimal(text, 9);
  if (nano !== undefined) return nano;
  throw new ArgumentError("Wanted a number of 0 or more with at most 9 decimals, such as 3, 0.7 or 30e6.");
}

/** A ratio between 0 and 1 in 1e-9, exactly. Throws ArgumentError when it cannot be read. */
export function parseNanoRatio(text: string): bigint {
  const value = parseNano(text);
  if (value > NANO) throw new ArgumentError("Wanted a ratio between 0 and 1, such as 0.7 for 70 %.");
  return value;
}

/** 1e-9 units as an exact decimal without trailing zeros: `18396`, `0.0725`. */
export function formatNano(value: bigint): string {
  const sign = value < 0n ? "-" : "";
  const absolute = value < 0n ? -value : value;
  const fraction = (absolute % NANO).toString().padStart(9, "0").replace(/0+$/, "");
  return `${sign}${absolute / NANO}${fraction === "" ? "" : `.${fraction}`}`;
}
