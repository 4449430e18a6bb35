// Sums the ledger's rows for every period and group of a report.
import type { Period } from "../../meter/figures/calendar.ts";
import { Sums } from "../../meter/figures/group-sums.ts";
import type { LineFacts, ReportLine } from "../../meter/figures/report.ts";
import { reportLine } from "../../meter/figures/report.ts";
import type { Group, Plan } from "../../meter/figures/report-plan.ts";
import { groupKeys, isShared, plannedMetrics } from "../../meter/figures/report-plan.ts";
import { bucketMillis } from "../../meter/ledger/grid.ts";
import { nameOf } from "../../meter/names.ts";
import type { Dimensions } from "../../model.ts";
import type { StoredSeries } from "../../store/ledger/reader.ts";
import { UsageError } from "../common/errors.ts";
import type { LedgerView } from "./repriced.ts";
import { SharedDoubts } from "./shared-doubts.ts";

const dayMillis = 86_400_000;
const coveredMetric = "tokenwatt.covered_time";
const gpuTimeMetric = "tokenwatt.gpu.time";

/** One group in one period. */
export interface ReportEntry {
  readonly period: Period;
  /** Names in the order of the groups; `(no server)` and the like where a series does not carry the attribute. */
  readonly values: readonly string[];
  readonly line: ReportLine;
}

/** What is asked of the ledger. */
export interface Question {
  readonly plan: Plan;
  readonly groups: readonly Group[];
  readonly periods: readonly Period[];
  /** Names a group must have; of several for one group it has one. */
  readonly where: readonly (readonly [group: Group, name: string])[];
  /** Is told how far the work is, 0 to 1, and which period is summed. */
  readonly progress?: (share: number, what: string) => void;
}

/** The lines of a report and their total. */
export interface Answer {
  readonly entries: readonly ReportEntry[];
  readonly total: ReportLine;
  /**
   * End of the last closed bucket in unix milliseconds, where figures end with it before the range does; the start of the
   * range where none of it is closed.
   */
  readonly settledUntil: number | undefined;
}

interface Found {
  readonly values: readonly string[];
  readonly isNamed: boolean;
  readonly sums: Sums;
  readonly settled: Sums;
}

/** Every group of every period that has anything booked, periods in order, groups by name; and all of them together. */
export function readReport(reader: LedgerView, question: Question): Answer {
  const { groups, periods, plan, where } = question;
  refusePrunedEdges(reader, periods);
  const series = reader.series(plannedMetrics(plan));
  const kept = only(series, where);
  const doubts = new SharedDoubts(reader, plan);
  const seconds = coveredSeconds(reader, periods);
  const closed = isShared(plan) ? reader.closedUntil * bucketMillis : Number.POSITIVE_INFINITY;
  const entries: ReportEntry[] = [];
  const whole = { sums: new Sums(plan), settled: new Sums(plan) };
  for (const [index, period] of periods.entries()) {
    question.progress?.(index / periods.length, `period ${index + 1} of ${periods.length}`);
    const found = sumPeriod(reader, question, { series: kept, doubts }, period, closed);
    for (const group of [...found.values()].sort(byName)) {
      const { isNamed, settled, sums, values } = group;
      const facts: LineFacts = { seconds: seconds[index], settled, isNamed };
      entries.push({ period, values, line: reportLine(plan, sums, facts) });
      whole.sums.addSums(sums);
      whole.settled.addSums(settled);
    }
  }
  const all = seconds.every((one) => one === undefined) ? undefined : sum(seconds);
  const facts = { seconds: all, settled: whole.settled, isNamed: true };
  const [start, end] = [periods[0]?.from ?? 0, periods.at(-1)?.to ?? 0];
  return {
    entries,
    total: reportLine(plan, whole.sums, facts),
    settledUntil: closed < end && groups.length > 0 ? Math.max(closed, start) : undefined,
  };
}

