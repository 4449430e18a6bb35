// Millijoules of one GPU: judged windows of its hardware counter, else of integrated power (METERING.md 4 and 7).
// A window is closed at the first reading 1 s or more after it opened; it is accepted when
// 0 <= dE <= 1.2 x enforced limit x (dt + 0.2 s), else integrated and the counter's movement refused.
// A counter that does not agree with power is replaced by it (check.ts). What it moved while the agent was away is judged
// by the limit over that time and comes before everything else. Closed windows are final, so energy of any stretch is a difference of one rising integer curve.
import type { EnergyMethod, GpuSample, Nanos } from "../../model.ts";
import type { CounterDoubt } from "./check.ts";
import { CounterCheck } from "./check.ts";
import { EnergyCurve } from "./curve.ts";
import { PowerSeries, shapes } from "./power.ts";
import { PowerSteps } from "./power-steps.ts";
import type { DoneWork } from "./waiting-windows.ts";
import { WaitingWindows } from "./waiting-windows.ts";

/** What the meter knows of its GPU from the beginning. */
export interface EnergyOptions {
  /** Enforced power limit; undefined or 0 = not known. */
  readonly limitWatts: number | undefined;
  /** The counter as it stood when an earlier run settled last. */
  readonly before?: CounterState & {
    readonly at: Nanos;
  };
  /** When the GPU was found: energy of the time before it is booked from here on. */
  readonly since?: Nanos;
}

/** What survives a restart of a counter. */
export interface CounterState {
  readonly millijoules: number;
  readonly epoch?: string;
}

/** Millijoules counted over the meter's life. */
export interface EnergyTotals {
  readonly acceptedMillijoules: number;
  readonly integratedMillijoules: number;
  readonly rejectedMillijoules: number;
  /** Falls of the counter without a new epoch that stayed: one audit record each. */
  readonly resets: number;
  /** Counter readings that were negative, not a number or beyond 2^53. */
  readonly ignoredReadings: number;
  /** Why the counter is replaced by integrated power; absent while it is believed. */
  readonly counterDoubt?: CounterDoubt;
  /** What the counter moved over what power integrates to, in the last minute in which both were known. */
  readonly counterRatio?: number;
  /** That ratio, or the proof of five minutes, speaks against the counter. */
  readonly counterSuspect?: true;
  /** The counter counts the module the GPU is a part of, not the GPU. */
  readonly counterScope?: "module";
}

interface CounterReading {
  readonly at: Nanos;
  readonly millijoules: number;
  readonly epoch: string | undefined;
}

const second = 1_000_000_000;
/** A fall of the counter is taken for a reset at this many readings below the last good one. */
const heldReadingsMax = 3;
/** Without a counter reading for this long, power is integrated instead. */
const counterLostAfter = 3 * second;
/** Board limit to judge by where the driver names none: above every single board sold by 2026. */
const limitUnknownWatts = 2_000;

/** Readings that are means of less than this share of their time are samples. */
const wholeRatioMin = 0.9;

const noSteps = new PowerSteps(0);
/** Of what was done nothing is known. */
const nothingKnown: DoneWork = {
  workIn: () => undefined,
  executed: undefined,
  floor: { watts: 0, isGuessed: true },
};
/** Steps of the counter inside the window that is booked. */
const counterSteps = new PowerSteps();

/** The energy of one GPU or MIG board. Readings go in by rising time. */
export class EnergyMeter {
  readonly curve = new EnergyCurve();
  limitWatts: number;
  /** Where in a window without a finer shape power went is asked of what was done in it. */
  isPlaced = false;
  readonly #power = new PowerSeries();
  readonly #check = new CounterCheck();
  /** As last read: it is read every few seconds only. */
  #moduleWatts: number | undefined;
  #before: EnergyOptions["before"];
  readonly #since: Nanos | undefined;
  #openFrom: Nanos | undefined;
  #lastAt: Nanos | undefined;
  #counter: CounterReading | undefined;
  /** Movement of the counter since the window opened. */
  #moved = 0;
  #held = 0;
  #heldReading: CounterReading | undefined;
  /** Counter readings of the open window as steps of power: the finest shape where the driver has no ring. */
  readonly #steps = new PowerSteps();
  readonly #waiting: WaitingWindows;
  #roundedOff = 0;
  #accepted = 0;
  #integrated = 0;
  #rejected = 0;
  #resets = 0;
  #ignored = 0;

