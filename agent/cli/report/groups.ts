// Sums the ledger's rows for every period and group of a report.
import type { Period } from "../../meter/figures/calendar.ts";
import type { Group, Plan, ReportLine } from "../../meter/figures/report.ts";
import { groupKeys, plannedMetrics, reportLine, Sums } from "../../meter/figures/report.ts";
import { bucketMillis } from "../../meter/ledger/grid.ts";
import type { LedgerReader } from "../../store/ledger/reader.ts";
import { UsageError } from "../common/errors.ts";

const DAY_MILLIS = 86_400_000;

/** One group in one period. */
export interface ReportEntry {
  readonly period: Period;
  /** Values in the order of the groups; empty where a series does not carry the attribute. */
  readonly values: readonly string[];
  readonly line: ReportLine;
}

/** Every group of every period that has anything booked, periods in order, groups by value. */
export function reportEntries(
  reader: LedgerReader,
  plan: Plan,
  groups: readonly Group[],
  periods: readonly Period[],
): readonly ReportEntry[] {
  refusePrunedEdges(reader, periods);
  const series = reader.series(plannedMetrics(plan));
  const entries: ReportEntry[] = [];
  for (const period of periods) {
    const sums = reader.sums(period.from / bucketMillis, period.to / bucketMillis, series);
    const found = new Map<string, { readonly values: readonly string[]; readonly sums: Sums }>();
    for (const [id, moved] of sums) {
      const stored = series.get(id);
      if (stored === undefined) continue;
      const values = groups.map((group) => stored.dimensions[groupKeys[group]] ?? "");
      const key = values.join("\u0000");
      const group = found.get(key) ?? { values, sums: new Sums() };
      found.set(key, group);
      group.sums.add(stored.metric, stored.dimensions, moved);
    }
    const seconds = (period.to - period.from) / 1000;
    for (const [, group] of [...found].sort(([one], [other]) => (one < other ? -1 : 1))) {
      entries.push({ period, values: group.values, line: reportLine(plan, group.sums, seconds) });
    }
  }
  return entries;
}

/** An edge inside a day whose rows were pruned would put all of that day on one side of it. */
function refusePrunedEdges(reader: LedgerReader, periods: readonly Period[]): void {
  const kept = reader.rowsFrom * bucketMillis;
  for (const { from, to } of periods) {
    const edge = [from, to].find((at) => at < kept && at % DAY_MILLIS !== 0);
    if (edge === undefined) continue;
    throw new UsageError(
      `Cannot divide a day at ${new Date(edge).toISOString()}: before ${new Date(kept).toISOString()} only whole UTC days are kept`,
      "choose a later --from, or --time-zone UTC with days or months",
    );
  }
}
