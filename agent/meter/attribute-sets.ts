// Attribute sets, each once: the ledger finds a series by the identity of its set, without building a key.
import type { Dimensions } from "../model.ts";

const SETS_MAX = 10_000;
const SETS_OF_ONE_MAX = 200;
/** Servers of a host, kinds and reasons: what comes from outside is bounded. */
const VALUES_MAX = 2000;

/** Sets by what is in them, in the order it is named. */
export class AttributeSets {
  readonly #sets = new Map<string, Dimensions>();
  /** Of the set being looked up. */
  readonly #words: (string | undefined)[] = [];
  readonly #max: number;

  /** At most so many are remembered. */
  constructor(max = SETS_MAX) {
    this.#max = max;
  }

  /** The same object for the same attributes. */
  same(dimensions: Dimensions): Dimensions {
    const words = this.#words;
    words.length = 0;
    for (const name in dimensions) words.push(name, dimensions[name]);
    // Joined, not added up: a text added up piece by piece stays in memory as its pieces.
    const key = words.join("\u0000");
    const known = this.#sets.get(key);
    if (known !== undefined) return known;
    if (this.#sets.size >= this.#max) this.#sets.clear();
    this.#sets.set(key, dimensions);
    return dimensions;
  }
}

/** Sets of things that live on as one object: found by the thing and a name for the set, without making it again. */
export class SetsOf<Thing extends object> {
  readonly #sets = new WeakMap<Thing, Map<string, Dimensions>>();

  /** The set of a thing under a name, which `make` makes the first time. */
  of(thing: Thing, name: string, make: () => Dimensions): Dimensions {
    let sets = this.#sets.get(thing);
    if (sets === undefined) {
      sets = new Map();
      this.#sets.set(thing, sets);
    }
    const known = sets.get(name);
    if (known !== undefined) return known;
    // What varies comes from outside: versions, runs of a gateway.
    if (sets.size >= SETS_OF_ONE_MAX) sets.clear();
    const made = make();
    sets.set(name, made);
    return made;
  }
}

/** The set without attributes, to begin with. */
export const noAttributes: Dimensions = {};

/**
 * Sets that have one attribute more than another, each once: what an interval is posted under is found by the set it grows
 * from, and no key is made of it. That set must be one that lives on.
 */
export class WithAttribute {
  readonly #name: string;
  readonly #grown = new WeakMap<Dimensions, Map<string, Dimensions>>();

  constructor(name: string) {
    this.#name = name;
  }

  /** The set with this value; the set itself where there is none. */
  of(set: Dimensions, value: string | undefined): Dimensions {
    if (value === undefined) return set;
    let grown = this.#grown.get(set);
    if (grown === undefined) {
      grown = new Map();
      this.#grown.set(set, grown);
    }
    const known = grown.get(value);
    if (known !== undefined) return known;
    if (grown.size >= VALUES_MAX) grown.clear();
    const made = { ...set, [this.#name]: value };
    grown.set(value, made);
    return made;
  }
}

/** Sets that have what two others have, each once. */
export class JoinedSets {
  readonly #joined = new WeakMap<Dimensions, WeakMap<Dimensions, Dimensions>>();

  /** The attributes of both; of a name in both, what `other` has. */
  of(set: Dimensions, other: Dimensions): Dimensions {
    let joined = this.#joined.get(set);
    if (joined === undefined) {
      joined = new WeakMap();
      this.#joined.set(set, joined);
    }
    let made = joined.get(other);
    if (made === undefined) {
      made = { ...set, ...other };
      joined.set(other, made);
    }
    return made;
  }
}
