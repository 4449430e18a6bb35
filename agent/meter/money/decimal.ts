// Money and factors from decimal text to integers, exactly: never through a double.

/** Longer text is refused: no amount has as many digits, and none may take a second to read. */
const TEXT_MAX = 100;
const DECIMAL = /^(\d+(?:_\d+)*)(?:\.(\d+))?(?:[eE]([+-]?\d{1,2}))?$/u;

/** `text` as an integer of 10^-digits; undefined where it is no decimal of 0 or more, or finer than that. */
export function parseDecimal(text: string, digits: number): bigint | undefined {
  const match = text.length > TEXT_MAX ? null : DECIMAL.exec(text.trim());
  if (match === null) return undefined;
  const [, whole = "", fraction = "", exponent = "0"] = match;
  const amount = BigInt(whole.replaceAll("_", "") + fraction);
  const shift = digits + Number(exponent) - fraction.length;
  if (shift >= 0) return amount * 10n ** BigInt(shift);
  const divisor = 10n ** BigInt(-shift);
  return amount % divisor === 0n ? amount / divisor : undefined;
}
