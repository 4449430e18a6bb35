// Sample values as the text formats write them: Go's %g, Rust's and C++'s plain decimals, "NaN", "+Inf".
// Exact: up to 2^53 the digits are an integer and one multiplication or division by a power of ten below 10^23 rounds
// correctly (Clinger 1990); everything longer goes through the engine's own parser.

const POWERS = Array.from({ length: 23 }, (_, exponent) => 10 ** exponent);

/** The value `parseNumber` read last, in a cell of its own so that no number is boxed. */
export const parsedNumber = new Float64Array(1);

/**
 * Reads the number at `at` into `parsedNumber[0]`, NaN when there is none or it is not finite, and returns the place
 * behind the last byte it took.
 */
export function parseNumber(bytes: Uint8Array, at: number, end: number): number {
  let position = at;
  const negative = bytes[position] === 45;
  if (negative || bytes[position] === 43) position++;
  const first = position;
  let mantissa = 0;
  let exponent = 0;
  let digits = 0;
  let byte = position < end ? (bytes[position] as number) : 0;
  while (byte >= 48 && byte <= 57) {
    mantissa = mantissa * 10 + (byte - 48);
    digits++;
    byte = ++position < end ? (bytes[position] as number) : 0;
  }
  if (byte === 46) {
    byte = ++position < end ? (bytes[position] as number) : 0;
    while (byte >= 48 && byte <= 57) {
      mantissa = mantissa * 10 + (byte - 48);
      digits++;
      exponent--;
      byte = ++position < end ? (bytes[position] as number) : 0;
    }
  }
  if (digits > 0 && (byte === 101 || byte === 69)) {
    position++;
    const sign = bytes[position];
    if (sign === 43 || sign === 45) position++;
    let power = 0;
    let any = false;
    byte = position < end ? (bytes[position] as number) : 0;
    while (byte >= 48 && byte <= 57) {
      power = Math.min(power * 10 + (byte - 48), 10_000);
      any = true;
      byte = ++position < end ? (bytes[position] as number) : 0;
    }
    exponent += sign === 45 ? -power : power;
    if (!any) digits = 0;
  }
  if (digits === 0 || !endsValue(byte, position, end)) return parseSlowly(bytes, at, end);
  if (mantissa > Number.MAX_SAFE_INTEGER || exponent < -22 || exponent > 22) {
    parsedNumber[0] = finite((negative ? -1 : 1) * Number(text(bytes, first, position)));
    return position;
  }
  const value =
    exponent < 0 ? mantissa / (POWERS[-exponent] as number) : mantissa * (POWERS[exponent] as number);
  parsedNumber[0] = negative ? -value : value;
  return position;
}

function endsValue(byte: number, position: number, end: number): boolean {
  return position >= end || byte === 10 || byte === 32 || byte === 13 || byte === 9;
}

/** Whatever stands there instead of a decimal number: skipped, and NaN. */
function parseSlowly(bytes: Uint8Array, at: number, end: number): number {
  let position = at;
  while (position < end && !endsValue(bytes[position] as number, position, end)) position++;
  parsedNumber[0] = Number.NaN;
  return position;
}

function finite(value: number): number {
  return Number.isFinite(value) ? value : Number.NaN;
}

function text(bytes: Uint8Array, start: number, end: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString("latin1");
}
