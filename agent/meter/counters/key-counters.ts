// The last values of one label set of one server, and the step from them to the next (METERING.md 7).
// One flat row of numbers per label set, because a gateway may have a hundred thousand of them: NaN = never seen.
// Values are floored on arrival, so that fractions of an estimated counter are carried and not dropped.
import type {
  Histogram,
  LatencyName,
  Nanos,
  Outcome,
  Role,
  TokenIncrement,
  TokenKind,
  TokenReading,
  TokenSample,
  UnixNanos,
} from "../../model.ts";
import type { Relation } from "./histograms.ts";
import { histogramStep } from "./histograms.ts";
import { otherInput } from "./input-kinds.ts";

/** What one reading of one label set added. */
export interface KeyStep {
  /** Absent when nothing moved. */
  readonly moved: Omit<TokenIncrement, "late"> | undefined;
  readonly progressInput: number;
  readonly progressOutput: number;
  readonly reset: boolean;
  readonly dropped: number;
}

/** Who a row of counters belongs to. */
export interface KeyIdentity {
  readonly model?: string;
  readonly tenant?: string;
  readonly endpoint?: string;
  readonly role: Role;
}

/** A label set as plain data. `null` stands for "never seen". */
export interface KeyState {
  readonly identity: KeyIdentity;
  readonly epoch?: string;
  readonly at: string;
  readonly values: readonly (number | null)[];
  readonly histograms: Readonly<Partial<Record<LatencyName, Histogram>>>;
}

/** Disjoint token kinds, in the order of the rows. */
export const tokenKinds: readonly TokenKind[] = ["input_uncached", "input_cached", "input_unsplit", "output"];
/** Outcomes, in the order of the rows. */
export const outcomes: readonly Outcome[] = ["ok", "error", "aborted", "rejected"];
const latencyNames: readonly LatencyName[] = [
  "time_to_first_token",
  "time_per_output_token",
  "inter_token_latency",
  "request_duration",
  "queue_time",
];

// Slots of a row: tokens by kind, requests by outcome, reasoning, progress in and out, tokens by outcome and kind.
const requestSlot = 4;
const reasoningSlot = 8;
const progressInputSlot = 9;
const progressOutputSlot = 10;
const outcomeSlot = 11;
const slots = 27;

/** A fall inside one epoch is believed when it lasts longer than this many readings. */
const heldReadingsMax = 3;
/** No host counts faster than this; a jump beyond it is a broken reading. */
const perSecondMax = 1e9;

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** The remembered counters of one label set. */
export class KeyCounters {
  readonly identity: KeyIdentity;
  epoch: string | undefined;
  at: Nanos = Number.NEGATIVE_INFINITY;
  changed = false;
  #values: number[] = [];
  #histograms: Partial<Record<LatencyName, Histogram>> = {};
  #held = 0;
  // Of the reading being taken in.
  #relation: Relation = "base";
  #ceiling = 0;
  /** What a counter that was not on the pages before stood at then, where the source promises it. */
  #unseen: 0 | undefined;
  #fell = false;
  #reset = false;
  #moved = false;
  #dropped = 0;

  constructor(identity: KeyIdentity) {
    const { model, tenant, endpoint, role } = identity;
    this.identity = {
      role,
      ...(model === undefined ? {} : { model }),
      ...(tenant === undefined ? {} : { tenant }),
      ...(endpoint === undefined ? {} : { endpoint }),
    };
  }

  /** Counters as they were when `state()` was called. */
  static restored(state: KeyState, instant: (at: UnixNanos) => Nanos): KeyCounters {
    const counters = new KeyCounters(state.identity);
    counters.epoch = state.epoch;
    counters.at = instant(BigInt(state.at));
    counters.#values = state.values.map((value) => value ?? Number.NaN);
    counters.#histograms = { ...state.histograms };
    return counters;
  }

  /** The counters as plain data. */
  state(unixNanos: (at: Nanos) => UnixNanos): KeyState {
    return {
      identity: this.identity,
      ...(this.epoch === undefined ? {} : { epoch: this.epoch }),
      at: String(unixNanos(this.at)),
      values: this.#values.map((value) => (Number.isNaN(value) ? null : value)),
      histograms: this.#histograms,
    };
  }

