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

/** Text of a cell; undefined for a non-value. */
export function parseText(cell: string): string | undefined {
  const text = cell.trim();
  return text === "" || text === "N/A" || text === "ERR!" || /^\[.*\]$/.test(text) ? undefined : text;
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
