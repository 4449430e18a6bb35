// One sample of one server being taken in: which counters are new, which go on, which began again (METERING.md 7).
// Changes what is remembered of the server; the counters of each label set are key-counters.ts.
import type {
  Nanos,
  PhaseTimes,
  ProgressKind,
  RankIncrement,
  ServerPoll,
  TokenIncrement,
  TokenReading,
  TokenSample,
  UncertainReason,
} from "../../model.ts";
import type { Relation } from "./histograms.ts";
import type { KeyCounters } from "./key-counters.ts";
import type { KeyRows } from "./key-rows.ts";
import { RankCounters } from "./rank-counters.ts";

/** What a look at counters without an epoch says: the server goes on, its counters fell, or nothing can be compared. */
export type Course = "goes_on" | "fell" | "silent";

const noRanks: readonly RankIncrement[] = [];

/** What is remembered of one server. Owned by `Increments`. */
export interface Target {
  readonly keys: Map<string, KeyCounters>;
  /** How many of them name each model; who is billed for a model's tokens is asked at every interval. */
  readonly models: Map<string, number>;
  /** How they are stored. */
  readonly rows: KeyRows;
  /** The counters at each place of the last sample: a page keeps the order of what it shows. */
  readonly places: (KeyCounters | undefined)[];
  /**
   * The readings of the last sample, where they moved nothing: a source gives the same list for a page that did not change.
   * Of those that moved something, thousands at every poll of a gateway, none is kept.
   */
  stood: readonly TokenReading[] | undefined;
  /**
   * One of the last increments. What only lives for some seconds has no object left at many a collection, and with its shape V8
   * throws away the code that was optimised for it (platform/kept-shapes.ts).
   */
  shape: TokenIncrement | undefined;
  /** Samples taken in. */
  looks: number;
  lastLook: Nanos | undefined;
  completeEpoch: string | undefined;
  /** The scale of the last sample. */
  scale: string | undefined;
  /** A look failed since the last sample. */
  interrupted: boolean;
  active: number | undefined;
  activeTotal: number;
  phaseTimes: PhaseTimes | undefined;
  phaseTotal: PhaseTimes;
  inputTokens: number;
  outputTokens: number;
  /** Its data-parallel ranks, once its readings told several apart. */
  ranks?: RankCounters;
  /** Nothing was accepted since the state was restored. */
  restored: boolean;
  changed: boolean;
}

/** One sample being taken in, label set by label set; `finish` closes it. */
export class Look {
  readonly increments: TokenIncrement[] = [];
  resets = 0;
  dropped = 0;
  unmetered = false;
  readonly #sample: TokenSample;
  readonly #target: Target;
  readonly #since: Nanos;
  readonly #agentStarted: Nanos;
  readonly #course: Course;
  /** Everything without an epoch fell after a failed look: the server began again. */
  readonly #fallen: boolean;
  /** Its readings are those of the last sample. */
  readonly #isRepeated: boolean;
  /** Restarts the source found that no increment carries yet. */
  #restarts: number;
  /** A label set came back with a new epoch. */
  #restarted = false;
  #fresh = false;
  readonly #read: KeyCounters[] = [];
  #inFlight: number | undefined;
  #waiting: number | undefined;
  #progress: ProgressKind = "step";
  /** Some label set fell, and none rose. */
  #fell = false;
  #rose = false;

  /** `course`: what the counters without an epoch say of their server. */
  constructor(sample: TokenSample, target: Target, since: Nanos, agentStarted: Nanos, course: Course) {
    this.#sample = sample;
    this.#target = target;
    this.#since = since;
    this.#agentStarted = agentStarted;
    this.#restarts = sample.restarts ?? 0;
    this.#course = course;
    this.#fallen = target.interrupted && course === "fell";
    this.#isRepeated = sample.readings === target.stood;
  }

