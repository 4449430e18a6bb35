// Energy of the time between readings of power that are averaged over a part of it: nvidia-smi each 5 s tells of the last
// second of each. Such a reading is a sample. What the servers did in the time it does not tell of is known from their pages:
// watts are fitted to it, and the estimate moves by as much work as there was more, or less, than in the sample. It
// stays right on average whatever the fit is worth. How far off the sum may be is seen from what the fit leaves over.
import type { Nanos } from "../../model.ts";
import type { Solution } from "../phases/least-squares.ts";
import { LeastSquares } from "../phases/least-squares.ts";
import { PowerSteps } from "./power-steps.ts";

/** What servers did in a stretch: the share of it in which each executed, all together, and output tokens per second. */
export type WorkRates = readonly [executed: number, tokens: number];

/** Returns what was done in a stretch; undefined where that is not known. */
export type WorkIn = (from: Nanos, to: Nanos) => WorkRates | undefined;

/** Time between two readings, and the power of its end. */
export interface SampledStretch {
  readonly from: Nanos;
  readonly to: Nanos;
  readonly watts: number;
  /** How much of it the reading is the mean of: the end. */
  readonly seenNanos: Nanos;
}

/** What is made of a stretch: its power, and how much more of the whole is in doubt with it, mJ. */
export interface SampledEnergy {
  readonly steps: PowerSteps;
  readonly doubtMillijoules: number;
}

/** A reading and the work it was made of. */
interface Reading {
  readonly at: Nanos;
  readonly watts: number;
  readonly work: WorkRates | undefined;
}

const second = 1_000_000_000;
/** A second between readings may draw this much more than any that was read. */
const beyondRatio = 1.1;
/** A GPU that is held draws about this share of its limit. */
const holdingRatio = 0.18;
/** Execution costs about this share of it, which counts as much as readings of so many squared. */
const [executionRatio, executedFirst] = [0.35, 0.05];
const inputs = 3;
/** What a reading leaves of the weight of those before it in the fit, and how many it takes. */
const [keptRatio, readingsMin] = [0.997, 8];
/** The fit is made anew each time so many more were taken in. */
const readingsPerFit = 4;
/** What a reading leaves of the differences between readings before it, and how many of these tell how they hang together. */
const [varianceKeptRatio, differencesMin] = [0.99, 8];
/** Cells of a stretch at most, and their length at least. */
const [cellsMax, cellNanosMin] = [64, second];
/** The sum whose error is told is that of about an hour: readings of four times this long ago count no more in it. */
const memoryNanos = 900 * second;
/** Standard errors that are in doubt. */
const errors = 2;

/** The sampled power of one GPU. Stretches go in by rising time. */
export class SampledPower {
  readonly #squares = new LeastSquares(inputs, keptRatio);
  #found: Solution | undefined;
  readonly #holdingWatts: number;
  /** How far apart readings are thought to be beyond their work before any were: that counts as one difference. */
  readonly #thoughtWatts: number;
  /** Watts x execution, and execution squared, of the readings before there is a fit. */
  #executionWatts: number;
  #executed = executedFirst;
  #readings = 0;
  #last: Reading | undefined;
  #beforeLast: Reading | undefined;
  #least = Number.POSITIVE_INFINITY;
  #most = 0;
  /** A reading saw no execution. */
  #hasRested = false;
  /** Joules that did not fit between the least and the most power seen, to be made up for. */
  #owed = 0;
  /** Squared differences of neighbouring readings, and of those one further apart, older ones faded. */
  #near = 0;
  #far = 0;
  #differences = 0;
  #variance = 0;
  readonly #steps = new PowerSteps();

  /** `limitWatts`: the board's, by which the power of holding it is guessed before any reading. */
  constructor(limitWatts: number) {
    this.#holdingWatts = holdingRatio * limitWatts;
    this.#thoughtWatts = (executionRatio * limitWatts) / 2;
    this.#executionWatts = executedFirst * executionRatio * limitWatts;
  }

  /** Takes in a reading that no stretch ends at: the first one, or one after a time that none covers. */
  begin(at: Nanos, watts: number): void {
    this.#beforeLast = undefined;
    this.#last = { at, watts, work: undefined };
    this.#least = Math.min(this.#least, watts);
    this.#most = Math.max(this.#most, watts);
  }

