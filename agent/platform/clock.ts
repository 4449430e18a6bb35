// The one clock: monotonic instants, wall time and every timer of the agent.
// Agent time = wall anchor + monotonic (METERING.md 7). Replay drives a virtual clock, the demo a scaled one, so no
// other file asks the system for the time or sets a timer.
import { uptime } from "node:os";
import type { Nanos, UnixNanos } from "../model.ts";

/** Nanoseconds of a millisecond. */
export const NANOS_PER_MS = 1_000_000;

/** Cancels a timer; calling it twice is harmless. */
export type Cancel = () => void;

/** Instants, agent time and timers. */
export interface Clock {
  /** Monotonic nanoseconds since the clock was made. */
  now(): Nanos;
  /** Agent time of an instant: wall anchor + monotonic. */
  unixNanos(at: Nanos): UnixNanos;
  /** The instant of an agent time; the inverse of `unixNanos`. */
  instant(at: UnixNanos): Nanos;
  /** Agent time at which the host booted, by the time that counts sleep too (CLOCK_BOOTTIME). */
  booted(): UnixNanos;
  /** Calls `run` once at or after `at`. A failure of `run` is the caller's to handle. */
  at(at: Nanos, run: () => void | Promise<void>): Cancel;
  /** Resolves after `ms`; rejects with the signal's reason when aborted first. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /**
   * For how long at most timers were held up since this was last asked: one was called that late, or held up the others
   * that long. Absent where time is not the system's.
   */
  takeDelay?(): Nanos;
}

/**
 * Calls `run` at start + k x period, never two at once: beats missed while `run` was busy are skipped, not caught up.
 * The first call comes at `first` (default: one period from now).
 */
export function every(
  clock: Clock,
  periodMs: number,
  run: () => void | Promise<void>,
  first?: Nanos,
): Cancel {
  const period = Math.round(periodMs * NANOS_PER_MS);
  let next = first ?? clock.now() + period;
  let cancelled = false;
  let cancel: Cancel = () => {};
  const beat = async (): Promise<void> => {
    await run();
    if (cancelled) return;
    next += period;
    const now = clock.now();
    if (next < now) next += Math.ceil((now - next) / period) * period;
    cancel = clock.at(next, beat);
  };
  cancel = clock.at(next, beat);
  return () => {
    cancelled = true;
    cancel();
  };
}

/** A step by which agent time follows the wall clock. */
export interface ClockStep {
  readonly nanos: bigint;
  /** It goes back, so series must begin again from zero. */
  readonly restarted: boolean;
  /** The host slept for it: time really passed, and none of it was metered. */
  readonly slept: boolean;
}

/** The system's clock, whose wall anchor can be brought after a stepped wall clock. */
export interface SystemClock extends Clock {
  /**
   * Compares agent time with the wall and with the time since boot (METERING.md 7): sleep and steps forward by over 1 s
   * are followed at once; backward the anchor is kept until the wall catches up, or after 10 minutes followed as
   * `restarted`. Undefined when nothing moved. Changes nothing yet, so that what was metered can be committed first.
   */
  pendingStep(): ClockStep | undefined;
  /** Lets agent time follow a step. */
  follow(step: ClockStep): void;
}

const FORWARD_MIN = 1_000_000_000n;
/** The time since boot is read with 10 ms, apart from the monotonic time. */
const SLEEP_MIN = 1_000_000_000n;
const BACKWARD_PATIENCE_NANOS = 600e9;

/** Where a system clock looks; tests bring their own. */
export interface ClockSources {
  /** Nanoseconds that never go back. */
  readonly monotonic: () => bigint;
  /** Milliseconds since 1970. */
  readonly wall: () => number;
  /** Seconds since the host booted, sleep included; default, the system's. */
  readonly uptime?: () => number;
}