/** By name; what has none of its own, in brackets, comes last. */
function byName(one: Found, other: Found): number {
  const [a, b] = [one, other].map(({ values }) => values.map((value) => value.replace(/^\(/, "\uffff")));
  return String(a) < String(b) ? -1 : 1;
}

/** What a group is called: as it was given, or why it has no name. */
export function groupName(group: Group, value: string | undefined): string {
  if (value === undefined || value === "") return `(no ${group})`;
  return group === "tenant" || group === "endpoint" || group === "model" ? nameOf(value) : value;
}

function sumPeriod(
  reader: LedgerView,
  { groups, plan }: Question,
  { doubts, series }: { series: ReadonlyMap<number, StoredSeries>; doubts: SharedDoubts },
  period: Period,
  closed: number,
): ReadonlyMap<string, Found> {
  const found = new Map<string, Found>();
  const settledTo = Math.min(period.to, closed);
  const parts: readonly (readonly [from: number, to: number, isSettled: boolean])[] = [
    [period.from, Math.max(period.from, settledTo), true],
    [Math.max(period.from, settledTo), period.to, false],
  ];
  for (const [from, to, isSettled] of parts) {
    if (from >= to) continue;
    doubts.read(from / bucketMillis, to / bucketMillis);
    for (const [id, moved] of reader.sums(from / bucketMillis, to / bucketMillis, series)) {
      const stored = series.get(id);
      if (stored === undefined || !counts(stored, plan) || doubts.isShared(stored)) continue;
      const raw = groups.map((group) => stored.dimensions[groupKeys[group]]);
      const values = groups.map((group, index) => groupName(group, raw[index]));
      const key = values.join("\u0000");
      const group = found.get(key) ?? {
        values,
        isNamed: raw.every((value) => value !== undefined && value !== ""),
        sums: new Sums(plan),
        settled: new Sums(plan),
      };
      found.set(key, group);
      group.sums.addMoved(stored.metric, stored.dimensions, moved);
      if (isSettled) group.settled.addMoved(stored.metric, stored.dimensions, moved);
      const doubt = doubts.partOf(stored, moved);
      if (doubt === undefined) continue;
      group.sums.addMoved(doubt.metric, doubt.dimensions, doubt.moved);
      if (isSettled) group.settled.addMoved(doubt.metric, doubt.dimensions, doubt.moved);
    }
  }
  return found;
}

/** Tokens that are read for what they earned are of no group of the report where they earned nothing. */
function counts({ dimensions, metric }: StoredSeries, plan: Plan): boolean {
  if (!plan.priced.includes(metric) || dimensions["tokenwatt.currency"] !== undefined) return true;
  return metric === plan.tokens || metric === plan.kpiTokens;
}

/** The series that have the names wanted. */
export function only(
  series: ReadonlyMap<number, StoredSeries>,
  where: Question["where"],
): ReadonlyMap<number, StoredSeries> {
  if (where.length === 0) return series;
  return new Map([...series].filter(([, { dimensions }]) => fits(dimensions, where)));
}

/** Whether a series has one of the names that are wanted of every group. */
export function fits(dimensions: Dimensions, where: Question["where"]): boolean {
  const nameIn = (group: Group): string => groupName(group, dimensions[groupKeys[group]]);
  return where.every(([group]) => where.some(([other, name]) => other === group && nameIn(group) === name));
}

/** Seconds of each period that the ledger covers: while the agent ran, or was known to be away. */
function coveredSeconds(reader: LedgerView, periods: readonly Period[]): readonly (number | undefined)[] {
  const series = reader.series(new Set([coveredMetric, gpuTimeMetric]));
  return periods.map(({ from, to }) => {
    let covered: bigint | undefined;
    const byGpu = new Map<string, bigint>();
    for (const [id, moved] of reader.sums(from / bucketMillis, to / bucketMillis, series)) {
      const one = series.get(id);
      if (one === undefined || typeof moved !== "bigint") continue;
      if (one.metric === coveredMetric) covered = (covered ?? 0n) + moved;
      else {
        const gpu = one.dimensions["hw.id"] ?? "";
        byGpu.set(gpu, (byGpu.get(gpu) ?? 0n) + moved);
      }
    }
    // Ledgers of before kept no such sum; every second of every GPU is in them.
    const longest = [...byGpu.values()].reduce((most, one) => (one > most ? one : most), 0n);
    const nanos = covered !== undefined && covered >= longest ? covered : longest;
    return nanos === 0n ? undefined : Number(nanos) / 1e9;
  });
}

function sum(parts: readonly (number | undefined)[]): number {
  return parts.reduce<number>((all, part) => all + (part ?? 0), 0);
}

/** An edge inside a day whose rows were pruned would put all of that day on one side of it. */
function refusePrunedEdges(reader: LedgerView, periods: readonly Period[]): void {
  const kept = reader.rowsFrom * bucketMillis;
  for (const { from, to } of periods) {
    const edge = [from, to].find((at) => at < kept && at % dayMillis !== 0);
    if (edge === undefined) continue;
    throw new UsageError(
      `Cannot divide a day at ${new Date(edge).toISOString()}: before ${new Date(kept).toISOString()} only whole UTC days are kept`,
      "choose a later --from, or --time-zone UTC with days or months",
    );
  }
}
