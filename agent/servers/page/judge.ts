// Which process a page is of: the one before, one that was seen earlier, one that began since, or none that is known.
// By its start time where it has one, else by `_created` of its series, else by its values: a page whose counters fell is
// held back until the next pages show whether that was a restart, another process, or a few broken values.
import type { Nanos } from "../../model.ts";
import type { Shared } from "./bases-state.ts";
import type { Notes } from "./notes.ts";
import type { Candidate, Comparison, PageLook, Run, Values } from "./runs.ts";
import { CANDIDATES_MAX, columnOf, compare, JUMP_PER_SECOND, RUNS_MAX, sameCreated, unseen } from "./runs.ts";
import type { SeriesTable } from "./series-table.ts";

/** Pages of a candidate after which it is believed. */
const BELIEVED_PAGES = 3;
const BELIEVED_RISES = 12;
/** Of so many series a tenth may fall without a doubt about the page. */
const MANY_SERIES = 10;
const FORGOTTEN_MAX = 256;
const SILENT_NANOS = 86_400 * 1e9;
/**
 * Tokens per second and series: what a process can have made since it began again, what it makes then, and what is
 * believed of one process where several are known and none is named.
 */
const LITTLE_PER_SECOND = 20_000;
const RESTARTED_PER_SECOND = 50_000;
const BESIDE_PER_SECOND = 2000;
const BESIDE_SECONDS_MAX = 60;
/** The highest pace a process is believed to keep, whatever its page showed once. */
const PACE_MAX = 1e6;
/** A counter of so few events may stand where it stood before a restart. */
const FEW = 10;

/** What was concluded of a page. */
export interface Verdict {
  /** The run that answered; undefined = the page is held back. */
  readonly run: Run | undefined;
  readonly restarts: number;
  readonly mixed: boolean;
}

const SEVERAL = "several processes answer at this address";

/** Tells the processes behind one address apart. */
export class Judge {
  readonly shared: Shared = {
    scale: "",
    runs: [],
    current: undefined,
    firstLook: undefined,
    forgottenUntil: Number.NEGATIVE_INFINITY,
    forgotten: new Set(),
    several: false,
    apart: false,
    nextRun: 1,
  };
  readonly #table: SeriesTable;
  readonly #seen: (series: number) => number;
  #candidates: Candidate[] = [];
  #lastCandidate: Candidate | undefined;
  /** Numbers of the last pages before which a look failed, or the connection was another one. */
  #failed = 0;
  #renewed = 0;
  /** When the last page came. */
  #lookedAt: Nanos | undefined;
  /** When the last page that was not held back came. */
  lastAt: Nanos | undefined;

  constructor(table: SeriesTable, seen: (series: number) => number) {
    this.#table = table;
    this.#seen = seen;
  }

  /** From when on everything at this address was seen: what began later, and is new, was never counted. */
  get watchedSince(): Nanos {
    return Math.max(this.shared.firstLook ?? 0, this.shared.forgottenUntil);
  }

  /** Drops pages that wait: their series have other numbers now. */
  forgetCandidates(): void {
    this.#candidates = [];
    this.#lastCandidate = undefined;
  }

  /** Finds the run a page is of, and makes it the current one. */
  judge(page: Values, look: PageLook, number: number, notes: Notes): Verdict {
    if (look.interrupted !== undefined) this.#renewed = number;
    if (look.interrupted === "failed") this.#failed = number;
    const { shared } = this;
    this.lastAt = shared.current?.at;
    const verdict = this.#find(page, look, notes);
    this.#lookedAt = look.at;
    if (verdict.run === undefined) return verdict;
    shared.current = verdict.run;
    if (this.#lastCandidate !== undefined) {
      // A known process still answers: what fell is no restart of it, what rose is another one, a small fall was a glitch.
      this.#candidates = this.#candidates.filter(({ beside, jump }) => beside || jump);
      for (const candidate of this.#candidates) {
        candidate.restart = false;
        candidate.beside = true;
      }
      this.#lastCandidate = undefined;
    }
    return verdict;
  }

