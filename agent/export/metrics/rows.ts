// Short hand for the rows of the metrics table: one function per kind of quantity, and the attribute sets that recur.
import { genai } from "./conventions.ts";
import type { LedgerUnit, Metric } from "./metric.ts";

type Rest = Partial<Pick<Metric, "stability" | "number">>;

/** Attributes of a server. */
export const SERVER = ["tokenwatt.server.id", genai.requestModel] as const;
/** Attributes of a GPU or MIG instance. */
export const GPU = ["hw.id", "hw.model", "hw.parent"] as const;
/** Attributes of what a gateway saw. */
export const GATEWAY = [
  "tokenwatt.gateway.id",
  "tokenwatt.tenant",
  "tokenwatt.endpoint",
  genai.requestModel,
] as const;

/** A count of things: tokens, requests, events. */
export function count(
  name: string,
  unit: string,
  attributes: readonly string[],
  description: string,
): Metric {
  return row("sum", "int", name, unit, "one", attributes, description);
}

/** Seconds, booked in nanoseconds. */
export function seconds(name: string, attributes: readonly string[], description: string): Metric {
  return row("sum", "double", name, "s", "nanosecond", attributes, description);
}

/** Joules, booked in millijoules. */
export function joules(
  name: string,
  attributes: readonly string[],
  description: string,
  rest: Rest = {},
): Metric {
  return { ...row("sum", "double", name, "J", "millijoule", attributes, description), ...rest };
}

/** Money, booked in 1e-9 of the currency. */
export function money(name: string, attributes: readonly string[], description: string): Metric {
  return row("sum", "double", name, "{currency}", "billionth", attributes, description);
}

/** A value as last seen. */
export function gauge(
  name: string,
  unit: string,
  attributes: readonly string[],
  description: string,
  rest: Rest = {},
): Metric {
  return { ...row("gauge", "double", name, unit, "one", attributes, description), ...rest };
}

/** A level that may fall and that sums over its attributes: bytes in use, members in a state. */
export function level(
  name: string,
  unit: string,
  attributes: readonly string[],
  description: string,
  rest: Rest = {},
): Metric {
  return { ...row("level", "int", name, unit, "one", attributes, description), ...rest };
}

/**
 * 1, with attributes that describe what it stands for. As OpenTelemetry carries Prometheus' info metrics: a non-monotonic
 * sum, because a gauge of unit 1 would be called a ratio there.
 */
export function info(name: `${string}.info`, attributes: readonly string[], description: string): Metric {
  return level(name, "1", attributes, description);
}

/** A latency distribution; bounds are those of its source. */
export function latency(
  name: string,
  attributes: readonly string[],
  description: string,
  rest: Rest = {},
): Metric {
  return { ...row("histogram", "double", name, "s", "one", attributes, description), ...rest };
}

function row(
  kind: Metric["kind"],
  number: Metric["number"],
  name: string,
  unit: string,
  ledger: LedgerUnit,
  attributes: readonly string[],
  description: string,
): Metric {
  return { name, kind, number, unit, description, ledger, attributes, stability: "contract" };
}
