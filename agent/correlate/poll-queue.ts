// Polls of one server that wait, in order, until an interval needs them. They may come in any order; bounded, what the bound
// drops is counted.
import type { Nanos, ServerPoll } from "../model.ts";

/** Polls waiting at most. */
const pendingMax = 4096;

/** The polls that wait. */
export class PollQueue {
  readonly #polls: ServerPoll[] = [];
  /** Polls dropped by the bound. */
  dropped = 0;

  /** The one to hand on next. */
  get first(): ServerPoll | undefined {
    return this.#polls[0];
  }

  get newest(): ServerPoll | undefined {
    return this.#polls.at(-1);
  }

  /** Takes a poll in by its time; false where there is one of that time. */
  queue(poll: ServerPoll): boolean {
    let place = this.#polls.length;
    while (place > 0 && (this.#polls[place - 1] as ServerPoll).at > poll.at) place--;
    if (this.#polls[place - 1]?.at === poll.at) return false;
    if (place === this.#polls.length) this.#polls.push(poll);
    else this.#polls.splice(place, 0, poll);
    if (this.#polls.length <= pendingMax) return true;
    this.#polls.shift();
    this.dropped++;
    return true;
  }

  /** Takes the first one out. */
  take(): ServerPoll | undefined {
    return this.#polls.shift();
  }

  /** Keeps the newest alone. */
  keepNewest(): void {
    this.#polls.splice(0, this.#polls.length - 1);
  }

  /** Drops polls from after `latest`; returns how many. */
  dropAfter(latest: Nanos): number {
    let keep = this.#polls.length;
    while (keep > 0 && (this.#polls[keep - 1] as ServerPoll).at > latest) keep--;
    return keep === this.#polls.length ? 0 : this.#polls.splice(keep).length;
  }

  /** The ranks that the newest poll with any tells apart. */
  get ranks(): ServerPoll["ranks"] {
    return this.#polls.findLast(({ ranks }) => ranks !== undefined)?.ranks;
  }
}
