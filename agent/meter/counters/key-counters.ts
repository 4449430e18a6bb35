// The last values of one label set of one server, and the step from them to the next (METERING.md 7).
// One flat row of numbers per label set, because a gateway may have a hundred thousand of them: NaN = never seen.
// Values are floored on arrival, so that fractions of an estimated counter are carried and not dropped.
import type {
  Nanos,
  Outcome,
  TokenIncrement,
  TokenKind,
  TokenReading,
  TokenSample,
  UnixNanos,
} from "../../model.ts";
import type { Relation } from "./histograms.ts";
import { otherInput } from "./input-kinds.ts";
import type { Storable } from "./key-row-text.ts";
import type { KeyIdentity, KeyState } from "./key-state.ts";
import type { KeyStep, Movements, Mutable } from "./key-step.ts";
import { incrementOf, requestsServed, still } from "./key-step.ts";
import { LatencyCounters } from "./latency-counters.ts";

/** Disjoint token kinds, in the order of the rows. */
export const tokenKinds: readonly TokenKind[] = ["input_uncached", "input_cached", "input_unsplit", "output"];
/** Outcomes, in the order of the rows: what ended well first. */
export const outcomes: readonly Outcome[] = ["ok", "error", "aborted", "rejected"];

// Slots of a row: tokens by kind, requests by outcome, reasoning, progress in and out, tokens by outcome and kind.
const requestSlot = 4;
const reasoningSlot = 8;
const progressInputSlot = 9;
const progressOutputSlot = 10;
const outcomeSlot = 11;
const slots = 27;

/** A fall inside one epoch is believed when it lasts longer than this many readings. */
const heldReadingsMax = 3;
/** No server counts faster than this; a jump beyond it is a broken reading. */
const perSecondMax = 1e7;
/** How old the instant of the last reading may be in what is stored of counters that stand still. */
const storedEveryNanos = 3600e9;
const noLatencies = {};
/** Places of the input kinds among the kinds. */
const inputKinds: readonly number[] = [0, 1, 2];

/** The remembered counters of one label set. */
export class KeyCounters {
  readonly identity: KeyIdentity;
  epoch: string | undefined;
  scale: string | undefined;
  at: Nanos = Number.NEGATIVE_INFINITY;
  /** The sample of its server that it was in last. */
  look = 0;
  /** The number of the row it is stored in. */
  row = -1;
  /** Differs from what was last stored: in more than an instant that was a while ago. */
  changed = false;
  #storedAt: Nanos = Number.NEGATIVE_INFINITY;
  #values: number[] = [];
  #latencies = new LatencyCounters();
  #held = 0;
  /** Nothing of the reading taken in last was refused: the same once more moves nothing. */
  #isTakenWhole = false;
  // Of the reading being taken in.
  #relation: Relation = "base";
  #ceiling = 0;
  /** What a counter that was not on the pages before stood at then, where the source promises it. */
  #unseen: 0 | undefined;
  #fell = false;
  #reset = false;
  /** A bit for each slot the reading had. */
  #readSlots = 0;
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

  /** Counters as they were when `storedState()` was called. */
  static restored(state: KeyState, instant: (at: UnixNanos) => Nanos): KeyCounters {
    const counters = new KeyCounters(state.identity);
    counters.epoch = state.epoch;
    counters.scale = state.scale;
    counters.at = instant(BigInt(state.at));
    counters.#storedAt = counters.at;
    counters.#values = state.values.map((value) => value ?? Number.NaN);
    counters.#latencies = new LatencyCounters(state.histograms);
    return counters;
  }

  /** The counters, to be stored at once: of what is in it no copy is made. */
  storedState(timeText: (at: Nanos) => string): Storable {
    this.changed = false;
    this.#latencies.changed = false;
    this.#storedAt = this.at;
    return {
      identity: this.identity,
      epoch: this.epoch,
      scale: this.scale,
      at: timeText(this.at),
      values: this.#values,
      histograms: this.#latencies.histograms,
    };
  }

  /** How the tokens of the reading stand to their bases: one above, else one below, else the same; undefined = nothing to say. */
  compareTokens(reading: TokenReading): "above" | "below" | "same" | undefined {
    let found: "below" | "same" | undefined;
    for (let place = 0; place < tokenKinds.length; place++) {
      const value = reading.tokens[tokenKinds[place] as TokenKind];
      const base = this.#known(place);
      if (value === undefined || base === undefined) continue;
      if (value > base) return "above";
      if (value < base) found = "below";
      else if (value > 0) found ??= "same";
    }
    return found;
  }

