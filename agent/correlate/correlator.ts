// Joins what the GPUs did with what the servers produced, interval by interval: the one door to this room.
// Readings go in as they come; `settle` decides every interval that can be decided and returns it, final (METERING.md 2).
// Interval k is [origin + k x interval, + interval). Time is an argument; nothing read from outside makes it throw.
import type {
  Gap,
  GpuInfo,
  GpuSample,
  Holder,
  Nanos,
  ServerInfo,
  ServerPoll,
  SettledInterval,
  TokenIncrement,
} from "../model.ts";
import type { ConfiguredShares } from "./attribution.ts";
import { tokenWeight } from "./attribution.ts";
import type { Span } from "./edges.ts";
import type { FloorState } from "./energy/floor.ts";
import type { CounterState } from "./energy/meter.ts";
import { Gpus } from "./gpus.ts";
import { PrefillPlaces } from "./phases/prefill-places.ts";
import type { Placed, ProcessFacts, ServerHints } from "./placement.ts";
import { Placement } from "./placement.ts";
import type { RankStatus } from "./rank-places.ts";
import type { RankOrder } from "./ranks/finder.ts";
import { Servers } from "./servers.ts";

/** What a correlator knows from the beginning. */
export interface CorrelatorOptions {
  /** Start of interval 0. */
  readonly origin: Nanos;
  readonly intervalNanos: Nanos;
  /** The usual distance of GPU readings. */
  readonly gpuPollMs: number;
  /** In flight and working without a token for longer than this is stalled; default 60. */
  readonly stallAfterSeconds?: number;
  /** After twice the slowest live poll, and while no live GPU misses a reading, an interval is decided with what there is, at most after this; default 30 s. */
  readonly settleMsMax?: number;
  /** Configured shares of GPU time per server id, where several share a GPU. */
  readonly shares?: ConfiguredShares;
  /** Floors of an earlier run, by board UUID. */
  readonly floors?: Readonly<Record<string, FloorState>>;
  /** Energy counters of an earlier run, by GPU UUID, each with the instant up to which it was booked. */
  readonly counters?: Readonly<Record<string, CounterState & { readonly at: Nanos }>>;
  /** What an earlier run learned of the order of data-parallel ranks, by server. */
  readonly rankOrders?: Readonly<Record<string, RankOrder>> | undefined;
  /** Broken laws throw instead of being booked as unattributed. */
  readonly strict?: boolean;
}

/** Facts about the correlator for `/-/status`. */
export interface CorrelatorStatus {
  readonly settledUntil: Nanos;
  readonly placements: readonly Placed[];
  /** Where the data-parallel ranks of servers that tell them apart are. */
  readonly ranks: readonly RankStatus[];
  /** Readings refused: not a time, repeated, late, over a bound, or from the future. */
  readonly refused: Readonly<
    Record<"absurd" | "repeated" | "late" | "dropped" | "future" | "unknown", number>
  >;
  readonly energy: ReturnType<Gpus["energyTotals"]>;
}

const settleMsMax = 30_000;
/** Beyond that, how long the look-ahead of the estimators may hold an interval open. */
const lookaheadMax = 3_000_000_000;
/** Readings may run ahead of `now` by this much; more is a wrong clock. */
const futureMax = 5_000_000_000;
/** An interval that waits for a server is looked at again after this, whatever was read meanwhile. */
const lookAgainNanos = 1_000_000_000;
const noSpans: readonly Span[] = [];
/** Intervals returned by one call at most: an hour of seconds. What is left comes with the next call. */
const intervalsPerCall = 3600;

/** The pure middle of the agent. */
export class Correlator {
  readonly #options: CorrelatorOptions;
  readonly #placement = new Placement();
  readonly #prefillPlaces = new PrefillPlaces();
  readonly #gpus: Gpus;
  readonly #servers: Servers;
  readonly #refused = { absurd: 0, repeated: 0, late: 0, dropped: 0, future: 0, unknown: 0 };
  readonly #origin: Nanos;
  readonly #intervalNanos: Nanos;
  #settledUntil: Nanos;
  #lateSamples = 0;
  /** The server that the open interval waits for, and until when at most. Another server's poll does not change that. */
  #waitsFor: string | undefined;
  #waitsUntil: Nanos = -Infinity;

  constructor(options: CorrelatorOptions) {
    this.#options = options;
    this.#origin = Math.round(options.origin);
    this.#settledUntil = this.#origin;
    this.#intervalNanos = Math.max(1, Math.round(options.intervalNanos));
    this.#gpus = new Gpus(options.gpuPollMs, options.floors ?? {}, options.counters);
    const stallAfterNanos = (options.stallAfterSeconds ?? 60) * 1e9;
    this.#servers = new Servers(stallAfterNanos, this.#placement, options.rankOrders);
  }

