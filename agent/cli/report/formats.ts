// A report as a table for people, as CSV and as JSON. Token counts are exact integers, revenue is exact to its last decimal.
// An empty cell, and null in JSON, means that nothing was booked or nothing can say; 0 is a sum.
// Money of two currencies takes two rows: the second one carries no other figure, so that columns still sum up.
import type { ReportLine } from "../../meter/figures/report.ts";
import type { Plan } from "../../meter/figures/report-plan.ts";
import { knowsStates } from "../../meter/figures/report-plan.ts";
import { clipLabels, formatTable } from "../common/table.ts";
import type { Column, Layout, Row, Value } from "./columns.ts";
import { columnsOf, costText, revenueText, sumOf } from "./columns.ts";
import { grouped, moneyText } from "./decimal-text.ts";
import type { LineQuota, QuotaEntry } from "./quotas.ts";
import { quotaObject } from "./quotas.ts";

/** Lines for people, their total last; columns nothing is known of are left out. Wider than `width`: several blocks. */
export function reportTable(
  entries: readonly QuotaEntry[],
  total: ReportLine,
  layout: Layout,
  width: number | undefined,
): string {
  const columns = columnsOf(layout);
  const labels = columns.filter((column) => column.isLabel === true);
  const rows = entries.flatMap(rowsOf);
  if (labels.length > 0) {
    const totals = { period: { name: "" }, values: [], line: total, quotas: [] };
    const values = layout.hasPeriods ? [] : ["total"];
    rows.push(...rowsOf(totals).map((row) => ({ ...row, period: "total", values })));
  }
  const known = columns.filter(
    (column) => column.isLabel !== true && rows.some((row) => column.value(row) !== undefined),
  );
  const names = rows.map((row) => labels.map((column) => cell(column, row)));
  const titles = labels.map((column) => column.title);
  const clipped =
    width === undefined ? [titles, ...names] : clipLabels([titles, ...names], labels.length, width);
  const shown = {
    titles: clipped[0] ?? [],
    cells: new Map(rows.map((row, index) => [row, clipped[index + 1] ?? []])),
  };
  return blocksOf(shown, known, rows, width)
    .map((block) => tableOf(shown, block, rows))
    .join("\n\n");
}

/** The labels of a table as they fit beside its figures. */
interface Labels {
  readonly titles: readonly string[];
  readonly cells: ReadonlyMap<Row, readonly string[]>;
}

/** RFC 4180, one header line, every column always there. */
export function reportCsv(entries: readonly QuotaEntry[], layout: Layout): string {
  const columns = columnsOf(layout);
  const lines = entries.flatMap((entry) => {
    const range = [iso(entry.period.from), iso(entry.period.to)];
    return rowsOf(entry).map((row) => [...range, ...columns.map((column) => plain(column.value(row)))]);
  });
  return csv([["from", "to", ...columns.map((column) => column.name)], ...lines]);
}

