// The bases of one address as rows of the ledger's state, in the transaction that stores what was counted. One row says
// which processes are known; for each 64 series one row has their labels, written once, and one their values.
// Version 1; rows of another version are left out, and the first page is then a first look.
import type { Nanos, StateRow, UnixNanos } from "../../model.ts";
import type { Labels } from "./labels.ts";
import type { Run } from "./runs.ts";
import { JUMP_PER_SECOND, roomy, unseen } from "./runs.ts";
import type { SeriesTable } from "./series-table.ts";

/** What is known of an address beside its series. */
export interface Shared {
  /** Identity of the scale that the counted values are on. */
  scale: string;
  runs: Run[];
  current: Run | undefined;
  /** When the address was first looked at. */
  firstLook: Nanos | undefined;
  /** No process that began before is known never to have been seen. */
  forgottenUntil: Nanos;
  /** Epochs without a time that were forgotten. */
  readonly forgotten: Set<string>;
  /** Several processes were seen to answer. */
  several: boolean;
  /** Their counters are not the same ones. */
  apart: boolean;
  nextRun: number;
}

/** 2: last values may be said to be the counted ones; who knows only 1 must not go on from that. */
const VERSION = 2;
const CHUNK = 64;
const HEAD = "bases";
const COUNTED = "c";

interface HeadRow {
  readonly v: number;
  readonly scale: string;
  readonly firstLook: string;
  readonly forgottenUntil: string | null;
  readonly forgotten: readonly string[];
  readonly several: boolean;
  readonly apart: boolean;
  readonly current: number;
  readonly runs: readonly {
    readonly id: number;
    readonly epoch?: string;
    readonly began?: string;
    readonly fromZero: boolean;
    readonly whole: boolean;
    readonly at: string;
  }[];
}

interface ValuesRow {
  /** Counted values. */
  readonly c: readonly (number | null)[];
  /** Places of series that were not on the last page. */
  readonly g?: readonly number[];
  /** By run: last values, and `_created`. Last values that are the counted ones, as until a process began again, say so. */
  readonly r: Readonly<Record<string, readonly (number | null)[] | typeof COUNTED>>;
  readonly s?: Readonly<Record<string, readonly (number | null)[]>>;
}

/** Writes and reads the rows of one address. */
export class BasesState {
  readonly #table: SeriesTable;
  readonly #shared: Shared;
  readonly #changed = new Set<number>();
  readonly #named = new Set<number>();
  readonly #dropped = new Set<number>();
  #namedUntil = 0;
  /** Anything at all was counted since the last call. */
  #written = "";

  constructor(table: SeriesTable, shared: Shared) {
    this.#table = table;
    this.#shared = shared;
  }

  /** A series has another value, or is new. */
  mark(series: number): void {
    this.#changed.add(series >>> 6);
  }

