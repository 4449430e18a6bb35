// What of the GPU time and energy of a report rests on an assumption, by the reason, in words (METERING.md 1.5).
import { uncertainWords } from "../../daemon/uncertain-words.ts";
import { bucketMillis } from "../../meter/ledger/grid.ts";
import type { Question } from "./groups.ts";
import { only } from "./groups.ts";
import type { LedgerView } from "./repriced.ts";

/** One assumption. */
export interface Assumption {
  readonly reason: string;
  readonly says: string;
  readonly gpu_seconds: number;
  readonly energy_joules: number;
}

const metrics = { gpu_seconds: "tokenwatt.uncertain_time", energy_joules: "tokenwatt.uncertain_energy" };

/** The assumptions of a range, milliseconds, of what is asked for; the weightiest in time first. */
export function assumptionsOf(
  reader: LedgerView,
  range: { readonly from: number; readonly to: number },
  where: Question["where"],
): readonly Assumption[] {
  const series = only(reader.series(new Set(Object.values(metrics))), where);
  const found = new Map<string, { gpu_seconds: number; energy_joules: number }>();
  for (const [id, moved] of reader.sums(range.from / bucketMillis, range.to / bucketMillis, series)) {
    const one = series.get(id);
    if (one === undefined || typeof moved !== "bigint") continue;
    const reason = one.dimensions["tokenwatt.reason"] ?? "";
    const sums = found.get(reason) ?? { gpu_seconds: 0, energy_joules: 0 };
    found.set(reason, sums);
    if (one.metric === metrics.gpu_seconds) sums.gpu_seconds += Number(moved) / 1e9;
    else sums.energy_joules += Number(moved) / 1e3;
  }
  return [...found]
    .map(([reason, sums]) => ({ reason, says: uncertainWords(reason), ...sums }))
    .sort((a, b) => b.gpu_seconds - a.gpu_seconds || b.energy_joules - a.energy_joules);
}

/** An assumption as a line for people. */
export function assumptionLine({ energy_joules, gpu_seconds, says }: Assumption): string {
  const amounts = [
    ...(gpu_seconds > 0 ? [`${(gpu_seconds / 3600).toFixed(3)} GPU-h`] : []),
    ...(energy_joules > 0 ? [`${(energy_joules / 3.6e6).toFixed(3)} kWh`] : []),
  ];
  return `uncertain, ${amounts.join(" and ")}: ${says}`;
}
