// What was counted of every counter series of one page, whatever the page does (METERING.md 7): series that go and come
// back, values that fall, pages that are cut, restarts, several processes behind one address. Sums over the counted
// series never fall and count no token twice; what is held back or left out is said in `notes`.
import type { Nanos, SourceNote, StateRow, UnixNanos } from "../../model.ts";
import type { MetricPage, MetricSample } from "../../source.ts";
import type { Shared } from "./bases-state.ts";
import { BasesState } from "./bases-state.ts";
import { Judge } from "./judge.ts";
import { Notes } from "./notes.ts";
import type { PageLook, Run, Values } from "./runs.ts";
import { ageOf, moveRun, roomy, unseen } from "./runs.ts";
import { SeriesTable } from "./series-table.ts";

/** One page as it is to be read. */
export interface CountedPage {
  readonly page: MetricPage;
  /** When the process that answered began, or its oldest series. */
  readonly began: Nanos | undefined;
  /** Times the process was found to have begun again. */
  readonly restarts: number;
  readonly notes: readonly SourceNote[];
  /** Something of it was held back: the counters stand for less than all there is. */
  readonly doubtful: boolean;
  /** The page is the one before once more, and all that was counted stands where it stood after that one. */
  readonly isSame: boolean;
  /** The page is of an earlier instant than the one before. */
  readonly isOlder: boolean;
}

/** No server makes more tokens per second: a rise beyond it is a broken value. */
const PER_SECOND_MAX = 1e7;
/** A series that fell is believed at its new level when it lasts longer than this many pages. */
const HELD_PAGES_MAX = 3;

/** The bases of one address. */
export class SeriesBases {
  readonly #table: SeriesTable;
  readonly #judge: Judge;
  readonly #state: BasesState;
  readonly #bornAtZero: boolean;
  /** Number of the last page each series was on. */
  #seen = new Int32Array(64);
  #page = 0;
  #notes = new Notes();
  #samples: MetricPage["samples"] | undefined;
  #before: MetricPage["samples"] | undefined;
  /** Whether the page before was whole: one that was not does not say that its series are all there are. */
  #wasWhole = false;
  #look: PageLook | undefined;
  /** The run that answered this page; undefined while it is held back. */
  #run: Run | undefined;
  #first = false;
  /** Whether this page moved what was counted of a series, or showed one for the first time. */
  #moved = false;
  /** When the page is of, as against the one before of its run. */
  #age: ReturnType<typeof ageOf> = "newer";
  /** A page was older than the one before it: several keep copies. */
  #copied = false;
  /** Counters of several processes may be one and the same: then the nearest base counts. */
  #mixed = false;

  /** `bornAtZero`: series of such a server appear with the first event they count. */
  constructor(options: {
    readonly bornAtZero: boolean;
    readonly seriesMax?: number;
    readonly rows?: readonly StateRow[];
    readonly instant?: (at: UnixNanos) => Nanos;
  }) {
    this.#bornAtZero = options.bornAtZero;
    this.#table = new SeriesTable(options.seriesMax);
    this.#judge = new Judge(this.#table, (series) => this.#seen[series] ?? 0);
    this.#state = new BasesState(this.#table, this.#judge.shared);
    if (options.rows !== undefined && options.instant !== undefined)
      this.#restore(options.rows, options.instant);
  }

  /** Identity of the scale the counted series are on; another one after state was lost. */
  get scale(): string {
    return this.shared.scale;
  }

  get shared(): Shared {
    return this.#judge.shared;
  }

