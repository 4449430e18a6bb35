// A committed snapshot: columns of numbers by place, and what few series say once. As an object for each series it is made
// only when it is asked for.
import type {
  LedgerPoint,
  LedgerSnapshot,
  SaidOnce,
  ShownSeries,
  ShownValues,
  UnixNanos,
} from "../../model.ts";

const NOTHING_ONCE: SaidOnce = { isNew: false, ended: false };

/** What exporters may see. */
export class Snapshot implements LedgerSnapshot {
  readonly sequence: number;
  readonly time: UnixNanos;
  readonly series: ShownSeries;
  readonly values: ShownValues;
  readonly said: ReadonlyMap<number, SaidOnce>;

  constructor({ said, sequence, series, time, values }: Omit<LedgerSnapshot, "points">) {
    this.sequence = sequence;
    this.time = time;
    this.series = series;
    this.values = values;
    this.said = said;
  }

  get points(): readonly LedgerPoint[] {
    const { said, series, time, values } = this;
    return series.names.map(({ dimensions, id, metric }, place) => ({
      ...{ metric, dimensions, series: id, time },
      start: series.starts[place] ?? 0n,
      value: valueAt(series, values, place),
      ...(said.get(place) ?? NOTHING_ONCE),
    }));
  }
}

/** The total, value or histogram at a place. */
function valueAt({ names }: ShownSeries, values: ShownValues, place: number): LedgerPoint["value"] {
  const { high, histograms, low } = values;
  const [upper = 0, lower = 0] = [high[place], low[place]];
  if (names[place]?.kind === "gauge") return upper;
  if (names[place]?.kind === "sum") return BigInt(upper) * 2n ** 32n + BigInt(lower);
  return histograms[upper] ?? { bounds: [], counts: [0], sum: 0, count: 0 };
}
