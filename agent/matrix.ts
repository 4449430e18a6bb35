// The algebra that fits need, of correlate/ and of meter/: small matrices as lists of lines.
// Inverses are of products of inputs, symmetric and with a positive diagonal: a handful of unknowns, some tens of times a minute.

/**
 * Inverse by Gauss and Jordan, the largest entry of a column first; a column without any is left as it is. `matrix` is n lines
 * of n numbers and stays unchanged.
 */
export function inverted(matrix: readonly (readonly number[])[]): number[][] {
  const size = matrix.length;
  const work = matrix.map(besideUnit);
  for (let pivot = 0; pivot < size; pivot++) {
    let best = pivot;
    for (let row = pivot + 1; row < size; row++)
      if (Math.abs(work[row]?.[pivot] ?? 0) > Math.abs(work[best]?.[pivot] ?? 0)) best = row;
    const [line, other] = [work[best] as number[], work[pivot] as number[]];
    work[pivot] = line;
    work[best] = other;
    const head = line[pivot] as number;
    if (head === 0) continue;
    for (let column = 0; column < 2 * size; column++) line[column] = (line[column] as number) / head;
    for (let row = 0; row < size; row++) {
      const values = work[row] as number[];
      const factor = values[pivot] as number;
      if (row === pivot || factor === 0) continue;
      for (let column = 0; column < 2 * size; column++)
        values[column] = (values[column] as number) - factor * (line[column] as number);
    }
  }
  return work.map((line) => line.slice(size));
}

/** A line with that of the unit matrix behind it. */
function besideUnit(line: readonly number[], row: number): number[] {
  const both = line.slice();
  for (let column = 0; column < line.length; column++) both.push(row === column ? 1 : 0);
  return both;
}
