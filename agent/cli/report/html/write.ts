// Words of HTML for a report: texts escaped, figures with their exact value beside what is shown, tables.
// A figure is written as `data-key` and `data-value`, the path and value it has in the JSON report; what is not known is a dash.
import { moneyText } from "../decimal-text.ts";

/** One figure of a line as JSON has it. */
export type Json =
  | string
  | number
  | boolean
  | null
  | undefined
  | readonly Json[]
  | { readonly [key: string]: Json };

/** A line of a report as its JSON object. */
export type JsonLine = { readonly [key: string]: Json };

/** A row of a table. */
export interface TableRow {
  readonly names: readonly string[];
  readonly line: JsonLine;
  /** A sum of the rows above it. */
  readonly isTotal?: true;
}

/** How a figure is shown. */
export type Show = (value: number) => string;

/** A column of figures. */
export interface FigureColumn {
  readonly title: string;
  /** Where the figure is in the JSON object: `kpis.tokens_per_joule`; `cost` and `revenue` are told by currency. */
  readonly key: string;
  /** `as it is`: a word. */
  readonly show: Show | "as it is";
  /** A bar beside the figure, as long as it is of the largest. */
  readonly hasBar?: true;
}

const unknown = "–";

/** Text as it may stand between tags and in attributes. */
export function escapeHtml(text: string): string {
  return text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;")
    .replaceAll("'", "&#39;");
}

/** The figure at a path, as a number; undefined where it is not known. */
export function numberAt(line: JsonLine, key: string): number | undefined {
  const value = valueAt(line, key);
  return typeof value === "number" || typeof value === "string" ? Number(value) : undefined;
}

function valueAt(line: JsonLine, key: string): Json {
  return key
    .split(".")
    .reduce<Json>(
      (at, word) => (typeof at === "object" && at !== null ? (at as JsonLine)[word] : undefined),
      line,
    );
}

/** A figure in a tag: what is shown, and the exact value for whoever reads it back. */
export function figure(line: JsonLine, key: string, show: FigureColumn["show"]): string {
  if (key === "cost" || key === "revenue") return amounts(line, key);
  const value = valueAt(line, key);
  if (value === null || value === undefined) return unknown;
  const shown = show === "as it is" ? String(value) : show(Number(value));
  return `<span data-key="${key}" data-value="${escapeHtml(String(value))}">${escapeHtml(shown)}</span>`;
}

/** Amounts of a line, each with its currency. */
function amounts(line: JsonLine, key: "cost" | "revenue"): string {
  const money = (line["money"] ?? []) as readonly { readonly [name: string]: string | null }[];
  const known = money.filter((one) => one[key] != null);
  if (known.length === 0) return unknown;
  return known
    .map((one) => {
      const [amount, currency] = [one[key] ?? "", one["currency"] ?? ""];
      const tags = `data-key="${key}" data-currency="${escapeHtml(currency)}" data-value="${amount}"`;
      return `<span ${tags}>${moneyText(amount, currency)} <span class="unit">${escapeHtml(currency)}</span></span>`;
    })
    .join("<br>");
}

/** A table of lines: names to the left, figures to the right; columns of which nothing is known are left out. */
export function lineTable(
  id: string,
  names: readonly string[],
  columns: readonly FigureColumn[],
  rows: readonly TableRow[],
  total?: JsonLine,
): string {
  const all = total === undefined ? rows.map(({ line }) => line) : [...rows.map(({ line }) => line), total];
  const known = columns.filter(({ key, show }) => all.some((line) => figure(line, key, show) !== unknown));
  const head = [
    ...names.map((name) => `<th class="name" scope="col">${escapeHtml(name)}</th>`),
    ...known.map(
      ({ hasBar, title }) => `<th scope="col"${hasBar ? ' colspan="2"' : ""}>${escapeHtml(title)}</th>`,
    ),
  ];
  const body = rows.map(({ isTotal, line, names: own }) => {
    const labels = own.map((name) => nameCell(name)).join("");
    const kind = isTotal === true ? ' class="total"' : "";
    const bars = isTotal === true ? undefined : rows;
    return `<tr${kind} data-row="${escapeHtml(JSON.stringify(own))}">${labels}${cells(known, line, bars)}</tr>`;
  });
  const sum =
    total === undefined
      ? ""
      : `<tr class="total" data-row="total"><th scope="row" colspan="${names.length}">total</th>${cells(known, total, undefined)}</tr>`;
  return `${tableStart(id)}<thead><tr>${head.join("")}</tr></thead><tbody>${body.join("\n")}${sum}</tbody></table></div>`;
}

