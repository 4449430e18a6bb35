// Judges what a collector took against the truth: conservation, integrity, order and liveness.
import { readRequest } from "../../../agent/export/otlp/reader.ts";
import { BEAT_NANOS, SERIES, total } from "./truth.ts";

const NANOS_PER_MS = 1_000_000n;

/** What is left to hold against the sender; every number should be 0. */
export interface Verdict {
  /** Tokens (and millijoules) the last totals received are short of the truth. */
  readonly lostTokens: bigint;
  /** The same beyond the truth. */
  readonly doubledTokens: bigint;
  /** Points whose value is not what the source had at their time. */
  readonly wrongPoints: number;
  /** Points older than one of their series received before, unless an exact repeat. */
  readonly outOfOrder: number;
  /** Promised beats of which a series never arrived. */
  readonly missingBeats: number;
  /** Points of beats that were never committed. */
  readonly uncommitted: number;
}

/** Collects requests in the order a collector took them. */
export class Oracle {
  readonly #start: bigint;
  readonly #last = new Map<string, { time: bigint; value: number }>();
  readonly #seen = new Map<string, Set<number>>();
  #wrong = 0;
  #outOfOrder = 0;
  points = 0;
  repeats = 0;

  constructor(start: bigint) {
    this.#start = start;
  }

  accept(request: Uint8Array): void {
    readRequest(request, (point) => {
      this.points++;
      const id =
        Buffer.concat(point.attributes)
          .toString("latin1")
          .match(/s(\d+)/)?.[1] ?? "";
      const zero = point.time === this.#start + NANOS_PER_MS && Number(point.value) === 0;
      const beat = Number((point.time - this.#start) / BEAT_NANOS);
      const value =
        typeof point.value === "bigint" ? Number(point.value) : Math.round((point.value ?? 0) * 1000);
      if (!zero && value !== Number(total(Number(id), beat))) this.#wrong++;
      if (point.start !== this.#start) this.#wrong++;
      const seen = this.#seen.get(id) ?? new Set();
      this.#seen.set(id, seen);
      const last = this.#last.get(id);
      if (seen.has(beat)) this.repeats++;
      else if (last !== undefined && point.time < last.time) this.#outOfOrder++;
      seen.add(beat);
      if (last === undefined || point.time > last.time) this.#last.set(id, { time: point.time, value });
    });
  }

  /** The verdict once everything up to beat `committed` should have arrived; `promised` beats must have, each. */
  verdict(committed: number, promised: readonly number[]): Verdict {
    let lost = 0n;
    let doubled = 0n;
    let missing = 0;
    let uncommitted = 0;
    for (let series = 0; series < SERIES; series++) {
      const truth = total(series, committed);
      const got = BigInt(this.#last.get(String(series))?.value ?? 0);
      if (got < truth) lost += truth - got;
      else doubled += got - truth;
      const seen = this.#seen.get(String(series)) ?? new Set();
      missing += promised.filter((beat) => !seen.has(beat)).length;
      uncommitted += [...seen].filter((beat) => beat > committed).length;
    }
    return {
      lostTokens: lost,
      doubledTokens: doubled,
      wrongPoints: this.#wrong,
      outOfOrder: this.#outOfOrder,
      missingBeats: missing,
      uncommitted,
    };
  }
}

/** The verdict nobody can argue with. */
export const FLAWLESS: Verdict = {
  lostTokens: 0n,
  doubledTokens: 0n,
  wrongPoints: 0,
  outOfOrder: 0,
  missingBeats: 0,
  uncommitted: 0,
};
