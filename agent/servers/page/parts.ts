// The parts that the series of a list are summed by, worked out once: a page without new series keeps its lists.
import type { MetricSample } from "../../source.ts";
import type { Labels } from "./labels.ts";
import { partOf } from "./labels.ts";

/** The parts of a list of samples: label sets without some labels. */
export interface Parts {
  /** By number of the part. */
  readonly keys: readonly string[];
  /** The part of each sample, by its place in the list. */
  readonly numbers: Int32Array;
}

const known = new WeakMap<readonly MetricSample[], Map<string, Parts>>();

/** The parts of a list, without some labels; the same object for the same list. */
export function partsOf(samples: readonly MetricSample[], without: readonly string[]): Parts {
  const name = without.join();
  let layouts = known.get(samples);
  if (layouts === undefined) {
    layouts = new Map();
    known.set(samples, layouts);
  }
  let parts = layouts.get(name);
  if (parts === undefined) {
    parts = workOut(samples, without);
    layouts.set(name, parts);
  }
  return parts;
}

/** What a list of samples sums to. */
export interface PartSums {
  /** By number of the part; NaN where none of it passed. */
  readonly sums: readonly number[];
  /** Place of the first sample of each that passed. */
  readonly places: readonly number[];
}

/** Sums samples by part, those that pass `when`. */
export function sumParts(
  samples: readonly MetricSample[],
  { keys, numbers }: Parts,
  when: ((labels: Labels) => boolean) | undefined,
): PartSums {
  const sums = new Array<number>(keys.length).fill(Number.NaN);
  const places = new Array<number>(keys.length).fill(-1);
  for (let place = 0; place < samples.length; place++) {
    const sample = samples[place] as MetricSample;
    if (when !== undefined && !when(sample.labels)) continue;
    const part = numbers[place] as number;
    if (places[part] === -1) {
      places[part] = place;
      sums[part] = sample.value;
    } else sums[part] = (sums[part] as number) + sample.value;
  }
  return { sums, places };
}

function workOut(samples: readonly MetricSample[], without: readonly string[]): Parts {
  const byKey = new Map<string, number>();
  const numbers = Int32Array.from(samples, ({ labels }) => {
    const key = partOf(labels, without);
    const part = byKey.get(key) ?? byKey.size;
    byKey.set(key, part);
    return part;
  });
  return { keys: [...byKey.keys()], numbers };
}
