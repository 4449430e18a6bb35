// A capacity rate in force: where it comes from, between which bounds it lies, and how that is shown (METERING.md 6).
import type { Dimensions, Gauge, Nanos, UnixNanos } from "../../model.ts";
import { modelAttributes } from "../names.ts";
import type { Served } from "./served.ts";

/** Where a capacity rate comes from. */
export type CapacitySource = "config" | "catalog" | "learned";

/** Weakest last. */
export const capacitySources: readonly CapacitySource[] = ["config", "catalog", "learned"];

/** A rate in force, and what is behind a learned one. */
export interface CapacityRate {
  readonly tokensPerGpuHour: number;
  readonly source: CapacitySource;
  /** Of a learned one: how much more or less it may be, in 9 of 10 cases, and why. */
  readonly uncertainPerGpuHour?: number;
  readonly reason?: CapacityReason;
  /** Minutes it was learned from, and the newest of them. */
  readonly minutes?: number;
  readonly at?: UnixNanos;
}

/** Why a learned rate may be another: no batch was seen at its limit, or the limit was seen and the costs are not exact. */
export type CapacityReason = "limit_not_seen" | "fitted_work";

/** The share of a rate that is there at least; it is at most as much above 1. */
function seenRatio({ tokensPerGpuHour, uncertainPerGpuHour = 0 }: CapacityRate): number {
  return 1 - uncertainPerGpuHour / tokensPerGpuHour;
}

/** Attributes of everything that is told of a rate. */
export function capacityDimensions({ model, product, server }: Served, source: CapacitySource): Dimensions {
  return {
    "tokenwatt.server.id": server,
    ...modelAttributes(model),
    ...(product === undefined ? {} : { "hw.model": product }),
    "tokenwatt.capacity.source": source,
  };
}

/** A rate as gauges: how much, and of a learned one what of it is certain, from how many minutes, and how old. */
export function rateGauges(
  rate: CapacityRate,
  of: Served,
  end: UnixNanos,
  at: Nanos,
  everyMs: number,
): Gauge[] {
  const dimensions = capacityDimensions(of, rate.source);
  const gauge = (metric: string, value: number): Gauge => ({ metric, dimensions, value, at, everyMs });
  return [
    gauge("tokenwatt.capacity.rate", rate.tokensPerGpuHour),
    ...(rate.source === "learned" ? [gauge("tokenwatt.capacity.seen", seenRatio(rate))] : []),
    ...(rate.minutes === undefined ? [] : [gauge("tokenwatt.capacity.minutes", rate.minutes)]),
    ...(rate.at === undefined ? [] : [gauge("tokenwatt.capacity.age", Number(end - rate.at) / 1e9)]),
  ];
}
