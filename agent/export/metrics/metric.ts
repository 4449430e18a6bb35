// What a row of the metrics table says, and how the ledger's integers become the unit of the metric.
// The table itself is metrics.ts; its rows are made in servers.ts, gpus.ts and agent.ts.

/** sum: cumulative and monotonic. level: cumulative, may fall (OpenTelemetry's UpDownCounter). */
export type MetricKind = "sum" | "level" | "gauge" | "histogram";

/** What one unit of a ledger total is; divided by LEDGER_UNITS[unit] it is in the metric's own unit. */
export type LedgerUnit = "one" | "nanosecond" | "millijoule" | "billionth";

/** How many ledger units make one exported unit. Exported for its test: the tables are compared. */
export const LEDGER_UNITS: Readonly<Record<LedgerUnit, number>> = {
  one: 1,
  nanosecond: 1e9,
  millijoule: 1e3,
  billionth: 1e9,
};

/** One row of the contract. */
export interface Metric {
  readonly name: string;
  readonly kind: MetricKind;
  /** Wire type of the value; histograms are double. */
  readonly number: "int" | "double";
  /** UCUM; annotations in braces. */
  readonly unit: string;
  readonly description: string;
  readonly ledger: LedgerUnit;
  /** Every attribute a point may carry, in the order of the page. */
  readonly attributes: readonly string[];
  /** `contract`: changes only with a migration note. `development`: follows an OpenTelemetry convention still moving. */
  readonly stability: "contract" | "development";
}

/** A ledger total in the metric's exported unit. Exact up to 2^53 ledger units, then to the nearest double. */
export function inUnit(metric: Metric, value: bigint | number): number {
  return Number(value) / LEDGER_UNITS[metric.ledger];
}
