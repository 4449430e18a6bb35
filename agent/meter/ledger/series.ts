// One series of the ledger: identity, start, running total, whether it ended.
// What exporters see of it is laid out in columns (shown.ts); its place there and what is said of it once are kept here.
import type {
  Dimensions,
  Histogram,
  Nanos,
  SaidOnce,
  SeriesRole,
  SeriesState,
  UnixNanos,
} from "../../model.ts";
import type { SeriesChanges } from "./columns.ts";
import { RunningHistogram } from "./running-histogram.ts";
import { RunningTotal } from "./running-total.ts";

type Life = "live" | "ending" | "ended";

/** A total as it was at its end, when that was, and whether a snapshot carried it since. */
interface Back {
  readonly value: bigint | Histogram;
  readonly since: UnixNanos;
  isSaid: boolean;
}

/** The last value of a gauge. */
interface Seen {
  value: number;
  at: Nanos;
  everyMs: number;
}

/** What the movements of a series in an open bucket are added to; each knows the other as long as both are there. */
export interface OpenCell {
  holder: { cell: OpenCell | undefined } | undefined;
}

/** What an exported series was kept under last: nearly always what it is kept under next. */
export interface KeptLink {
  readonly exported: Series;
  readonly kept: Series;
  /** The set it was found by. */
  readonly dimensions: Dimensions;
}

/** What is said at an end takes the millisecond after it. */
const afterEndNanos = 2_000_000n;
const NOTHING_SEEN: Readonly<Seen> = { value: 0, at: 0, everyMs: 0 };
/** So long a page shows the old total of a series that is back: scrapers see it first, and then the difference. */
const backNanos = 120_000_000_000n;

/** A running total. Owned by the ledger. */
export class Series extends RunningTotal {
  readonly id: number;
  readonly metric: string;
  readonly dimensions: Dimensions;
  readonly kind: "sum" | "histogram" | "gauge";
  /** The snapshot that first carried it may never have left the host. */
  announceAgain = false;
  life: Life = "live";
  /** Differs from what was last handed to the store. */
  changed = true;
  /** Something happened to it since the last snapshot. */
  isTouched = false;
  /** Where it stands in the last snapshot; -1 where it does not. */
  place = -1;
  /** Sequence of the snapshot before its last movement. */
  movedAfter = 0;
  /** End of the interval committed before its last movement. */
  movedAt: UnixNanos = 0n;
  /** What its movements of the last bucket are added to; owned by buckets.ts. */
  cell: OpenCell | undefined;
  /** To the series that keeps it, or that it keeps; owned by kept-series.ts. */
  link: KeptLink | undefined;
  /** What it had when it ended, while it is just back. */
  #back: Back | undefined;
  /** Of a gauge alone: a host has thousands of sums for each. */
  #seen: Seen | undefined;
  #role: SeriesRole | undefined;
  #start: UnixNanos;
  #announced: number | undefined;
  #endedAt: UnixNanos | undefined;
  /** Nothing but the total changed since the store was given the whole. */
  #isHandedOut = false;
  #histogram: RunningHistogram | undefined;

  constructor(id: number, kind: Series["kind"], metric: string, dimensions: Dimensions, start: UnixNanos) {
    super();
    this.id = id;
    this.kind = kind;
    this.metric = metric;
    this.dimensions = dimensions;
    this.#start = start;
  }

  /** The last value of a gauge; it is written over. */
  get seen(): Readonly<Seen> {
    return this.#seen ?? NOTHING_SEEN;
  }

  /** Takes a value of a gauge. */
  see(value: number, at: Nanos, everyMs: number): void {
    this.#seen ??= { value, at, everyMs };
    this.#seen.value = value;
    this.#seen.at = at;
    this.#seen.everyMs = everyMs;
  }

  get role(): SeriesRole | undefined {
    return this.#role;
  }

  set role(role: SeriesRole | undefined) {
    this.#isHandedOut &&= role === this.#role;
    this.#role = role;
  }

  get start(): UnixNanos {
    return this.#start;
  }

  set start(start: UnixNanos) {
    this.#isHandedOut &&= start === this.#start;
    this.#start = start;
  }

  /** Sequence of the first snapshot that carried it; undefined before. */
  get announced(): number | undefined {
    return this.#announced;
  }

  set announced(announced: number | undefined) {
    this.#isHandedOut &&= announced === this.#announced;
    this.#announced = announced;
  }

  get endedAt(): UnixNanos | undefined {
    return this.#endedAt;
  }

  set endedAt(endedAt: UnixNanos | undefined) {
    this.#isHandedOut &&= endedAt === this.#endedAt;
    this.#endedAt = endedAt;
  }

  /** The series a state describes. */
  static restored(state: SeriesState): Series {
    const isSum = typeof state.total === "string";
    const series = new Series(
      state.series,
      isSum ? "sum" : "histogram",
      state.metric,
      state.dimensions,
      BigInt(state.start),
    );
    if (typeof state.total === "string") series.total = BigInt(state.total);
    else series.#histogram = new RunningHistogram(state.total);
    series.announced = state.announced;
    series.changed = false;
    series.role = state.role;
    if (state.ended !== undefined) {
      series.life = "ended";
      series.endedAt = BigInt(state.ended);
    }
    return series;
  }