  #find(page: Values, look: PageLook, notes: Notes): Verdict {
    const { shared } = this;
    if (shared.current === undefined) {
      shared.firstLook ??= look.at;
      if (shared.scale === "") shared.scale = Math.round(look.at).toString(36);
      const began = look.began ?? look.oldest();
      return same(this.#open({ ...look, began }, began !== undefined && began >= 0));
    }
    if (look.epoch !== undefined) return this.#byEpoch(page, look, shared.current, notes);
    const byCreated = page.hasCreated ? this.#byCreated(page, look, shared.current, notes) : undefined;
    return byCreated ?? this.#byValues(page, look, shared.current, notes);
  }

  #byEpoch(page: Values, look: PageLook, current: Run, notes: Notes): Verdict {
    const { shared } = this;
    const known = shared.runs.find(({ epoch }) => epoch === look.epoch);
    if (known === current) return same(known);
    if (known !== undefined) {
      this.#several(notes);
      // Counters that processes share never stand lower on the page of another.
      shared.apart ||= shared.runs.some((run) => run !== known && this.#compare(page, run).fell > 0);
      return { run: known, restarts: 0, mixed: !shared.apart };
    }
    const epoch = look.epoch as string;
    const born =
      look.began === undefined
        ? look.interrupted !== undefined && !shared.several && !shared.forgotten.has(epoch)
        : look.began >= this.watchedSince ||
          // Its clock may be behind ours: it is younger, and counts as if it had begun again.
          (look.began > (current.began ?? look.began) && this.#isRestart(page, look, current));
    if (born) return { run: this.#open(look, true), restarts: 1, mixed: false };
    if (current.epoch === undefined && this.#compare(page, current).fell === 0) {
      current.epoch = epoch;
      current.began = look.began;
      return same(current);
    }
    this.#several(notes);
    return same(this.#open(look, false));
  }

  /** Undefined where no series can be compared by its `_created`. */
  #byCreated(page: Values, look: PageLook, current: Run, notes: Notes): Verdict | undefined {
    let best: Run | undefined;
    let most = 0;
    let others = 0;
    for (const run of [current, ...this.shared.runs]) {
      const [equal, other] = sameCreated(page, run);
      if (run === current) others = other;
      if (equal <= most) continue;
      most = equal;
      best = run;
    }
    if (best === current) return same(current);
    if (best !== undefined) {
      this.#several(notes);
      return same(best);
    }
    if (others === 0) return undefined;
    const began = look.oldest();
    const born =
      began !== undefined &&
      (began >= this.watchedSince ||
        (began > (current.began ?? began) && this.#isRestart(page, look, current)));
    if (!born) this.#several(notes);
    return { run: this.#open({ ...look, began }, born), restarts: born ? 1 : 0, mixed: false };
  }

  #byValues(page: Values, look: PageLook, current: Run, notes: Notes): Verdict {
    const { shared } = this;
    // An empty page says nothing: neither of a process nor of its series.
    if (page.size === 0 && this.#table.series.length > 0) {
      notes.addNote("gone", 1, () => "no counter is on the page: what they counted stays");
      return { run: undefined, restarts: 0, mixed: false };
    }
    const [closest, found] = this.#closest(page, current);
    const jumped = found.most > this.#believedRise(closest, look);
    if (found.fell === 0) {
      if (jumped) return this.#doubt(page, look, closest, { jump: true, beside: shared.several }, notes);
      if (closest === current && this.#isRestart(page, look, current)) {
        return this.#doubt(page, look, closest, { jump: false, beside: false }, notes);
      }
      if (closest !== current) this.#several(notes);
      return same(closest);
    }
    const few = found.common >= MANY_SERIES && found.fell * 10 <= found.common;
    if (few && !(jumped && shared.several)) return same(closest);
    const most = (shared.several ? found.fell : found.far) * 2 > found.common;
    return this.#doubt(
      page,
      look,
      closest,
      { jump: false, beside: most || (jumped && shared.several) },
      notes,
    );
  }

  /** The run without a name that the page goes on from best: with the fewest falls, then with the least rise. */
  #closest(page: Values, current: Run): readonly [Run, Comparison] {
    let best = current;
    let least = this.#compare(page, current);
    for (const run of this.shared.runs) {
      if (run === current || run.epoch !== undefined) continue;
      const found = this.#compare(page, run);
      if (found.common === 0) continue;
      const closer = found.fell < least.fell || (found.fell === least.fell && found.rise < least.rise);
      if (closer || least.common === 0) [best, least] = [run, found];
    }
    return [best, least];
  }

  /** What one series may rise by: one process is looked at with every page, one of several may have worked since its last. */
  #believedRise(run: Run, look: PageLook): number {
    return this.shared.several
      ? BESIDE_PER_SECOND * Math.min(BESIDE_SECONDS_MAX, secondsSince(run.at, look))
      : run.pace * secondsSince(this.#lookedAt ?? run.at, look);
  }

  /** A page that fits no run: held back until there are more of its kind. */
  #doubt(
    page: Values,
    look: PageLook,
    closest: Run,
    kind: Pick<Candidate, "jump" | "beside">,
    notes: Notes,
  ): Verdict {
    const column = columnOf(page, this.#table.series.length);
    const candidate = this.#candidateOf(page, look) ?? this.#newCandidate(page, look, closest, kind);
    if (this.#lastCandidate !== undefined && this.#lastCandidate !== candidate) {
      // Pages of two kinds take turns: neither is a restart, and neither the known process grown.
      for (const one of this.#candidates) {
        one.restart = false;
        one.beside ||= one.jump;
      }
    }
    this.#lastCandidate = candidate;
    const { last } = candidate;
    candidate.last = column;
    candidate.at = look.at;
    if (candidate.pages < BELIEVED_PAGES && candidate.rises < BELIEVED_RISES) {
      const seen = "counters fell, or rose by more than one process makes";
      notes.addNote("page_held", 1, () => `${seen}: the page is held back until the next ones show why`);
      return { run: undefined, restarts: 0, mixed: false };
    }
    this.#candidates = this.#candidates.filter((one) => one !== candidate);
    this.#lastCandidate = undefined;
    if (candidate.restart) {
      // The process before is gone: a page that happens to stand where it stood is none of it.
      this.shared.runs = this.shared.runs.filter(({ epoch }) => epoch !== undefined);
      return { run: this.#open(look, true), restarts: 1, mixed: false };
    }
    if (!candidate.beside && !kind.beside) {
      const { most } = compare(page, closest.raw, this.#table.isVolume);
      const pace = Math.min(PACE_MAX, (2 * most) / secondsSince(closest.at, look));
      closest.pace = Math.max(closest.pace, pace);
      return same(closest);
    }
    this.#several(notes);
    const run = this.#open({ ...look, epoch: undefined, began: undefined }, false);
    run.raw = last;
    return same(run);
  }

  /** The candidate this page goes on from, with the page counted. */
  #candidateOf(page: Values, look: PageLook): Candidate | undefined {
    for (const candidate of this.#candidates) {
      const { common, fell, most } = compare(page, candidate.last, this.#table.isVolume);
      if (fell > 0 || common === 0) continue;
      const perSecond = candidate.restart
        ? RESTARTED_PER_SECOND
        : candidate.beside
          ? BESIDE_PER_SECOND
          : JUMP_PER_SECOND;
      if (most <= perSecond * secondsSince(candidate.at, look)) candidate.pages++;
      else if (candidate === this.#lastCandidate && candidate.jump && !candidate.beside) candidate.rises++;
      else continue;
      return candidate;
    }
    return undefined;
  }

  #newCandidate(
    page: Values,
    look: PageLook,
    closest: Run,
    kind: Pick<Candidate, "jump" | "beside">,
  ): Candidate {
    const restart = this.#isRestart(page, look, closest);
    const last = columnOf(page, this.#table.series.length);
    const candidate = { last, at: look.at, pages: 1, rises: 0, restart, ...kind };
    this.#candidates.push(candidate);
    if (this.#candidates.length > CANDIDATES_MAX) this.#candidates.shift();
    return candidate;
  }

  /**
   * Every volume series of the page fell, to what can have been made since, and a look failed in between; after a new
   * connection alone, to less than half. Where several processes are known it is more likely one of those.
   */
  #isRestart(page: Values, look: PageLook, run: Run): boolean {
    if (this.shared.several) return false;
    const little = LITTLE_PER_SECOND * secondsSince(run.at, look);
    let fell = 0;
    for (let place = 0; place < page.size; place++) {
      const series = page.numbers[place] as number;
      if (!this.#table.isVolume(series)) continue;
      const value = page.values[place] as number;
      const before = run.raw[series] ?? Number.NaN;
      const seen = this.#seen(series);
      const least = this.#failed > seen && before > 0 ? before / 10 : 0;
      if (value > before || value > Math.max(little, least)) return false;
      if (!(before > 0)) continue;
      const most = this.#failed > seen ? before : this.#renewed > seen ? before / 2 : 0;
      // Counters of a few events may stand where they stood.
      if (value < most) fell++;
      else if (before > FEW) return false;
    }
    return fell > 0;
  }

  /** The page against a run; series that are known to have fallen or had vanished may stand lower. */
  #compare(page: Values, run: Run): Comparison {
    const { several } = this.shared;
    return compare(
      page,
      run.raw,
      this.#table.isVolume,
      (series) => run.held.has(series) || (!several && this.#seen(series) < run.page),
    );
  }

  #several(notes: Notes): void {
    this.shared.several = true;
    notes.addNote("several", 1, () => `${SEVERAL}: each is counted from what it showed before`);
  }

  #open(look: PageLook, fromZero: boolean): Run {
    const { shared } = this;
    const run: Run = {
      id: shared.nextRun++,
      epoch: look.epoch,
      began: look.began,
      fromZero,
      raw: unseen(Math.max(64, this.#table.series.length)),
      created: undefined,
      at: look.at,
      page: 0,
      whole: false,
      wholePage: 0,
      pace: JUMP_PER_SECOND,
      held: new Map(),
      suspects: new Map(),
    };
    shared.runs.push(run);
    this.#forgetSilent(run);
    return run;
  }

  /** Forgets the runs that have not answered for a day, and the one longest silent where there are too many. */
  #forgetSilent(opened: Run): void {
    const { shared } = this;
    const others = shared.runs.filter((run) => run !== opened && run !== shared.current);
    const oldest = others.reduce<Run | undefined>(
      (a, b) => (a === undefined || b.at < a.at ? b : a),
      undefined,
    );
    for (const run of others) {
      const isSilent = opened.at - run.at > SILENT_NANOS || (run === oldest && shared.runs.length > RUNS_MAX);
      if (!isSilent) continue;
      shared.runs.splice(shared.runs.indexOf(run), 1);
      if (run.began !== undefined) shared.forgottenUntil = Math.max(shared.forgottenUntil, run.began + 1);
      else if (run.epoch !== undefined && shared.forgotten.size < FORGOTTEN_MAX)
        shared.forgotten.add(run.epoch);
    }
  }
}

function secondsSince(at: Nanos, look: PageLook): number {
  return Math.max(1, (look.at - at) / 1e9);
}

function same(run: Run): Verdict {
  return { run, restarts: 0, mixed: false };
}
