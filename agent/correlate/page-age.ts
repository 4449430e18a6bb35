// How far apart the readings of a server really are: the time a page takes to answer, and the time it stays unchanged
// because something keeps a copy of it (METERING.md 2). Learned from the polls alone, per server.

import type { Nanos, ServerPoll } from "../model.ts";

/** Distances remembered of each kind. */
const keptMax = 8;
/** Changes of a page seen before it is taken for a copy. */
const changesMin = 1;
/** Changes that must keep a beat, and how many polls it must take, to be a copy's. */
const [beatsMin, beatPollsMin] = [3, 5];
/** Polls so many times further apart than configured are of a slow page. */
const slowRatio = 1.25;
/** A page that changes at every poll changes within this many. */
const copyPolls = 1.5;
/** Changes now after one poll, now after two, are a copy's: so many, this far apart on average, of polls no nearer than this. */
const [betweenMin, betweenPollsMin, betweenNanosMin] = [5, 1.2, 2_000_000_000];
/** So many in a row, each a poll after the one before, take a page that lives for less than a poll and a fifth. */
const nextChangesMin = 5;
/** A page that returns so often, to and fro while no counter moves, is two keepers' copies: a request that ends counts something. */
const returnsMin = 2;
/** A copy is renewed within this many of its usual distances. */
const renewedWithin = 1.3;
/** So long after an older page was seen, the newest one may be older than the last poll. */
const mixedNanos = 600_000_000_000;
/** Longer distances are gaps, not habits. */
const distanceMax = 30_000_000_000;

/** Where distances are put in order, one question after the other. */
const sorted = new Float64Array(keptMax);

/** The habit of one server's page. Polls go in by rising time. */
export class PageAge {
  readonly #distances: Nanos[] = [];
  /** Distances of changes from a server at work, and of all changes. */
  readonly #changes: Nanos[] = [];
  readonly #all: Nanos[] = [];
  #distanceNanos: Nanos = 0;
  #copyNanos: Nanos | undefined;
  #last: ServerPoll | undefined;
  /** The first poll that showed what the last one shows. */
  #news: ServerPoll | undefined;
  /** What was shown before that: two keepers' copies that take turns return to it. */
  #before: ServerPoll | undefined;
  /** That one showed a change: the first poll of all came when it came, at any age of a copy. */
  #isRenewal = false;
  /** When a copy is known to have been renewed. */
  #renewedAt: Nanos = -Infinity;
  #isRepeated = false;
  /** The last poll before the page changed. */
  #newsFrom: Nanos = -Infinity;
  #newest: Nanos | undefined;
  /** Returns to what was shown before, since a counter moved. */
  #returns = 0;
  /** When a page was last older than the one before: several keep copies, and take turns. */
  #olderAt: Nanos = -Infinity;
  /** Changes in a row, each at the poll after the one before. */
  #nextChanges = 0;
  /** There were enough of them: every poll shows the page itself. */
  #isLive = false;

