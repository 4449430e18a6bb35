// What a limiter counted since it was first looked at, from its page: never what it counted before. A counter that falls,
// was on no page yet, or is one of another run of the process, began at zero; one that a page leaves out goes on where it
// was. Counters that overlap are read a moment apart (a part before its whole, or after it): a whole less its parts is
// known with the page after it, so that no total falls.
import { attributeOf, otherName } from "../../meter/names.ts";
import type { Counted, Decided, LimiterCounter, LimiterType } from "./limiter.ts";

/** A sample of a page. */
interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** The families of a page, by name. */
type Families = ReadonlyMap<string, readonly Sample[]>;

/** What one limit decided. */
export interface LimitTotal {
  /** As an attribute value. */
  readonly limit: string;
  readonly counted: Counted;
  readonly decided: Decided;
  readonly amount: number;
}

interface Total extends LimitTotal {
  amount: number;
  /** Other counters count a part of it. */
  readonly hasParts: boolean;
  /** Counted and not taken yet; below 0 where a part of it was read before the whole. */
  waiting: number;
  /** Of it what may be taken: of what has parts only what the page before had. */
  ready: number;
}

/** Limits of one limiter that are told apart; further ones are `other`. */
const LIMITS_MAX = 200;
/** Series that are remembered at most, those of the newest page first. */
const SERIES_MAX = 10_000;
const STARTED = "process_start_time_seconds";

/** The counts of one limiter. */
export class LimiterCounts {
  readonly #type: LimiterType;
  /** The last value of each series; undefined before the first page. */
  #last: ReadonlyMap<string, number> | undefined;
  #started: number | undefined;
  readonly #limits = new Set<string>();
  readonly #totals = new Map<string, Total>();

  constructor(type: LimiterType) {
    this.#type = type;
  }

  /** Whether a page is one of such a limiter. */
  recognises(page: Families): boolean {
    const { counters, signs } = this.#type;
    return [...counters.map(({ family }) => family), ...signs].some((name) => page.has(name));
  }

  /** Counts what a page has above the one before. */
  take(page: Families): void {
    const started = page.get(STARTED)?.[0]?.value;
    const isOther = started !== undefined && this.#started !== undefined && started !== this.#started;
    const before = isOther ? new Map<string, number>() : this.#last;
    // What the run before owed, it took along.
    if (isOther) for (const total of this.#totals.values()) total.waiting = Math.max(0, total.waiting);
    const now = new Map<string, number>();
    for (const total of this.#totals.values()) total.ready = total.waiting;
    for (const counter of this.#type.counters) {
      for (const { labels, value } of page.get(counter.family) ?? []) {
        const key = JSON.stringify([counter.family, Object.entries(labels).sort()]);
        const amount = Math.round(value);
        // No counter is below 0, or above what a number holds exactly: as if the page left it out.
        if (!(amount >= 0 && amount <= Number.MAX_SAFE_INTEGER)) continue;
        const last = before?.get(key) ?? 0;
        if (before !== undefined) this.#add(counter, labels, amount < last ? amount : amount - last);
        now.set(key, amount);
      }
    }
    for (const [key, amount] of before ?? []) {
      if (now.size >= SERIES_MAX) break;
      if (!now.has(key)) now.set(key, amount);
    }
    this.#last = now;
    this.#started = started ?? this.#started;
  }

  /** What was counted since it was first looked at, by limit. */
  get totals(): readonly LimitTotal[] {
    return [...this.#totals.values()]
      .filter(({ amount }) => amount > 0)
      .map(({ amount, counted, decided, limit }) => ({ limit, counted, decided, amount }));
  }

  /** What was counted since this was last called. */
  takeMoved(): readonly LimitTotal[] {
    const moved: LimitTotal[] = [];
    for (const total of this.#totals.values()) {
      const { counted, decided, hasParts, limit, ready, waiting } = total;
      const amount = hasParts ? ready : waiting;
      if (amount <= 0) continue;
      total.amount += amount;
      total.waiting -= amount;
      total.ready -= amount;
      moved.push({ limit, counted, decided, amount });
    }
    return moved;
  }

  #add({ counted, decided, within }: LimiterCounter, labels: Sample["labels"], amount: number): void {
    if (amount === 0) return;
    const limit = this.#limitOf(labels);
    this.#total(limit, counted, decided).waiting += amount;
    if (within === undefined) return;
    const whole = this.#total(limit, counted, within);
    whole.waiting -= amount;
    whole.ready -= amount;
  }

  #limitOf(labels: Sample["labels"]): string {
    const limit = attributeOf(this.#type.limitOf(labels));
    if (!this.#limits.has(limit) && this.#limits.size >= LIMITS_MAX) return otherName;
    this.#limits.add(limit);
    return limit;
  }

  #total(limit: string, counted: Counted, decided: Decided): Total {
    const key = JSON.stringify([limit, counted, decided]);
    const known = this.#totals.get(key);
    if (known !== undefined) return known;
    const hasParts = this.#type.counters.some((one) => one.counted === counted && one.within === decided);
    const total: Total = { limit, counted, decided, amount: 0, hasParts, waiting: 0, ready: 0 };
    this.#totals.set(key, total);
    return total;
  }
}
