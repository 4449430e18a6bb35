// What the processes of a GPU that no server owns do: whether they can be the ones who work, and when.
// The driver's shares per process say it where it has them. Else a stranger is known by work in which every metered server
// was idle; one that was never seen at work so, a notebook that only holds memory, is no peer to the servers beside it
// while the GPU rests now and then. Of one that works without a rest nobody knows who keeps it busy.
import type { Nanos } from "../model.ts";
import type { ActivityWindow } from "./activity/evidence.ts";
import { workingBusyRatio } from "./activity/runs.ts";
import type { Timeline } from "./timeline.ts";
import { creditOf } from "./timeline.ts";

/** A stretch in which strangers may have worked. */
export interface StrangerStretch {
  readonly from: Nanos;
  readonly to: Nanos;
}

/** A GPU that works for longer without a rest may be kept busy by a stranger that began meanwhile. */
const restNanos = 5_000_000_000;
/** Idle time of the metered servers is remembered about this long. */
const memoryNanos = 60_000_000_000;
/** Share of that time in work that makes strangers workers, and how much idle time it takes to say so. */
const workRatioMin = 0.05;
const idleNanosMin = 2_000_000_000;
/** Of work and of rest so much is taken to have been missed: a short look is no proof of always or never. */
const unseenNanos = 1_000_000_000;

/** The strangers of one GPU. */
export class Strangers {
  /** Time in which every metered server was idle, and the part of it in which the GPU worked; both fade. */
  #idleNanos = 0;
  #workNanos = 0;
  #idleUntil: Nanos = -Infinity;
  #told: Nanos = -Infinity;

  /** Takes in a piece up to `at` in which strangers hold the GPU and every metered server is idle. */
  observeIdle(at: Nanos, nanos: Nanos, works: boolean): void {
    this.#idleUntil = at;
    this.#idleNanos += nanos;
    if (works) this.#workNanos += nanos;
    if (this.#idleNanos <= memoryNanos) return;
    const kept = memoryNanos / this.#idleNanos;
    this.#idleNanos *= kept;
    this.#workNanos *= kept;
  }

  /** True where strangers were seen at work while no metered server can have been. */
  get work(): boolean {
    return this.#idleNanos >= idleNanosMin && this.#workNanos >= workRatioMin * this.#idleNanos;
  }

  /** For how much of the time around `at` they work, by the time in which every metered server was idle; undefined until enough of that was seen. */
  duty(at: Nanos): number | undefined {
    if (this.#idleNanos < idleNanosMin) return undefined;
    const kept = 0.5 ** (Math.max(0, at - this.#idleUntil) / memoryNanos);
    // As one who worked for one unseen second and rested for another would be judged.
    return (kept * this.#workNanos + unseenNanos) / (kept * this.#idleNanos + 2 * unseenNanos);
  }

  /**
   * Returns the stretches up to `until`, not returned before, in which the processes `pids`, there from `from` on, may
   * have worked.
   */
  stretches(
    pids: readonly number[],
    { shares, windows }: Pick<Timeline, "shares" | "windows">,
    from: Nanos,
    until: Nanos,
  ): StrangerStretch[] {
    const start = Math.max(from, this.#told);
    if (pids.length === 0 || until <= start) return [];
    this.#told = until;
    if (shares.length === 0) return this.work || !rested(windows, until) ? [{ from: start, to: until }] : [];
    return shares
      .filter((reading) => reading.to > start && pids.some((pid) => creditOf(reading, pid) > 0))
      .map((reading) => ({ from: Math.max(start, reading.from), to: reading.to }));
  }
}

/** True where the GPU did nothing in some window shortly before `until`: whoever is there, rested. */
function rested(windows: readonly ActivityWindow[], until: Nanos): boolean {
  for (let index = windows.length - 1; index >= 0; index--) {
    const { busyRatio, to } = windows[index] as ActivityWindow;
    if (busyRatio < workingBusyRatio) return true;
    if (to <= until - restNanos) return false;
  }
  return true;
}
