// One quota's counters: which usage counts, in which window, under which key. The window moves forward only, with the
// end of the last settled interval: a clock that was stepped back neither resets nor repeats one. What is booked with an
// interval counts in the window it ended in; what has a time of its own counts there, and not at all once that is over.
import { parseDecimal } from "../meter/money/decimal.ts";
import type { Dimensions, Outcome, TokenKind } from "../model.ts";
import type { MatchKey, Quota } from "./config.ts";
import { matchKeys, tokenFactor } from "./config.ts";
import type { KeyValues } from "./counter.ts";
import { Counter } from "./counter.ts";
import type { Window } from "./windows.ts";
import { windowAt } from "./windows.ts";

/** The attribute each key of `match` is. */
export const attributeOfKey: Readonly<Record<MatchKey, string>> = {
  tenant: "tokenwatt.tenant",
  endpoint: "tokenwatt.endpoint",
  model: "gen_ai.request.model",
};

/** The ledger's metrics quotas are counted from. */
export const countedMetrics: ReadonlySet<string> = new Set([
  "tokenwatt.gateway.tokens",
  "tokenwatt.gateway.requests",
  "tokenwatt.tokens",
  "tokenwatt.requests",
]);

/** The name of the counter of keys over the cap. */
const otherName = "other";

/** What one booked unit of a series counts in fine units; undefined = it does not count in this quota. */
export function factorOf(quota: Quota, metric: string, dimensions: Dimensions): bigint | undefined {
  const noun = quota.count === "requests" ? "requests" : "tokens";
  if (metric !== metricPrefix(quota) + noun || !isMatched(quota, dimensions)) return undefined;
  const outcome = (dimensions["tokenwatt.outcome"] ?? "ok") as Outcome;
  if (quota.count === "cost") return priceOf(quota, dimensions);
  if (quota.outcomes === "billable" && outcome !== "ok") return undefined;
  if (quota.count === "requests") return 1n;
  const factor = tokenFactor(quota, dimensions["tokenwatt.token.kind"] as TokenKind);
  return factor === 0 ? undefined : BigInt(factor);
}

/** What the names of the metrics a quota counts from begin with. */
export function metricPrefix({ source }: Pick<Quota, "source">): string {
  return source === "gateway" ? "tokenwatt.gateway." : "tokenwatt.";
}

/** Whether a series has every key that a quota matches by. */
export function isMatched(quota: Quota, dimensions: Dimensions): boolean {
  return matchKeys.every((key) => {
    const wanted = quota.match[key];
    const value = dimensions[attributeOfKey[key]];
    return wanted === undefined || (value !== undefined && (wanted === "*" || wanted === value));
  });
}

/** A token's list price: 1e-9 of the currency a million tokens is 1e-15 a token. */
function priceOf(quota: Quota, dimensions: Dimensions): bigint | undefined {
  const perMillion = dimensions["tokenwatt.price.per_million"];
  if (perMillion === undefined || dimensions["tokenwatt.currency"] !== quota.currency) return undefined;
  if (quota.outcomes === "billable" && dimensions["tokenwatt.billed"] === "no") return undefined;
  return parseDecimal(perMillion, 9);
}

/** Who may still have a counter; the book counts over all quotas. */
export interface Room {
  /** Takes a place; false where there is none. */
  take(): boolean;
  /** Gives one back. */
  give(): void;
}

/** The counters of one quota. */
export class QuotaUsage {
  readonly quota: Quota;
  window: Window;
  /** Everything used in this window is counted: false where the count began inside it. */
  isComplete = false;
  /** The window's usage before the count began is still to be read from the ledger. */
  needsSeed: boolean;
  changed = true;
  readonly #room: Room;
  readonly #counters = new Map<string, Counter>();
  #targets = new WeakMap<Dimensions, Counter>();
  #dropped: string[] = [];

  constructor(quota: Quota, atMillis: number, room: Room) {
    this.quota = quota;
    this.window = windowAt(atMillis, quota.per, quota.zone);
    // Of a minute the buckets of the ledger say nothing.
    this.needsSeed = quota.per !== "minute";
    this.#room = room;
    if (quota.wild.length === 0) this.#make({});
  }

  get counters(): Iterable<Counter> {
    return this.#counters.values();
  }