/** A table that scrolls by itself where the page is narrow, with the keyboard too. */
export function tableStart(id: string): string {
  return `<div class="scroll" tabindex="0" role="region" aria-label="table of ${id}"><table id="${id}">`;
}

/** The name of a row. Of the long names of boards the first part is enough to tell them apart; the whole is behind it. */
export function nameCell(name: string): string {
  if (name === "") return "<td></td>";
  const short = /^((?:GPU|MIG)-[0-9a-f]{8})-[0-9a-f-]{27}$/.exec(name)?.[1];
  const title = short === undefined ? "" : ` title="${escapeHtml(name)}"`;
  return `<th scope="row"${title}>${escapeHtml(short ?? name)}</th>`;
}

function cells(
  columns: readonly FigureColumn[],
  line: JsonLine,
  rows: readonly { readonly line: JsonLine }[] | undefined,
): string {
  return columns
    .map(({ hasBar, key, show }) => {
      const cell = `<td>${figure(line, key, show)}</td>`;
      if (hasBar !== true) return cell;
      const most = Math.max(...(rows ?? []).map((row) => numberAt(row.line, key) ?? 0));
      const own = numberAt(line, key);
      if (rows === undefined || own === undefined || !(most > 0)) return `${cell}<td></td>`;
      return `${cell}<td>${barOf(own / most)}</td>`;
    })
    .join("");
}

function barOf(share: number): string {
  const width = Math.max(0.5, 100 * share).toFixed(1);
  return `<svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"><rect class="bar" fill="#3c6e9f" width="${width}" height="10"/></svg>`;
}

/** Thousands set apart; millions and billions in words of one letter. */
export const compact: Show = (value) => {
  for (const [size, letter] of [
    [1e12, "T"],
    [1e9, "B"],
    [1e6, "M"],
  ] as const)
    if (Math.abs(value) >= size) return `${digits(value / size, 3)} ${letter}`;
  return digits(value, 4);
};

/** A ratio as per cent. */
export const percent: Show = (ratio) =>
  ratio === 0 ? "0 %" : `${decimals(100 * ratio, Math.abs(ratio) < 0.0995 ? 2 : 1)} %`;

/** Seconds as hours. */
export const hours: Show = (seconds) =>
  decimals(seconds / 3600, seconds >= 3_600_000 ? 0 : seconds >= 36_000 ? 1 : 2);

/** Joules as kilowatt-hours. */
export const kilowattHours: Show = (joules) => digits(joules / 3.6e6, 4);

/** Three places that say something. */
export const short: Show = (value) => digits(value, 3);

/** A count. */
export const whole: Show = (value) => decimals(value, 0);

function digits(value: number, places: number): string {
  if (Number.isInteger(value) || Math.abs(value) >= 10 ** (places - 1)) return decimals(value, 0);
  const significant = { minimumSignificantDigits: places, maximumSignificantDigits: places };
  return value.toLocaleString("en-US", significant);
}

/** What is not 0 is never shown as 0. */
function decimals(value: number, places: number): string {
  if (value !== 0 && Number(value.toFixed(places)) === 0) {
    const significant = { minimumSignificantDigits: 2, maximumSignificantDigits: 2 };
    return value.toLocaleString("en-US", significant);
  }
  return value.toLocaleString("en-US", { minimumFractionDigits: places, maximumFractionDigits: places });
}
