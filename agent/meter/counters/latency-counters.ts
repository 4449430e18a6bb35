// The last latency histograms of one label set, by latency and outcome, and the step from them to the next (METERING.md 7).
// A source may begin to tell outcomes apart, or cease to: what it had counted under the other names is not counted again.
import type { Histogram, Latencies, LatencyKey } from "../../model.ts";
import type { Relation } from "./histograms.ts";
import { addHistograms, histogramStep } from "./histograms.ts";
import { latencyOf, outcomeOf } from "./latency-keys.ts";

/** What the latencies of one reading added, and what was wrong with them. */
export interface LatencyStep {
  readonly moved: Latencies;
  /** A histogram fell inside its epoch: its base is kept. */
  readonly fell: boolean;
  readonly reset: boolean;
  readonly dropped: number;
}

/** A source that times nothing, as gateways often do for thousands of label sets. */
const untimed: LatencyStep = { moved: {}, fell: false, reset: false, dropped: 0 };

/** What the next reading is compared with: written over, for what each page showed would grow old before the next one. */
interface Base extends Histogram {
  readonly counts: number[];
  sum: number;
  count: number;
}

/** The remembered histograms of one label set. */
export class LatencyCounters {
  readonly #histograms: Partial<Record<LatencyKey, Base>> = {};
  /** Differs from what was last stored. */
  changed = false;

  constructor(histograms: Latencies = {}) {
    for (const [key, histogram] of Object.entries(histograms) as [LatencyKey, Histogram][])
      this.#histograms[key] = ownBase(histogram);
  }

  /** The histograms, to be stored. */
  get histograms(): Latencies {
    return this.#histograms;
  }

  /**
   * Takes the histograms of a reading in. `isBornAtZero`: one that was not on the pages before stood at 0 then, where
   * the source promises it.
   */
  take(latencies: Latencies, relation: Relation, isBornAtZero: boolean): LatencyStep {
    if (isEmpty(latencies)) return untimed;
    const moved: Partial<Record<LatencyKey, Histogram>> = {};
    let fell = false;
    let reset = false;
    let dropped = 0;
    const renamed = relation === "base" ? undefined : this.#renamed(latencies);
    for (const name in latencies) {
      const key = name as LatencyKey;
      const current = latencies[key];
      if (current === undefined) continue;
      const known = this.#histograms[key];
      const isBorn = known === undefined && isBornAtZero && relation !== "base";
      const isRenamed = known === undefined && renamed?.has(latencyOf(key)) === true;
      const step = histogramStep(known, current, isRenamed ? "base" : isBorn ? "whole" : relation);
      if (step === undefined) {
        dropped++;
        continue;
      }
      if (step.base !== known) {
        this.changed = true;
        this.#histograms[key] = writtenOver(known, step.base);
      }
      fell ||= step.held;
      reset ||= step.reset;
      if (step.moved !== undefined) moved[key] = step.moved;
    }
    return { moved, fell, reset, dropped };
  }

  /** A histogram that is not yet on the first page of a new run has counted nothing in it. */
  beginAtZero(): void {
    this.changed = true;
    for (const known of Object.values(this.#histograms)) {
      known.counts.fill(0);
      known.sum = 0;
      known.count = 0;
    }
  }

  /**
   * Latencies of which the source said no outcome and now does, or the other way round. What it had under the former keys is
   * forgotten, for the same requests are in the new ones.
   */
  #renamed(latencies: Latencies): ReadonlySet<string> | undefined {
    let found: Set<string> | undefined;
    for (const held in this.#histograms) {
      const key = held as LatencyKey;
      if (latencies[key] !== undefined) continue;
      const name = latencyOf(key);
      const isTold = outcomeOf(key) !== undefined;
      const others = (Object.keys(latencies) as LatencyKey[]).filter((one) => latencyOf(one) === name);
      if (others.length === 0 || others.some((one) => (outcomeOf(one) !== undefined) === isTold)) continue;
      found ??= new Set();
      found.add(name);
      delete this.#histograms[key];
      this.changed = true;
    }
    return found;
  }
}

function ownBase({ bounds, count, counts, sum }: Histogram): Base {
  return { bounds, counts: counts.slice(), sum, count };
}

/** A base with what was shown now: the same where it has the same bounds, for nobody else holds it. */
function writtenOver(base: Base | undefined, { bounds, count, counts, sum }: Histogram): Base {
  if (base?.bounds !== bounds || base.counts.length !== counts.length)
    return ownBase({ bounds, count, counts, sum });
  for (let bucket = 0; bucket < counts.length; bucket++) base.counts[bucket] = counts[bucket] as number;
  base.sum = sum;
  base.count = count;
  return base;
}

function isEmpty(latencies: Latencies): boolean {
  for (const _key in latencies) return false;
  return true;
}

/** Adds latencies to sums by key. False, and nothing added, when one has other bounds than before. */
export function addLatencies(sums: Partial<Record<LatencyKey, Histogram>>, more: Latencies): boolean {
  const added: Partial<Record<LatencyKey, Histogram>> = {};
  for (const key of Object.keys(more) as LatencyKey[]) {
    const [known, moved] = [sums[key], more[key]];
    if (moved === undefined) continue;
    const sum = known === undefined ? moved : addHistograms(known, moved);
    if (sum === undefined) return false;
    added[key] = sum;
  }
  Object.assign(sums, added);
  return true;
}
