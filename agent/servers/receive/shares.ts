// How calls at a time, and places for messages being read, are shared: by connection and by caller, so that one of them
// cannot hold all of what there is.

/** Whose a call is: a connection, and the caller whose connections may be many. */
export interface Peer {
  readonly connection: string;
  readonly caller: string;
}

/** How many of something each holds. */
export class Held {
  readonly #of = new Map<string, number>();

  of(key: string): number {
    return this.#of.get(key) ?? 0;
  }

  add(key: string, change: number): void {
    const now = this.of(key) + change;
    if (now > 0) this.#of.set(key, now);
    else this.#of.delete(key);
  }
}

/**
 * A bound on what all callers hold together. One alone may hold all of it; a quarter on top is for those who hold at most a
 * quarter themselves, so that whoever fills it does not keep others out.
 */
export class SharedBound {
  readonly #max: number;
  readonly #little: number;
  readonly #callers = new Held();
  #all = 0;

  constructor(max: number) {
    this.#max = max;
    this.#little = Math.ceil(max / 4);
  }

  /** Whether a caller may hold this many more. */
  has(caller: string, more = 1): boolean {
    const all = this.#all + more;
    if (all <= this.#max) return true;
    return all <= this.#max + this.#little && this.#callers.of(caller) + more <= this.#little;
  }

  /** A caller holds this many more, or fewer. */
  change(caller: string, by: number): void {
    this.#all += by;
    this.#callers.add(caller, by);
  }
}

/** Calls at a time: a connection has half of them and a caller three quarters, whatever they begin and do not end. */
export class Calls {
  readonly #max: number;
  readonly #perConnection: number;
  readonly #perCaller: number;
  readonly #connections = new Held();
  readonly #callers = new Held();
  #all = 0;

  constructor(max: number) {
    this.#max = max;
    this.#perConnection = Math.max(1, Math.ceil(max / 2));
    this.#perCaller = Math.max(1, Math.ceil((max * 3) / 4));
  }

  /** Why a caller may begin no more calls now; undefined while it may. */
  fullFor({ caller, connection }: Peer): string | undefined {
    if (this.#all >= this.#max) return `more than ${this.#max} calls at a time`;
    if (this.#connections.of(connection) >= this.#perConnection)
      return `more than ${this.#perConnection} calls of one connection`;
    return this.#callers.of(caller) < this.#perCaller
      ? undefined
      : `more than ${this.#perCaller} calls of one caller`;
  }

  /** Counts a call in; what it returns counts it out. */
  begin({ caller, connection }: Peer): () => void {
    const change = (by: number): void => {
      this.#all += by;
      this.#connections.add(connection, by);
      this.#callers.add(caller, by);
    };
    change(1);
    return () => change(-1);
  }
}

/**
 * Places for a number of messages at a time. The caller who has fewest places is next, of its connections the one with
 * fewest, then who waits longest; one place is kept for other callers, and one for other connections of the same.
 */
export class Turns {
  readonly #places: number;
  readonly #callers = new Held();
  readonly #connections = new Held();
  readonly #waiting = new Set<{ readonly peer: Peer; readonly start: () => void }>();
  #free: number;

  constructor(places: number) {
    this.#places = places;
    this.#free = places;
  }

  /** Calls `run` when there is a place. What it returns gives the place back, or stops waiting for it. */
  take(peer: Peer, run: () => void): () => void {
    let isRunning = false;
    const one = {
      peer,
      start: () => {
        isRunning = true;
        this.#change(peer, 1);
        run();
      },
    };
    this.#waiting.add(one);
    this.#next();
    return () => {
      this.#waiting.delete(one);
      if (!isRunning) return;
      isRunning = false;
      this.#change(peer, -1);
      this.#next();
    };
  }

  #change({ caller, connection }: Peer, by: number): void {
    this.#free -= by;
    this.#callers.add(caller, by);
    this.#connections.add(connection, by);
  }

  #next(): void {
    while (this.#free > 0) {
      let next: { readonly peer: Peer; readonly start: () => void } | undefined;
      for (const one of this.#waiting) {
        if (this.#callers.of(one.peer.caller) >= Math.max(1, this.#places - 1)) continue;
        if (this.#connections.of(one.peer.connection) >= Math.max(1, this.#places - 2)) continue;
        if (next === undefined || this.#isBefore(one.peer, next.peer)) next = one;
      }
      if (next === undefined) return;
      this.#waiting.delete(next);
      next.start();
    }
  }

  #isBefore(one: Peer, other: Peer): boolean {
    const callers = this.#callers.of(one.caller) - this.#callers.of(other.caller);
    if (callers !== 0) return callers < 0;
    return this.#connections.of(one.connection) < this.#connections.of(other.connection);
  }
}
