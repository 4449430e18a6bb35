// Maps the driver's sample stamps (microseconds) to CLOCK_MONOTONIC.
// Stamps were Unix time on an H100 and time since boot on a DGX Spark, so the clock is recognised by its distance to
// both; an unknown clock is mapped by the smallest lag ever seen between a newest stamp and our reading it.

const NANOS_PER_MICRO = 1000;
const RECOGNISED_MICROS = 30_000_000;
/** Date.now() has millisecond steps: a kept offset is replaced only when it is off by more. */
const JITTER_MICROS = 20_000;

/** The instants a stamp is compared with, all read at the same moment. */
export interface Now {
  /** CLOCK_MONOTONIC, ns. */
  readonly monotonicNanos: number;
  readonly unixMicros: number;
  readonly bootMicros: number;
}

/** One device's mapping; `observe` the newest stamp of a batch before mapping that batch. */
export class DriverClock {
  #offsetMicros: number | undefined;
  #kind: "unix" | "boot" | "unknown" | undefined;

  get kind(): string {
    return this.#kind ?? "unseen";
  }

  observe(newestMicros: number, now: Now): void {
    const monotonicMicros = now.monotonicNanos / NANOS_PER_MICRO;
    const reference = recognise(newestMicros, now);
    const offset = monotonicMicros - (reference?.micros ?? newestMicros);
    const kind = reference?.kind ?? "unknown";
    const kept = this.#kind === kind ? this.#offsetMicros : undefined;
    this.#kind = kind;
    if (kept === undefined) this.#offsetMicros = offset;
    else if (kind === "unknown") this.#offsetMicros = Math.min(kept, offset);
    else if (Math.abs(kept - offset) > JITTER_MICROS) this.#offsetMicros = offset;
  }

  /** The monotonic instant of a stamp, ns; never later than `now`. Call `observe` first. */
  nanos(stampMicros: number, now: Now): number {
    const at = (stampMicros + (this.#offsetMicros ?? 0)) * NANOS_PER_MICRO;
    return Math.min(Math.round(at), now.monotonicNanos);
  }
}

function recognise(stamp: number, now: Now): { kind: "unix" | "boot"; micros: number } | undefined {
  if (Math.abs(stamp - now.unixMicros) < RECOGNISED_MICROS) return { kind: "unix", micros: now.unixMicros };
  if (Math.abs(stamp - now.bootMicros) < RECOGNISED_MICROS) return { kind: "boot", micros: now.bootMicros };
  return undefined;
}

/** The three clocks now. Only the reader child calls this: it is a process of its own, outside the agent's clock. */
export function readClocks(): Now {
  return {
    monotonicNanos: Number(process.hrtime.bigint()),
    unixMicros: Date.now() * 1000,
    bootMicros: Number(process.hrtime.bigint() / 1000n),
  };
}