  /** Everything before is final. */
  get settledUntil(): Nanos {
    return this.#settledUntil;
  }

  /** Says which GPUs there are from `at` on; those not named end there. A settled past is not changed. */
  setGpus(infos: readonly GpuInfo[], at: Nanos): void {
    this.#waitsFor = undefined;
    this.#gpus.set(infos, this.#open(at));
  }

  /** Says which servers there are from `at` on; those not named end there. */
  setServers(infos: readonly ServerInfo[], at: Nanos): void {
    this.#waitsFor = undefined;
    this.#servers.set(infos, this.#open(at));
  }

  /** Takes what a server's own readings or the kubelet say about its place. */
  setServerHints(server: string, hints: ServerHints): void {
    this.#servers.hint(server, hints);
  }

  /** Replaces the facts about processes that placement goes by. */
  setProcessFacts(facts: readonly ProcessFacts[]): void {
    this.#placement.setFacts(facts);
  }

  /** Replaces what the kubelet says about who was given which GPU. */
  setGivenGpus(given: ReadonlyMap<string, readonly Holder[]>): void {
    this.#placement.setGiven(given);
  }

  /** Takes a GPU reading in; readings of one GPU may come in any order until an interval needed later ones. */
  acceptGpu(sample: GpuSample): void {
    this.#waitsFor = undefined;
    const acceptance = this.#gpus.queueReading(sample, this.#settledUntil);
    if (acceptance === "accepted") return;
    this.#refused[acceptance]++;
    if (acceptance === "late") this.#lateSamples++;
  }

  /** Notes that a GPU, the whole GPU backend, or a server could not be read. */
  acceptGap(gap: Gap): void {
    this.#waitsFor = undefined;
    if (gap.source.startsWith("server:")) this.#servers.notePollFailed(gap.source.slice("server:".length));
    else this.#gpus.noteGap(gap.source, gap.at);
  }

