// The price and capacity catalogue: what a GPU-hour, a million tokens and a kilowatt-hour cost, from when to when.
// Nothing has a default: what the catalogue does not hold has no price, and the miss is counted (METERING.md 6).
// Read from the price file and checked by config/prices.ts.
import type { Outcome, TokenKind, UnixNanos } from "../../model.ts";

/** From when to when an entry holds: half-open, unbounded where absent. */
export interface Validity {
  readonly from: UnixNanos | undefined;
  readonly to: UnixNanos | undefined;
}

/** Where an entry comes from, and under which name its bookings are kept apart. */
interface Entry extends Validity {
  readonly version: string;
  readonly source: string | undefined;
}

/** Price of a GPU-hour of one product. Money in 1e-9 of the currency. */
export interface GpuPrice extends Entry {
  readonly gpu: string;
  readonly perGpuHour: bigint;
  readonly energyIncluded: boolean;
}

/** Price of a million tokens of one model and kind. */
export interface TokenPrice extends Entry {
  readonly model: string;
  readonly kind: TokenKind;
  readonly perMillion: bigint;
}

/** Price of a kilowatt-hour at the facility's meter, and facility per GPU energy in thousandths. */
export interface EnergyPrice extends Entry {
  readonly perKilowattHour: bigint;
  readonly usageEffectivenessMilli: bigint;
}

/** Sustainable tokens per hour of one GPU of a product with a model. */
export interface Capacity extends Entry {
  readonly gpu: string;
  readonly model: string;
  readonly tokensPerGpuHour: bigint;
}

/** A catalogue that was found to be consistent: of one name no two entries hold at one instant. */
export interface Catalogue {
  readonly version: string;
  readonly currency: string;
  /** Outcomes whose tokens are billed; absent = those that ended well. */
  readonly outcomes?: readonly Outcome[];
  readonly gpus: readonly GpuPrice[];
  readonly tokens: readonly TokenPrice[];
  readonly energy: readonly EnergyPrice[];
  readonly capacity: readonly Capacity[];
}

/**
 * Whether a catalogue name means this product: equal, or all its words occur in the product's name in any order
 * ("H100 80GB" means "NVIDIA H100 80GB HBM3", but "H100" does not mean "GH100X").
 * Exported for its test: names of every product.
 */
export function namesProduct(pattern: string, product: string): boolean {
  const words = (text: string): string[] => text.toLowerCase().split(/[\s_-]+/u);
  const known = new Set(words(product));
  return words(pattern).every((word) => known.has(word));
}

/** The entry in force at an instant; of several that name the product the most specific one. */
export function inForce<T extends Validity>(
  entries: readonly T[],
  at: UnixNanos,
  matches: (entry: T) => number | undefined,
): T | undefined {
  let best: T | undefined;
  let rank = -1;
  for (const entry of entries) {
    if ((entry.from !== undefined && at < entry.from) || (entry.to !== undefined && at >= entry.to)) continue;
    const specific = matches(entry);
    if (specific === undefined || specific <= rank) continue;
    best = entry;
    rank = specific;
  }
  return best;
}

/** How specific a name is for a product, undefined when it does not mean it. */
export function productRank(pattern: string, product: string): number | undefined {
  return namesProduct(pattern, product) ? pattern.length : undefined;
}