  constructor(options: EnergyOptions) {
    this.limitWatts = usableLimit(options.limitWatts);
    this.#waiting = new WaitingWindows(this.limitWatts);
    this.#before = options.before;
    this.#since = options.since;
  }

  /** The instant up to which energy is final; undefined before the first reading. */
  get decidedUntil(): Nanos | undefined {
    return this.#waiting.from ?? this.#openFrom;
  }

  /** The instant up to which it can be made final; undefined before the first reading. */
  get readUntil(): Nanos | undefined {
    return this.#openFrom;
  }

  /** What the counter moved and was refused, of the totals. */
  get rejectedMillijoules(): number {
    return this.#rejected;
  }

  get totals(): EnergyTotals {
    const { doubt, ratio, scope, suspect } = this.#check;
    return {
      ...(doubt === undefined ? {} : { counterDoubt: doubt }),
      ...(ratio === undefined ? {} : { counterRatio: ratio }),
      ...(suspect ? { counterSuspect: true } : {}),
      ...(scope === undefined ? {} : { counterScope: scope }),
      acceptedMillijoules: this.#accepted,
      integratedMillijoules: this.#integrated,
      rejectedMillijoules: this.#rejected,
      resets: this.#resets,
      ignoredReadings: this.#ignored + this.#power.ignored,
    };
  }

