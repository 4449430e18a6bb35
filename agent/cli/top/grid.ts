// Columns for any width: each has a least width and a rank; those of least rank are left out where there is no room, and what
// is left over goes to columns that can use it.
import type { Line } from "./text.ts";
import { piece, setTo } from "./text.ts";

/** A column of rows of one kind. */
export interface Column<Row> {
  readonly head: string;
  readonly right?: boolean;
  readonly least: number;
  /** Columns it can use beyond its least width. */
  readonly more?: number;
  /** The higher, the longer it stays. */
  readonly rank: number;
  readonly cell: (row: Row, width: number) => Line | string;
  /** What rows are sorted by where this column is chosen; absent = it cannot be. */
  readonly by?: (row: Row) => number | string | null;
}

/** Columns that fit, each with its width. */
export interface Laid<Row> {
  readonly column: Column<Row>;
  readonly width: number;
}

const GAP = 2;

/** The columns for a width, in their order. */
export function lay<Row>(columns: readonly Column<Row>[], width: number): readonly Laid<Row>[] {
  let left = width;
  const kept = new Set<Column<Row>>();
  for (const column of columns.toSorted((one, other) => other.rank - one.rank)) {
    const needed = column.least + (kept.size === 0 ? 0 : GAP);
    if (needed > left) continue;
    kept.add(column);
    left -= needed;
  }
  const chosen = columns.filter((column) => kept.has(column));
  const extra = new Map<Column<Row>, number>();
  // In turns, so that no column takes all there is.
  for (let given = true; given && left > 0; ) {
    given = false;
    for (const column of chosen) {
      const has = extra.get(column) ?? 0;
      if (left === 0 || has >= (column.more ?? 0)) continue;
      extra.set(column, has + 1);
      left--;
      given = true;
    }
  }
  return chosen.map((column) => ({ column, width: column.least + (extra.get(column) ?? 0) }));
}

/** The heads of columns, the one that rows are sorted by marked. */
export function headLine<Row>(laid: readonly Laid<Row>[], sorted: string | undefined, down: boolean): Line {
  return joined(
    laid.map(({ column, width }) => {
      const mark = column.head === sorted ? (down ? "v" : "^") : "";
      const style = mark === "" ? "quiet" : "accent";
      const head = mark === "" ? column.head : column.head.slice(0, width - 1) + mark;
      return setTo([piece(head, style)], width, column.right);
    }),
  );
}

/** One row. */
export function rowLine<Row>(laid: readonly Laid<Row>[], row: Row): Line {
  return joined(
    laid.map(({ column, width }) => {
      const cell = column.cell(row, width);
      return setTo(typeof cell === "string" ? [piece(cell)] : cell, width, column.right);
    }),
  );
}

function joined(cells: readonly Line[]): Line {
  return cells.flatMap((cell, index) => (index === 0 ? cell : [piece(" ".repeat(GAP)), ...cell]));
}

/** Rows by a column's values; what is not known comes last either way. */
export function sortRows<Row>(rows: readonly Row[], by: Column<Row>["by"], down: boolean): readonly Row[] {
  if (by === undefined) return rows;
  return rows.toSorted((one, other) => {
    const [a, b] = [by(one), by(other)];
    if (a === b) return 0;
    if (a === null) return 1;
    if (b === null) return -1;
    const order =
      typeof a === "string" || typeof b === "string"
        ? String(a).localeCompare(String(b), "en", { numeric: true })
        : a - b;
    return down ? -order : order;
  });
}
