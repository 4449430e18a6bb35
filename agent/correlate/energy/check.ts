// Whether a GPU's energy counter can be believed: its movement against integrated power, minute by minute (METERING.md 4).
// A counter that stands still while the board draws power is replaced after 10 s, one that differs by more than 15 % after
// five minutes (Grace Hopper's counts the whole module, zeus#172); five minutes of agreement bring it back. Power read every
// 5 to 30 s is a small sample of a load that comes and goes: then a comparison takes as many windows as a minute of
// seconds has, and a difference that chance explains counts for nothing.
import type { Nanos } from "../../model.ts";

/** Why a counter is not believed. */
export type CounterDoubt = "stands_still" | "disagrees";

/** What was compared in a window, mJ. */
export interface Compared {
  readonly counted: number;
  readonly integrated: number;
  /** What the module around the GPU drew (Grace Hopper); absent where there is none, or it does not say. */
  readonly module?: number;
}

const minute = 60_000_000_000;
/** Windows a comparison rests on; of a second each they are a minute. */
const windowsMin = 50;
/** Standard errors that chance is granted. */
const errorsMin = 3;
const stillMax = 10_000_000_000;
const minutesOfProof = 5;
/** A ratio of one minute outside of these is said at once. */
const suspectBelow = 0.8;
const suspectAbove = 1.25;
const ratioOff = 0.15;
/** Below this power a board's counter and its readings are both noise. */
const wattsMin = 5;

/** Compares windows of one GPU, in order of time. */
export class CounterCheck {
  #doubt: CounterDoubt | undefined;
  #ratio: number | undefined;
  #counted = 0;
  #integrated = 0;
  #squares = 0;
  #windows = 0;
  #isChance = false;
  #module = 0;
  #scope: "module" | undefined;
  #nanos = 0;
  #stillNanos = 0;
  #minutesOff = 0;
  #minutesAgreed = 0;

  /** Why the counter is replaced now; undefined while it is believed. */
  get doubt(): CounterDoubt | undefined {
    return this.#doubt;
  }

  /** Counted over integrated energy in the last comparison, a minute or 50 windows; undefined before the first, and where both were next to 0. */
  get ratio(): number | undefined {
    return this.#ratio;
  }

  /** Whether the last comparison, or the proof of five, speaks against the counter. */
  get suspect(): boolean {
    const ratio = this.#isChance ? 1 : (this.#ratio ?? 1);
    return this.#doubt !== undefined || ratio < suspectBelow || ratio > suspectAbove;
  }

  /** `module` where the counter was off in the last minute and moved with the whole module's power. */
  get scope(): "module" | undefined {
    return this.#scope;
  }

  /** Takes a window of `nanos` in. */
  addWindow(nanos: Nanos, { counted, integrated, module = 0 }: Compared): void {
    if (nanos <= 0) return;
    const drew = integrated * 1e6 > wattsMin * nanos;
    this.#stillNanos = counted === 0 && drew ? this.#stillNanos + nanos : 0;
    if (this.#stillNanos >= stillMax) this.#distrust("stands_still");
    this.#counted += counted;
    this.#integrated += integrated;
    this.#module += module;
    this.#nanos += nanos;
    this.#squares += (counted - integrated) ** 2;
    this.#windows++;
    if (this.#nanos >= minute && this.#windows >= windowsMin) this.#compare();
  }

  /** Whether windows that differ as these do would differ in sum by as much, were the counter right. */
  #isExplainedByChance(): boolean {
    const difference = this.#counted - this.#integrated;
    const variance = Math.max(0, this.#squares - difference ** 2 / this.#windows);
    return Math.abs(difference) <= errorsMin * Math.sqrt(variance);
  }

  #compare(): void {
    const noise = (wattsMin * this.#nanos) / 1e6;
    const quiet = Math.max(this.#counted, this.#integrated) < noise;
    this.#ratio = quiet || this.#integrated <= 0 ? undefined : this.#counted / this.#integrated;
    this.#isChance = this.#isExplainedByChance();
    const differs = this.#ratio === undefined || Math.abs(this.#ratio - 1) > ratioOff;
    const off = !quiet && differs && !this.#isChance;
    const likeModule = Math.abs(this.#counted - this.#module) <= ratioOff * this.#module;
    this.#scope = off && this.#module > this.#integrated && likeModule ? "module" : undefined;
    this.#minutesOff = off ? this.#minutesOff + 1 : 0;
    this.#minutesAgreed = off ? 0 : this.#minutesAgreed + 1;
    if (this.#minutesOff >= minutesOfProof) this.#distrust("disagrees");
    else if (this.#minutesAgreed >= minutesOfProof) this.#doubt = undefined;
    this.#counted = 0;
    this.#integrated = 0;
    this.#squares = 0;
    this.#windows = 0;
    this.#module = 0;
    this.#nanos = 0;
  }

  #distrust(doubt: CounterDoubt): void {
    this.#doubt ??= doubt;
    this.#minutesAgreed = 0;
  }
}