  /** Takes a page in. The page returned is valid until the next one. */
  take(page: MetricPage, given: PageLook): CountedPage {
    this.#page++;
    this.#notes = new Notes();
    this.#moved = false;
    const showedAll = this.#showsAll;
    this.#age = "newer";
    const goesOn = this.#before === page.samples;
    this.#samples = page.samples;
    if (this.#table.isCrowded && this.#before !== undefined) this.#forgetGone(given.at);
    const values = this.#table.read(page.samples);
    // A series whose value cannot be read is not gone.
    const look = { ...given, whole: given.whole && this.#table.ignored === 0 };
    this.#look = look;
    const saysMore = !showedAll || !goesOn || !this.#wasWhole || !look.whole;
    const previous = this.shared.current;
    this.#first = previous === undefined;
    const verdict = this.#judge.judge(values, look, this.#page, this.#notes);
    this.#run = verdict.run;
    this.#mixed = verdict.mixed;
    if (verdict.run !== undefined) {
      const wasOn = verdict.run.page;
      this.#apply(values, verdict.run);
      if (previous === verdict.run && saysMore) this.#noteGone(wasOn);
      if (look.whole && this.#showsAll && (previous !== verdict.run || saysMore))
        this.#dropEvicted(verdict.run);
      this.#close(verdict.run, look);
    }
    this.#before = verdict.run === undefined ? undefined : page.samples;
    this.#wasWhole = look.whole;
    if (this.#table.overflowed > 0) {
      this.#notes.addNote(
        "refused",
        this.#table.overflowed,
        () => "the page has more series than are remembered: new ones are not counted",
      );
    }
    return {
      page: {
        samples: this.#overlay(),
        ignoredSamples: page.ignoredSamples + this.#table.ignored,
        errors: page.errors,
      },
      began: this.shared.current?.began,
      restarts: verdict.restarts,
      notes: this.#notes.list,
      doubtful: this.#notes.doubtful,
      isSame: page.isSame === true && this.#stands,
      isOlder: this.#isOlder,
    };
  }

  /**
   * Nothing that was counted moved with this page, all of it could be read, and nothing is to be said of it: what another
   * process shows, or one that began again, either moves or is noted.
   */
  get #stands(): boolean {
    return !this.#moved && this.#table.ignored === 0 && this.#notes.list.length === 0;
  }

  /** The counted series of a family, of this page and before. A name asked for the first time is a counter from now on. */
  counters(name: string): readonly MetricSample[] {
    if (this.#table.enrol(name) && this.#run !== undefined && this.#samples !== undefined) {
      this.#apply(this.#table.read(this.#samples, name), this.#run);
      if (this.#table.ignored > 0) this.#wasWhole = this.#run.whole = false;
    }
    return this.#table.counted(name);
  }

  /** Rows that changed since the last call, under keys that begin with `prefix`. */
  takeChanges(prefix: readonly string[], unixNanos: (at: Nanos) => UnixNanos): readonly StateRow[] {
    return this.#state.takeChanges(
      prefix,
      unixNanos,
      (series) => this.#seen[series] === this.shared.current?.page,
    );
  }

  #restore(rows: readonly StateRow[], instant: (at: UnixNanos) => Nanos): void {
    const gone = this.#state.restore(rows, instant);
    if (gone === undefined) return;
    this.#page = 2;
    this.#seen = new Int32Array(Math.max(64, this.#table.series.length)).fill(2);
    for (const series of gone) this.#seen[series] = 1;
  }

  #apply(page: Values, run: Run): void {
    const { series } = this.#table;
    const size = series.length;
    if (this.#seen.length < size) this.#seen = longer(this.#seen, size);
    run.raw = roomy(run.raw, size);
    if (page.hasCreated) run.created = roomy(run.created ?? unseen(size), size);
    const look = this.#look as PageLook;
    const seconds = Math.max(1, (look.at - (this.#judge.lastAt ?? look.at)) / 1e9);
    const own = Math.max(seconds, (look.at - run.at) / 1e9);
    this.#age = ageOf(page, run);
    this.#copied ||= this.#isOlder;
    const births = this.#bornAtZero && run.epoch !== undefined && run.whole && !this.#isOlder;
    for (let place = 0; place < page.size; place++) {
      const number = page.numbers[place] as number;
      const value = page.values[place] as number;
      const before = run.raw[number] as number;
      if (value === before && run.held.size === 0 && !page.hasCreated) {
        this.#seen[number] = this.#page;
        continue;
      }
      const created = page.created[place] as number;
      const counted = series[number];
      if (counted === undefined) continue;
      if (value !== before || !this.#table.isListed(number)) {
        this.#moved = true;
        this.#state.mark(number);
      }
      let amount = 0;
      if (this.#first) counted.value = value;
      if (Number.isNaN(before) || this.#isReborn(run, number, created)) {
        const whole = !this.#first && (run.fromZero || births || this.#isNew(created));
        if (whole) amount = this.#whole(number, value, seconds);
        run.raw[number] = value;
        run.held.delete(number);
      } else if (value >= before) amount = this.#rise(run, number, value, own);
      else amount = this.#fall(run, number, value, births);
      if (created > 0 && run.created !== undefined) run.created[number] = created;
      counted.value += amount;
      this.#seen[number] = this.#page;
      this.#table.list(number);
    }
  }

  get #isOlder(): boolean {
    return this.#age === "older";
  }

  /** Whether what is not on the page is gone: an older copy may lack what is new, and where there are copies it may look like any. */
  get #showsAll(): boolean {
    return this.#age === "newer" || (this.#age === "alike" && !this.#copied);
  }

  #isReborn(run: Run, number: number, created: number): boolean {
    const before = run.created?.[number] ?? Number.NaN;
    return created > 0 && before > 0 && created !== before;
  }

  /** Whether a series began while this address was watched. */
  #isNew(created: number): boolean {
    const look = this.#look as PageLook;
    return created > 0 && look.instant(created) >= this.#judge.watchedSince;
  }

  #whole(number: number, value: number, seconds: number): number {
    if (!this.#table.isVolume(number) || value <= PER_SECOND_MAX * seconds) return value;
    this.#refused(number, value);
    return 0;
  }

  #rise(run: Run, number: number, value: number, seconds: number): number {
    let base = run.raw[number] as number;
    const held = run.held.get(number);
    if (held !== undefined) {
      if (held.peak === undefined) run.held.delete(number);
      else if (value >= held.peak) {
        base = held.peak;
        run.held.delete(number);
      }
    }
    if (this.#mixed) base = this.#nearest(number, value, base);
    const limit = this.#table.isVolume(number) ? PER_SECOND_MAX * seconds : Number.POSITIVE_INFINITY;
    const suspect = run.suspects.get(number);
    if (suspect !== undefined && value >= suspect && value - suspect <= limit) {
      // It stays where it jumped to: the jump itself is never counted.
      run.suspects.delete(number);
      base = suspect;
    } else if (value - base > limit) {
      run.suspects.set(number, value);
      this.#refused(number, value - base);
      return 0;
    } else if (suspect !== undefined) run.suspects.delete(number);
    run.raw[number] = value;
    return value - base;
  }

