// Where in a recording the agent's clock stands, for every source that replays one.
// Either agent time is the recorded time, or the recording starts when the source opens; then it can be looped, and each
// pass is a new epoch, as if the host had been restarted.
import type { Nanos } from "../model.ts";
import type { SourceContext } from "../source.ts";

/** A place in a recording: microseconds since 1970 as recorded, and how often the recording began again before. */
export interface TracePosition {
  readonly micros: number;
  readonly pass: number;
}

/** How the agent's clock and a recording's time map to each other. */
export interface TraceTime {
  position(now: Nanos): TracePosition;
  /** The instant at which the given place is reached. */
  instant(micros: number, pass: number): Nanos;
}

/** Agent time is recorded time (a virtual clock started at the recording's first reading). */
export function recordedTime(clock: SourceContext["clock"]): TraceTime {
  return {
    position: (now) => ({ micros: Number(clock.unixNanos(now) / 1000n), pass: 0 }),
    instant: (micros) => clock.instant(BigInt(micros) * 1000n),
  };
}

/** How a recording runs beside the agent's clock; places are microseconds since 1970 as recorded. */
export interface RunningTrace {
  /** The instant at which `from` is reached; before it the recording stands still there. */
  readonly origin: Nanos;
  readonly first: number;
  readonly from: number;
  readonly last: number;
  readonly loop: boolean;
  /** The instant from which on the recording stands still. */
  readonly until?: Nanos;
}

/** The recording [first, last] runs from `origin` on, its first pass beginning at `from`; ended passes start from the beginning. */
export function runningTime({ origin, first, from, last, loop, until }: RunningTrace): TraceTime {
  const opening = Math.max(1, last - from);
  const whole = Math.max(1, last - first);
  return {
    position: (now) => {
      const elapsed = Math.max(0, Math.floor((Math.min(now, until ?? now) - origin) / 1000));
      if (!loop || elapsed < opening) return { micros: from + elapsed, pass: 0 };
      const later = elapsed - opening;
      return { micros: first + (later % whole), pass: 1 + Math.floor(later / whole) };
    },
    instant: (micros, pass) =>
      origin + 1000 * (pass === 0 ? micros - from : opening + (pass - 1) * whole + (micros - first)),
  };
}
