// The price and capacity catalogue: what a GPU-hour, a million tokens and a kilowatt-hour cost, from when to when.
// Nothing has a default: what the catalogue does not hold has no price, and the miss is counted (METERING.md 6).
// `readCatalogue` takes the parsed file and reports every problem at once; overlapping entries are refused.

import type { TokenKind, UnixNanos } from "../../model.ts";
import type { RawEntry } from "./catalogue-reader.ts";
import { CatalogueReader } from "./catalogue-reader.ts";

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

/** A catalogue that was found to be consistent. */
export interface Catalogue {
  readonly version: string;
  readonly currency: string;
  readonly gpus: readonly GpuPrice[];
  readonly tokens: readonly TokenPrice[];
  readonly energy: readonly EnergyPrice[];
  readonly capacity: readonly Capacity[];
}

/** What is wrong with a catalogue file: where, what was seen, what was wanted. */
export interface CatalogueProblem {
  readonly path: string;
  readonly message: string;
  readonly hint?: string;
}

const kinds: Readonly<Record<string, readonly TokenKind[]>> = {
  input: ["input_uncached", "input_unsplit"],
  cached: ["input_cached"],
  output: ["output"],
  input_uncached: ["input_uncached"],
  input_cached: ["input_cached"],
  input_unsplit: ["input_unsplit"],
};

/** The catalogue in a parsed file, and everything that is wrong with it. Usable only where `problems` is empty. */
export function readCatalogue(raw: unknown): {
  readonly catalogue: Catalogue;
  readonly problems: readonly CatalogueProblem[];
} {
  const reader = new CatalogueReader();
  const file = reader.object("", raw, ["version", "currency", "gpus", "tokens", "energy", "capacity"]);
  const version = reader.text("version", file["version"]) ?? "";
  const currency = reader.text("currency", file["currency"]) ?? "";
  const entry = (one: RawEntry): Entry => {
    const validity = reader.validity(one);
    const since = one.fields["from"] === undefined ? "" : `/${reader.day(validity.from)}`;
    return { ...validity, version: `${version}${since}`, source: reader.optionalText(one, "source") };
  };
  const gpus = reader.list("gpus", file["gpus"], gpuKeys).map((one) => ({
    ...entry(one),
    gpu: reader.required(one, "gpu"),
    perGpuHour: reader.money(one, "pricePerGpuHour"),
    energyIncluded: reader.flag(one, "energyIncluded", true),
  }));
  const tokens = reader.list("tokens", file["tokens"], tokenKeys).flatMap((one) => {
    const base = { ...entry(one), model: reader.required(one, "model") };
    const perMillion = reader.money(one, "pricePerMillionTokens");
    return reader.oneOf(one, "kind", kinds).map((kind) => ({ ...base, kind, perMillion }));
  });
  const energy = reader.list("energy", file["energy"], energyKeys).map((one) => ({
    ...entry(one),
    perKilowattHour: reader.money(one, "pricePerKilowattHour"),
    usageEffectivenessMilli: reader.thousandths(one, "powerUsageEffectiveness", 1000n),
  }));
  const capacity = reader.list("capacity", file["capacity"], capacityKeys).map((one) => ({
    ...entry(one),
    gpu: reader.required(one, "gpu"),
    model: reader.required(one, "model"),
    tokensPerGpuHour: reader.count(one, "tokensPerGpuHour"),
  }));
  reader.overlaps("gpus", gpus, (one) => one.gpu);
  reader.overlaps("tokens", tokens, (one) => `${one.model} ${one.kind}`);
  reader.overlaps("energy", energy, () => "");
  reader.overlaps("capacity", capacity, (one) => `${one.gpu} ${one.model}`);
  const catalogue = { version, currency, gpus, tokens, energy, capacity };
  return { catalogue, problems: reader.problems };
}

const validityKeys = ["from", "to", "source", "asOf", "note"];
const gpuKeys = ["gpu", "pricePerGpuHour", "energyIncluded", "basis", ...validityKeys];
const tokenKeys = ["model", "kind", "pricePerMillionTokens", ...validityKeys];
const energyKeys = ["pricePerKilowattHour", "powerUsageEffectiveness", ...validityKeys];
const capacityKeys = ["gpu", "model", "tokensPerGpuHour", "precision", "slo", ...validityKeys];

/**
 * Whether a catalogue name means this product: equal, or all its words occur in the product's name in any order
 * ("H100 80GB" means "NVIDIA H100 80GB HBM3", but "H100" does not mean "GH100X").
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
