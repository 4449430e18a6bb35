// Which energy of a board has been booked, so that every millijoule is booked once and none is lost.
// Energy that becomes known after its time had settled is booked when it does: as `unobserved` where that time was, else
// as `unattributed`. What the counter lost to judgement is handed on with it.
import type { EnergyMethod, Nanos } from "../model.ts";
import type { Booking } from "./booking.ts";
import { longerRatio } from "./energy/meter.ts";
import type { Piece } from "./pieces.ts";
import type { Timeline } from "./timeline.ts";

interface Owed {
  readonly from: Nanos;
  readonly to: Nanos;
  readonly unobserved: boolean;
}

/** Stretches without known energy remembered at most; neighbours of one kind are joined, so it takes long. */
const owedMax = 256;
/** Windows that are longer hide who drew their joules: longer than counters are read where nothing else is. */
const coarseNanosMin = 1_500_000_000;

/** The booked energy of one board. */
export class EnergyBook {
  #meter: Timeline | undefined;
  #booked = 0;
  #rejected = 0;
  #owed: Owed[] = [];

  /**
   * Starts an interval at `from`, read from `meter`. A first meter is booked from `from` on, one that takes over from where
   * the one before it was decided: what it moved since then is on no row yet.
   */
  begin(meter: Timeline | undefined, from: Nanos): void {
    if (meter === this.#meter) return;
    const since = Math.min(from, this.#meter?.energy.decidedUntil ?? from);
    this.#meter = meter;
    this.#booked = meter?.energy.curve.at(since) ?? 0;
    this.#rejected = 0;
    this.#owed = [];
  }

  /** Energy of `[from, to)` as far as it is decided. */
  between(from: Nanos, to: Nanos): number {
    const curve = this.#meter?.energy.curve;
    return curve === undefined ? 0 : curve.at(to) - curve.at(from);
  }

  /** Energy before `at`, as far as it is decided. */
  before(at: Nanos): number {
    return this.#meter?.energy.curve.at(at) ?? 0;
  }

  /** True where the energy of everything before `to` is decided. */
  decided(to: Nanos): boolean {
    return (this.#meter?.energy.decidedUntil ?? -Infinity) >= to;
  }

  /** True where all of `[from, to)` is decided by readings alone: what it drew at rest was not worked out from its work. */
  isMeasured(from: Nanos, to: Nanos): boolean {
    return this.decided(to) && this.#meter?.energy.curve.isPlaced(from, to) === false;
  }

  /** True where `[from, to)` is no shorter than the windows whose energy was spread by who executed: it says what they drew. */
  isTold(from: Nanos, to: Nanos): boolean {
    return this.#meter?.energy.curve.isPlaced(from, to, longerRatio * (to - from)) === false;
  }

  /** Where the window begins whose energy was spread by who executed and that reaches over `to`; else `to`. */
  toldUntil(to: Nanos): Nanos {
    return this.#meter?.energy.curve.placedAround(to)?.from ?? to;
  }

  /** True where `[from, to)` touches a window of longer than about a second whose energy was spread by who executed. */
  isCoarse(from: Nanos, to: Nanos): boolean {
    return this.#meter?.energy.curve.isPlaced(from, to, coarseNanosMin) === true;
  }

  /** True where the joules around `at` are those of about a second, whoever executed in it. */
  isNear(at: Nanos): boolean {
    const length = this.#meter?.energy.curve.lengthAround(at) ?? 0;
    return length > 0 && length <= coarseNanosMin;
  }

  /** The worst method in the interval. */
  method({ from, to }: { readonly from: Nanos; readonly to: Nanos }): EnergyMethod {
    return this.#meter?.energy.curve.method(from, to) ?? "none";
  }

  /**
   * Books what is left over to `booking` after the pieces of `[from, to)` were booked by `between`; returns all that was
   * booked since the interval before.
   */
  finish(
    { from, to }: { readonly from: Nanos; readonly to: Nanos },
    booking: Booking,
    pieces: readonly Piece[],
  ): number {
    const energy = this.#meter?.energy;
    if (energy === undefined) return 0;
    const moved = energy.curve.at(to) - this.#booked;
    const late = energy.curve.at(from) - this.#booked;
    const unobserved = Math.min(late, this.#collect(energy.decidedUntil ?? from));
    booking.millijoules.unobserved += unobserved;
    booking.millijoules.unattributed += late - unobserved;
    this.#booked = energy.curve.at(to);
    const { rejectedMillijoules } = energy;
    booking.rejectedMillijoules += rejectedMillijoules - this.#rejected;
    this.#rejected = rejectedMillijoules;
    this.#owe(Math.max(from, energy.decidedUntil ?? from), to, pieces);
    return moved;
  }

  /** Energy of unobserved stretches that became known; what is still open stays owed. */
  #collect(decided: Nanos): number {
    let sum = 0;
    const open: Owed[] = [];
    for (const owed of this.#owed) {
      const until = Math.min(owed.to, decided);
      if (until > owed.from && owed.unobserved) sum += this.between(owed.from, until);
      if (until < owed.to) open.push({ ...owed, from: Math.max(owed.from, until) });
    }
    this.#owed = open;
    return sum;
  }

  #owe(from: Nanos, to: Nanos, pieces: readonly Piece[]): void {
    if (from >= to) return;
    const owed = pieces
      .filter((piece) => piece.to > from && piece.from < to)
      .map((piece) => ({
        from: Math.max(from, piece.from),
        to: Math.min(to, piece.to),
        unobserved: piece.state === "unobserved",
      }));
    for (const stretch of owed) {
      const last = this.#owed.at(-1);
      if (last !== undefined && last.to === stretch.from && last.unobserved === stretch.unobserved)
        this.#owed[this.#owed.length - 1] = { ...last, to: stretch.to };
      else this.#owed.push(stretch);
    }
    if (this.#owed.length > owedMax) this.#owed.splice(0, this.#owed.length - owedMax);
  }
}
