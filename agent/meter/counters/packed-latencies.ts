// Latencies as a part of a stored row: histograms of one row share their bounds, which are said once, in a list beside them.
import type { Histogram, Latencies, LatencyKey } from "../../model.ts";

/** Each histogram by the place of its bounds, and what else is in it. */
export type PackedLatencies = Partial<
  Record<LatencyKey, readonly [bounds: number, Omit<Histogram, "bounds">]>
>;

/** The bounds of a row, each with its place in the list. */
export type KnownBounds = Map<readonly number[], number>;

/** Latencies as they are stored, their bounds added to those known; undefined where there are none. */
export function packedLatencies(latencies: Latencies, known: KnownBounds): PackedLatencies | undefined {
  let found: PackedLatencies | undefined;
  for (const key in latencies) {
    const histogram = latencies[key as LatencyKey];
    if (histogram === undefined) continue;
    const { bounds, ...rest } = histogram;
    const place = known.get(bounds) ?? known.size;
    known.set(bounds, place);
    found ??= {};
    found[key as LatencyKey] = [place, rest];
  }
  return found;
}

/** Latencies as they were, by the list of bounds beside them. */
export function unpackedLatencies(
  packed: PackedLatencies,
  bounds: readonly (readonly number[])[],
): Latencies {
  const entries = Object.entries(packed).map(([key, [place, rest]]) => [
    key,
    { bounds: bounds[place] ?? [], ...rest },
  ]);
  return Object.fromEntries(entries) as Latencies;
}
