// Cumulative energy of one GPU as a rising integer function of time, made of closed windows.
// Inside a window it follows the finest power series, scaled to the window's amount; its value at an instant never
// changes once the window is closed, so differences of it add up to the windows to the millijoule.
import type { EnergyMethod, Nanos } from "../../model.ts";
import type { PowerSteps } from "./power-steps.ts";

/** A closed window of energy. */
export interface EnergyWindow {
  readonly from: Nanos;
  readonly to: Nanos;
  readonly millijoules: number;
  readonly method: EnergyMethod;
  /** Its shape; empty = even. Read at once and not kept. */
  readonly steps: PowerSteps;
}

interface Stretch extends Omit<EnergyWindow, "steps"> {
  /** Energy of everything before it. */
  readonly before: number;
  /** Instants and the share of the window's energy used up at each, from 0 to 1. */
  readonly instants: readonly Nanos[];
  readonly shares: readonly number[];
}

/** Windows kept at most, about as many seconds; beyond it the oldest are answered by their ends alone. */
const windowsMax = 4096;
/** From best to worst: an interval is labelled by the worst method in it. */
const methods: readonly EnergyMethod[] = ["counter", "integrated", "integrated_instant", "none"];

/** The energy of one GPU since its first reading. */
export class EnergyCurve {
  readonly #stretches: Stretch[] = [];
  #end = 0;

  /** Everything so far, mJ. */
  get totalMillijoules(): number {
    return this.#end;
  }

  /** Appends a window; windows come in order and without holes. */
  appendWindow(window: EnergyWindow): void {
    const { from, method, millijoules, to } = window;
    const { instants, shares } = shaped(window);
    this.#stretches.push({ from, to, millijoules, method, before: this.#end, instants, shares });
    this.#end += millijoules;
    if (this.#stretches.length > windowsMax) this.#stretches.shift();
  }

  /** Returns the energy used before `at`, mJ; the total so far for instants after the last closed window. */
  at(at: Nanos): number {
    const stretch = this.#find(at);
    if (stretch === undefined) return this.#stretches[0]?.before ?? this.#end;
    if (at >= stretch.to) return stretch.before + stretch.millijoules;
    return stretch.before + Math.round(stretch.millijoules * shareAt(stretch, at));
  }

  /** Returns the worst method of the windows that touch `[from, to)`; undefined where there are none. */
  method(from: Nanos, to: Nanos): EnergyMethod | undefined {
    let worst = -1;
    for (const stretch of this.#stretches)
      if (stretch.from < to && stretch.to > from) worst = Math.max(worst, methods.indexOf(stretch.method));
    return methods[worst];
  }

  /** Drops windows that ended at or before `before`, all but the last of them. */
  forget(before: Nanos): void {
    let drop = 0;
    while (drop + 1 < this.#stretches.length && (this.#stretches[drop] as Stretch).to <= before) drop++;
    if (drop > 0) this.#stretches.splice(0, drop);
  }

  /** The last stretch that starts at or before `at`. */
  #find(at: Nanos): Stretch | undefined {
    for (let index = this.#stretches.length - 1; index >= 0; index--) {
      const stretch = this.#stretches[index] as Stretch;
      if (stretch.from <= at) return stretch;
    }
    return undefined;
  }
}

/** Where shapes are worked out; what is kept of one is a copy of its length. */
const draft = { instants: [0.5], shares: [0.5], size: 0 };

/** Cumulative shares along the steps; holes between steps count at the mean level. */
function shaped({ from, steps, to }: EnergyWindow): Pick<Stretch, "instants" | "shares"> {
  const mean = steps.meanWatts() ?? 0;
  if (mean <= 0) return { instants: [from, to], shares: [0, 1] };
  draft.size = 0;
  draw(from, 0);
  for (let at = 0; at < steps.length; at++) {
    drawTo(steps.from(at), mean);
    drawTo(steps.to(at), steps.watts(at));
  }
  drawTo(to, mean);
  const { instants, shares, size } = draft;
  const level = shares[size - 1] as number;
  for (let at = 0; at < size; at++) shares[at] = (shares[at] as number) / level;
  return { instants: instants.slice(0, size), shares: shares.slice(0, size) };
}

/** Goes on from the last instant to `until` at some power, unless it was reached. */
function drawTo(until: Nanos, watts: number): void {
  const reached = draft.instants[draft.size - 1] as Nanos;
  if (until > reached) draw(until, (draft.shares[draft.size - 1] as number) + watts * (until - reached));
}

function draw(instant: Nanos, level: number): void {
  draft.instants[draft.size] = instant;
  draft.shares[draft.size++] = level;
}

function shareAt(stretch: Stretch, at: Nanos): number {
  const { instants, shares } = stretch;
  let low = 0;
  let high = instants.length - 1;
  while (low + 1 < high) {
    const middle = (low + high) >> 1;
    if ((instants[middle] as Nanos) <= at) low = middle;
    else high = middle;
  }
  const from = instants[low] as Nanos;
  const to = instants[high] as Nanos;
  const start = shares[low] as number;
  const end = shares[high] as number;
  return to > from ? start + ((end - start) * (at - from)) / (to - from) : end;
}
