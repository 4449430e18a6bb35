// Sends the spool's records to one destination: at least once, in order, for as long as it takes.
// Retry rules: OTLP specification 1.x (see transport.ts). There is no retry deadline: what the spool holds is sent
// or its bounds drop it and say so. Cumulative points make a repeated request harmless.

import { addHistograms, observation } from "../../meter/counters/histograms.ts";
import type { Histogram, Nanos, UnixNanos } from "../../model.ts";
import type { Cancel, Clock } from "../../platform/clock.ts";
import { NANOS_PER_MS } from "../../platform/clock.ts";
import type { Log } from "../../platform/log.ts";
import type { Spool } from "../../store/spool/spool.ts";
import type { BacklogLimits, BacklogMode, Next } from "./backlog.ts";
import { BACKLOG_LIMITS, Backlog } from "./backlog.ts";
import { readRequest, splitRequest } from "./reader.ts";
import type { SenderStatus } from "./sender-status.ts";
import type { Delivery, Transport } from "./transport.ts";

/** A destination that was away for less is drained on at once: many hosts that begin together follow an outage. */
const OUTAGE_MS = 60_000;
/** A destination that asks for more is asked again all the same: one broken answer must not end delivery. */
const RETRY_INFO_MS_MAX = 3_600_000;

/** What a sender takes from, sends by, and how patient it is. */
export interface SenderOptions {
  readonly destination: string;
  readonly transport: Transport;
  readonly spool: Spool;
  readonly clock: Clock;
  readonly log: Log;
  readonly timeoutMs?: number;
  readonly backlog?: BacklogMode;
  readonly limits?: BacklogLimits;
  /** First and longest pause between attempts. */
  readonly retryMs?: { readonly first: number; readonly longest: number };
  /** 0 to 1, not including 1; tests pass their own. */
  readonly random?: () => number;
  /** Takes a request of which a destination refused `points` for good, so that a person can look at it. */
  readonly park?: (destination: string, bytes: Uint8Array, why: string, points: number) => Promise<void>;
}

/** A record on its way. */
interface Parts {
  readonly sequence: number;
  left: Uint8Array[];
  /** Of the first attempt. */
  readonly began: Nanos;
  /** Of the last refusal. */
  error: string;
}

/** Bounds of the durations of exports, in seconds. */
const DURATION_BOUNDS = [0.005, 0.025, 0.1, 0.5, 2.5, 10, 60, 600];
const ERRORS_MAX = 8;

/** One destination's sender. `start` it once; it wakes with each commit of the spool. */
export class Sender {
  readonly #options: SenderOptions;
  readonly #backlog: Backlog;
  readonly #stop = new AbortController();
  readonly #dropped = new Map<string, number>();
  readonly #counts = { sentRequests: 0, sentPoints: 0, retries: 0, splits: 0, calls: 0, exportSeconds: 0 };
  readonly #durations = new Map<string, Histogram>();
  #state: SenderStatus["state"] = "idle";
  #timer: Cancel | undefined;
  #pumping: Promise<void> | undefined;
  #again = false;
  #attempt = 0;
  #failingSince = 0;
  #lastError: string | undefined;
  #urgent = false;
  /** What is left of a record that had to be split, in order. */
  #parts: Parts | undefined;

