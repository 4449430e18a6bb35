// A page whose families are found however their names are spelled: `my:tokens_total` as on the page, or `my_tokens` as filed.
// A server file that names a counter as its page shows it would otherwise read nothing, without a word.
import { normaliseName } from "../../page/parse-line.ts";
import type { MetricPage, MetricSample } from "../../source.ts";

type Samples = MetricPage["samples"];

const filedNames = new Map<string, string>();

/** What a name is filed under. */
export function filedName(name: string): string {
  let filed = filedNames.get(name);
  if (filed === undefined) {
    filed = normaliseName(name) ?? name;
    // Names stand in server files and mappings: a few hundred.
    filedNames.set(name, filed);
  }
  return filed;
}

/** The page, its samples found by any spelling of their name. */
export function inAnySpelling(page: MetricPage): MetricPage {
  return { ...page, samples: new AnySpelling(page.samples) };
}

class AnySpelling implements Samples {
  readonly #samples: Samples;

  constructor(samples: Samples) {
    this.#samples = samples;
  }

  get size(): number {
    return this.#samples.size;
  }

  get(name: string): readonly MetricSample[] | undefined {
    return this.#samples.get(name) ?? this.#samples.get(filedName(name));
  }

  has(name: string): boolean {
    return this.get(name) !== undefined;
  }

  keys(): MapIterator<string> {
    return this.#samples.keys();
  }

  values(): MapIterator<readonly MetricSample[]> {
    return this.#samples.values();
  }

  entries(): MapIterator<[string, readonly MetricSample[]]> {
    return this.#samples.entries();
  }

  [Symbol.iterator](): MapIterator<[string, readonly MetricSample[]]> {
    return this.#samples.entries();
  }

  forEach(each: (samples: readonly MetricSample[], name: string, all: Samples) => void): void {
    for (const [name, samples] of this.#samples) each(samples, name, this);
  }
}
