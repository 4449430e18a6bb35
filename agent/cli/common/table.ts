// Plain text tables for people: columns padded with spaces, no frames, no colour.

/** Lines of cells as one text without a newline at its end. Columns from `rightFrom` on are set to the right. */
export function formatTable(
  rows: readonly (readonly string[])[],
  options: { readonly rightFrom?: number } = {},
): string {
  const rightFrom = options.rightFrom ?? Number.POSITIVE_INFINITY;
  const widths: number[] = [];
  for (const row of rows) {
    row.forEach((cell, column) => {
      widths[column] = Math.max(widths[column] ?? 0, cell.length);
    });
  }
  return rows
    .map((row) =>
      row
        .map((cell, column) => {
          const width = widths[column] ?? 0;
          return column >= rightFrom ? cell.padStart(width) : cell.padEnd(width);
        })
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}
