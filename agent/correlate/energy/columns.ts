// Columns of numbers that go on at their ends and are forgotten from their beginnings.

/** Returns a column with what it holds from `from` to `to` at its front: itself, or one of twice the length. */
export function moved(
  column: Float64Array<ArrayBuffer>,
  from: number,
  to: number,
  grow: boolean,
): Float64Array<ArrayBuffer> {
  if (!grow) return column.copyWithin(0, from, to);
  const grown = new Float64Array(2 * column.length);
  grown.set(column.subarray(from, to));
  return grown;
}
