// The order of a report's lines: largest first by a column, and the first of them only.
import { UsageError } from "../common/errors.ts";
import type { Column, Layout } from "./columns.ts";
import { columnsOf } from "./columns.ts";
import type { QuotaEntry } from "./quotas.ts";

/** Lines as asked for, and how many were left out. Throws UsageError for a column there is not. */
export function arrange(
  entries: readonly QuotaEntry[],
  layout: Layout,
  options: { readonly sort?: string; readonly top?: string },
): { readonly entries: readonly QuotaEntry[]; readonly left: number } {
  const most = readTop(options.top);
  const sorted = options.sort === undefined ? entries : sortBy(entries, layout, options.sort);
  return { entries: sorted.slice(0, most), left: Math.max(0, entries.length - most) };
}

function sortBy(entries: readonly QuotaEntry[], layout: Layout, name: string): readonly QuotaEntry[] {
  const columns = columnsOf(layout);
  const column = columns.find((one) => one.name === name.replaceAll("-", "_"));
  if (column === undefined) {
    throw new UsageError(
      `Cannot sort by "${name}"`,
      `wanted one of ${columns.map((one) => one.name).join(", ")}`,
    );
  }
  // Amounts of two currencies are never compared: those of one stand together.
  const currency = ({ line }: QuotaEntry): string | undefined =>
    column.isMoney === true ? line.money[0]?.currency : "";
  return [...entries].sort(
    (one, other) =>
      compare(currency(one), currency(other)) || compare(sortedBy(column, one), sortedBy(column, other)),
  );
}

function sortedBy(column: Column, { line, period, quotas, values }: QuotaEntry): string | number | undefined {
  const value = column.value({ period: period.name, values, line, money: line.money[0], quota: quotas[0] });
  if (value === undefined || column.isLabel === true) return value as string | undefined;
  const number = Number(value);
  return Number.isFinite(number) ? number : String(value);
}

/** Numbers fall, names rise, what is not known comes last. */
function compare(one: string | number | undefined, other: string | number | undefined): number {
  if (one === undefined || other === undefined) return one === other ? 0 : one === undefined ? 1 : -1;
  if (typeof one === "number" && typeof other === "number") return other - one;
  return String(one) < String(other) ? -1 : String(one) > String(other) ? 1 : 0;
}

/** How many lines `--top` asks for. Throws UsageError for what is no whole number above 0. */
export function readTop(text: string | undefined): number {
  if (text === undefined) return Number.POSITIVE_INFINITY;
  const most = Number(text);
  if (Number.isSafeInteger(most) && most > 0) return most;
  throw new UsageError(`Cannot use --top "${text}"`, "wanted a whole number above 0");
}
