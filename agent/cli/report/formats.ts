// A report as a table for people, as CSV and as JSON. Token counts are exact integers; money has at most 9 decimals.
// An empty cell, and null in JSON, means that nothing was booked or nothing can say; 0 is a sum.

import type { Group, Plan } from "../../meter/figures/report.ts";
import { knowsStates } from "../../meter/figures/report.ts";
import { formatNano } from "../common/numbers.ts";
import { formatTable } from "../common/table.ts";
import type { ReportEntry } from "./groups.ts";

interface Column {
  readonly name: string;
  /** Shorter, for the table. */
  readonly title: string;
  /** Decimals in the table. */
  readonly decimals?: number;
  readonly value: (entry: ReportEntry) => bigint | number | string | undefined;
}

/** The columns of a report: groups first, then what the plan can answer. */
function columnsOf(plan: Plan, groups: readonly Group[], hasPeriods: boolean): readonly Column[] {
  const states = knowsStates(plan);
  return [
    ...(hasPeriods
      ? [{ name: "period", title: "period", value: ({ period }: ReportEntry) => period.name }]
      : []),
    ...groups.map((group, index) => ({
      name: group,
      title: group,
      value: ({ values }: ReportEntry) => values[index] ?? "",
    })),
    { name: "requests", title: "requests", value: ({ line }) => sum(Object.values(line.requests)) },
    { name: "input_uncached", title: "in uncached", value: ({ line }) => line.tokens.input_uncached },
    { name: "input_cached", title: "in cached", value: ({ line }) => line.tokens.input_cached },
    { name: "input_unsplit", title: "in unsplit", value: ({ line }) => line.tokens.input_unsplit },
    { name: "output", title: "output", value: ({ line }) => line.tokens.output },
    { name: "tokens", title: "tokens", value: ({ line }) => line.allTokens },
    { name: "gpu_hours", title: "GPU-h", decimals: 3, value: (entry) => hours(entry, plan) },
    { name: "energy_kwh", title: "kWh", decimals: 3, value: ({ line }) => over(line.millijoules, 3.6e9) },
    { name: "cost", title: "cost", decimals: 2, value: ({ line }) => money(line.cost) },
    { name: "revenue", title: "revenue", decimals: 2, value: ({ line }) => money(line.revenue) },
    {
      name: "tokens_per_gpu_hour",
      title: "tok/GPU-h",
      decimals: 0,
      value: ({ line }) => line.kpis.tokensPerGpuHour,
    },
    { name: "tokens_per_joule", title: "tok/J", decimals: 2, value: ({ line }) => line.kpis.tokensPerJoule },
    {
      name: "token_active_utilization",
      title: "active",
      decimals: 3,
      value: ({ line }) => (states ? line.kpis.tokenActiveUtilization : undefined),
    },
    {
      name: "uncertain_time_share",
      title: "uncertain",
      decimals: 3,
      value: ({ line }) => line.kpis.uncertainTimeShare,
    },
    {
      name: "uncertain_energy_share",
      title: "of kWh",
      decimals: 3,
      value: ({ line }) => line.kpis.uncertainEnergyShare,
    },
    {
      name: "capacity_utilization",
      title: "of capacity",
      decimals: 3,
      value: ({ line }) => line.kpis.capacityUtilization,
    },
    {
      name: "cost_per_million_tokens",
      title: "cost/1M",
      decimals: 3,
      value: ({ line }) => line.kpis.costPerMillionTokens.allocation,
    },
    { name: "gross_margin", title: "margin", decimals: 3, value: ({ line }) => line.kpis.grossMargin },
    { name: "error_share", title: "errors", decimals: 4, value: ({ line }) => line.kpis.errorShare },
    {
      name: "ttft_p50_seconds",
      title: "TTFT p50",
      decimals: 3,
      value: ({ line }) => line.percentiles.time_to_first_token?.p50,
    },
    {
      name: "ttft_p99_seconds",
      title: "p99",
      decimals: 3,
      value: ({ line }) => line.percentiles.time_to_first_token?.p99,
    },
    {
      name: "e2e_p50_seconds",
      title: "e2e p50",
      decimals: 3,
      value: ({ line }) => line.percentiles.request_duration?.p50,
    },
    {
      name: "e2e_p99_seconds",
      title: "p99",
      decimals: 3,
      value: ({ line }) => line.percentiles.request_duration?.p99,
    },
  ];
}

/** Lines for people; columns nothing is known of are left out. */
export function reportTable(
  entries: readonly ReportEntry[],
  plan: Plan,
  groups: readonly Group[],
  hasPeriods: boolean,
): string {
  const columns = columnsOf(plan, groups, hasPeriods);
  const labels = groups.length + (hasPeriods ? 1 : 0);
  const shown = columns.filter(
    (column, index) => index < labels || entries.some((entry) => column.value(entry) !== undefined),
  );
  const rows = entries.map((entry) => shown.map((column) => cell(column, column.value(entry))));
  return formatTable([shown.map((column) => column.title), ...rows], { rightFrom: labels });
}

