// What a server did in a stretch of time, gathered interval by interval, for a capacity to be learned from (METERING.md 6):
// tokens, GPU time held and executed, requests running and waiting, and the latencies of what it served.
import type { Histogram, Latencies, LatencyName, SettledInterval } from "../../model.ts";
import { mergeOrLarger, servedLatencies } from "../counters/latency-keys.ts";
import type { Objective } from "../figures/slo.ts";
import { goodput } from "../figures/slo.ts";

const metShareMin = 0.95;

/** What is known of a server beside its counters. */
export interface CapacityFacts {
  /** Requests waiting and running as last seen; undefined = the server cannot say. */
  readonly waiting: (server: string) => number | undefined;
  readonly running: (server: string) => number | undefined;
  /** Share of the KV cache in use as last seen; undefined = the server cannot say. */
  readonly cacheRatio: (server: string) => number | undefined;
  /** Whether all of the server's GPUs are on this host: else its rate cannot be learned here. */
  readonly whole: (server: string) => boolean;
}

/** What is known of a server in one interval beside its counters; 0 requests where it cannot say. */
export interface Load {
  readonly waiting: number;
  readonly running: number;
  readonly cacheRatio: number | undefined;
  readonly isWhole: boolean;
}

/** Asks what is known of a server now. */
export function loadOf(server: string, facts: CapacityFacts): Load {
  const [waiting, running] = [facts.waiting(server) ?? 0, facts.running(server) ?? 0];
  return { waiting, running, cacheRatio: facts.cacheRatio(server), isWhole: facts.whole(server) };
}

/** A stretch of a server. */
export interface CapacityWindow {
  /** Weighted, prompt tokens that no cache had, and output tokens. */
  tokens: number;
  prompts: number;
  outputs: number;
  activeNanos: number;
  runningSum: number;
  runningCount: number;
  /** While requests waited. */
  queuedSum: number;
  queuedCount: number;
  queuedMost: number;
  cacheSum: number;
  cacheCount: number;
  allocatedNanos: number;
  wallNanos: number;
  queuedNanos: number;
  whole: boolean;
  readonly latencies: Partial<Record<LatencyName, Histogram>>;
}

/** Returns a stretch that is still to begin. */
export function emptyWindow(): CapacityWindow {
  return {
    ...{ tokens: 0, allocatedNanos: 0, activeNanos: 0, wallNanos: 0, queuedNanos: 0 },
    ...{ prompts: 0, outputs: 0, runningSum: 0, runningCount: 0, whole: true, latencies: {} },
    ...{ queuedSum: 0, queuedCount: 0, queuedMost: 0, cacheSum: 0, cacheCount: 0 },
  };
}

/** Adds an interval of `length` nanoseconds to a stretch. */
export function addInterval(
  window: CapacityWindow,
  length: number,
  held: Held,
  { cacheRatio, isWhole, running, waiting }: Load,
): void {
  window.wallNanos += length;
  window.allocatedNanos += held.allocated;
  window.activeNanos += held.active;
  const isQueued = waiting > 0;
  if (isQueued) window.queuedNanos += length;
  window.whole &&= isWhole;
  if (running <= 0) return;
  window.runningSum += running;
  window.runningCount++;
  if (cacheRatio !== undefined) {
    window.cacheSum += cacheRatio;
    window.cacheCount++;
  }
  if (!isQueued) return;
  window.queuedSum += running;
  window.queuedCount++;
  window.queuedMost = Math.max(window.queuedMost, running);
}

/** An objective counts as met by a window when 95 % of its requests certainly met it; unobserved is not met. */
export function isObjectiveMet(objective: Objective, latencies: CapacityWindow["latencies"]): boolean {
  const met = goodput(objective, latencies);
  return met !== undefined && met.min >= metShareMin * met.requests;
}

/** Adds the latencies of what was served. */
export function addServed(sums: CapacityWindow["latencies"], more: Latencies): void {
  for (const [name, moved] of Object.entries(servedLatencies(more)) as [LatencyName, Histogram][])
    sums[name] = mergeOrLarger(sums[name], moved);
}

/** GPU-nanoseconds a server held, and those of them in which it executed. */
export interface Held {
  readonly allocated: number;
  readonly active: number;
}

/** Returns what each server held in an interval. */
export function heldByServer(interval: SettledInterval): ReadonlyMap<string, Held> {
  const sums = new Map<string, { allocated: number; active: number }>();
  for (const gpu of interval.gpus) {
    for (const { nanos, server } of gpu.residents) {
      let held = sums.get(server);
      if (held === undefined) {
        held = { allocated: 0, active: 0 };
        sums.set(server, held);
      }
      held.allocated += nanos.parked + nanos.stalled + nanos.token_active;
      held.active += nanos.token_active;
    }
  }
  return sums;
}
