// The instants that beats are shown under. A beat may come before anything was settled since the last one (a source is
// slow, the driver hangs); gauges have other values by then, and Prometheus refuses two values of a series at one instant.
// What is stored keeps the settled time: this one is for people and backends.
import type { UnixNanos } from "../../model.ts";

/** Room for what is said of an end 1 ms after the last value, and for the zero before the first. */
const apart = 2_000_000n;

/** The instants of one ledger's beats, each later than the one before. */
export class BeatTimes {
  #last: UnixNanos;

  /** `last`: what an earlier run showed last, 0 where there was none. */
  constructor(last: UnixNanos) {
    this.#last = last;
  }

  /** The instant of the next beat: `settled`, or a little after the last one. */
  next(settled: UnixNanos): UnixNanos {
    this.#last = settled > this.#last ? settled : this.#last + apart;
    return this.#last;
  }
}
