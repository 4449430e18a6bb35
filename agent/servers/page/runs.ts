// The processes that answered at one address, each with the last value of every series it showed (METERING.md 7).
// A process is known by its start time, by the `_created` of its series, or, where a page has neither, by values that go
// on from where they were. Bounded: the run that has not answered for longest makes room.
import type { Nanos } from "../../model.ts";

/** One process, or one stretch of pages that go on from each other. */
export interface Run {
  readonly id: number;
  /** What the page says of the process; undefined where it says nothing. */
  epoch: string | undefined;
  began: Nanos | undefined;
  /** It began while this address was watched: a series that is new in it began at zero. */
  readonly fromZero: boolean;
  /** Last value of each series by its number; NaN = never shown. */
  raw: Float64Array;
  /** `_created` of each series in unix seconds; undefined where the page has none. */
  created: Float64Array | undefined;
  /** Instant and number of its last page. */
  at: Nanos;
  page: number;
  /** A page of it was surely whole: what is not known from then on was not there. */
  whole: boolean;
  /** Number of its last page that was; 0 = none. */
  wholePage: number;
  /** Tokens per second and series that are believed at once. */
  pace: number;
  /** Series that fell and are held at their highest value. */
  readonly held: Map<number, Held>;
  /** Series that rose by more than any server can make, with the value they rose to. */
  readonly suspects: Map<number, number>;
}

/** A series below its base. */
export interface Held {
  /** Pages on which it was. */
  pages: number;
  /** The base it had, once the lower level was taken for one. */
  peak: number | undefined;
}

/** A stretch of pages that fits no run and is not believed yet. */
export interface Candidate {
  /** Its last page. */
  last: Float64Array;
  at: Nanos;
  /** Pages that went on from each other, and pages that rose by more than is believed at once. */
  pages: number;
  rises: number;
  /** Everything fell to little after a look had failed: a restart, unless another process answers in between. */
  restart: boolean;
  /** It rose by more than is believed at once. */
  readonly jump: boolean;
  /** Another process: most of it fell far, or a known one answered in between. Else a few series are held. */
  beside: boolean;
}

/** What is known of a page beside its samples. */
export interface PageLook {
  readonly at: Nanos;
  /** Identity of the process that answered, and when it began, where it says so. */
  readonly epoch: string | undefined;
  readonly began: Nanos | undefined;
  /** When the oldest of all series on the page began, where they say so. */
  readonly oldest: () => Nanos | undefined;
  /** The agent's instant of the server's unix seconds. */
  readonly instant: (unixSeconds: number) => Nanos;
  /** Since the page before a look failed, or the connection is another one. */
  readonly interrupted: "failed" | "renewed" | undefined;
  /** Surely the whole page, without a line that could not be read. */
  readonly whole: boolean;
}

/** The series of one page by number, with their values. */
export interface Values {
  readonly numbers: Int32Array;
  readonly values: Float64Array;
  readonly created: Float64Array;
  size: number;
  hasCreated: boolean;
}

/** Runs remembered at most. */
export const RUNS_MAX = 16;
/** Tokens per second and series that are believed at once of a page that names no process. */
export const JUMP_PER_SECOND = 10_000;
/** Candidates remembered at most. */
export const CANDIDATES_MAX = 8;

/** An empty column, every place never seen. */
export function unseen(size: number): Float64Array {
  return new Float64Array(size).fill(Number.NaN);
}

/** The column with room for `size` places. */
export function roomy(column: Float64Array, size: number): Float64Array {
  if (size <= column.length) return column;
  const grown = unseen(Math.max(size, 2 * column.length));
  grown.set(column);
  return grown;
}

/** How a page relates to values seen before. */
export interface Comparison {
  /** Series both have. */
  readonly common: number;
  readonly fell: number;
  /** Of those, fallen below half. */
  readonly far: number;
  /** Sum of all that rose. */
  readonly rise: number;
  /** The most that one series rose. */
  readonly most: number;
}

/** Compares a page with the values of a run: the series that count, but for the falls of those that are excused. */
export function compare(
  page: Values,
  raw: Float64Array,
  counts: (series: number) => boolean,
  excused: (series: number) => boolean = () => false,
): Comparison {
  let [common, fell, far, rise, most] = [0, 0, 0, 0, 0];
  for (let place = 0; place < page.size; place++) {
    const series = page.numbers[place] as number;
    const before = raw[series] as number;
    if (!(before >= 0) || !counts(series)) continue;
    const value = page.values[place] as number;
    if (value < before) {
      if (excused(series)) continue;
      fell++;
      if (value < before / 2) far++;
    } else if (value > before) {
      rise += value - before;
      if (value - before > most) most = value - before;
    }
    common++;
  }
  return { common, fell, far, rise, most };
}

/** How many series of a page have the `_created` they had in a run, and how many have another. */
export function sameCreated(page: Values, run: Run): readonly [number, number] {
  let [same, other] = [0, 0];
  for (let place = 0; place < page.size; place++) {
    const now = page.created[place] as number;
    const before = run.created?.[page.numbers[place] as number] ?? Number.NaN;
    if (!(now > 0) || !(before > 0)) continue;
    if (now === before) same++;
    else other++;
  }
  return [same, other];
}

/** The values of a page as a column. */
export function columnOf(page: Values, size: number): Float64Array {
  const column = unseen(size);
  for (let place = 0; place < page.size; place++) {
    column[page.numbers[place] as number] = page.values[place] as number;
  }
  return column;
}

/**
 * When a page is of by what it shows of a run: `older` where some counters stand lower than they stood and none higher, as
 * on a copy from before; `newer` where something moved; `alike` where nothing did, and the page may be of either side.
 */
export function ageOf(page: Values, run: Run): "older" | "alike" | "newer" {
  let [fell, isNew] = [false, false];
  for (let place = 0; place < page.size; place++) {
    const before = run.raw[page.numbers[place] as number] as number;
    const value = page.values[place] as number;
    if (value > before) return "newer";
    fell ||= value < before;
    isNew ||= Number.isNaN(before) && value > 0;
  }
  if (fell) return "older";
  return isNew ? "newer" : "alike";
}

/** Gives the columns of a run the new numbers of its series. */
export function moveRun(run: Run, numbers: Int32Array, size: number): void {
  const move = (column: Float64Array): Float64Array => {
    const moved = unseen(Math.max(64, size));
    for (let old = 0; old < numbers.length; old++) {
      const number = numbers[old] as number;
      if (number >= 0) moved[number] = column[old] ?? Number.NaN;
    }
    return moved;
  };
  run.raw = move(run.raw);
  if (run.created !== undefined) run.created = move(run.created);
  for (const held of [run.held, run.suspects] as Map<number, unknown>[]) {
    const entries = [...held];
    held.clear();
    for (const [old, value] of entries)
      if ((numbers[old] ?? -1) >= 0) held.set(numbers[old] as number, value);
  }
}
