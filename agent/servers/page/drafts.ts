// The readings of one page in the making, found by the label sets they are of. Where the reading of a label set is made is
// remembered with its series, and for a whole list of samples: thousands are summed at each poll of a gateway, and a look-up
// for each by its labels, then by its names, costs more than the sum.
import { keepShape } from "../../platform/kept-shapes.ts";
import type { MetricSample } from "../../source.ts";
import { ReadingDraft } from "./draft.ts";
import type { Identity, Labels, ReaderOptions } from "./labels.ts";
import { identifier } from "./labels.ts";

/** Where the readings of one identity are made, page by page. */
export interface Making {
  readonly identity: Identity;
  /** The page a draft of which is here. */
  page: number;
  draft: ReadingDraft | undefined;
}

/** Identities remembered beside twice those of a page: tenants that come once must not be remembered for ever. */
const PASSING_MAX = 1000;

/** What is remembered under one configuration. */
interface Makings {
  /** The most drafts that a page had. */
  most: number;
  readonly byKey: Map<string, Making>;
  readonly byLabels: WeakMap<Labels, Making>;
  readonly byList: WeakMap<readonly MetricSample[], readonly Making[]>;
}

const remembered = new WeakMap<ReaderOptions, Makings>();
let pages = 0;

/** The drafts of one page. */
export class PageDrafts {
  readonly #identify: (labels: Labels) => Identity;
  readonly #makings: Makings;
  readonly #page = ++pages;
  #drafts: ReadingDraft[] = [];
  #used: Making[] = [];

  constructor(options: ReaderOptions) {
    this.#identify = identifier(options);
    this.#makings = makingsOf(options);
  }

  /** The draft of the reading that labels belong to. */
  of(labels: Labels): ReadingDraft {
    return this.at(this.#makingOf(labels));
  }

  /** Where the readings of a list's samples are made, by their places; the list must be one that never changes. */
  ofAll(samples: readonly MetricSample[]): readonly Making[] {
    const { byList } = this.#makings;
    let all = byList.get(samples);
    if (all === undefined) {
      all = samples.map(({ labels }) => this.#makingOf(labels));
      byList.set(samples, all);
    }
    return all;
  }

  /** The draft that is made there. */
  at(making: Making): ReadingDraft {
    if (making.page === this.#page && making.draft !== undefined) return making.draft;
    const draft = new ReadingDraft(making.identity);
    making.page = this.#page;
    making.draft = draft;
    this.#used.push(making);
    this.#drafts.push(draft);
    return draft;
  }

  /** All drafts, in the order in which they were begun; nothing else holds them from here on. */
  finish(): readonly ReadingDraft[] {
    for (let place = 0; place < this.#used.length; place++) {
      const making = this.#used[place] as Making;
      if (making.page === this.#page) making.draft = undefined;
    }
    const drafts = this.#drafts;
    this.#makings.most = Math.max(this.#makings.most, drafts.length);
    [this.#drafts, this.#used] = [[], []];
    keepShape(this.#makings, drafts[0]);
    return drafts;
  }

  #makingOf(labels: Labels): Making {
    const { byKey, byLabels } = this.#makings;
    let making = byLabels.get(labels);
    if (making !== undefined) return making;
    const identity = this.#identify(labels);
    making = byKey.get(identity.key) ?? { identity, page: 0, draft: undefined };
    byKey.set(identity.key, making);
    byLabels.set(labels, making);
    return making;
  }
}

function makingsOf(options: ReaderOptions): Makings {
  const known = remembered.get(options);
  if (known !== undefined && known.byKey.size <= 2 * known.most + PASSING_MAX) return known;
  const made: Makings = { most: 0, byKey: new Map(), byLabels: new WeakMap(), byList: new WeakMap() };
  remembered.set(options, made);
  return made;
}