  /** Returns what is made of a stretch, valid until the next one. */
  close(stretch: SampledStretch, workIn: WorkIn): SampledEnergy {
    const { from, to, watts } = stretch;
    const seenFrom = Math.max(from, to - stretch.seenNanos);
    const reading = { at: to, watts, work: workIn(seenFrom, to) };
    this.#least = Math.min(this.#least, watts);
    this.#most = Math.max(this.#most, watts);
    const before = this.#last?.at === from ? this.#last : undefined;
    if (before === undefined) this.#beforeLast = undefined;
    this.#hasRested ||= reading.work?.[0] === 0;
    this.#guess(reading);
    this.#draw(stretch, seenFrom, reading, before, workIn);
    const doubtMillijoules = this.#doubtOf(stretch, reading, before);
    this.#learn(reading);
    this.#beforeLast = before;
    this.#last = reading;
    return { steps: this.#steps, doubtMillijoules };
  }

  /** Draws the power of a stretch: as read where it was, and before by the work beside what both readings leave over. */
  #draw(
    { from, to, watts }: SampledStretch,
    seenFrom: Nanos,
    reading: Reading,
    before: Reading | undefined,
    workIn: WorkIn,
  ): void {
    this.#steps.clear();
    const length = seenFrom - from;
    const cells = Math.min(cellsMax, Math.max(1, Math.floor(length / cellNanosMin)));
    const works = reading.work === undefined ? undefined : knownWorks(from, length, cells, workIn);
    const isKnown = works !== undefined;
    const rest = this.#restOf(reading, isKnown);
    const restBefore =
      before === undefined || (isKnown && before.work === undefined) ? rest : this.#restOf(before, isKnown);
    const level = (rest + restBefore) / 2;
    const cellSeconds = length / cells / second;
    const lowest = this.#lowestWatts;
    const highest = beyondRatio * this.#most;
    for (let cell = 0; cell < cells; cell++) {
      const work = works?.[cell];
      const wanted = level + (work === undefined ? 0 : this.#wattsOf(work));
      const drawn = Math.min(highest, Math.max(lowest, wanted + this.#owed / cellSeconds));
      this.#owed += (wanted - drawn) * cellSeconds;
      this.#steps.append(
        from + Math.floor((cell * length) / cells),
        from + Math.floor(((cell + 1) * length) / cells),
        drawn,
      );
    }
    if (to > seenFrom) this.#steps.append(seenFrom, to, watts);
  }

  /** What the board draws at the least. */
  get #lowestWatts(): number {
    return this.#hasRested ? this.#least : Math.min(this.#least, this.#holdingWatts);
  }

  /** What of a reading its work does not explain. */
  #restOf({ watts, work }: Reading, isKnown: boolean): number {
    return isKnown && work !== undefined ? watts - this.#wattsOf(work) : watts;
  }

  /** Watts that some work costs, by the fit. */
  #wattsOf([executed, tokens]: WorkRates): number {
    const costs = this.#found?.coefficients;
    if (costs === undefined) return (executed * this.#executionWatts) / this.#executed;
    return executed * (costs[1] as number) + tokens * (costs[2] as number);
  }

  /** Before there is a fit, what a reading draws above the least is what execution cost. */
  #guess({ watts, work }: Reading): void {
    if (this.#found !== undefined || work === undefined) return;
    this.#executionWatts += work[0] * Math.max(0, watts - this.#lowestWatts);
    this.#executed += work[0] ** 2;
  }

  #learn({ watts, work }: Reading): void {
    if (work === undefined) return;
    this.#squares.observe([1, ...work], watts, 1);
    this.#readings++;
    if (this.#readings >= readingsMin && this.#readings % readingsPerFit === 0)
      this.#found = this.#squares.solve();
  }

  /** How much further two standard errors of the sum grow by a stretch. */
  #doubtOf({ from, to, seenNanos }: SampledStretch, reading: Reading, before: Reading | undefined): number {
    const isKnown = reading.work !== undefined && (before === undefined || before.work !== undefined);
    const difference =
      this.#restOf(reading, isKnown) -
      (before === undefined ? this.#lowestWatts : this.#restOf(before, isKnown));
    const { work } = this.#beforeLast ?? {};
    if (this.#beforeLast !== undefined && (!isKnown || work !== undefined)) {
      const further = this.#restOf(reading, isKnown) - this.#restOf(this.#beforeLast, isKnown);
      this.#near = this.#near * varianceKeptRatio + difference ** 2;
      this.#far = this.#far * varianceKeptRatio + further ** 2;
      this.#differences++;
    }
    const length = to - from;
    const unseen = Math.max(0, length - seenNanos);
    const thought = this.#thoughtWatts ** 2 / (1 + this.#differences);
    const square = ((length / second) * (unseen / second) * (difference ** 2 + thought)) / 2;
    const kept = this.#variance * Math.exp(-length / memoryNanos);
    this.#variance = kept + square * this.#extensionRatio();
    return 1000 * errors * (Math.sqrt(this.#variance) - Math.sqrt(kept));
  }

  /**
   * The variance of what lies between readings over that of a reading, by how their differences grow with distance, as its
   * power: not at all where they are chance, with its first power where the load changes now and then. It is the extension
   * variance of a sample in the middle of its stretch.
   */
  #extensionRatio(): number {
    const isTold = this.#differences >= differencesMin && this.#near > 0;
    const power = isTold ? Math.min(1, Math.max(0, Math.log2(this.#far / this.#near))) : 0;
    return 2 ** (1 - power) / (power + 1) - 2 / ((power + 1) * (power + 2));
  }
}

/** What was done in each cell of a stretch: one that no page covers is like the next one, or the one before; undefined where none is known. */
function knownWorks(
  from: Nanos,
  length: Nanos,
  cells: number,
  workIn: WorkIn,
): readonly WorkRates[] | undefined {
  const works: (WorkRates | undefined)[] = [];
  let last: WorkRates | undefined;
  for (let cell = 0; cell < cells; cell++) {
    const start = from + Math.floor((cell * length) / cells);
    last = workIn(start, from + Math.floor(((cell + 1) * length) / cells)) ?? last;
    works.push(last);
  }
  const first = works.find((work) => work !== undefined);
  return first === undefined ? undefined : works.map((work) => work ?? first);
}