  constructor(options: SenderOptions) {
    this.#options = options;
    this.#backlog = new Backlog(
      options.spool,
      options.destination,
      options.backlog ?? "strict",
      options.limits ?? BACKLOG_LIMITS,
    );
  }

  /** Begins to send, what an earlier run left in the spool first. */
  start(): void {
    const { clock, spool } = this.#options;
    this.#backlog.resumed(clock.unixNanos(clock.now()), this.#random());
    spool.onCommit(() => {
      if (this.#timer === undefined || this.#state === "waiting") void this.pump();
    });
    void this.pump();
  }

  /** Sends now, until nothing is left, a pause is due or the sender stops. A call meanwhile makes the run look again. */
  pump(): Promise<void> {
    this.#timer?.();
    this.#timer = undefined;
    this.#again = true;
    this.#pumping ??= this.#rounds();
    return this.#pumping;
  }

  /**
   * Tries to deliver everything committed within `deadlineMs`, without waiting out pauses first. Whether all of it was
   * delivered; what was not stays in the spool.
   */
  async flush(deadlineMs: number): Promise<boolean> {
    const { clock, spool, destination } = this.#options;
    this.#urgent = true;
    const end = clock.now() + deadlineMs * NANOS_PER_MS;
    let cancel: Cancel = () => {};
    const late = new Promise<void>((resolve) => {
      cancel = clock.at(end, resolve);
    });
    const drained = (): boolean => spool.peek(spool.position(destination)) === undefined;
    while (!drained() && clock.now() < end && this.#state !== "stopped") {
      await Promise.race([this.pump(), late]);
      if (drained() || clock.now() >= end) break;
      await Promise.race([clock.sleep(Math.min(100, deadlineMs / 10)), late]);
    }
    cancel();
    this.#urgent = false;
    return drained();
  }

  /** Resolves when no run is under way. */
  async settled(): Promise<void> {
    await this.#pumping;
  }

  status(): SenderStatus {
    const { clock, destination, spool } = this.#options;
    const position = spool.position(destination);
    return {
      destination,
      state: this.#state,
      ...this.#counts,
      droppedPoints: Object.fromEntries(this.#dropped),
      durations: Object.fromEntries(this.#durations),
      ...this.#backlog.counts,
      position,
      unsentSeconds: ageSeconds(spool.peek(position)?.time, clock.unixNanos(clock.now())),
      lastError: this.#lastError,
    };
  }

  /** Stops at once; a call under way is cancelled. */
  async stop(): Promise<void> {
    this.#stop.abort();
    this.#timer?.();
    await this.#pumping;
    this.#state = "stopped";
    this.#options.transport.close();
  }

  async #rounds(): Promise<void> {
    try {
      do {
        this.#again = false;
        this.#timer?.();
        await this.#run();
      } while (this.#again && this.#state !== "retrying");
    } finally {
      this.#pumping = undefined;
    }
  }

  async #run(): Promise<void> {
    const { clock } = this.#options;
    while (!this.#stop.signal.aborted) {
      const next = await this.#backlog.next(clock.unixNanos(clock.now()), this.#urgent);
      if (next === undefined) {
        this.#state = "idle";
        return;
      }
      if ("waitMs" in next) return this.#wait(next.waitMs, "waiting");
      this.#state = "sending";
      const pauseMs = await this.#deliver(next);
      if (pauseMs !== undefined) return this.#wait(pauseMs, "retrying");
    }
    this.#state = "stopped";
  }

  #wait(ms: number, state: "waiting" | "retrying"): void {
    const { clock } = this.#options;
    if (this.#stop.signal.aborted) return;
    this.#state = state;
    this.#timer = clock.at(clock.now() + Math.ceil(ms * NANOS_PER_MS), () => {
      this.#timer = undefined;
      return this.pump();
    });
  }

  /** Sends one record, in parts where it had to be split. Returns the pause before the next attempt if it failed. */
  async #deliver(next: Next): Promise<number | undefined> {
    const { spool, clock } = this.#options;
    const { header } = next;
    let readable = true;
    if (this.#parts?.sequence !== header.sequence) {
      const bytes = await spool.read(header.sequence);
      readable = bytes !== undefined;
      const left = bytes === undefined ? [] : [bytes];
      this.#parts = { sequence: header.sequence, left, began: clock.now(), error: "" };
    }
    const parts = this.#parts;
    const { left } = parts;
    let refused = 0;
    for (let bytes = left[0]; bytes !== undefined; bytes = left[0]) {
      const delivery = await this.#send(bytes);
      if (this.#stop.signal.aborted && delivery.kind === "retry") return 0;
      if (delivery.kind === "retry") return this.#retryPause(delivery);
      if (this.#attempt > 0) this.#recovered();
      const halves = delivery.kind === "too_large" ? splitRequest(bytes) : undefined;
      if (halves !== undefined) {
        this.#counts.splits++;
        left.splice(0, 1, ...halves);
        continue;
      }
      left.shift();
      parts.error = errorOf(delivery) || parts.error;
      refused += await this.#settle(delivery, bytes);
    }
    if (readable) {
      this.#counts.sentPoints += Math.max(0, header.points - refused);
      this.#countDuration(parts.error, (clock.now() - parts.began) / 1e9);
    }
    this.#parts = undefined;
    await this.#backlog.done(next, clock.unixNanos(clock.now()));
    return undefined;
  }

  /** One record got its last answer; refusals come in few kinds, so that the durations do too. */
  #countDuration(error: string, seconds: number): void {
    const known = this.#durations.get(error);
    const kind = known !== undefined || this.#durations.size < ERRORS_MAX ? error : "_OTHER";
    const one = observation(DURATION_BOUNDS, seconds);
    const before = this.#durations.get(kind);
    this.#durations.set(kind, (before && addHistograms(before, one)) ?? one);
  }

  /** The destination answers again. */
  #recovered(): void {
    const { clock, destination, log, spool } = this.#options;
    const now = clock.unixNanos(clock.now());
    const behindSeconds = ageSeconds(spool.peek(spool.position(destination))?.time, now);
    log.info("delivering again", { source: `otlp:${destination}`, attempts: this.#attempt, behindSeconds });
    this.#attempt = 0;
    if (clock.now() - this.#failingSince < OUTAGE_MS * NANOS_PER_MS) return;
    this.#backlog.resumed(now, this.#random());
  }

  async #send(bytes: Uint8Array): Promise<Delivery> {
    const { clock, transport } = this.#options;
    const timeoutMs = this.#options.timeoutMs ?? 10_000;
    const call = new AbortController();
    const onStop = (): void => call.abort();
    this.#stop.signal.addEventListener("abort", onStop, { once: true });
    let timedOut = false;
    const began = clock.now();
    const cancel = clock.at(began + timeoutMs * NANOS_PER_MS, () => {
      timedOut = true;
      call.abort();
    });
    const delivery = await transport.send(bytes, call.signal);
    cancel();
    this.#stop.signal.removeEventListener("abort", onStop);
    this.#counts.calls++;
    this.#counts.exportSeconds += (clock.now() - began) / 1e9;
    if (!timedOut || delivery.kind !== "retry") return delivery;
    return { kind: "retry", code: "DEADLINE_EXCEEDED", message: `no answer within ${timeoutMs} ms` };
  }

  /** Exponential with jitter (half to whole); RetryInfo is a floor. */
  #retryPause(delivery: Extract<Delivery, { kind: "retry" }>): number {
    const { first, longest } = this.#options.retryMs ?? { first: 1000, longest: 30_000 };
    const grown = Math.min(longest, first * 2 ** Math.min(this.#attempt, 20));
    if (this.#attempt++ === 0) this.#failingSince = this.#options.clock.now();
    this.#counts.retries++;
    this.#lastError = `${delivery.code}: ${delivery.message}`;
    const { destination, log } = this.#options;
    log.warn("cannot deliver, will retry", {
      source: `otlp:${destination}`,
      cause: delivery.code,
      seen: delivery.message,
    });
    const asked = Math.min(RETRY_INFO_MS_MAX, delivery.delayMs ?? 0) || 0;
    return Math.max(asked, grown * (0.5 + this.#random() / 2));
  }

  /** Books the final answer to one request; returns the points it refused. */
  async #settle(delivery: Exclude<Delivery, { kind: "retry" }>, bytes: Uint8Array): Promise<number> {
    const { destination, log, park } = this.#options;
    if (delivery.kind === "accepted" || delivery.kind === "partial") this.#counts.sentRequests++;
    if (delivery.kind === "accepted") {
      this.#lastError = undefined;
      if (delivery.message !== undefined) {
        log.warn("destination warns", {
          source: `otlp:${destination}`,
          cause: delivery.message.slice(0, 200),
        });
      }
      return 0;
    }
    const why = errorOf(delivery);
    const points = delivery.kind === "partial" ? delivery.rejectedPoints : countPoints(bytes);
    this.#dropped.set(why, (this.#dropped.get(why) ?? 0) + points);
    this.#lastError = `${why}: ${delivery.message}`;
    const facts = { source: `otlp:${destination}`, cause: why, points, seen: delivery.message };
    log.error("destination refused points for good", facts);
    await park?.(destination, bytes, why, points);
    return points;
  }

  #random(): number {
    return (this.#options.random ?? Math.random)();
  }
}

/** Why points were refused for good; empty where none were. */
function errorOf(delivery: Exclude<Delivery, { kind: "retry" }>): string {
  if (delivery.kind === "accepted") return "";
  return delivery.kind === "refused" ? delivery.code : delivery.kind;
}

function ageSeconds(time: UnixNanos | undefined, now: UnixNanos): number {
  return time === undefined ? 0 : Math.max(0, Number(now - time) / 1e9);
}

function countPoints(bytes: Uint8Array): number {
  let points = 0;
  readRequest(bytes, () => points++);
  return points;
}
