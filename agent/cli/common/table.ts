// Plain text tables for people: columns padded with spaces, no frames, no colour. What is wider than a screen is cut into
// blocks under each other, each with its labels; labels that leave no room are cut in their middle.

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

/** The same in blocks of at most `width` characters: the first `labels` columns are repeated in each. */
export function formatBlocks(
  rows: readonly (readonly string[])[],
  { labels, width }: { readonly labels: number; readonly width: number },
): string {
  const clipped = clipLabels(rows, labels, width);
  const widths = (clipped[0] ?? []).map((_, column) => widest(clipped, column));
  const room = width - widths.slice(0, labels).reduce((sum, one) => sum + one + 2, 0);
  const blocks: number[][] = [];
  let used = Number.POSITIVE_INFINITY;
  for (const [column, own] of widths.entries()) {
    if (column < labels) continue;
    if (used + own > room) {
      blocks.push([]);
      used = 0;
    }
    blocks.at(-1)?.push(column);
    used += own + 2;
  }
  return blocks
    .map((block) =>
      formatTable(
        clipped.map((row) => [...row.slice(0, labels), ...block.map((column) => row[column] ?? "")]),
        { rightFrom: labels },
      ),
    )
    .join("\n\n");
}

/** Labels that take at most half of `width`: the widest are cut first, in their middle. */
export function clipLabels(
  rows: readonly (readonly string[])[],
  labels: number,
  width: number,
): readonly (readonly string[])[] {
  const widths = Array.from({ length: labels }, (_, column) => widest(rows, column));
  const most = Math.floor(width / 2);
  while (widths.reduce((sum, one) => sum + one + 2, 0) > most) {
    const longest = Math.max(...widths);
    if (longest <= 5) break;
    widths[widths.indexOf(longest)] = longest - 1;
  }
  return rows.map((row) => row.map((cell, column) => clip(cell, widths[column])));
}

function widest(rows: readonly (readonly string[])[], column: number): number {
  return rows.reduce((most, row) => Math.max(most, row[column]?.length ?? 0), 0);
}

/** Both ends of a name tell it from others. */
function clip(text: string, most: number | undefined): string {
  if (most === undefined || text.length <= most) return text;
  const tail = Math.floor((most - 1) / 2);
  return `${text.slice(0, most - 1 - tail)}…${text.slice(text.length - tail)}`;
}
