// A histogram that grows in place: a host's latencies are some hundred of them, which move at every poll, and a new list of
// counts for each movement was a tenth of all that lived long enough to grow old. What is shown of it is a copy, made once
// between two movements.
import type { Histogram } from "../../model.ts";
import { sameBounds } from "../counters/histograms.ts";

/** The sum of the histograms added to it. */
export class RunningHistogram {
  readonly #bounds: readonly number[];
  /** Its own; undefined as long as it is what it began with. */
  #counts: number[] | undefined;
  #sum: number;
  #count: number;
  #shown: Histogram | undefined;

  /** Begins with what `first` has. */
  constructor(first: Histogram) {
    this.#bounds = first.bounds;
    this.#sum = first.sum;
    this.#count = first.count;
    this.#shown = first;
  }

  /** As it stands; what was returned never changes, and is the same until something is added. */
  get histogram(): Histogram {
    this.#shown ??= {
      bounds: this.#bounds,
      counts: (this.#counts ?? []).slice(),
      sum: this.#sum,
      count: this.#count,
    };
    return this.#shown;
  }

  /** Adds a histogram; false, and nothing is added, where its bounds are others. */
  addHistogram(moved: Histogram): boolean {
    if (!sameBounds(this.#bounds, moved.bounds)) return false;
    this.#counts ??= this.histogram.counts.slice();
    const counts = this.#counts;
    for (let bucket = 0; bucket < counts.length; bucket++)
      counts[bucket] = (counts[bucket] as number) + (moved.counts[bucket] ?? 0);
    this.#sum += moved.sum;
    this.#count += moved.count;
    this.#shown = undefined;
    return true;
  }

  /** One of the same bounds in which nothing is. */
  emptied(): RunningHistogram {
    const { bounds, counts } = this.histogram;
    return new RunningHistogram({ bounds, counts: counts.map(() => 0), sum: 0, count: 0 });
  }
}
