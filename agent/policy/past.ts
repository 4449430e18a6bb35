// Quotas over a past: what each would have had used in each of its windows, when it would have come to its limits, and what
// came after. A fold over what the ledger booked, stretch by stretch (a bucket, or a whole UTC day where no more is kept).
// Usage counts where it was used; what was booked after its bucket was closed can have limited nothing before it came, and
// what came when its window was over is told apart: the agent counted it in no window. What calls charged is not in it.
import type { Dimensions } from "../model.ts";
import type { Quota } from "./config.ts";
import type { KeyValues, QuotaState } from "./counter.ts";
import type { Beyond, PastTarget } from "./past-targets.ts";
import { addBeyond, beyondNothing, targetOf } from "./past-targets.ts";
import { stateOf } from "./states.ts";
import type { Window } from "./windows.ts";
import { windowAt } from "./windows.ts";

/** What a series moved in one stretch. Movements come in the order of their stretches. */
export interface PastMovement {
  readonly metric: string;
  /** One object a series: it is known again by it. */
  readonly dimensions: Dimensions;
  readonly amount: bigint;
  /** The stretch, unix milliseconds. */
  readonly from: number;
  readonly to: number;
  /** When it was booked, where that was after the stretch had been closed. */
  readonly arrived?: number | undefined;
}

/** The time that is looked at, unix milliseconds. Windows that begin before it are counted from their start. */
export interface PastFrame {
  readonly from: number;
  readonly to: number;
  /** Since when, and until when, anything is known. */
  readonly heldFrom: number;
  readonly heldTo: number;
  /** When an agent began with a ledger that may lack what was used before: a copy, or one that was brought back. */
  readonly doubtedAt: readonly number[];
  /** Whether anything of that family was ever counted: without it a quota without usage is not known, not unused. */
  readonly isFed: (source: Quota["source"]) => boolean;
}

/** A share of a limit that was reached, in the stretch `[from, to)`. */
export interface Reached {
  readonly share: number;
  readonly from: number;
  readonly to: number;
}

/** One counter in one window. Amounts are fine units of the quota. */
export interface PastWindow {
  readonly quota: Quota;
  readonly values: KeyValues;
  readonly window: Window;
  /** It is over, and the frame goes to its end. */
  readonly ended: boolean;
  /** Everything since the window's start is known. */
  readonly isComplete: boolean;
  /** All of it, what came late too; undefined where nothing counts for the quota. */
  readonly used: bigint | undefined;
  /** The part that was booked when the window was over. */
  readonly late: bigint;
  /** At the end, without what came late. */
  readonly state: QuotaState;
  /** Every share of `warnAt` and the limit itself, lowest first. */
  readonly reached: readonly Reached[];
  /** What was asked for in the stretch in which the limit was reached, before or after it. */
  readonly meanwhile: Beyond;
  /** What was asked for in the stretches after it. */
  readonly after: Beyond;
}

/** Windows of which only the sum with their neighbours is kept. */
export interface CutWindows {
  readonly quota: Quota;
  readonly windows: number;
  /** From the first to the end of the last. */
  readonly from: number;
  readonly to: number;
}

/**
 * Hands every window of these quotas that meets the frame to `onWindow`, those of one quota in order, and returns what could
 * not be told apart. Of a minute nothing is known: leave such quotas out.
 */
export function replayPast(
  quotas: readonly Quota[],
  movements: Iterable<PastMovement>,
  frame: PastFrame,
  onWindow: (window: PastWindow) => void,
): readonly CutWindows[] {
  const tracks = quotas.map((quota) => new Track(quota, frame, onWindow));
  let stretch: PastMovement[] = [];
  const close = (): void => {
    for (const track of tracks) track.take(stretch);
    stretch = [];
  };
  for (const movement of movements) {
    if (stretch.length > 0 && stretch[0]?.from !== movement.from) close();
    stretch.push(movement);
  }
  close();
  for (const track of tracks) track.finish();
  return tracks.flatMap(({ cut }) => (cut === undefined ? [] : [cut]));
}

/** Where the oldest window of a frame begins: from there on movements are wanted. */
export function pastStart(quotas: readonly Quota[], from: number): number {
  return Math.min(from, ...quotas.map(({ per, zone }) => windowAt(from, per, zone).from));
}

/** A counter in its current window. */
interface Run {
  readonly values: KeyValues;
  used: bigint;
  late: bigint;
  reached: Reached[];
  meanwhile: Beyond;
  after: Beyond;
}

/** What arrives in a stretch: in it, or of an earlier one of the same window. */
interface Arrival {
  readonly target: PastTarget;
  readonly amount: bigint;
}

interface Stretch {
  readonly from: number;
  readonly to: number;
}

/** One quota on its way through the past. */
class Track {
  cut: CutWindows | undefined;
  readonly #quota: Quota;
  readonly #frame: PastFrame;
  readonly #thresholds: readonly (readonly [share: number, amount: bigint])[];
  readonly #onWindow: (window: PastWindow) => void;
  readonly #runs = new Map<string, Run>();
  /** Booked late and inside of the window, by the stretch it came in. */
  readonly #waiting = new Map<number, Arrival[]>();
  readonly #targets = new WeakMap<Dimensions, PastTarget | null>();
  #window: Window;
  #isCut = false;

