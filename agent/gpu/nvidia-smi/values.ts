// Reads the values nvidia-smi prints: a number with or without its unit, or one of its many ways to say there is none.
// `[N/A]`, `[Not Supported]`, `[Unknown Error]`, `ERR!` and whatever else is bracketed or not a number is absent with that
// text as the reason; never 0.

/** A number, or why there is none. */
export type Value = { readonly value: number } | { readonly absent: string };

/** Parses one cell; units (`%`, `MiB`, `W`, `MHz`) are dropped, hexadecimal is read. */
export function parseValue(cell: string): Value {
  const text = cell.trim();
  const match = /^(-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|0x[0-9a-fA-F]+)(?:\s*[%A-Za-z/]+)?$/.exec(text);
  const value = match?.[1] === undefined ? Number.NaN : Number(match[1]);
  if (Number.isFinite(value)) return { value };
  return { absent: reasonOf(text) };
}

/** A cell's text as a message shows it: without brackets, in quotes. */
export function quoted(cell: string): string {
  return `"${reasonOf(cell.trim())}"`;
}

/** Text of a cell; undefined for a non-value. */
export function parseText(cell: string): string | undefined {
  const text = cell.trim();
  return text === "" || text === "N/A" || text === "ERR!" || /^\[.*\]$/.test(text) ? undefined : text;
}

/** What a GPU that cannot be read says in place of a value; other reasons are about this one reading. */
const GPU_FAILED = /reset|lost|unknown error|^ERR!|bus|handle/i;

/**
 * Why a row is no reading: it shows nothing of what the GPU did, or the GPU failed. Undefined for a row that is one.
 * `evidence` = whether any value in it shows that the GPU answers, `absent` = the reasons of the others.
 */
export function silenceOf(
  evidence: { readonly any: boolean; readonly utilizationOrPower: boolean },
  absent: Readonly<Record<string, string>>,
): string | undefined {
  const reasons = Object.values(absent);
  const failed = reasons.find((reason) => GPU_FAILED.test(reason));
  if (evidence.any && (evidence.utilizationOrPower || failed === undefined)) return undefined;
  return failed ?? reasons[0] ?? "no value";
}

function reasonOf(text: string): string {
  const inner = /^\[(.*)\]$/.exec(text)?.[1] ?? text;
  if (inner === "") return "empty";
  if (inner === "N/A" || inner === "-") return "not available";
  return inner.slice(0, 80);
}

/**
 * Splits a CSV line into exactly `count` cells: the last takes the rest, commas included. Undefined when there are fewer.
 * nvidia-smi quotes nothing.
 */
export function splitCells(line: string, count: number): readonly string[] | undefined {
  const cells = line.split(",");
  if (cells.length < count) return undefined;
  return [...cells.slice(0, count - 1), cells.slice(count - 1).join(",")].map((cell) => cell.trim());
}