  /** The series as plain data. Only of a series that was committed, and never of a gauge. */
  state(): SeriesState {
    return {
      series: this.id,
      metric: this.metric,
      dimensions: this.dimensions,
      start: String(this.start),
      total: this.kind === "histogram" ? this.histogram : String(this.total),
      announced: this.announced ?? 0,
      ...(this.endedAt === undefined ? {} : { ended: String(this.endedAt) }),
      ...(this.role === undefined ? {} : { role: this.role }),
    };
  }

  /** Hands itself out to be stored: whole at first and where more than its total changed, else by its number alone. */
  handOut(changes: SeriesChanges): void {
    this.changed = false;
    const isSum = this.kind !== "histogram";
    if (!this.#isHandedOut || (isSum && this.isTooLarge)) {
      changes.writeNamed(this.state());
      this.#isHandedOut = true;
    } else if (isSum) changes.writeTotal(this.id, this);
    else changes.writeHistogram(this.id, this.histogram);
  }

  get histogram(): Histogram {
    return this.#histogram?.histogram ?? { bounds: [], counts: [0], sum: 0, count: 0 };
  }

  /** Adds a histogram; false when its bounds are not those of this series. */
  addHistogram(moved: Histogram): boolean {
    if (this.#histogram !== undefined) return this.#histogram.addHistogram(moved);
    this.#histogram = new RunningHistogram(moved);
    return true;
  }

  /** A movement comes, at the latest after `time`: what had ended lives again. */
  revive(time: UnixNanos): void {
    if (this.life === "ended" && this.announced !== undefined)
      this.#back = {
        value: this.kind === "histogram" ? this.histogram : this.total,
        since: time,
        isSaid: false,
      };
    this.life = "live";
    this.endedAt = undefined;
    this.changed = true;
    this.movedAt = time;
  }

  /** It is given up: nothing that stays may hold it. */
  letGo(): void {
    if (this.cell !== undefined) this.cell.holder = undefined;
    this.cell = undefined;
    const { link } = this;
    if (link === undefined) return;
    link.exported.link = undefined;
    link.kept.link = undefined;
  }

  /** Ends with the next snapshot, which says so once. */
  end(): void {
    this.life = "ending";
    this.changed = true;
  }

  /** What its last point said once never left: the next one says it again. */
  sayAgain({ back, ended, isNew }: SaidOnce): void {
    if (isNew) this.announceAgain = true;
    if (ended && this.life === "ended") this.life = "ending";
    if (back?.at === undefined) return;
    this.#back = { value: back.value, since: back.at - afterEndNanos, isSaid: false };
  }

  /** Begins a new run from zero at `start`: the next snapshot announces it again. */
  startAnew(start: UnixNanos): void {
    this.total = 0n;
    this.#histogram = this.#histogram?.emptied();
    this.start = start;
    this.announced = undefined;
    this.changed = true;
    this.#back = undefined;
  }

  /** Takes other bounds from zero on. */
  startWithBounds(start: UnixNanos, moved: Histogram): void {
    this.startAnew(start);
    this.#histogram = new RunningHistogram(moved);
  }

  /** Whether the next snapshot says of it what the last one said, but for its value. */
  get isSteady(): boolean {
    return (
      this.place !== -1 &&
      this.life === "live" &&
      this.#announced !== undefined &&
      !this.announceAgain &&
      this.#back === undefined
    );
  }

  /** What a snapshot at `time` says beside the value; undefined where that is nothing. */
  saidAt(time: UnixNanos, isNew: boolean): SaidOnce | undefined {
    const ended = this.life === "ending";
    if (!isNew && !ended && this.#back === undefined) return undefined;
    return { isNew, ended, ...(this.#back === undefined ? {} : this.#backAt(this.#back, time)) };
  }

  /** Whether the store has it: it was shown, and is no gauge. */
  get isRecorded(): boolean {
    return this.kind !== "gauge" && this.announced !== undefined;
  }

  /** Whether nothing moved it since `before`; never while pages show its old total still: the new one must be seen first. */
  restsSince(before: UnixNanos): boolean {
    return this.kind !== "gauge" && this.life === "live" && this.movedAt < before && this.#back === undefined;
  }

  /** Whether its old total cannot be said yet: no time has passed since the end of it was. */
  isTooSoon(time: UnixNanos): boolean {
    return this.#back?.isSaid === false && time <= this.#back.since + afterEndNanos;
  }

  /** The old total goes before the first new one, after all that was said when it ended, and is shown a while. */
  #backAt(back: Back, time: UnixNanos): Pick<SaidOnce, "back"> {
    if (time - back.since > backNanos) {
      this.#back = undefined;
      // What is new is seen from here on: a rest begins with that.
      this.movedAt = time;
    }
    const isFirst = !back.isSaid;
    back.isSaid = true;
    return { back: isFirst ? { value: back.value, at: back.since + afterEndNanos } : { value: back.value } };
  }
}

/** Whether a gauge has had no new value for three of its periods. */
export function isStale({ seen }: Series, at: Nanos): boolean {
  return at - seen.at > 3 * seen.everyMs * 1e6;
}