  /** Takes the reading in and returns what it added since the last one. */
  take(
    reading: TokenReading,
    relation: Relation,
    sample: Pick<TokenSample, "server" | "family" | "at" | "completeEpoch">,
    since: Nanos,
  ): KeyStep {
    this.#relation = relation;
    this.#ceiling = perSecondMax * Math.max(1, (sample.at - since) / 1e9);
    this.#fell = false;
    this.#reset = relation === "restart";
    this.#unseen = reading.epoch !== undefined && reading.epoch === sample.completeEpoch ? 0 : undefined;
    this.#moved = false;
    this.#dropped = 0;
    if (relation === "restart") this.#beginAtZero();
    for (const kind of otherInput(reading.tokens)) this.#forget(tokenKinds.indexOf(kind));
    const moved = this.#movements(reading);
    const [progressInput, progressOutput] = this.#progress(reading, moved.tokens);
    this.#held = this.#fell ? this.#held + 1 : 0;
    if (this.#held > heldReadingsMax) this.#rebase(reading);
    this.epoch = reading.epoch ?? this.epoch;
    this.at = sample.at;
    this.changed = true;
    const head = { server: sample.server, family: sample.family, ...this.identity, at: sample.at };
    const resets = this.#reset ? 1 : 0;
    return {
      moved: this.#moved || this.#reset ? { ...head, ...moved, resets } : undefined,
      progressInput,
      progressOutput,
      reset: this.#reset,
      dropped: this.#dropped,
    };
  }

  /** A counter that is not yet on the first page of a new run has counted nothing in it. */
  #beginAtZero(): void {
    this.#values = this.#values.map((value) => (Number.isNaN(value) ? value : 0));
    for (const [name, known] of Object.entries(this.#histograms) as [LatencyName, Histogram][])
      this.#histograms[name] = { ...known, counts: known.counts.map(() => 0), sum: 0, count: 0 };
  }

  /** A kind, whole and by outcome, is as if never seen. */
  #forget(kind: number): void {
    for (let at = kind; at < this.#values.length; at += at === kind ? outcomeSlot : 4)
      this.#values[at] = Number.NaN;
  }

  #movements(
    reading: TokenReading,
  ): Pick<TokenIncrement, "tokens" | "tokensByOutcome" | "reasoningTokens" | "requests" | "latencies"> {
    const byOutcome = reading.tokensByOutcome;
    return {
      tokens: this.#kinds(reading.tokens, 0),
      ...(byOutcome === undefined ? {} : { tokensByOutcome: this.#byOutcome(byOutcome) }),
      reasoningTokens: this.#step(reasoningSlot, reading.reasoningTokens),
      requests: this.#requests(reading.requests),
      latencies: this.#latencies(reading.latencies ?? {}),
    };
  }

  #kinds(tokens: TokenReading["tokens"], slot: number): TokenIncrement["tokens"] {
    const moved: Mutable<TokenIncrement["tokens"]> = {};
    let place = slot;
    for (const kind of tokenKinds) {
      const amount = this.#step(place++, tokens[kind]);
      if (amount > 0) moved[kind] = amount;
    }
    return moved;
  }

  #byOutcome(
    tokens: NonNullable<TokenReading["tokensByOutcome"]>,
  ): NonNullable<TokenIncrement["tokensByOutcome"]> {
    const moved: Mutable<NonNullable<TokenIncrement["tokensByOutcome"]>> = {};
    for (const [index, outcome] of outcomes.entries()) {
      const kinds = tokens[outcome];
      if (kinds !== undefined) moved[outcome] = this.#kinds(kinds, outcomeSlot + 4 * index);
    }
    return moved;
  }

  #requests(requests: TokenReading["requests"]): TokenIncrement["requests"] {
    const moved: Mutable<TokenIncrement["requests"]> = {};
    let place = requestSlot;
    for (const outcome of outcomes) {
      const amount = this.#step(place++, requests[outcome]);
      if (amount > 0) moved[outcome] = amount;
    }
    return moved;
  }

  #latencies(latencies: NonNullable<TokenReading["latencies"]>): TokenIncrement["latencies"] {
    const moved: Mutable<TokenIncrement["latencies"]> = {};
    for (const name of latencyNames) {
      const current = latencies[name];
      if (current === undefined) continue;
      const known = this.#histograms[name];
      const born = known === undefined && this.#unseen === 0 && this.#relation !== "base";
      const relation = born ? "whole" : this.#relation;
      const step = histogramStep(known, current, relation);
      if (step === undefined) {
        this.#dropped++;
        continue;
      }
      this.#histograms[name] = step.base;
      this.#fell ||= step.held;
      this.#reset ||= step.reset;
      if (step.moved === undefined) continue;
      moved[name] = step.moved;
      this.#moved = true;
    }
    return moved;
  }

  #progress(reading: TokenReading, tokens: TokenIncrement["tokens"]): readonly [number, number] {
    if (reading.progress === undefined) {
      const input = (tokens.input_uncached ?? 0) + (tokens.input_cached ?? 0) + (tokens.input_unsplit ?? 0);
      return [input, tokens.output ?? 0];
    }
    const moved = this.#moved;
    const steps = [
      this.#step(progressInputSlot, reading.progress.input),
      this.#step(progressOutputSlot, reading.progress.output),
    ] as const;
    this.#moved = moved;
    return steps;
  }

  /** Takes one value in and returns what it adds; a value that cannot be is dropped, counted and changes nothing. */
  #step(slot: number, value: number | undefined): number {
    if (value === undefined) return 0;
    if (!(value >= 0 && value <= Number.MAX_SAFE_INTEGER)) {
      this.#dropped++;
      return 0;
    }
    const current = Math.floor(value);
    const amount = this.#amount(this.#values[slot] ?? Number.NaN, current);
    if (amount === undefined || amount > this.#ceiling) {
      // Held: the base stays, until `#rebase` believes the new level.
      this.#fell = true;
      this.#dropped++;
      return 0;
    }
    this.#set(slot, current);
    this.#moved ||= amount > 0;
    return amount;
  }

  #amount(previous: number, current: number): number | undefined {
    const relation = this.#relation;
    if (relation === "base") return 0;
    if (relation === "whole" || relation === "restart") return current;
    // A counter of a known label set that was never seen before: its history is not ours, if it can have one.
    if (Number.isNaN(previous)) return this.#unseen === undefined ? 0 : current;
    if (current >= previous) return current - previous;
    if (relation === "same") return undefined;
    this.#reset = true;
    return current;
  }

  #set(slot: number, value: number): void {
    const size = slot < outcomeSlot ? outcomeSlot : slots;
    while (this.#values.length < size) this.#values.push(Number.NaN);
    this.#values[slot] = value;
  }

  /** Makes the reading the new base and counts nothing of it. */
  #rebase(reading: TokenReading): void {
    const [reset, dropped] = [this.#reset, this.#dropped];
    this.#relation = "base";
    this.#movements(reading);
    this.#progress(reading, {});
    this.#held = 0;
    [this.#reset, this.#dropped] = [reset, dropped];
  }
}