  /** The highest base of any process that the value can have come from. */
  #nearest(number: number, value: number, own: number): number {
    let base = own;
    for (const { raw } of this.shared.runs) {
      const other = raw[number] ?? Number.NaN;
      if (other > base && other <= value) base = other;
    }
    return base;
  }

  #fall(run: Run, number: number, value: number, births: boolean): number {
    const before = run.raw[number] as number;
    run.suspects.delete(number);
    const vanished = (this.#seen[number] as number) < run.page && !this.#isOlder;
    if ((vanished || births) && value <= before / 2) {
      run.raw[number] = value;
      run.held.delete(number);
      if (births) return value;
      this.#notes.addNote(
        "rebased",
        1,
        () => `a series came back lower than it left: ${this.#nameOf(number)}`,
      );
      return 0;
    }
    const held = run.held.get(number) ?? { pages: 0, peak: undefined };
    held.pages++;
    run.held.set(number, held);
    this.#notes.addNote(
      "held",
      1,
      () => `a counter fell from ${before} to ${value}: ${this.#nameOf(number)}`,
    );
    if (held.pages > HELD_PAGES_MAX && value <= before / 2) {
      held.peak ??= before;
      held.pages = 0;
      run.raw[number] = value;
      this.#notes.addNote("rebased", 1, () => `a counter stays at its lower value: ${this.#nameOf(number)}`);
    }
    return 0;
  }

  #refused(number: number, amount: number): void {
    this.#notes.addNote(
      "refused",
      1,
      () => `a counter rose by ${amount}, more than any server makes: ${this.#nameOf(number)}`,
    );
  }

  #nameOf(number: number): string {
    // Without its labels: they may name customers and keys.
    return this.#table.series[number]?.name ?? "";
  }

  /** Series that were on the page before and are not on this one: what they counted stays. */
  #noteGone(wasOn: number): void {
    let gone = 0;
    for (let number = 0; number < this.#table.series.length; number++) {
      if (this.#seen[number] !== wasOn) continue;
      gone++;
      this.#state.mark(number);
    }
    if (gone > 0)
      this.#notes.addNote(
        "gone",
        gone,
        () => `${gone} series are no longer on the page: what they counted stays`,
      );
  }

  /**
   * Forgets the series that no process showed since its last whole page, and begins another scale of the same root: their
   * sums fall by what they had counted. What the next page moves in a sum that fell is not counted.
   */
  #forgetGone(at: Nanos): void {
    const { runs } = this.shared;
    const since = Math.min(...runs.map(({ wholePage }) => wholePage));
    const before = this.#table.series.length;
    const numbers = this.#table.keep((series) => (this.#seen[series] ?? 0) >= since);
    const size = this.#table.series.length;
    if (size === before) return;
    const seen = new Int32Array(Math.max(64, size));
    for (let old = 0; old < before; old++) {
      const number = numbers[old] as number;
      if (number >= 0) seen[number] = this.#seen[old] as number;
    }
    this.#seen = seen;
    for (const run of runs) moveRun(run, numbers, size);
    this.shared.scale = `${this.shared.scale.split(".")[0]}.${Math.round(at).toString(36)}`;
    this.#judge.forgetCandidates();
    this.#state.renumbered(before);
    this.#notes.addNote(
      "rebased",
      before - size,
      () => `${before - size} series that are long gone were forgotten`,
    );
  }

  /** A series that is not on a whole page of a process whose series begin at zero was dropped: it begins at zero again. */
  #dropEvicted(run: Run): void {
    if (!this.#bornAtZero || run.epoch === undefined) return;
    for (let number = 0; number < this.#table.series.length; number++) {
      if (this.#seen[number] === this.#page || !((run.raw[number] ?? Number.NaN) > 0)) continue;
      run.raw[number] = 0;
      run.held.delete(number);
      this.#state.mark(number);
    }
  }

  #close(run: Run, look: PageLook): void {
    run.at = look.at;
    run.page = this.#page;
    run.whole ||= look.whole;
    if (look.whole) run.wholePage = this.#page;
  }

  /** The page with the counted series in the place of its counters. */
  #overlay(): Map<string, readonly MetricSample[]> {
    const samples = new Map(this.#samples);
    for (const name of this.#table.names) {
      const counted = this.#table.counted(name);
      if (counted.length > 0) samples.set(name, counted);
      else if (this.#run === undefined) samples.delete(name);
    }
    return samples;
  }
}

function longer(column: Int32Array, size: number): Int32Array<ArrayBuffer> {
  const grown = new Int32Array(Math.max(size, 2 * column.length));
  grown.set(column);
  return grown;
}
