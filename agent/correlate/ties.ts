// Whether the GPUs of a server work together, as those of one rank do (tensor parallel), or each for requests of its own:
// how alike the busy time of each changes from second to second. What works together is seen several times, not executed
// several times, and the gauges of the server speak of each of its GPUs.
import type { Nanos } from "../model.ts";
import type { ActivityWindow } from "./activity/evidence.ts";
import { coarseNanos } from "./activity/level.ts";

/** Length of the stretches compared. */
const slotNanos = 1_000_000_000;
/** Older changes fade, and how many it takes. */
const [keptRatio, changesMin] = [0.95, 8];
/** GPUs whose changes agree this far, 1 being always and 0 by chance alone, work together. */
const agreedMin = 0.7;
/** Those that agree less than this each work for themselves. */
const apartMax = 0.35;

/** The GPUs of one server. */
export class Ties {
  #reached: Nanos | undefined;
  #before: readonly Nanos[] | undefined;
  #changes = 0;
  /** Sums of squared changes of each GPU, and of products of those of two of them. */
  #own = 0;
  #common = 0;

  /** True where all GPUs work together. */
  get areTied(): boolean {
    return this.#changes >= changesMin && this.#common >= agreedMin * this.#own;
  }

  /** True where each was seen to work for itself. */
  get areApart(): boolean {
    return this.#changes >= changesMin && this.#common < apartMax * this.#own;
  }

  /** Takes in what windows show up to `until`, by GPU; each list is in order. */
  observe(lists: readonly (readonly ActivityWindow[])[], until: Nanos): void {
    this.#reached ??= Math.floor(until / slotNanos) * slotNanos;
    for (; this.#reached + slotNanos <= until; this.#reached += slotNanos) {
      const now = busyOf(lists, this.#reached);
      if (now !== undefined && this.#before?.length === now.length) this.#compare(this.#before, now);
      this.#before = now;
    }
  }

  #compare(before: readonly Nanos[], now: readonly Nanos[]): void {
    let [sum, own] = [0, 0];
    for (let index = 0; index < now.length; index++) {
      const change = ((now[index] as Nanos) - (before[index] as Nanos)) / slotNanos;
      sum += change;
      own += change ** 2;
    }
    if (own <= 0) return;
    this.#changes++;
    this.#own = this.#own * keptRatio + own;
    this.#common = this.#common * keptRatio + (sum ** 2 - own) / (now.length - 1);
  }
}

/** How busy each GPU was in the stretch from `from` on; undefined where fine windows do not cover all of them. */
function busyOf(lists: readonly (readonly ActivityWindow[])[], from: Nanos): readonly Nanos[] | undefined {
  const all: Nanos[] = [];
  for (const windows of lists) {
    const busy = busyIn(windows, from, from + slotNanos);
    if (busy === undefined) return undefined;
    all.push(busy);
  }
  return all;
}

function busyIn(windows: readonly ActivityWindow[], from: Nanos, to: Nanos): Nanos | undefined {
  let [busy, covered] = [0, 0];
  for (let index = windows.length - 1; index >= 0; index--) {
    const window = windows[index] as ActivityWindow;
    if (window.to <= from) break;
    const inside = Math.min(window.to, to) - Math.max(window.from, from);
    if (inside <= 0) continue;
    if (window.to - window.from > coarseNanos) return undefined;
    busy += inside * window.busyRatio;
    covered += inside;
  }
  return 2 * covered >= to - from ? busy : undefined;
}
