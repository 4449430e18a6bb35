// One line of a metric page, looked at closely: the slow half of the parser, for lines not seen before.
// Facts: Prometheus text format 0.0.4 and OpenMetrics 1.0; names in braces are the quoted UTF-8 form of Prometheus 3.
// Names are normalised here: ":" and "." to "_", a trailing "_total" stripped.

/** Where the parts of a sample line are; offsets into the page. */
export interface LineParts {
  /** Start of the value: everything before it is the key of the series. */
  readonly value: number;
  /** Start of the metric name: blanks may stand before it. */
  readonly name: number;
  /** End of the metric name (exclusive). */
  readonly nameEnd: number;
}

const COMMA = 44;
const EQUALS = 61;
const BRACE = 123;
const CLOSE = 125;
const QUOTE = 34;
const BACKSLASH = 92;
const SPACE = 32;
const TAB = 9;
const NEWLINE = 10;
const FOUR_NEWLINES = 0x0a0a_0a0a;

/** Finds the value of the sample line in `[start, end)`, or says what is wrong with the line. */
export function splitLine(bytes: Uint8Array, start: number, end: number): LineParts | string {
  const name = skipBlanks(bytes, start, end);
  let position = name;
  let byte = bytes[position] as number;
  while (position < end && byte !== BRACE && byte !== SPACE && byte !== TAB) {
    if (byte === 0) return "it holds a NUL byte";
    byte = bytes[++position] as number;
  }
  const nameEnd = position;
  position = skipBlanks(bytes, position, end);
  if (position < end && bytes[position] === BRACE) {
    position = skipLabels(bytes, position + 1, end, nameEnd === name);
    if (position < 0) return "its labels cannot be read";
  }
  position = skipBlanks(bytes, position, end);
  return position >= end ? "it has no value" : { value: position, name, nameEnd };
}

function skipBlanks(bytes: Uint8Array, from: number, end: number): number {
  let position = from;
  while (position < end && (bytes[position] === SPACE || bytes[position] === TAB)) position++;
  return position;
}

/** The place behind the closing brace, or -1: `name="value"` parts with commas between, one after the last allowed. */
function skipLabels(bytes: Uint8Array, from: number, end: number, nameInside: boolean): number {
  let position = skipBlanks(bytes, from, end);
  if (nameInside) {
    position = skipBlanks(bytes, skipQuoted(bytes, position, end), end);
    if (position < end && bytes[position] === COMMA) position = skipBlanks(bytes, position + 1, end);
  }
  while (position >= 0 && position < end && bytes[position] !== CLOSE) {
    const name = position;
    if (bytes[position] === QUOTE) position = skipQuoted(bytes, position, end);
    else while (position < end && isWord(bytes[position] as number)) position++;
    if (position <= name) return -1;
    position = skipBlanks(bytes, position, end);
    if (bytes[position] !== EQUALS) return -1;
    position = skipQuoted(bytes, skipBlanks(bytes, position + 1, end), end);
    if (position < 0) return -1;
    position = skipBlanks(bytes, position, end);
    if (bytes[position] === COMMA) position = skipBlanks(bytes, position + 1, end);
    else if (bytes[position] !== CLOSE) return -1;
  }
  return position >= 0 && position < end ? position + 1 : -1;
}

function skipQuoted(bytes: Uint8Array, from: number, end: number): number {
  if (from >= end || bytes[from] !== QUOTE) return -1;
  for (let position = from + 1; position < end; position++) {
    const byte = bytes[position] as number;
    if (byte === QUOTE) return position + 1;
    if (byte === BACKSLASH) position++;
    else if (byte === 0) return -1;
  }
  return -1;
}

function isWord(byte: number): boolean {
  return (
    (byte >= 97 && byte <= 122) || byte === 95 || (byte >= 65 && byte <= 90) || (byte >= 46 && byte <= 58)
  );
}

/** The end of what names a line's family: the name and the byte behind it; -1 where there is none. */
export function familyKeyEnd(bytes: Uint8Array, start: number, end: number): number {
  let position = start;
  let byte = bytes[position] as number;
  while (position < end && byte !== BRACE && byte !== SPACE && byte !== TAB && byte !== 0)
    byte = bytes[++position] as number;
  if (position === end || byte === 0) return -1;
  if (position > start) return position + 1;
  position = skipQuoted(bytes, skipBlanks(bytes, start + 1, end), end);
  if (position < 0) return -1;
  position = skipBlanks(bytes, position, end);
  return position < end && (bytes[position] === COMMA || bytes[position] === CLOSE) ? position + 1 : -1;
}