  /** The server began again: what the last reading did not show (nothing of it, where `wasRead` is false) starts from zero. */
  beginUnreadAtZero(wasRead: boolean): void {
    this.#isTakenWhole = false;
    if (!wasRead) this.#beginAtZero();
    for (const [slot, value] of this.#values.entries())
      if ((this.#readSlots & (1 << slot)) === 0 && !Number.isNaN(value)) this.#values[slot] = 0;
    this.changed = true;
  }

  /** Takes the reading in and returns what it added since the last one. `isRepeated`: it is the last one once more. */
  take(
    reading: TokenReading,
    relation: Relation,
    sample: Pick<TokenSample, "server" | "family" | "at" | "completeEpoch" | "scale">,
    since: Nanos,
    restarted = false,
    isRepeated = false,
  ): KeyStep {
    const goesOn = relation === "same" || relation === "scale";
    if (isRepeated && this.#isTakenWhole && goesOn && sample.scale === this.scale && !restarted) {
      this.#see(sample.at);
      return still;
    }
    this.#relation = relation;
    const seconds = Math.max(1, (sample.at - since) / 1e9);
    this.#ceiling = relation === "scale" ? Number.POSITIVE_INFINITY : perSecondMax * seconds;
    this.#fell = false;
    this.#readSlots = 0;
    this.#reset = relation === "restart" || restarted;
    const promised = reading.epoch !== undefined && reading.epoch === sample.completeEpoch;
    this.#unseen = promised || relation === "scale" ? 0 : undefined;
    this.#moved = false;
    this.#dropped = 0;
    if (relation === "restart") this.#beginAtZero();
    const taken = this.#renamed(reading);
    const moved = this.#movements(taken);
    const [progressInput, progressOutput] = this.#progress(taken, moved.tokens);
    this.#held = this.#fell ? this.#held + 1 : 0;
    if (this.#held > heldReadingsMax) this.#rebase(taken);
    const epoch = reading.epoch ?? this.epoch;
    this.changed ||= epoch !== this.epoch || sample.scale !== this.scale;
    this.epoch = epoch;
    this.scale = sample.scale;
    this.#see(sample.at);
    this.#isTakenWhole = !this.#fell && this.#dropped === 0;
    if (!this.#moved && !this.#reset && this.#dropped === 0 && progressInput === 0 && progressOutput === 0)
      return still;
    return {
      moved: this.#moved || this.#reset ? incrementOf(this.identity, moved, this.#reset, sample) : undefined,
      progressInput,
      progressOutput,
      reset: this.#reset,
      dropped: this.#dropped,
      fell: this.#fell,
    };
  }

  /** Whether a reading is of this label set. */
  isOf({ endpoint, model, role, tenant }: TokenReading): boolean {
    const { identity } = this;
    return (
      identity.model === model &&
      identity.tenant === tenant &&
      identity.endpoint === endpoint &&
      identity.role === role
    );
  }

  #see(at: Nanos): void {
    this.at = at;
    this.changed ||= at - this.#storedAt > storedEveryNanos;
  }

  /** A counter that is not yet on the first page of a new run has counted nothing in it. */
  #beginAtZero(): void {
    this.changed = true;
    this.#values = this.#values.map((value) => (Number.isNaN(value) ? value : 0));
    this.#latencies.beginAtZero();
  }

  /**
   * The reading, where it names input by other kinds than the ones before: the tokens it had are moved to the new kinds, so
   * that only what came since counts. A server that splits its input from its first cached token on does that. Where the
   * input is less than it was, its kinds are left out: what it means is not known.
   */
  #renamed(reading: TokenReading): TokenReading {
    const others = otherInput(reading.tokens);
    if (others.length === 0 || !this.#knowsOneOf(others)) return reading;
    const goesOn = this.#relation === "same" || this.#relation === "scale" || this.#relation === "rescaled";
    if (goesOn && !this.#rename(reading.tokens, 0)) {
      const { input_uncached: _u, input_cached: _c, input_unsplit: _n, ...tokens } = reading.tokens;
      const { tokensByOutcome: _byOutcome, ...rest } = reading;
      return { ...rest, tokens };
    }
    const byOutcome = reading.tokensByOutcome ?? {};
    for (const [index, outcome] of outcomes.entries()) {
      const kinds = byOutcome[outcome];
      const slot = outcomeSlot + 4 * index;
      if (goesOn && kinds !== undefined && this.#rename(kinds, slot)) continue;
      for (const kind of inputKinds)
        if (slot + kind < this.#values.length) this.#set(slot + kind, Number.NaN);
    }
    for (const kind of others) {
      const place = tokenKinds.indexOf(kind);
      if (place < this.#values.length) this.#set(place, Number.NaN);
    }
    return reading;
  }

  /** Gives the tokens of the known input kinds to the kinds of `now`, cached ones last; false where there are more of them than `now` has. */
  #rename(now: TokenReading["tokens"], slot: number): boolean {
    const had = inputKinds.reduce((sum, kind) => sum + (this.#known(slot + kind) ?? 0), 0);
    const amounts = inputKinds.map((kind) => {
      const amount = now[tokenKinds[kind] as TokenKind];
      return amount !== undefined && amount >= 0 && amount <= Number.MAX_SAFE_INTEGER
        ? Math.floor(amount)
        : undefined;
    });
    const has = amounts.reduce<number>((sum, amount) => sum + (amount ?? 0), 0);
    if (has < had) return false;
    let rest = had;
    // Tokens from before the split were not known to be cached.
    for (const kind of [0, 2, 1]) {
      const amount = amounts[kind];
      const given = amount === undefined ? Number.NaN : Math.min(rest, amount);
      if (amount !== undefined) rest -= given;
      this.#set(slot + kind, given);
    }
    return true;
  }

  #knowsOneOf(kinds: readonly TokenKind[]): boolean {
    for (let place = 0; place < kinds.length; place++)
      if (this.#known(tokenKinds.indexOf(kinds[place] as TokenKind)) !== undefined) return true;
    return false;
  }

  #known(slot: number): number | undefined {
    const value = this.#values[slot];
    return value === undefined || Number.isNaN(value) ? undefined : value;
  }

  #movements(reading: TokenReading): Movements {
    // Filled in, not put together of pieces: thousands are made at every poll of a gateway.
    const moved: Mutable<Movements> = {
      tokens: this.#kinds(reading.tokens, 0),
      reasoningTokens: this.#step(reasoningSlot, reading.reasoningTokens),
      requests: this.#requests(reading.requests),
      latencies: this.#moveLatencies(reading.latencies ?? noLatencies),
    };
    const byOutcome = reading.tokensByOutcome;
    if (byOutcome !== undefined) moved.tokensByOutcome = this.#byOutcome(byOutcome);
    return moved;
  }

  #kinds(tokens: TokenReading["tokens"], slot: number): TokenIncrement["tokens"] {
    const moved: Mutable<TokenIncrement["tokens"]> = {};
    let place = slot;
    for (let index = 0; index < tokenKinds.length; index++) {
      const kind = tokenKinds[index] as TokenKind;
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
    const ok = this.#step(requestSlot, requests.ok);
    let others: Mutable<TokenIncrement["requests"]> | undefined;
    for (let index = 1; index < outcomes.length; index++) {
      const outcome = outcomes[index] as Outcome;
      const amount = this.#step(requestSlot + index, requests[outcome]);
      if (amount === 0) continue;
      others ??= ok > 0 ? { ok } : {};
      others[outcome] = amount;
    }
    return others ?? requestsServed(ok);
  }

  #moveLatencies(latencies: NonNullable<TokenReading["latencies"]>): TokenIncrement["latencies"] {
    const step = this.#latencies.take(latencies, this.#relation, this.#unseen === 0);
    this.changed ||= this.#latencies.changed;
    this.#fell ||= step.fell;
    this.#reset ||= step.reset;
    this.#dropped += step.dropped;
    for (const _ in step.moved) this.#moved = true;
    return step.moved;
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
    this.#readSlots |= 1 << slot;
    if (!(value >= 0 && value <= Number.MAX_SAFE_INTEGER)) {
      this.#dropped++;
      return 0;
    }
    const current = Math.floor(value);
    const amount = this.#amount(this.#values[slot] ?? Number.NaN, current);
    if (amount === undefined || amount > this.#ceiling) {
      // On a scale the source says itself what it held back.
      if (this.#relation === "scale") return 0;
      // Held: the base stays, until `#rebase` believes the new level.
      if (this.#relation === "rescaled") this.#set(slot, current);
      else this.#fell = true;
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
    if (relation === "rescaled") return 0;
    if (relation !== "fallen") return undefined;
    this.#reset = true;
    return current;
  }

  #set(slot: number, value: number): void {
    const size = slot < outcomeSlot ? outcomeSlot : slots;
    while (this.#values.length < size) this.#values.push(Number.NaN);
    this.changed ||= !Object.is(this.#values[slot], value);
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
