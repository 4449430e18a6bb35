// What a report as a page shows, read from the ledger: each figure as the JSON report of the same grouping has it.

import { uncertainWords } from "../../../daemon/uncertain-words.ts";
import type { Period, PeriodUnit } from "../../../meter/figures/calendar.ts";
import { periods } from "../../../meter/figures/calendar.ts";
import type { Group, ReportSource } from "../../../meter/figures/report-plan.ts";
import { planReport } from "../../../meter/figures/report-plan.ts";
import { bucketMillis } from "../../../meter/ledger/grid.ts";
import type { Policy } from "../../../policy/config.ts";
import { lineObject, quotaObjects } from "../formats.ts";
import type { Answer, Question } from "../groups.ts";
import { readReport } from "../groups.ts";
import { withQuotas } from "../quotas.ts";
import type { ReportRange } from "../range.ts";
import type { LedgerView } from "../repriced.ts";
import type { WasteRow } from "../waste.ts";
import { wasteRows, wasteTotal } from "../waste.ts";
import type { JsonLine } from "./write.ts";
import { numberAt } from "./write.ts";

/** A line and the names of its group. */
export interface NamedLine {
  readonly names: readonly string[];
  readonly line: JsonLine;
}

/** Lines of a grouping, the largest first, and all of them together. */
export interface Table {
  readonly rows: readonly NamedLine[];
  readonly total: JsonLine;
  /** Lines that are in the total alone. */
  readonly left: number;
}

/** GPU time by state of one period. */
export interface StatePeriod {
  readonly period: Period;
  /** By state; a state in which nothing was booked is absent. */
  readonly lines: ReadonlyMap<string, JsonLine>;
}

/** What happened that bears on the figures: how often or how much, of what. */
export interface Note {
  readonly metric: string;
  readonly about: string;
  readonly amount: number;
}

/** Everything a page shows. */
export interface PageData {
  readonly agent: string;
  readonly range: ReportRange;
  readonly unit: PeriodUnit;
  readonly where: Question["where"];
  readonly total: JsonLine;
  readonly unpricedTokens: bigint;
  /** End of what the ledger holds, where the range goes on beyond it. */
  readonly heldUntil: number | undefined;
  /** Where GPU time shared out by model or tenant ends before the range does. */
  readonly settledUntil: number | undefined;
  readonly states: Table;
  readonly byPeriod: readonly StatePeriod[];
  readonly models: Table;
  readonly boards: Table;
  /** Undefined: no gateway named one. */
  readonly tenants: Table | undefined;
  readonly waste: {
    readonly rows: readonly WasteRow[];
    readonly total: readonly WasteRow[];
    readonly left: number;
  };
  readonly notes: readonly Note[];
}

const rowsMax = { models: 20, boards: 32, tenants: 20, waste: 10 } as const;
const dayMillis = 86_400_000;

/** What a page is asked for; `progress` hears how far reading is. */
export interface PageQuestion {
  readonly range: ReportRange;
  readonly unit: PeriodUnit | undefined;
  readonly where: Question["where"];
  readonly policy?: Policy | undefined;
  readonly progress?: Question["progress"];
}

/** Groupings that a page with tenants reads. */
const askedMost = 8;