  constructor(quota: Quota, frame: PastFrame, onWindow: (window: PastWindow) => void) {
    this.#onWindow = onWindow;
    this.#quota = quota;
    this.#frame = frame;
    this.#window = windowAt(
      Math.max(frame.from, Math.min(frame.heldFrom, frame.to - 1)),
      quota.per,
      quota.zone,
    );
    const millionth = (share: number): bigint => quota.hostLimit * BigInt(Math.round(share * 1e6));
    this.#thresholds = [...quota.warnAt, 1].map((share) => [share, millionth(share)]);
  }

  /** Takes all movements of one stretch. */
  take(movements: readonly PastMovement[]): void {
    const first = movements[0];
    if (first === undefined || first.from >= this.#frame.to) return;
    const arrivals: {
      readonly target: PastTarget;
      readonly amount: bigint;
      readonly arrived?: number | undefined;
    }[] = [];
    for (const one of movements) {
      const target = this.#targetOf(one);
      if (target !== null) arrivals.push({ target, amount: one.amount, arrived: one.arrived });
    }
    if (arrivals.length === 0 || first.to <= this.#window.from) return;
    this.#goTo(first);
    if (this.#isCut) return;
    const length = first.to - first.from;
    const now: Arrival[] = [];
    for (const { amount, arrived, target } of arrivals) {
      const at = arrived === undefined ? first.from : Math.floor((arrived - 1) / length) * length;
      if (arrived !== undefined && arrived > this.#window.to) this.#bookLate(target, amount);
      else if (at <= first.from) now.push({ target, amount });
      else this.#waiting.set(at, [...(this.#waiting.get(at) ?? []), { target, amount }]);
    }
    const waited = this.#waiting.get(first.from) ?? [];
    this.#waiting.delete(first.from);
    this.#apply(first, [...waited, ...now]);
  }

  /** Closes what is open. */
  finish(): void {
    while (this.#window.from < this.#frame.to) this.#roll();
  }

  /** Makes the window of a stretch the current one; marks those that it does not lie inside of. */
  #goTo({ from, to }: Stretch): void {
    while (from >= this.#window.to) this.#roll();
    if (from < this.#window.from || to > this.#frame.to) this.#isCut = true;
    while (to > this.#window.to) {
      this.#isCut = true;
      this.#roll();
      this.#isCut = true;
    }
    this.#flush(from);
  }

  #roll(): void {
    this.#flush(Number.POSITIVE_INFINITY);
    if (this.#isCut) this.#noteCut();
    else {
      if (this.#quota.wild.length === 0 && this.#runs.size === 0) this.#runOf({ key: "[]", values: {} });
      for (const run of this.#runs.values()) this.#onWindow(this.#close(run));
    }
    this.#runs.clear();
    this.#isCut = false;
    this.#window = windowAt(this.#window.to, this.#quota.per, this.#quota.zone);
  }

  #noteCut(): void {
    const { from, to } = this.#window;
    this.cut = {
      quota: this.#quota,
      windows: (this.cut?.windows ?? 0) + 1,
      from: this.cut?.from ?? from,
      to,
    };
  }

  /** Books what waited for stretches before an instant, in their order. */
  #flush(before: number): void {
    const due = [...this.#waiting.keys()].filter((at) => at < before).sort((a, b) => a - b);
    for (const at of due) {
      const waited = this.#waiting.get(at) ?? [];
      this.#waiting.delete(at);
      // Stretches that something waits for are buckets: of a day nothing is known to have been late.
      this.#apply({ from: at, to: at + stretchMillis }, waited);
    }
  }

  #apply({ from, to }: Stretch, arrivals: readonly Arrival[]): void {
    const changed = new Set<Run>();
    for (const { amount, target } of arrivals) {
      const run = this.#runOf(target);
      if (target.factor !== undefined) run.used += amount * target.factor;
      changed.add(run);
    }
    const overBefore = new Set([...changed].filter(isOver));
    for (const run of changed) {
      for (const [share, amount] of this.#thresholds.slice(run.reached.length)) {
        if (run.used * 1_000_000n < amount) break;
        run.reached.push({ share, from, to });
      }
    }
    for (const { amount, target } of arrivals) {
      const run = this.#runOf(target);
      if (overBefore.has(run)) run.after = addBeyond(run.after, target, amount);
      else if (isOver(run)) run.meanwhile = addBeyond(run.meanwhile, target, amount);
    }
  }

  #bookLate(target: PastTarget, amount: bigint): void {
    if (target.factor === undefined) return;
    this.#runOf(target).late += amount * target.factor;
  }

  #close({ after, late, meanwhile, reached, used, values }: Run): PastWindow {
    const [quota, window, frame] = [this.#quota, this.#window, this.#frame];
    const isDoubted = frame.doubtedAt.some((at) => at >= window.from && at < window.to);
    const isComplete = frame.heldFrom <= window.from && !isDoubted;
    const isKnown = used !== 0n || late !== 0n || frame.isFed(quota.source);
    // A void may take back more than its window had.
    const counted = used > 0n ? used : 0n;
    return {
      ...{ quota, values, window, isComplete, late, reached, meanwhile, after },
      ended: window.to <= Math.min(frame.to, frame.heldTo),
      used: isKnown ? (used + late > 0n ? used + late : 0n) : undefined,
      state: stateOf(quota, isKnown ? counted : undefined, quota.hostLimit, isComplete),
    };
  }

  #runOf({ key, values }: Pick<PastTarget, "key" | "values">): Run {
    let run = this.#runs.get(key);
    if (run === undefined) {
      const nothing = { meanwhile: beyondNothing, after: beyondNothing };
      run = { values, used: 0n, late: 0n, reached: [], ...nothing };
      this.#runs.set(key, run);
    }
    return run;
  }

  #targetOf({ dimensions, metric }: PastMovement): PastTarget | null {
    let target = this.#targets.get(dimensions);
    if (target === undefined) {
      target = targetOf(this.#quota, metric, dimensions) ?? null;
      this.#targets.set(dimensions, target);
    }
    return target;
  }
}

const stretchMillis = 900_000;

function isOver({ reached }: Run): boolean {
  return reached.at(-1)?.share === 1;
}