  /** The counter as it stood at `at`, of which everything before is booked; undefined where it is not known or believed. */
  counterAt(at: Nanos): CounterState | undefined {
    const counter = this.#counter;
    if (counter === undefined || this.#held > 0 || this.#check.doubt !== undefined) return undefined;
    const notBooked = this.#moved + this.curve.totalMillijoules - this.curve.at(at) + this.#waiting.counted;
    const { epoch } = counter;
    const millijoules = Math.max(0, Math.round(counter.millijoules - notBooked));
    return { millijoules, ...(epoch === undefined ? {} : { epoch }) };
  }

  /** Takes a reading in. `observed`: readings cover the time since the one before it. */
  take(sample: GpuSample, observed: boolean): void {
    const previous = this.#lastAt;
    if (previous !== undefined && sample.at <= previous) return;
    if (previous !== undefined && !observed) this.closeEarly();
    this.#power.take(sample, observed ? previous : undefined, 4 * this.limitWatts);
    const { lastWatts } = this.#power;
    const isFirst = previous === undefined || !observed;
    if (isFirst && lastWatts !== undefined) this.#waiting.begin(sample.at, lastWatts);
    this.#openFrom ??= sample.at;
    this.#moduleWatts = sample.modulePowerWatts ?? this.#moduleWatts;
    this.#lastAt = sample.at;
    const counted = this.#count(sample);
    const open = this.#openFrom;
    if (sample.at <= open) return;
    if (observed && sample.at - open < second) return;
    this.#close(sample.at, counted, observed);
  }

  /** True where windows wait for what was done in them. */
  get hasWaiting(): boolean {
    return this.#waiting.from !== undefined;
  }

  /** Where the last of them that begin before `to` ends; `to` without any. */
  waitingUntil(to: Nanos): Nanos {
    return this.#waiting.until(to);
  }

  /** `[from, to)` with the windows around its ends that are longer: of those it is known what they drew, and not where in them. */
  withWindows(from: Nanos, to: Nanos): { readonly from: Nanos; readonly to: Nanos } {
    const first = this.curve.placedAround(from) ?? this.#waiting.around(from);
    const last = this.curve.placedAround(to - 1) ?? this.#waiting.around(to - 1);
    return {
      from: isLonger(first, from, to) ? first.from : from,
      to: isLonger(last, from, to) ? last.to : to,
    };
  }

  /** The lowest steady power of the waiting windows that begin before `until`; Infinity without any. */
  leastWaitingWatts(until: Nanos): number {
    return this.#waiting.leastWatts(until);
  }

  /** How much more of the energy was found to be in doubt, whole mJ, `most` of it now and the rest when it is asked again. */
  takeDoubt(most: number): number {
    return this.#waiting.takeDoubt(most);
  }

  /** Decides the waiting windows that begin before `until`, by what was done in them. */
  decideWaiting(until: Nanos, done: DoneWork): void {
    for (;;) {
      const decided = this.#waiting.decideNext(until, this.limitWatts, done);
      if (decided === undefined) return;
      const { exact, isPlaced, window } = decided;
      const { from, method, to } = window;
      const isCounted = method === "counter";
      const millijoules = isCounted ? exact : this.#integrate(exact);
      if (isCounted) this.#accepted += millijoules;
      const steps = decided.steps ?? this.#power.shape(from, to, undefined);
      this.curve.appendWindow({ from, to, millijoules, method, steps, isPlaced });
    }
  }

  /** Closes the open window at the last reading although it is short: a gap follows, or the interval is overdue. */
  closeEarly(): void {
    const { at } = this.#counter ?? {};
    const open = this.#openFrom;
    if (open === undefined || this.#lastAt === undefined) return;
    if (this.#held > 0) {
      this.#acceptReset();
      this.#book(open, this.#lastAt, undefined, 0);
    } else if (at === undefined) {
      if (this.#lastAt > open) this.#book(open, this.#lastAt, undefined, 0);
    } else if (at > open) this.#judge(open, at);
  }

  /** Drops what no later question is about. */
  forget(before: Nanos): void {
    if (this.hasWaiting) this.decideWaiting(before, nothingKnown);
    this.curve.forget(before);
    this.#power.forget(Math.min(before, this.#openFrom ?? before));
  }

  /** Moves the counter on; true when this reading can close a window. */
  #count(sample: GpuSample): boolean {
    const value = this.#validCounter(sample.energyMillijoules);
    if (value === undefined) return false;
    const reading = { at: sample.at, millijoules: value, epoch: sample.energyEpoch };
    const last = this.#counter;
    if (last === undefined) return this.#begin(reading);
    if (last.epoch !== undefined && reading.epoch !== undefined && last.epoch !== reading.epoch) {
      this.#moved += value;
    } else if (value >= last.millijoules) {
      this.#moved += value - last.millijoules;
    } else {
      this.#heldReading = reading;
      if (++this.#held < heldReadingsMax) return false;
      this.#acceptReset();
      this.#book(this.#openFrom as Nanos, sample.at, undefined, 0);
      return true;
    }
    this.#held = 0;
    this.#counter = reading;
    this.#steps.append(last.at, reading.at, wattsBetween(last, reading));
    return true;
  }

  /** First counter reading: time before it is integrated, counting starts here from this base. */
  #begin(reading: CounterReading): boolean {
    const open = this.#openFrom as Nanos;
    this.#bookAbsence(reading, open);
    if (reading.at > open) this.#book(open, reading.at, undefined, 0);
    this.#counter = reading;
    this.#moved = 0;
    return true;
  }

  /** What the counter moved since an earlier run, before the time that is integrated here. */
  #bookAbsence(reading: CounterReading, open: Nanos): void {
    const before = this.#before;
    this.#before = undefined;
    if (before === undefined || before.epoch !== reading.epoch) return;
    const moved = reading.millijoules - before.millijoules;
    if (moved < 0 || reading.at <= before.at) return;
    const seconds = (reading.at - before.at) / second;
    if (moved > 1.2 * this.limitWatts * (seconds + 0.2) * 1000) {
      this.#rejected += moved;
      return;
    }
    const integrated = reading.at > open ? (this.#power.integral(open, reading.at)?.millijoules ?? 0) : 0;
    const unseen = Math.max(0, Math.round(moved - integrated));
    const from = Math.min(this.#since ?? open, open - 1);
    this.curve.appendWindow({ from, to: open, millijoules: unseen, method: "counter", steps: noSteps });
    this.#accepted += unseen;
  }

  /** The held value becomes the new base; what the counter moved in the window before its fall is refused with it. */
  #acceptReset(): void {
    this.#counter = this.#heldReading;
    this.#heldReading = undefined;
    this.#held = 0;
    this.#rejected += this.#moved;
    this.#moved = 0;
    this.#resets++;
  }

  #close(at: Nanos, counted: boolean, observed: boolean): void {
    const open = this.#openFrom as Nanos;
    if (open >= at) return;
    if (counted) this.#judge(open, at);
    else if (this.#counter === undefined) this.#book(open, at, undefined, 0);
    else if (this.#held === 0 && (!observed || at - this.#counter.at > counterLostAfter)) {
      const refused = this.#moved;
      this.#counter = undefined;
      this.#book(open, at, undefined, refused);
    }
  }

  /** Accepts the counter's movement over `[from, to)`, or integrates power and refuses it. */
  #judge(from: Nanos, to: Nanos): void {
    const integral = this.#power.integral(from, to);
    if (integral !== undefined) {
      const module = ((this.#moduleWatts ?? 0) * (to - from)) / 1e6;
      this.#check.addWindow(to - from, { counted: this.#moved, integrated: integral.millijoules, module });
    }
    const most = 1.2 * this.limitWatts * ((to - from) / second + 0.2) * 1000;
    if (this.#moved <= most && this.#check.doubt === undefined) this.#book(from, to, this.#moved, 0);
    else this.#book(from, to, undefined, this.#moved);
  }

  #book(from: Nanos, to: Nanos, counted: number | undefined, refused: number): void {
    const integral = counted === undefined ? this.#power.integral(from, to) : undefined;
    const method: EnergyMethod = counted === undefined ? (integral?.method ?? "none") : "counter";
    const isSampled = integral !== undefined && integral.seenNanos < wholeRatioMin * (to - from);
    const steps = counted === undefined ? undefined : shapes(this.#steps, from, to, counterSteps);
    const fine = this.#power.fineShape(from, to, steps);
    if (isSampled || (this.isPlaced && fine === undefined && method !== "none")) {
      this.#rejected += refused;
      this.#moved = 0;
      const amount = isSampled ? undefined : (counted ?? integral?.millijoules);
      const { sampleWatts: watts = 0, seenNanos = to - from } = integral ?? {};
      this.#waiting.add({ from, to, method, millijoules: amount, watts, seenNanos });
      this.#steps.clear();
      this.#openFrom = to;
      return;
    }
    const { hasWaiting } = this;
    if (hasWaiting) this.decideWaiting(from, nothingKnown);
    const millijoules = counted ?? this.#integrate(integral?.millijoules ?? 0);
    if (counted !== undefined) this.#accepted += millijoules;
    this.#rejected += refused;
    this.#moved = 0;
    const shape = hasWaiting ? undefined : fine;
    this.curve.appendWindow({
      from,
      to,
      millijoules,
      method,
      steps: shape ?? this.#power.shape(from, to, steps),
    });
    this.#steps.clear();
    this.#openFrom = to;
  }

  /** Whole millijoules of integrated power; what is left over goes on. */
  #integrate(exact: number): number {
    const millijoules = Math.max(0, Math.floor(exact + this.#roundedOff));
    this.#roundedOff += exact - millijoules;
    this.#integrated += millijoules;
    return millijoules;
  }

  #validCounter(value: number | undefined): number | undefined {
    if (value === undefined) return undefined;
    if (Number.isFinite(value) && value >= 0 && value <= Number.MAX_SAFE_INTEGER) return Math.round(value);
    this.#ignored++;
    return undefined;
  }
}

/** A window that is longer than a stretch by more than chance says nothing of what those drew that executed in it. */
export const longerRatio = 1.1;

function isLonger<W extends { readonly from: Nanos; readonly to: Nanos }>(
  window: W | undefined,
  from: Nanos,
  to: Nanos,
): window is W {
  return window !== undefined && window.to - window.from > longerRatio * (to - from);
}

function wattsBetween(last: CounterReading, reading: CounterReading): number {
  return (Math.max(0, reading.millijoules - last.millijoules) * 1e6) / (reading.at - last.at);
}

/** The limit to judge by: the driver's, or one no board exceeds where it names none. */
export function usableLimit(watts: number | undefined): number {
  return watts !== undefined && Number.isFinite(watts) && watts > 0 ? watts : limitUnknownWatts;
}