  take(reading: TokenReading, counters: KeyCounters, known: boolean): void {
    const relation = this.#relation(reading, counters, known);
    if (this.#fallen) this.#read.push(counters);
    const late =
      this.#target.restored && relation !== "base" && !atLeast(reading.epochBegan, this.#agentStarted);
    const isBegun = this.#restarts > 0;
    const taken = counters.take(reading, relation, this.#sample, this.#since, isBegun, this.#isRepeated);
    this.#restarts = 0;
    this.dropped += taken.dropped;
    this.#fell ||= taken.fell;
    this.#rose ||= taken.moved !== undefined;
    this.resets += taken.reset ? 1 : 0;
    this.#restarted ||= relation === "restart";
    this.#fresh ||= relation === "whole";
    this.unmetered ||= taken.reset && this.#target.restored;
    this.#target.inputTokens += taken.progressInput;
    this.#target.outputTokens += taken.progressOutput;
    if (reading.running !== undefined && reading.running >= 0) {
      this.#inFlight = (this.#inFlight ?? 0) + reading.running;
    }
    if (reading.waiting !== undefined && reading.waiting >= 0)
      this.#waiting = (this.#waiting ?? 0) + reading.waiting;
    this.#progress = weaker(this.#progress, reading.progressKind ?? reading.volume);
    const ranks = this.#takeRanks(reading, counters, relation);
    const { moved } = taken;
    if (moved === undefined) return;
    moved.late = late;
    const doubt = tokenDoubt(this.#sample, reading);
    if (doubt !== undefined) moved.doubt = doubt;
    if (ranks.length > 0) moved.ranks = ranks;
    this.increments.push(moved);
  }

  finish(): ServerPoll {
    const target = this.#target;
    const active = this.#active();
    const phaseTimes = this.#phaseTimes();
    const [before, now] = [target.completeEpoch, this.#sample.completeEpoch];
    this.unmetered ||= target.restored && before !== undefined && now !== undefined && before !== now;
    target.shape = this.increments[0] ?? target.shape;
    target.lastLook = this.#sample.at;
    target.completeEpoch = this.#sample.completeEpoch;
    target.scale = this.#sample.scale;
    target.stood = this.increments.length === 0 ? this.#sample.readings : undefined;
    if (this.#fallen) this.#beginUnreadAtZero();
    // A server that shows nothing yet may still turn out to have begun again.
    if (this.#course !== "silent") target.interrupted = false;
    // A restart without a reading to carry it is counted with the next one.
    this.resets += this.#restarts;
    target.restored = false;
    target.changed = true;
    return {
      at: this.#sample.at,
      inputTokens: target.inputTokens,
      outputTokens: target.outputTokens,
      ...(this.#inFlight === undefined ? {} : { inFlight: this.#inFlight }),
      ...(this.#waiting === undefined ? {} : { waiting: this.#waiting }),
      ...(active === undefined ? {} : { activeNanos: active }),
      ...(phaseTimes === undefined ? {} : { phaseTimes }),
      progress: this.#progress,
      ...(this.#sample.doubt === undefined ? {} : { doubt: this.#sample.doubt }),
      ...(this.#sample.isOlder || (this.#fell && !this.#rose) ? { isOlder: true as const } : {}),
      ...(target.ranks === undefined ? {} : { ranks: target.ranks.finish() }),
    };
  }

  #takeRanks(reading: TokenReading, counters: KeyCounters, relation: Relation): readonly RankIncrement[] {
    const target = this.#target;
    if (reading.ranks === undefined) return noRanks;
    target.ranks ??= new RankCounters();
    return target.ranks.take(reading, counters, relation);
  }

  #relation(reading: TokenReading, counters: KeyCounters, known: boolean): Relation {
    const { scale } = this.#sample;
    if (scale === undefined) {
      if (!known) return this.#firstRelation(reading);
      const relation = knownRelation(counters.epoch, reading.epoch);
      return relation === "same" && this.#fallen && reading.epoch === undefined ? "fallen" : relation;
    }
    // A label set that is new on a scale began on it.
    if (scale === this.#target.scale) return scale === counters.scale ? "scale" : "whole";
    const goesOn = rootOf(scale) === rootOf(this.#target.scale);
    if (!known) return goesOn ? "whole" : this.#firstRelation(reading);
    if (goesOn) return counters.scale === this.#target.scale ? "rescaled" : "whole";
    // A source that lost its bases is looked at for the first time; one that had none yet goes on from its own sums.
    if (counters.scale !== undefined) return "base";
    if (knownRelation(counters.epoch, reading.epoch) === "same") return "rescaled";
    return atLeast(reading.epochBegan, this.#since) ? "restart" : "base";
  }

  #firstRelation(reading: TokenReading): Relation {
    const { completeEpoch: before } = this.#target;
    const promised = reading.epoch !== undefined && reading.epoch === this.#sample.completeEpoch;
    // A complete source was looked at before: the label set, or the whole epoch, has begun since.
    if (promised && before !== undefined) return "whole";
    return atLeast(reading.epochBegan, this.#since) ? "whole" : "base";
  }

  #beginUnreadAtZero(): void {
    const read = new Set(this.#read);
    for (const counters of this.#target.keys.values())
      if (counters.epoch === undefined) counters.beginUnreadAtZero(read.has(counters));
  }

  #phaseTimes(): PhaseTimes | undefined {
    const target = this.#target;
    const [before, now] = [target.phaseTimes, this.#sample.phaseTimes];
    target.phaseTimes = now;
    if (now === undefined) return undefined;
    if (before !== undefined) target.phaseTotal = phasesAfter(target.phaseTotal, before, now);
    return target.phaseTotal;
  }

  #active(): number | undefined {
    const target = this.#target;
    const current = this.#sample.activeNanos;
    if (current === undefined || !(current >= 0)) return undefined;
    const previous = target.active;
    const began = this.#sample.scale === undefined ? current : 0;
    if (this.#restarted || (previous === undefined && this.#fresh)) target.activeTotal += current;
    else if (previous !== undefined) target.activeTotal += current < previous ? began : current - previous;
    target.active = current;
    return target.activeTotal;
  }
}

/** Returns what a total is after a reading: nothing is added where a time fell, for another run of the server shows it. */
function phasesAfter(total: PhaseTimes, before: PhaseTimes, now: PhaseTimes): PhaseTimes {
  const moved = [
    now.requests - before.requests,
    now.prefillNanos - before.prefillNanos,
    now.decodeNanos - before.decodeNanos,
  ] as const;
  if (!moved.every((amount) => amount >= 0 && amount <= Number.MAX_SAFE_INTEGER)) return total;
  return {
    requests: total.requests + moved[0],
    prefillNanos: total.prefillNanos + moved[1],
    decodeNanos: total.decodeNanos + moved[2],
  };
}

/** Why the tokens of a reading are known less well than by a counter. A page of another instant shows real counters. */
function tokenDoubt(sample: TokenSample, reading: TokenReading): UncertainReason | undefined {
  if (sample.doubt === "partial_counters") return sample.doubt;
  return reading.volume === "estimate" ? "estimated_counters" : undefined;
}

/** New epoch = restart; without one the counters go on, until all of them fall. */
function knownRelation(before: string | undefined, now: string | undefined): "same" | "restart" {
  return before === undefined || now === undefined || before === now ? "same" : "restart";
}

/** What scales have in common that a source began one after the other. */
function rootOf(scale: string | undefined): string | undefined {
  return scale?.split(".")[0];
}

function atLeast(instant: Nanos | undefined, bound: Nanos): boolean {
  return instant !== undefined && instant >= bound;
}

/** Of two kinds of movement the one that says less about the moment of work. */
function weaker(one: ProgressKind, other: ProgressKind): ProgressKind {
  const order: readonly ProgressKind[] = ["step", "finish", "estimate"];
  return order[Math.max(order.indexOf(one), order.indexOf(other))] ?? one;
}