/** Lines of cells as RFC 4180. A cell that a spreadsheet would run as a formula is kept as text. */
export function csv(rows: readonly (readonly string[])[]): string {
  const quote = (text: string): string => {
    if (ordinary.test(text)) return text;
    const safe = isFormula(text) ? `'${text}` : text;
    return /[",;\r\n\t]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  return rows.map((row) => row.map(quote).join(",")).join("\r\n");
}

/** Most cells: nothing in them to quote. */
const ordinary = /^[A-Za-z0-9][\w ./:+-]*$/u;
// OWASP, CSV injection: = + - @, their full-width forms, tab and carriage return. A plain number may begin with a sign.
const formula = /^[\s\u00a0\u3000]*[=+@\uff1d\uff0b\uff20\uff0d-]|^[\t\r\n]/u;
const plainNumber = /^-\d+(?:\.\d+)?$/;

function isFormula(text: string): boolean {
  return formula.test(text) && !plainNumber.test(text);
}

/** Everything a line knows, as a plain object for JSON; integers beyond 2^53 become decimal texts. */
export function reportObject(entry: QuotaEntry, layout: Layout): Record<string, unknown> {
  const { line, period } = entry;
  return {
    from: iso(period.from),
    to: iso(period.to),
    ...(period.name === "" ? {} : { period: period.name }),
    ...Object.fromEntries(layout.groups.map((group, index) => [group, entry.values[index] ?? ""])),
    ...lineObject(line, layout.plan),
    ...(layout.hasQuotas ? quotaObjects(entry.quotas) : {}),
  };
}

/** The fullest quota of a line, and all of them. */
export function quotaObjects(quotas: readonly LineQuota[]): Record<string, unknown> {
  const all = quotas.map(quotaObject);
  return { quota: all[0] ?? null, quotas: all };
}

/** The figures of a line. `money` has them by currency; beside it stand those of the only one, if it is one. */
export function lineObject(line: ReportLine, plan: Plan): Record<string, unknown> {
  const { gpuNanos, kpis, millijoules, percentiles, requests, tokens } = line;
  const only = line.money.length === 1 ? line.money[0] : undefined;
  const utilization = knowsStates(plan) ? kpis.tokenActiveUtilization : undefined;
  return {
    tokens: numbers(tokens),
    requests: numbers(requests),
    total_tokens: numberOf(line.allTokens),
    total_requests: numberOf(sumOf(Object.values(requests))),
    gpu_seconds: Object.fromEntries(
      Object.entries(gpuNanos).map(([state, nanos]) => [state, Number(nanos) / 1e9]),
    ),
    energy_joules: millijoules === undefined ? null : Number(millijoules) / 1e3,
    cost: costText(only) ?? null,
    revenue: revenueText(only) ?? null,
    currency: only?.currency ?? null,
    money: line.money.map((money) => ({
      currency: money.currency,
      cost: costText(money) ?? null,
      revenue: revenueText(money) ?? null,
    })),
    queries_per_second: line.queriesPerSecond ?? null,
    tokens_per_second: line.tokensPerSecond ?? null,
    latency_seconds: percentiles,
    failed_latency_seconds: line.failedPercentiles,
    capacity_source: line.capacitySources.at(-1) ?? null,
    kpis: snakeCase({ ...kpis, tokenActiveUtilization: utilization }),
  };
}

function rowsOf(entry: {
  readonly period: { readonly name: string };
  readonly values: readonly string[];
  readonly line: ReportLine;
  readonly quotas: readonly LineQuota[];
}): Row[] {
  const { line, values } = entry;
  const [first, ...more] = line.money;
  const labels = { period: entry.period.name, values };
  return [
    { ...labels, line, money: first, quota: entry.quotas[0] },
    ...more.map((money) => ({ ...labels, line: undefined, money })),
  ];
}

/** Columns side by side as far as the width goes; the labels are repeated with every block. */
function blocksOf(
  { cells, titles }: Labels,
  known: readonly Column[],
  rows: readonly Row[],
  width: number | undefined,
): readonly (readonly Column[])[] {
  if (width === undefined) return [known];
  const lengths = titles.map((title, place) =>
    [...cells.values()].reduce((most, one) => Math.max(most, one[place]?.length ?? 0), title.length),
  );
  const room = width - lengths.reduce((all, one) => all + one + 2, 0);
  const blocks: Column[][] = [];
  let used = Number.POSITIVE_INFINITY;
  for (const [index, column] of known.entries()) {
    const wide = widthOf(column, rows) + 2;
    const startsMoney = column.isMoney === true && known[index - 1]?.isMoney !== true;
    const together = startsMoney ? known.filter((one) => one.isMoney === true) : [column];
    const needed = together.reduce((all, one) => all + widthOf(one, rows) + 2, 0);
    if (used + Math.min(needed, room) > room + 2) {
      blocks.push([]);
      used = 0;
    }
    blocks.at(-1)?.push(column);
    used += wide;
  }
  return blocks.length === 0 ? [[]] : blocks;
}

function widthOf(column: Column, rows: readonly Row[]): number {
  return Math.max(column.title.length, ...rows.map((row) => cell(column, row).length));
}

function tableOf({ cells, titles }: Labels, block: readonly Column[], rows: readonly Row[]): string {
  // A row that only adds money of another currency says nothing in a block without money.
  const shown = rows.filter(
    (row) => row.line !== undefined || block.some((column) => column.value(row) !== undefined),
  );
  const lines = shown.map((row) => [...(cells.get(row) ?? []), ...block.map((column) => cell(column, row))]);
  return formatTable([[...titles, ...block.map((column) => column.title)], ...lines], {
    rightFrom: titles.length,
  });
}

/** A value as people read it. */
function cell(column: Column, row: Row): string {
  const value = column.value(row);
  const { decimals } = column;
  if (value === undefined) return "-";
  if (typeof value === "string" && decimals === undefined) return value;
  if (typeof value === "bigint") return grouped(String(value));
  if (typeof value === "string") return moneyText(value, row.money?.currency, decimals);
  const [whole = "0", fraction] = value.toFixed(decimals ?? 0).split(".");
  return fraction === undefined ? grouped(whole) : `${grouped(whole)}.${fraction}`;
}

function plain(value: Value): string {
  if (value === undefined) return "";
  return typeof value === "number" ? String(Number(value.toPrecision(12))) : String(value);
}

/** Names as everywhere in JSON; what is not known is null. */
function snakeCase(values: object): Record<string, unknown> {
  const entries = Object.entries(values).map(([key, value]: [string, unknown]) => [
    key.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
    typeof value === "object" && value !== null ? snakeCase(value) : (value ?? null),
  ]);
  return Object.fromEntries(entries) as Record<string, unknown>;
}

function numbers(parts: Readonly<Partial<Record<string, bigint>>>): Record<string, number | string | null> {
  return Object.fromEntries(Object.entries(parts).map(([key, value]) => [key, numberOf(value)]));
}

function numberOf(value: bigint | undefined): number | string | null {
  if (value === undefined) return null;
  return value > BigInt(Number.MAX_SAFE_INTEGER) ? String(value) : Number(value);
}

function iso(at: number): string {
  return new Date(at).toISOString();
}
