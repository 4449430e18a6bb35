// Cumulative energy of one GPU as a rising integer function of time, made of closed windows.
// Inside a window it follows the finest power series, scaled to the window's amount; its value at an instant never
// changes once the window is closed, so differences of it add up to the windows to the millijoule.
import type { EnergyMethod, Nanos } from "../../model.ts";
import type { PowerSteps } from "./power-steps.ts";
import { Shapes } from "./shapes.ts";

/** A closed window of energy. */
export interface EnergyWindow {
  readonly from: Nanos;
  readonly to: Nanos;
  readonly millijoules: number;
  readonly method: EnergyMethod;
  /** Its shape; empty = even. Read at once and not kept. */
  readonly steps: PowerSteps;
  /** Its shape is that of the work that was done in it, and says nothing of power at rest. */
  readonly isPlaced?: boolean;
}

interface Stretch extends Omit<EnergyWindow, "steps"> {
  /** Energy of everything before it. */
  readonly before: number;
  /** Positions of its points among the shapes of all: where it begins, and where the next one does. */
  readonly shapeFrom: number;
  readonly shapeTo: number;
}

/** Windows kept at most, about as many seconds; beyond it the oldest are answered by their ends alone. */
const windowsMax = 4096;
/** From best to worst: an interval is labelled by the worst method in it. */
const methods: readonly EnergyMethod[] = ["counter", "integrated", "integrated_instant", "none"];

/** The energy of one GPU since its first reading. */
export class EnergyCurve {
  readonly #stretches: Stretch[] = [];
  readonly #shapes = new Shapes();
  #end = 0;

  /** Everything so far, mJ. */
  get totalMillijoules(): number {
    return this.#end;
  }

  /** Appends a window; windows come in order and without holes. */
  appendWindow(window: EnergyWindow): void {
    const { from, isPlaced = false, method, millijoules, to } = window;
    const shapeFrom = this.#shapes.end;
    drawShape(this.#shapes, window);
    const shapeTo = this.#shapes.end;
    this.#stretches.push({ from, to, millijoules, method, isPlaced, before: this.#end, shapeFrom, shapeTo });
    this.#end += millijoules;
    if (this.#stretches.length > windowsMax) this.#drop(1);
  }

  /** Returns the energy used before `at`, mJ; the total so far for instants after the last closed window. */
  at(at: Nanos): number {
    const stretch = this.#find(at);
    if (stretch === undefined) return this.#stretches[0]?.before ?? this.#end;
    if (at >= stretch.to) return stretch.before + stretch.millijoules;
    return stretch.before + Math.round(stretch.millijoules * shareAt(this.#shapes, stretch, at));
  }

  /** Returns the worst method of the windows that touch `[from, to)`; undefined where there are none. */
  method(from: Nanos, to: Nanos): EnergyMethod | undefined {
    let worst = -1;
    for (const stretch of this.#stretches)
      if (stretch.from < to && stretch.to > from) worst = Math.max(worst, methods.indexOf(stretch.method));
    return methods[worst];
  }

  /** True where `[from, to)` touches a window whose shape is that of the work that was done in it, and that is longer than `length`. */
  isPlaced(from: Nanos, to: Nanos, length: Nanos = 0): boolean {
    for (let index = this.#stretches.length - 1; index >= 0; index--) {
      const stretch = this.#stretches[index] as Stretch;
      if (stretch.to <= from) return false;
      if (stretch.isPlaced === true && stretch.from < to && stretch.to - stretch.from > length) return true;
    }
    return false;
  }

  /** The window around `at` whose shape is that of the work that was done in it; undefined where there is none. */
  placedAround(at: Nanos): { readonly from: Nanos; readonly to: Nanos } | undefined {
    const stretch = this.#find(at);
    return stretch?.isPlaced === true && at < stretch.to ? stretch : undefined;
  }

  /** Length of the window around `at`; 0 where there is none. */
  lengthAround(at: Nanos): Nanos {
    const stretch = this.#find(at);
    return stretch === undefined || at >= stretch.to ? 0 : stretch.to - stretch.from;
  }

  /** Drops windows that ended at or before `before`, all but the last of them. */
  forget(before: Nanos): void {
    let drop = 0;
    while (drop + 1 < this.#stretches.length && (this.#stretches[drop] as Stretch).to <= before) drop++;
    if (drop > 0) this.#drop(drop);
  }

  #drop(count: number): void {
    this.#stretches.splice(0, count);
    this.#shapes.forget(this.#stretches[0]?.shapeFrom ?? this.#shapes.end);
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

/** Draws cumulative shares along the steps of a window; holes between steps count at the mean level. */
function drawShape(shapes: Shapes, { from, steps, to }: EnergyWindow): void {
  const mean = steps.meanWatts() ?? 0;
  const begin = shapes.end;
  shapes.draw(from, 0);
  if (mean <= 0) {
    shapes.draw(to, 1);
    return;
  }
  for (let at = 0; at < steps.length; at++) {
    drawTo(shapes, steps.from(at), mean);
    drawTo(shapes, steps.to(at), steps.watts(at));
  }
  drawTo(shapes, to, mean);
  shapes.scaleFrom(begin);
}

/** Goes on from the last instant to `until` at some power, unless it was reached. */
function drawTo(shapes: Shapes, until: Nanos, watts: number): void {
  const last = shapes.end - 1;
  const reached = shapes.instant(last);
  if (until > reached) shapes.draw(until, shapes.share(last) + watts * (until - reached));
}

function shareAt(shapes: Shapes, { shapeFrom, shapeTo }: Stretch, at: Nanos): number {
  let low = shapeFrom;
  let high = shapeTo - 1;
  while (low + 1 < high) {
    const middle = (low + high) >> 1;
    if (shapes.instant(middle) <= at) low = middle;
    else high = middle;
  }
  const from = shapes.instant(low);
  const to = shapes.instant(high);
  const start = shapes.share(low);
  const end = shapes.share(high);
  return to > from ? start + ((end - start) * (at - from)) / (to - from) : end;
}