/** The system's clock; `speed` > 1 lets agent time pass faster than wall time (demo), all timers with it. */
export function systemClock(options: { speed?: number; sources?: ClockSources } = {}): SystemClock {
  const speed = options.speed ?? 1;
  const {
    monotonic,
    uptime: upSeconds = uptime,
    wall,
  } = options.sources ?? { monotonic: process.hrtime.bigint, wall: Date.now };
  const origin = monotonic();
  let anchor = BigInt(wall()) * 1_000_000n;
  let behindSince: Nanos | undefined;
  const now = (): Nanos => Math.round(Number(monotonic() - origin) * speed);
  const sleptSoFar = (): bigint => BigInt(Math.round(upSeconds() * 1e9)) - (monotonic() - origin);
  let sleptBefore = sleptSoFar();
  let delay: Nanos = 0;
  const pendingStep = (): ClockStep | undefined => {
    if (speed !== 1) return undefined;
    const at = now();
    const slept = sleptSoFar() - sleptBefore;
    if (slept > SLEEP_MIN) return { nanos: slept, restarted: false, slept: true };
    const off = BigInt(wall()) * 1_000_000n - (anchor + BigInt(at));
    if (off > -FORWARD_MIN) behindSince = undefined;
    else behindSince ??= at;
    const waited = behindSince !== undefined && at - behindSince >= BACKWARD_PATIENCE_NANOS;
    if (off <= FORWARD_MIN && !waited) return undefined;
    return { nanos: off, restarted: off < 0n, slept: false };
  };
  const follow = ({ nanos, slept }: ClockStep): void => {
    anchor += nanos;
    behindSince = undefined;
    if (slept) sleptBefore += nanos;
  };
  const clock: SystemClock = {
    now,
    pendingStep,
    follow,
    unixNanos: (at) => anchor + BigInt(Math.round(at)),
    instant: (at) => Number(at - anchor),
    booted: () => anchor + BigInt(now()) - BigInt(Math.round(upSeconds() * 1e9)),
    at: (at, run) => {
      const set = now();
      const timer = setTimeout(
        () => {
          const began = now();
          void run();
          delay = Math.max(delay, began - Math.max(at, set), now() - began);
        },
        Math.max(0, (at - set) / NANOS_PER_MS / speed),
      );
      return () => clearTimeout(timer);
    },
    takeDelay: () => {
      const taken = delay;
      delay = 0;
      return taken / speed;
    },
    sleep: (ms, signal) => sleepOn(clock, ms, signal),
  };
  return clock;
}

/** A clock that stands still until `advance` moves it; timers run in order of time, then of being set. */
export interface VirtualClock extends Clock {
  /** Runs every timer due up to `to`, awaiting each, then stands at `to`. */
  advance(to: Nanos): Promise<void>;
}

/** A virtual clock whose instant 0 is `start`, on a host that booted at `booted`: default, at its beginning. */
export function virtualClock(start: UnixNanos, booted: UnixNanos = start): VirtualClock {
  let time: Nanos = 0;
  let sequence = 0;
  const timers: { at: Nanos; sequence: number; run: () => void | Promise<void> }[] = [];
  const clock: VirtualClock = {
    now: () => time,
    unixNanos: (at) => start + BigInt(Math.round(at)),
    instant: (at) => Number(at - start),
    booted: () => booted,
    at: (at, run) => {
      const timer = { at: Math.max(at, time), sequence: sequence++, run };
      const place = timers.findIndex((other) => other.at > timer.at);
      timers.splice(place === -1 ? timers.length : place, 0, timer);
      return () => {
        const index = timers.indexOf(timer);
        if (index !== -1) timers.splice(index, 1);
      };
    },
    sleep: (ms, signal) => sleepOn(clock, ms, signal),
    advance: async (to) => {
      for (let timer = timers[0]; timer !== undefined && timer.at <= to; timer = timers[0]) {
        timers.shift();
        time = Math.max(time, timer.at);
        await timer.run();
      }
      time = Math.max(time, to);
    },
  };
  return clock;
}

function sleepOn(clock: Clock, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const onAbort = (): void => {
      cancel();
      reject(signal?.reason);
    };
    const cancel = clock.at(clock.now() + ms * NANOS_PER_MS, () => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    });
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}