  /** The series were numbered again: everything is to be written once more, and rows of more of them go. */
  renumbered(before: number): void {
    const chunks = Math.ceil(this.#table.series.length / CHUNK);
    for (let chunk = chunks; chunk * CHUNK < before; chunk++) this.#dropped.add(chunk);
    this.#changed.clear();
    this.#named.clear();
    this.#namedUntil = 0;
    for (let series = 0; series < this.#table.series.length; series += CHUNK) this.mark(series);
  }

  /** Rows that changed since the last call. `present`: whether a series was on the last page. */
  takeChanges(
    prefix: readonly string[],
    unixNanos: (at: Nanos) => UnixNanos,
    present: (series: number) => boolean,
  ): readonly StateRow[] {
    const rows: StateRow[] = [];
    const head = this.#head(unixNanos);
    if (head === undefined) return rows;
    if (head !== this.#written) rows.push({ key: JSON.stringify([...prefix, HEAD]), value: head });
    this.#written = head;
    const { series } = this.#table;
    for (; this.#namedUntil < series.length; this.#namedUntil++) this.#named.add(this.#namedUntil >>> 6);
    for (const chunk of this.#dropped) {
      for (const part of ["names", "values"])
        rows.push({ key: JSON.stringify([...prefix, HEAD, part, chunk]), value: "" });
    }
    this.#dropped.clear();
    for (const chunk of this.#named) {
      const names = series
        .slice(chunk * CHUNK, (chunk + 1) * CHUNK)
        .map(({ name, labels }) => [name, labels]);
      rows.push({ key: JSON.stringify([...prefix, HEAD, "names", chunk]), value: JSON.stringify(names) });
    }
    for (const chunk of this.#changed) {
      const value = JSON.stringify(this.#values(chunk, present));
      rows.push({ key: JSON.stringify([...prefix, HEAD, "values", chunk]), value });
    }
    this.#named.clear();
    this.#changed.clear();
    return rows;
  }

  #head(unixNanos: (at: Nanos) => UnixNanos): string | undefined {
    const { apart, current, firstLook, forgotten, forgottenUntil, runs, scale, several } = this.#shared;
    if (current === undefined || firstLook === undefined) return undefined;
    const text = (at: Nanos): string => String(unixNanos(at));
    const head: HeadRow = {
      v: VERSION,
      scale,
      firstLook: text(firstLook),
      forgottenUntil: Number.isFinite(forgottenUntil) ? text(forgottenUntil) : null,
      forgotten: [...forgotten],
      several,
      apart,
      current: current.id,
      runs: runs.map(({ at, began, epoch, fromZero, id, whole }) => ({
        id,
        ...(epoch === undefined ? {} : { epoch }),
        ...(began === undefined ? {} : { began: text(began) }),
        fromZero,
        whole,
        at: text(at),
      })),
    };
    return JSON.stringify(head);
  }

  #values(chunk: number, present: (series: number) => boolean): ValuesRow {
    const { series } = this.#table;
    const from = chunk * CHUNK;
    const to = Math.min(series.length, from + CHUNK);
    const counted: (number | null)[] = [];
    const gone: number[] = [];
    for (let number = from; number < to; number++) {
      counted.push(this.#table.isListed(number) ? (series[number]?.value ?? null) : null);
      if (!present(number)) gone.push(number - from);
    }
    const last: Record<string, readonly (number | null)[] | typeof COUNTED> = {};
    const created: Record<string, readonly (number | null)[]> = {};
    for (const run of this.#shared.runs) {
      const began = partOf(run.created, from, to);
      if (began !== undefined) created[run.id] = began;
      // Nearly always: then no list of them is made.
      const values = isCounted(run.raw, counted, from) ? COUNTED : partOf(run.raw, from, to);
      if (values !== undefined) last[run.id] = values;
    }
    return {
      c: counted,
      ...(gone.length > 0 ? { g: gone } : {}),
      r: last,
      ...(Object.keys(created).length > 0 ? { s: created } : {}),
    };
  }

  /** Continues from rows of an earlier run: the series that were not on its last page, or undefined where there is nothing to go on from. */
  restore(rows: readonly StateRow[], instant: (at: UnixNanos) => Nanos): ReadonlySet<number> | undefined {
    const byKey = new Map<string, string>();
    for (const { key, value } of rows) {
      const parts = JSON.parse(key) as unknown[];
      const at = parts.indexOf(HEAD);
      if (at >= 0) byKey.set(parts.slice(at + 1).join(), value);
    }
    const head = parsed<HeadRow>(byKey.get(""));
    if (head?.v !== 1 && head?.v !== VERSION) return undefined;
    const shared = this.#shared;
    const time = (text: string): Nanos => instant(BigInt(text));
    for (const one of head.runs) {
      const run = restoredRun(one, time);
      shared.runs.push(run);
      if (one.id === head.current) shared.current = run;
      shared.nextRun = Math.max(shared.nextRun, one.id + 1);
    }
    if (shared.current === undefined) return undefined;
    shared.scale = head.scale;
    shared.firstLook = time(head.firstLook);
    if (head.forgottenUntil !== null) shared.forgottenUntil = time(head.forgottenUntil);
    for (const epoch of head.forgotten) shared.forgotten.add(epoch);
    shared.several = head.several;
    shared.apart = head.apart;
    return this.#restoreSeries(byKey);
  }

  #restoreSeries(byKey: ReadonlyMap<string, string>): ReadonlySet<number> {
    const gone = new Set<number>();
    for (let chunk = 0; ; chunk++) {
      const names = parsed<readonly (readonly [string, Labels])[]>(byKey.get(`names,${chunk}`));
      if (names === undefined) break;
      const values = parsed<ValuesRow>(byKey.get(`values,${chunk}`));
      for (const [place, [name, labels]] of names.entries()) {
        const series = this.#table.number(name, labels);
        const counted = this.#table.series[series];
        const value = values?.c[place];
        if (counted === undefined || value === null || value === undefined) continue;
        counted.value = value;
        this.#table.list(series);
        for (const run of this.#shared.runs) {
          run.raw = roomy(run.raw, series + 1);
          const last = values?.r[run.id];
          run.raw[series] = (last === COUNTED ? value : last?.[place]) ?? Number.NaN;
          const created = values?.s?.[run.id]?.[place];
          if (created === null || created === undefined) continue;
          run.created = roomy(run.created ?? unseen(64), series + 1);
          run.created[series] = created;
        }
      }
      for (const place of values?.g ?? []) gone.add(chunk * CHUNK + place);
    }
    this.#namedUntil = this.#table.series.length;
    return gone;
  }
}

function restoredRun(one: HeadRow["runs"][number], time: (text: string) => Nanos): Run {
  return {
    id: one.id,
    epoch: one.epoch,
    began: one.began === undefined ? undefined : time(one.began),
    fromZero: one.fromZero,
    raw: unseen(64),
    created: undefined,
    at: time(one.at),
    page: 2,
    whole: one.whole,
    // Its last page may have been cut: nothing that was not on it is gone for that.
    wholePage: 1,
    pace: JUMP_PER_SECOND,
    held: new Map(),
    suspects: new Map(),
  };
}

/** Whether a column says from `from` on what was counted, and says anything. */
function isCounted(column: Float64Array, counted: readonly (number | null)[], from: number): boolean {
  let isKnown = false;
  for (let place = 0; place < counted.length; place++) {
    const value = column[from + place] ?? Number.NaN;
    const isUnknown = Number.isNaN(value);
    if (isUnknown ? counted[place] !== null : value !== counted[place]) return false;
    isKnown ||= !isUnknown;
  }
  return isKnown;
}

/** `[from, to)` of a column, null where it says nothing; undefined where it says nothing at all. */
function partOf(column: Float64Array | undefined, from: number, to: number): (number | null)[] | undefined {
  if (column === undefined) return undefined;
  const part: (number | null)[] = [];
  let isKnown = false;
  for (let place = from; place < to; place++) {
    const value = column[place] ?? Number.NaN;
    isKnown ||= !Number.isNaN(value);
    part.push(Number.isNaN(value) ? null : value);
  }
  return isKnown ? part : undefined;
}

function parsed<Shape>(text: string | undefined): Shape | undefined {
  return text === undefined || text === "" ? undefined : (JSON.parse(text) as Shape);
}