  /**
   * Takes a poll in; true when it is the copy already seen, which says nothing about the time since. The first polls of
   * a copied page pass for readings, until its habit is known.
   */
  repeats(poll: ServerPoll): boolean {
    const { copyNanos } = this;
    const repeated = this.#compare(poll, copyNanos);
    this.#distanceNanos = this.#middle();
    this.#copyNanos = this.#copy();
    if (this.#copyNanos !== undefined) this.#isLive = false;
    else if (this.#nextChanges >= nextChangesMin) this.#isLive = true;
    return repeated;
  }

  #compare(poll: ServerPoll, copyNanos: Nanos | undefined): boolean {
    const { newest } = this;
    this.#newest = poll.at;
    if (newest !== undefined && poll.at > newest) keep(this.#distances, poll.at - newest);
    if (poll.isOlder === true && this.#last !== undefined && poll.at - this.#last.at <= distanceMax) {
      this.#olderAt = poll.at;
      return true;
    }
    const news = this.#news;
    this.#isRepeated = news !== undefined && alike(news, poll);
    if (!this.#isRepeated) this.#newsFrom = this.#last?.at ?? -Infinity;
    this.#last = poll;
    if (news === undefined || !this.#isRepeated) {
      const isBack = poll.progress === "step" && this.#before !== undefined && alike(this.#before, poll);
      if (news !== undefined && this.#isRenewal) {
        // Only of a server at work can a change be expected at every poll, and only of one that counts each step.
        if ((news.inFlight ?? 0) > 0 && poll.progress === "step") keep(this.#changes, poll.at - news.at);
        keep(this.#all, poll.at - news.at);
        const isNext = poll.at - news.at <= copyPolls * this.#distanceNanos;
        this.#nextChanges = isNext ? this.#nextChanges + 1 : 0;
      }
      this.#isRenewal = news !== undefined;
      if (isBack) this.#returns++;
      else if (news === undefined || !hasSameCounts(news, poll)) this.#returns = 0;
      if (this.#returns >= returnsMin) this.#olderAt = poll.at;
      this.#before = news;
      this.#news = poll;
      this.#renewedAt = poll.at;
      return false;
    }
    if (copyNanos !== undefined && poll.at - this.#renewedAt < renewedWithin * copyNanos) return true;
    // Nothing changed for longer than a copy lives: the server does nothing, or is stuck.
    this.#renewedAt = poll.at;
    return false;
  }

  /** The newest poll, be it a copy. */
  get newest(): Nanos | undefined {
    return this.#newest;
  }

  /** The page is known to be a copy, or one of several. */
  get isCopy(): boolean {
    return this.#copyNanos !== undefined || this.#isMixed;
  }

  get #isMixed(): boolean {
    return (this.#newest ?? Infinity) - this.#olderAt < mixedNanos;
  }

  /** How long a copy of the page lives; undefined while every poll shows the page itself. */
  get copyNanos(): Nanos | undefined {
    return this.#copyNanos;
  }

  /** The page never changed since the first look, no longer ago than a copy may live: it may be one, whatever it shows. */
  get mayBeCopy(): boolean {
    if (this.#isRenewal) return false;
    const first = this.#news?.at;
    const last = this.#last?.at;
    if (first === undefined || last === undefined) return false;
    return last > first && last - first <= distanceMax;
  }

  /** The last poll showed what the one before it did. */
  get isRepeated(): boolean {
    return this.#isRepeated;
  }

  /**
   * The earliest instant that what the last poll showed may be of, undefined where it is the page itself. News are no older
   * than the poll before; what stays is as old as a copy may live. No copy lives longer than the page was ever seen to stay
   * between two changes, give or take a poll.
   */
  get shownFrom(): Nanos | undefined {
    const last = this.#last;
    if (last === undefined || (this.#isLive && !this.#isMixed)) return undefined;
    // Of several that take turns one may be as old as any.
    if (this.#isMixed) return last.at - distanceMax;
    const least = this.#copyNanos ?? this.#leastChange;
    const oldest = last.at - Math.min(distanceMax, least + this.#distanceNanos);
    return Math.max(oldest, this.#newsFrom);
  }

  /** The usual distance of polls: as configured, or what the server's answers make of it. */
  distanceNanos(configuredNanos: Nanos): Nanos {
    return Math.max(configuredNanos, this.#distanceNanos);
  }

  /**
   * How far off the instants of polls may be: where they are further apart than configured the page takes as long to answer, and
   * what it shows may be of any instant of that time.
   */
  blurNanos(configuredNanos: Nanos): Nanos {
    return this.#distanceNanos > slowRatio * configuredNanos ? Math.round(this.#distanceNanos / 2) : 0;
  }

  get #leastChange(): Nanos {
    return Math.min(leastOf(this.#changes), leastOf(this.#all));
  }

  #copy(): Nanos | undefined {
    const life = this.#isMixed ? this.#greatestChange : this.#leastLife;
    const isCopy = life !== undefined && life > copyPolls * this.#distanceNanos && life <= distanceMax;
    return isCopy ? life : this.#between;
  }

  get #leastLife(): Nanos | undefined {
    return this.#changes.length >= changesMin ? leastOf(this.#changes) : this.#beat;
  }

  /** Where several keep a copy each, the newest of them stays for the longest time between two changes, be the shortest of chance. */
  get #greatestChange(): Nanos | undefined {
    let greatest: Nanos | undefined;
    for (const nanos of this.#changes) if (nanos <= distanceMax) greatest = Math.max(greatest ?? 0, nanos);
    return greatest;
  }

  /** How long a copy lives that is renewed now after one poll, now after two, of a server at work; undefined where none is. */
  get #between(): Nanos | undefined {
    const poll = this.#distanceNanos;
    const changes = this.#changes;
    if (changes.length < betweenMin || poll < betweenNanosMin) return undefined;
    let sum = 0;
    for (const nanos of changes) {
      if (nanos > (1 + copyPolls) * poll) return undefined;
      sum += nanos;
    }
    const mean = sum / changes.length;
    return mean >= betweenPollsMin * poll ? mean : undefined;
  }

  /** The beat in which all changes came, be the server at work or not; undefined where they keep none. */
  get #beat(): Nanos | undefined {
    const poll = this.#distanceNanos;
    if (this.#all.length < beatsMin) return undefined;
    const least = leastOf(this.#all);
    if (least < beatPollsMin * poll) return undefined;
    // A poll sees a change up to its distance late: the shortest may be a poll short of the beat, all together tell it.
    let sum = 0;
    let beats = 0;
    for (const nanos of this.#all) {
      sum += nanos;
      beats += Math.round(nanos / least);
    }
    const beat = sum / beats;
    const keepsIt = (nanos: Nanos): boolean =>
      Math.abs(nanos - Math.round(nanos / least) * beat) <= copyPolls * poll;
    return this.#all.every(keepsIt) ? beat : undefined;
  }

  #middle(): Nanos {
    let size = 0;
    for (let index = 0; index < this.#distances.length; index++) {
      const nanos = this.#distances[index] as Nanos;
      if (nanos > distanceMax) continue;
      let place = size++;
      for (; place > 0 && (sorted[place - 1] as Nanos) > nanos; place--)
        sorted[place] = sorted[place - 1] as Nanos;
      sorted[place] = nanos;
    }
    return size === 0 ? 0 : (sorted[size >> 1] as Nanos);
  }
}

function leastOf(distances: readonly Nanos[]): Nanos {
  let least = Infinity;
  for (let index = 0; index < distances.length; index++) least = Math.min(least, distances[index] as Nanos);
  return least;
}

function keep(list: Nanos[], nanos: Nanos): void {
  list.push(nanos);
  if (list.length > keptMax) list.shift();
}

function alike(one: ServerPoll, other: ServerPoll): boolean {
  return one.inFlight === other.inFlight && hasSameCounts(one, other);
}

function hasSameCounts(one: ServerPoll, other: ServerPoll): boolean {
  return (
    one.inputTokens === other.inputTokens &&
    one.outputTokens === other.outputTokens &&
    one.activeNanos === other.activeNanos
  );
}