/** Where the line that `from` is in ends: the place of its line feed, or -1. */
export function lineEnd(view: DataView, from: number): number {
  const length = view.byteLength;
  let at = from;
  for (; at + 4 <= length; at += 4) {
    // A byte is 0 in `word` where the line feed is: the textbook test for a zero byte.
    const word = view.getInt32(at, true) ^ FOUR_NEWLINES;
    if (((word - 0x0101_0101) & ~word & 0x8080_8080) !== 0) break;
  }
  for (; at < length; at++) if (view.getUint8(at) === NEWLINE) return at;
  return -1;
}

/** The name a sample is filed under: normalised, or undefined when it is none. */
export function normaliseName(name: string): string | undefined {
  if (!/^[A-Za-z_:][\w:.]*$/.test(name)) return undefined;
  const plain = name.replaceAll(/[:.]/g, "_");
  return plain.endsWith("_total") ? plain.slice(0, -"_total".length) : plain;
}

/** The family a sample name belongs to: without the suffix of a histogram part or of a start time. */
export function familyOf(name: string): string {
  return name.replace(/_(bucket|sum|count|created)$/, "");
}

/** The metric name in a key that starts with a brace, e.g. `{"my.name",label="x"} `; "" if there is none. */
export function quotedName(key: string): string {
  return /^\{\s*"((?:[^"\\]|\\.)*)"\s*[,}]/.exec(key)?.[1] ?? "";
}

const LABEL = /[\s,]*([^\s,={}"]+|"(?:[^"\\]|\\.)*")\s*=\s*"((?:[^"\\]|\\.)*)"/gy;
// biome-ignore lint/suspicious/noControlCharactersInRegex: anything beyond ASCII came as UTF-8 bytes
const PLAIN = /^[\x00-\x5b\x5d-\x7f]*$/;
const TIGHT = /^\{(?:[^\s={},"]+="[^"]*",?)*\} ?$/;
/** An object that grew by computed keys to over 18 of them is a hash table to V8, three times as large as a copy of it. */
const GROWN_LABELS = 16;

/**
 * The labels in the braces (latin1) of a key that `splitLine` accepted; `nameInside`: the quoted name is the first word.
 * Each value goes through `once`, which may give back an equal one.
 */
export function readLabels(
  text: string,
  nameInside: boolean,
  once: (value: string) => string,
): Readonly<Record<string, string>> {
  if (text === "") return {};
  const tight = !nameInside && PLAIN.test(text) && TIGHT.test(text) && !text.includes("__proto__");
  return tight ? readTight(text, once) : readLoose(text, nameInside, once);
}

/** Labels as every server writes them: no blanks, no escapes, no quoted names, ASCII. */
function readTight(text: string, once: (value: string) => string): Record<string, string> {
  const labels: Record<string, string> = {};
  let position = 1;
  let count = 0;
  for (; text.charCodeAt(position) !== CLOSE; count++) {
    const equals = text.indexOf("=", position);
    const close = text.indexOf('"', equals + 2);
    labels[text.slice(position, equals)] = once(text.slice(equals + 2, close));
    position = close + (text.charCodeAt(close + 1) === COMMA ? 2 : 1);
  }
  return count > GROWN_LABELS ? { ...labels } : labels;
}

function readLoose(
  text: string,
  nameInside: boolean,
  once: (value: string) => string,
): Record<string, string> {
  const read: [name: string, value: string][] = [];
  LABEL.lastIndex = 1;
  if (nameInside) LABEL.lastIndex += (/^\s*"(?:[^"\\]|\\.)*"/.exec(text.slice(1))?.[0] ?? "").length;
  for (let match = LABEL.exec(text); match !== null; match = LABEL.exec(text))
    read.push([decode(match[1] as string).replaceAll('"', ""), once(decode(match[2] as string))]);
  // An object without a prototype is a hash table to V8, ten times as large: only where a label needs one.
  const isPlain = read.every(([name]) => name !== "__proto__");
  const labels: Record<string, string> = isPlain ? {} : Object.create(null);
  for (const [name, value] of read) labels[name] = value;
  return isPlain && read.length > GROWN_LABELS ? { ...labels } : labels;
}

function decode(text: string): string {
  const plain = text.includes("\\")
    ? text.replaceAll(/\\(.)/g, (_, escaped: string) => (escaped === "n" ? "\n" : escaped))
    : text;
  return PLAIN.test(plain) ? plain : Buffer.from(plain, "latin1").toString("utf8");
}