  /**
   * Books `amount` fine units of a series; says whether its key found no room. `own`: the instant is the usage's own, not
   * its interval's end.
   */
  book(dimensions: Dimensions, amount: bigint, atMillis: number, own: boolean): boolean {
    if (!own) this.roll(atMillis);
    let counter = this.#targets.get(dimensions);
    let isFolded = false;
    if (counter === undefined) {
      const found = this.counterOf(this.valuesOf(dimensions));
      ({ counter, folded: isFolded } = found);
      if (!isFolded) this.#targets.set(dimensions, counter);
    }
    if (own && atMillis >= this.window.to) {
      counter.addAhead(windowAt(atMillis, this.quota.per, this.quota.zone).from, amount);
    } else if (!own || atMillis >= this.window.from) counter.addUsed(amount, own);
    return isFolded;
  }

  /** The counter of these values; undefined where there is none yet. */
  find(values: KeyValues): Counter | undefined {
    return this.#counters.get(this.#keyOf(values));
  }

  /** The counter of these values, the one named `other` where there is no room for more. */
  counterOf(values: KeyValues): { readonly counter: Counter; readonly folded: boolean } {
    const known = this.find(values);
    if (known !== undefined) return { counter: known, folded: false };
    const isOwn = this.quota.wild.length === 0 || isOther(this.quota, values);
    if (isOwn || this.#room.take()) return { counter: this.#make(values), folded: false };
    const other = Object.fromEntries(this.quota.wild.map((key) => [key, otherName]));
    return { counter: this.find(other) ?? this.#make(other), folded: true };
  }

  /** Continues the window of an earlier run: also one that this clock has not reached, which then stays. */
  restoreWindow(fromMillis: number, isComplete: boolean, needsSeed: boolean): void {
    this.window = windowAt(fromMillis, this.quota.per, this.quota.zone);
    this.isComplete = isComplete;
    this.needsSeed = needsSeed;
    this.changed = false;
  }

  /** Begins the window of an instant, if it is a later one. */
  roll(atMillis: number): void {
    if (atMillis < this.window.to) return;
    this.window = windowAt(atMillis, this.quota.per, this.quota.zone);
    this.isComplete = true;
    this.needsSeed = false;
    this.changed = true;
    for (const [key, counter] of this.#counters) {
      if (counter.roll(this.window) || this.quota.wild.length === 0) continue;
      // Nothing was used for a whole window: its place is for others.
      this.#counters.delete(key);
      this.#dropped.push(key);
      this.#targets = new WeakMap();
      if (!isOther(this.quota, counter.values)) this.#room.give();
    }
  }

  /** The window of an instant, never an earlier one than was begun. */
  windowAt(atMillis: number): Window {
    if (atMillis < this.window.to) return this.window;
    return windowAt(atMillis, this.quota.per, this.quota.zone);
  }

  /** What the ledger holds of the window replaces what was counted up to the beat that stored it. */
  seed(sums: Iterable<readonly [Dimensions, bigint]>, isWhole: boolean): void {
    for (const counter of this.#counters.values()) counter.used = counter.sinceBeat;

    for (const [dimensions, amount] of sums) {
      const { counter } = this.counterOf(this.valuesOf(dimensions));
      counter.used += amount;
      counter.changed = true;
    }
    this.needsSeed = false;
    this.isComplete = isWhole;
    this.changed = true;
  }

  /** What is booked from now on is not in the beat that is being stored. */
  markBeat(): void {
    for (const counter of this.#counters.values()) counter.sinceBeat = 0n;
  }

  /** The values of a series' wild keys. */
  valuesOf(dimensions: Dimensions): KeyValues {
    return Object.fromEntries(
      this.quota.wild.map((key) => [key, dimensions[attributeOfKey[key]] ?? "unknown"]),
    );
  }

  /** Continues a counter of an earlier run. */
  restore(values: KeyValues, text: string): void {
    const { counter, folded } = this.counterOf(values);
    if (!folded) counter.restore(text);
  }

  /** Keys of counters that were dropped since the last call. */
  takeDropped(): readonly string[] {
    const dropped = this.#dropped;
    this.#dropped = [];
    return dropped;
  }

  /** The values a counter's key was made of. */
  #keyOf(values: KeyValues): string {
    return JSON.stringify(this.quota.wild.map((key) => values[key] ?? "unknown"));
  }

  #make(values: KeyValues): Counter {
    const counter = new Counter(values);
    this.#counters.set(this.#keyOf(values), counter);
    return counter;
  }
}

/** Whether a counter stands for the keys that found no room: nothing is limited by it. */
function isOther(quota: Quota, values: KeyValues): boolean {
  return quota.wild.length > 0 && quota.wild.every((key) => values[key] === otherName);
}
