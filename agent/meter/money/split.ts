// Integers shared out without losing one: largest remainders, and remainders carried from one booking to the next.

/**
 * `total` in parts proportional to the integer `weights`; the parts sum to `total` exactly. Without any weight all
 * parts are 0 and undefined is returned: there is none to charge.
 */
export function split(total: bigint, weights: readonly bigint[]): bigint[] | undefined {
  const sum = weights.reduce((one, other) => one + other, 0n);
  if (sum <= 0n) return undefined;
  const parts = weights.map((weight) => (total * weight) / sum);
  const rests = weights.map((weight, index) => ({ index, rest: (total * weight) % sum }));
  let missing = total - parts.reduce((one, other) => one + other, 0n);
  rests.sort((one, other) =>
    one.rest === other.rest ? one.index - other.index : one.rest > other.rest ? -1 : 1,
  );
  for (const { index } of rests) {
    if (missing === 0n) break;
    parts[index] = (parts[index] ?? 0n) + 1n;
    missing--;
  }
  return parts;
}

/** An integer of `10^-digits` as an exact decimal without trailing zeros: `18396`, `0.0725`. */
export function decimalOf(value: bigint, digits: number): string {
  const unit = 10n ** BigInt(digits);
  const absolute = value < 0n ? -value : value;
  const fraction = (absolute % unit).toString().padStart(digits, "0").replace(/0+$/, "");
  return `${value < 0n ? "-" : ""}${absolute / unit}${fraction === "" ? "" : `.${fraction}`}`;
}

/** The integer of `10^-digits` in a decimal that `decimalOf` wrote. */
export function integerOf(decimal: string, digits: number): bigint {
  const [whole = "0", fraction = ""] = decimal.split(".");
  return BigInt(whole + fraction.padEnd(digits, "0").slice(0, digits));
}

const remaindersMax = 20_000;

/** Remainders of divisions by key, so that many small amounts add up to the exact large one. */
export class Remainders {
  readonly #rests = new Map<string, bigint>();

  /** The whole part of `amount / divisor` plus what was left over before under this key and divisor. */
  divide(key: string, amount: bigint, divisor: bigint): bigint {
    const full = `${divisor} ${key}`;
    // Names come and go with servers; what is forgotten is less than one unit each.
    if (this.#rests.size >= remaindersMax) this.#rests.clear();
    const sum = amount + (this.#rests.get(full) ?? 0n);
    this.#rests.set(full, sum % divisor);
    return sum / divisor;
  }

  /** The remainders as plain data. */
  state(): Readonly<Record<string, string>> {
    return Object.fromEntries([...this.#rests].map(([key, rest]) => [key, String(rest)]));
  }

  /** Continues from `state()`. */
  restore(state: Readonly<Record<string, string>>): void {
    for (const [key, rest] of Object.entries(state)) this.#rests.set(key, BigInt(rest));
  }
}
