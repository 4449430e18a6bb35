// The postings of one interval, in the order they are booked. A gateway of many tenants makes thousands every few seconds,
// and several intervals settle at once: as objects of their own they lived just long enough to be carried into the old
// generation. A list that is used again writes over its own.
import type { AnyPosting, Dimensions, Histogram, Posting, UnixNanos } from "../model.ts";

/** When usage happened, where that is not the interval it is booked with. */
export interface OwnTime {
  readonly at?: UnixNanos;
  readonly takesBack?: true;
}

type Slot = { -readonly [K in keyof Posting]-?: Posting[K] };

/** Postings being gathered. */
export class PostingList {
  readonly #slots: Slot[] | undefined;
  #used = 0;
  #all: AnyPosting[] = [];

  /** `reused`: the postings hold until `begin` is called the next time. */
  constructor(use: "reused" | "kept" = "kept") {
    this.#slots = use === "reused" ? [] : undefined;
  }

  /** What was added since `begin`. */
  get all(): readonly AnyPosting[] {
    return this.#all;
  }

  /** Begins an empty list. */
  begin(): void {
    this.#used = 0;
    this.#all = [];
  }

  /** Adds an amount; `kept` and `own` as in a posting. */
  addAmount(
    metric: string,
    dimensions: Dimensions,
    amount: number,
    kept?: Dimensions | false,
    own?: OwnTime,
  ): void {
    const slot = this.#slot();
    slot.metric = metric;
    slot.dimensions = dimensions;
    slot.amount = amount;
    slot.kept = kept;
    slot.at = own?.at;
    slot.takesBack = own?.takesBack;
    this.#all.push(slot);
  }

  addHistogram(metric: string, dimensions: Dimensions, histogram: Histogram, kept?: Dimensions): void {
    this.#all.push({ metric, dimensions, histogram, ...(kept === undefined ? {} : { kept }) });
  }

  addAll(postings: readonly AnyPosting[]): void {
    for (const posting of postings) this.#all.push(posting);
  }

  #slot(): Slot {
    const known = this.#slots?.[this.#used];
    if (known !== undefined) {
      this.#used++;
      return known;
    }
    const made: Slot = {
      metric: "",
      dimensions: none,
      amount: 0,
      kept: undefined,
      keptOnly: undefined,
      at: undefined,
      takesBack: undefined,
    };
    if (this.#slots !== undefined && this.#slots.length < SLOTS_MAX) {
      this.#slots.push(made);
      this.#used++;
    }
    return made;
  }
}

const none: Dimensions = {};
/** Postings that are written over at most; what is more in one interval is made new. */
const SLOTS_MAX = 4096;