/** RFC 4180, one header line, every column always there. */
export function reportCsv(
  entries: readonly ReportEntry[],
  plan: Plan,
  groups: readonly Group[],
  hasPeriods: boolean,
): string {
  const range: readonly Column[] = [
    { name: "from", title: "", value: ({ period }) => new Date(period.from).toISOString() },
    { name: "to", title: "", value: ({ period }) => new Date(period.to).toISOString() },
  ];
  const columns = [...range, ...columnsOf(plan, groups, hasPeriods)];
  return csv([
    columns.map((column) => column.name),
    ...entries.map((entry) => columns.map((column) => String(column.value(entry) ?? ""))),
  ]);
}

/** Lines of cells as RFC 4180. A cell that a spreadsheet would run as a formula is kept as text. */
export function csv(rows: readonly (readonly string[])[]): string {
  const quote = (text: string): string => {
    const safe = /^[=+@\t\r]|^-\D/.test(text) ? `'${text}` : text;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  return rows.map((row) => row.map(quote).join(",")).join("\r\n");
}

/** Everything a line knows, as a plain object for JSON; integers beyond 2^53 become decimal texts. */
export function reportObject(
  entry: ReportEntry,
  plan: Plan,
  groups: readonly Group[],
): Record<string, unknown> {
  const { line, period } = entry;
  const { cost, gpuNanos, kpis, millijoules, percentiles, requests, revenue, tokens } = line;
  const utilization = knowsStates(plan) ? kpis.tokenActiveUtilization : undefined;
  return {
    from: new Date(period.from).toISOString(),
    to: new Date(period.to).toISOString(),
    ...(period.name === "" ? {} : { period: period.name }),
    ...Object.fromEntries(groups.map((group, index) => [group, entry.values[index] ?? ""])),
    tokens: numbers(tokens),
    requests: numbers(requests),
    gpu_seconds: Object.fromEntries(
      Object.entries(gpuNanos).map(([state, nanos]) => [state, Number(nanos) / 1e9]),
    ),
    energy_joules: over(millijoules, 1e3) ?? null,
    cost: money(cost) ?? null,
    revenue: money(revenue) ?? null,
    queries_per_second: line.queriesPerSecond ?? null,
    tokens_per_second: line.tokensPerSecond ?? null,
    latency_seconds: percentiles,
    kpis: snakeCase({ ...kpis, tokenActiveUtilization: utilization }),
  };
}

/** Names as everywhere in JSON; what is not known is null. */
function snakeCase(values: object): Record<string, unknown> {
  const entries = Object.entries(values).map(([key, value]: [string, unknown]) => [
    key.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
    typeof value === "object" && value !== null ? snakeCase(value) : (value ?? null),
  ]);
  return Object.fromEntries(entries) as Record<string, unknown>;
}

function hours({ line }: ReportEntry, plan: Plan): number | undefined {
  const { all, parked, stalled, token_active } = line.gpuNanos;
  if (!knowsStates(plan)) return over(all, 3.6e12);
  return over(sum([parked, stalled, token_active]), 3.6e12);
}

function cell(column: Column, value: bigint | number | string | undefined): string {
  if (value === undefined) return "-";
  if (typeof value === "string" && column.decimals === undefined) return value;
  if (typeof value === "bigint") return group(String(value));
  const [whole = "0", fraction] = Number(value)
    .toFixed(column.decimals ?? 0)
    .split(".");
  return fraction === undefined ? group(whole) : `${group(whole)}.${fraction}`;
}

function group(digits: string): string {
  return digits.replaceAll(/\B(?=(\d{3})+$)/g, ",");
}

function sum(parts: readonly (bigint | undefined)[]): bigint | undefined {
  const known = parts.filter((part) => part !== undefined);
  return known.length === 0 ? undefined : known.reduce((total, part) => total + part, 0n);
}

function over(value: bigint | undefined, divisor: number): number | undefined {
  return value === undefined ? undefined : Number(value) / divisor;
}

function money(value: bigint | undefined): string | undefined {
  return value === undefined ? undefined : formatNano(value);
}

function numbers(parts: Readonly<Partial<Record<string, bigint>>>): Record<string, number | string> {
  return Object.fromEntries(
    Object.entries(parts).map(([key, value]) => [
      key,
      value !== undefined && value > BigInt(Number.MAX_SAFE_INTEGER) ? String(value) : Number(value),
    ]),
  );
}
