// What the spool could not keep: recent losses in full, totals for ever, and which sequences they were, so that the
// same hole found again at the next start is not reported twice.
import type { Loss, SpoolHeader } from "./spool.ts";

const RECENT_MAX = 50;
const RANGES_MAX = 200;

type Range = readonly [from: number, to: number];

/** The part of the book that is kept in the spool's state. */
export interface KeptLosses {
  readonly records: number;
  readonly points: number;
  /** Absent in a book of an older version. */
  readonly pointsBy?: Readonly<Record<string, number>>;
  readonly ranges: readonly Range[];
  /** Losses with their instants as text: JSON has no bigint. */
  readonly recent: readonly (Omit<Loss, "from" | "to"> & { readonly from: string; readonly to: string })[];
}

/** Every loss of one spool, reported once. */
export class LossBook {
  readonly recent: Loss[] = [];
  readonly #listeners: ((loss: Loss) => void)[] = [];
  readonly #untold: Loss[] = [];
  #ranges: Range[] = [];
  readonly #pointsBy = new Map<string, number>();
  records = 0;
  points = 0;

  constructor(kept: Partial<KeptLosses> = {}) {
    this.records = kept.records ?? 0;
    this.points = kept.points ?? 0;
    for (const [why, points] of Object.entries(kept.pointsBy ?? {})) this.#pointsBy.set(why, points);
    this.#ranges = [...(kept.ranges ?? [])];
    for (const loss of kept.recent ?? []) {
      this.recent.push({ ...loss, from: BigInt(loss.from), to: BigInt(loss.to) });
    }
  }

  /** Points lost since ever, by reason. */
  get pointsBy(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#pointsBy);
  }

  /** Books a loss and reports it, or keeps it for the first listener. `range` = sequences that are gone for everyone. */
  recordLoss(loss: Loss, range?: Range): void {
    this.records += loss.records;
    this.points += loss.points;
    this.#pointsBy.set(loss.why, (this.#pointsBy.get(loss.why) ?? 0) + loss.points);
    if (range !== undefined) this.know(range);
    const same = (one: Loss): boolean => one.why === loss.why && one.destination === loss.destination;
    const open = loss.why === "corrupt" ? undefined : this.recent.find(same);
    if (open === undefined) this.recent.push(loss);
    else this.recent[this.recent.indexOf(open)] = together(open, loss);
    if (this.recent.length > RECENT_MAX) this.recent.shift();
    if (this.#listeners.length === 0) this.#untold.push(loss);
    for (const listener of this.#listeners) listener(loss);
  }

  /** Sequences that are gone for a known reason. */
  know([from, to]: Range): void {
    const last = this.#ranges.at(-1);
    if (last !== undefined && from <= last[1] + 1 && from >= last[0]) {
      this.#ranges[this.#ranges.length - 1] = [last[0], Math.max(to, last[1])];
    } else {
      this.#ranges.push([from, to]);
    }
    if (this.#ranges.length > RANGES_MAX) this.#ranges.shift();
  }

  knows(sequence: number): boolean {
    return this.#ranges.some(([from, to]) => sequence >= from && sequence <= to);
  }

  listen(listener: (loss: Loss) => void): void {
    this.#listeners.push(listener);
    for (const loss of this.#untold.splice(0)) listener(loss);
  }

  keep(): KeptLosses {
    const { points, pointsBy, records } = this;
    const recent = this.recent.map((loss) => ({ ...loss, from: String(loss.from), to: String(loss.to) }));
    return { records, points, pointsBy, ranges: this.#ranges, recent };
  }
}

/** Two losses of one cause as one, from the first to the last. */
function together(a: Loss, b: Loss): Loss {
  const from = a.from < b.from ? a.from : b.from;
  const to = a.to > b.to ? a.to : b.to;
  return { ...b, from, to, records: a.records + b.records, points: a.points + b.points };
}

/** The loss of one record to a destination that wants live telemetry only. */
export function skippedLoss(destination: string, { points, time }: SpoolHeader): Loss {
  return { from: time, to: time, records: 1, points, why: "skipped", destination };
}