/** Reads it. */
export function gather(reader: LedgerView, { policy, progress, range, unit, where }: PageQuestion): PageData {
  let asked = 0;
  const whole = [{ from: range.from, to: range.to, name: "" }];
  const ask = (groups: readonly Group[], source: ReportSource, pieces: readonly Period[] = whole): Asked => {
    const plan = planReport([...new Set([...groups, ...where.map(([group]) => group)])], source);
    const before = asked++;
    const answer = readReport(reader, {
      ...{ plan, groups, where, periods: pieces },
      progress: (share) => progress?.((before + share) / askedMost, groups.join(" and ") || "totals"),
    });
    const lineOf = ({ line }: { readonly line: Answer["total"] }): JsonLine =>
      lineObject(line, plan) as JsonLine;
    return { answer, lineOf };
  };
  const table = (groups: readonly Group[], source: ReportSource, most: number, size: string): Table => {
    const { answer, lineOf } = ask(groups, source);
    const lines = answer.entries.map((entry) => ({ names: entry.values, line: lineOf(entry) }));
    const rows =
      policy === undefined || groups[0] !== "tenant"
        ? lines
        : withQuotas(answer.entries, reader, { groups, policy, source }).map((entry) => ({
            names: entry.values,
            line: { ...lineOf(entry), ...quotaObjects(entry.quotas) } as JsonLine,
          }));
    const sorted = [...rows].sort((one, other) => sizeOf(other.line, size) - sizeOf(one.line, size));
    const left = Math.max(0, sorted.length - most);
    return { rows: sorted.slice(0, most), total: lineOf({ line: answer.total }), left };
  };
  const { answer, lineOf } = ask([], "engine");
  const step = unit ?? (range.to - range.from > 1.5 * dayMillis ? "day" : "hour");
  const hasTenants = reader.series(new Set(["tokenwatt.gateway.tokens"])).size > 0;
  const waste = wasteRows(reader, { range, where });
  const held = (reader.held?.to ?? 0) * bucketMillis;
  return {
    agent: reader.agentId,
    ...{ range, where, unit: step },
    total: lineOf({ line: answer.total }),
    unpricedTokens: hasTenants ? ask([], "gateway").answer.total.unpricedTokens : 0n,
    heldUntil: held < range.to ? held : undefined,
    settledUntil: ask(["model"], "engine").answer.settledUntil,
    states: table(["state"], "engine", Number.POSITIVE_INFINITY, "gpu_seconds"),
    byPeriod: byPeriod(
      ask(["state"], "engine", periods(range.from, range.to, step, range.zone)),
      range,
      step,
    ),
    models: table(["model", "gpu_type"], "engine", rowsMax.models, "total_tokens"),
    boards: table(["gpu", "gpu_type"], "engine", rowsMax.boards, "gpu_seconds.token_active"),
    tenants: hasTenants ? table(["tenant"], "gateway", rowsMax.tenants, "revenue") : undefined,
    waste: {
      rows: waste.slice(0, rowsMax.waste),
      total: wasteTotal(waste),
      left: Math.max(0, waste.length - rowsMax.waste),
    },
    notes: where.length > 0 ? [] : notesOf(reader, range),
  };
}

interface Asked {
  readonly answer: Answer;
  readonly lineOf: (entry: { readonly line: Answer["total"] }) => JsonLine;
}

/** What lines are ordered by; tokens where nothing was earned. */
function sizeOf(line: JsonLine, size: string): number {
  const revenue = size === "revenue" ? numberAt(line, "revenue") : undefined;
  return revenue ?? numberAt(line, size === "revenue" ? "total_tokens" : size) ?? 0;
}

/** Every period of the range, also those in which nothing was booked. */
function byPeriod({ answer, lineOf }: Asked, range: ReportRange, step: PeriodUnit): readonly StatePeriod[] {
  return periods(range.from, range.to, step, range.zone).map((period) => ({
    period,
    lines: new Map(
      answer.entries
        .filter((entry) => entry.period.from === period.from)
        .map((entry) => [entry.values[0] ?? "", lineOf(entry)]),
    ),
  }));
}

const noted = [
  "tokenwatt.unmatched_tokens",
  "tokenwatt.uncertain_time",
  "tokenwatt.uncertain_energy",
  "tokenwatt.gap_time",
  "tokenwatt.counter_resets",
  "tokenwatt.clock_steps",
  "tokenwatt.late_samples",
  "tokenwatt.dropped",
  "tokenwatt.rejected_energy",
  "tokenwatt.catalog_misses",
  "tokenwatt.invariant_violations",
] as const;
const aboutKeys = [
  "tokenwatt.reason",
  "tokenwatt.source",
  "tokenwatt.law",
  "gen_ai.request.model",
  "hw.model",
];

/** What was counted beside the figures, by what it was about. */
function notesOf(reader: LedgerView, range: ReportRange): readonly Note[] {
  const series = reader.series(new Set(noted));
  const sums = new Map<string, Note>();
  for (const [id, moved] of reader.sums(range.from / bucketMillis, range.to / bucketMillis, series)) {
    const one = series.get(id);
    if (one === undefined || typeof moved !== "bigint") continue;
    const { dimensions, metric } = one;
    const isUncertain = metric === "tokenwatt.uncertain_time" || metric === "tokenwatt.uncertain_energy";
    const keys = metric === "tokenwatt.unmatched_tokens" || isUncertain ? aboutKeys.slice(0, 1) : aboutKeys;
    const about = keys
      .map((key) => dimensions[key])
      .filter((text) => text !== undefined)
      .map((text) => (isUncertain ? uncertainWords(text) : text))
      .join(", ");
    const known = sums.get(`${metric} ${about}`);
    sums.set(`${metric} ${about}`, { metric, about, amount: (known?.amount ?? 0) + Number(moved) });
  }
  const place = ({ metric }: Note): number => (noted as readonly string[]).indexOf(metric);
  return [...sums.values()].sort((one, other) => place(one) - place(other) || other.amount - one.amount);
}
