// Sums the ledger's rows for every period and group of a report.
import type { Period } from "../meter/calendar.ts";
import type { Group, Plan, ReportLine } from "../meter/report.ts";
import { groupKeys, plannedMetrics, reportLine, Sums } from "../meter/report.ts";
import type { LedgerReader } from "../store/ledger-reader.ts";

const BUCKET_MILLIS = 900_000;

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
  const series = reader.series(plannedMetrics(plan));
  const entries: ReportEntry[] = [];
  for (const period of periods) {
    const sums = reader.sums(period.from / BUCKET_MILLIS, period.to / BUCKET_MILLIS, series);
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