  /** Takes in what a poll of a server saw move; `poll` is undefined when only increments came. */
  acceptTokens(server: string, poll: ServerPoll | undefined, increments: readonly TokenIncrement[]): void {
    if (server === this.#waitsFor) this.#waitsFor = undefined;
    const at = poll?.at ?? increments[0]?.at;
    if (at !== undefined && at <= this.#settledUntil && this.#settledUntil > this.#origin)
      this.#lateSamples++;
    if (!this.#servers.takePoll(server, poll, increments, this.#settledUntil)) this.#refused.repeated++;
  }

  /** Decides every interval that can be decided at `now` and returns them in order. */
  settle(now: Nanos): readonly SettledInterval[] {
    if (!Number.isFinite(now)) return [];
    this.#dropFuture(now);
    const settled: SettledInterval[] = [];
    while (settled.length < intervalsPerCall) {
      const to = this.#settledUntil + this.#intervalNanos;
      if (!this.#decidable(to, now)) break;
      settled.push(this.#decide(to, false));
    }
    return settled;
  }

  /**
   * Decides everything up to `at` with what there is; the last interval is cut there. Tokens that nothing is left to
   * book in come in an interval of no length.
   */
  finish(at: Nanos): readonly SettledInterval[] {
    const settled: SettledInterval[] = [];
    const end = Number.isFinite(at) ? Math.round(at) : this.#settledUntil;
    this.#dropFuture(end);
    while (this.#settledUntil < end) {
      const to = Math.min(this.#settledUntil + this.#intervalNanos, end);
      this.#prepare(to, end, 0);
      settled.push(this.#decide(to, to === end));
    }
    if (this.#servers.hasIncrements) settled.push(this.#decide(this.#settledUntil, true));
    return settled;
  }

  /** Floors to persist, by board UUID. */
  floors(): Readonly<Record<string, FloorState>> {
    return this.#gpus.floors();
  }

  /** Energy counters as they stood at `settledUntil`, to persist, by GPU UUID. */
  counters(): Readonly<Record<string, CounterState>> {
    return this.#gpus.counters(this.#settledUntil);
  }

  /** What was learned of the order of data-parallel ranks, to persist, by server. */
  rankOrders(): Readonly<Record<string, RankOrder>> {
    return this.#servers.rankOrders();
  }

  /** True while some tokens of a server are made by ranks on other hosts. */
  hasRanksElsewhere(server: string): boolean {
    return this.#servers.hasRanksElsewhere(server);
  }

  /** Facts for `/-/status`. */
  status(): CorrelatorStatus {
    return {
      settledUntil: this.#settledUntil,
      placements: this.#gpus.placements(),
      ranks: this.#servers.ranks(),
      refused: { ...this.#refused, dropped: this.#gpus.dropped() + this.#servers.dropped() },
      energy: this.#gpus.energyTotals(),
    };
  }

  #dropFuture(now: Nanos): void {
    const latest = now + futureMax;
    this.#refused.future += this.#gpus.dropAfter(latest) + this.#servers.dropAfter(latest);
  }

  #open(at: Nanos): Nanos {
    return Number.isFinite(at) ? Math.max(Math.round(at), this.#settledUntil) : this.#settledUntil;
  }

  /** All live sources reach `to`, or the interval is overdue. */
  #decidable(to: Nanos, now: Nanos): boolean {
    if (now < to || (this.#waitsFor !== undefined && now < this.#waitsUntil)) return false;
    const slowest = Math.max(this.#gpus.slowestLive(now), this.#servers.slowestLive(now));
    const longest = (this.#options.settleMsMax ?? settleMsMax) * 1e6;
    const settleNanos = Math.min(longest, 2 * slowest);
    const overdueAt = to + settleNanos;
    const soonestLateAt = to + settleNanos + lookaheadMax;
    // A GPU is live, and its next reading covers the time since the last one, for longer than a poll or two.
    if (now < to + longest && !this.#gpus.reach(to, now)) return false;
    if (now < overdueAt) {
      const unread = this.#servers.unread(to, now);
      if (unread !== undefined) return this.#waitFor(unread, now, overdueAt);
    }
    const undecided = this.#prepare(to, now, settleNanos + lookaheadMax);
    if (undecided === undefined) {
      // What was done in a window of energy is known by the polls that follow.
      const until = now < overdueAt ? this.#gpus.waitingUntil(to) : to;
      const unread = until > to ? this.#servers.unread(until, now) : undefined;
      return unread === undefined || this.#waitFor(unread, now, overdueAt);
    }
    if (now < soonestLateAt)
      return this.#waitFor(undecided, now, now < overdueAt ? overdueAt : soonestLateAt);
    // What a page that may be a copy is waited for is worked out once it matters.
    const copyNanos = Math.min(longest, this.#servers.copyHoldNanos(now));
    const lateAt = to + Math.max(settleNanos, copyNanos) + lookaheadMax;
    return now >= lateAt || this.#waitFor(undecided, now, lateAt);
  }

  /** Nothing of the open interval is asked for again before that server is read, a GPU is, or it is time. */
  #waitFor(server: string, now: Nanos, until: Nanos): false {
    this.#waitsFor = server;
    this.#waitsUntil = Math.min(now + lookAgainNanos, until);
    return false;
  }

  /** Takes up readings until the estimators can decide up to `to`; a server or a GPU that they still miss, undefined for none. */
  #prepare(to: Nanos, now: Nanos, waitNanos: Nanos): string | undefined {
    this.#gpus.readTo(to);
    for (;;) {
      this.#servers.follow(this.#gpus, to);
      const undecided = this.#gpus.undecided(to) ?? this.#servers.undecided(to, now, waitNanos);
      if (undecided === undefined || !this.#gpus.readOne()) return undecided;
    }
  }

  #decide(to: Nanos, closing: boolean): SettledInterval {
    const from = this.#settledUntil;
    this.#gpus.closeEarly(to);
    const own = this.#servers.settle(from, to);
    const reached = this.#gpus.waitingUntil(to);
    const gpus = this.#gpus.settle({
      from,
      to,
      own,
      ahead: (server, gpu) => (reached > to ? this.#servers.executedAhead(server, gpu, reached) : noSpans),
      placement: this.#placement,
      shares: this.#options.shares ?? {},
      tokens: (server, gpu) => tokenWeight(this.#servers.stepsOf(server, gpu), to),
      prefillPlaces: this.#prefillPlaces,
      steps: (server, gpu) => this.#servers.stepsOf(server, gpu),
    });
    const servers = this.#servers.rows({ from, to, closing }, own, gpus.stalled);
    const violations = [...gpus.violations, ...servers.violations].map(
      ({ law, message }) => `${law}: ${message}`,
    );
    if (this.#options.strict && violations.length > 0)
      throw new Error(`Cannot settle [${from}, ${to}) ns: ${violations.join("; ")}`);
    const lateSamples = this.#lateSamples;
    this.#lateSamples = 0;
    this.#settledUntil = to;
    this.#gpus.forget(to);
    this.#servers.forget(to);
    return { from, to, gpus: gpus.rows, servers: servers.rows, lateSamples, violations };
  }
}
