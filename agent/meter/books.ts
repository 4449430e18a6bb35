// All of the accounting behind one door: an interval in, postings of every family booked; a beat in, a snapshot for the
// exporters and a batch for the store out. Buckets close here, and what is shared out per bucket is booked then.
import type {
  AuditEntry,
  BucketNumber,
  ClosedBucket,
  Histogram,
  LatencyName,
  LedgerBatch,
  LedgerRestored,
  LedgerSnapshot,
  Nanos,
  Posting,
  SettledInterval,
  StateRow,
  UnixNanos,
  UsagePiece,
} from "../model.ts";
import { isServed, mergeOrLarger } from "./counters/latency-keys.ts";
import type { Objective } from "./figures/slo.ts";
import { goodput } from "./figures/slo.ts";
import type { Resting } from "./ledger/at-rest.ts";
import { Buckets, endOf } from "./ledger/buckets.ts";
import { bucketOf, splitAtEdges } from "./ledger/grid.ts";
import type { Booking, LedgerOptions } from "./ledger/ledger.ts";
import { Ledger } from "./ledger/ledger.ts";
import type { MeterFacts } from "./meter.ts";
import { Meter } from "./meter.ts";
import { Billing } from "./money/billing.ts";
import type { ConfiguredRates } from "./money/capacity.ts";
import { CapacityMeter } from "./money/capacity.ts";
import type { CapacityRate } from "./money/capacity-rate.ts";
import type { CapacityFacts } from "./money/capacity-window.ts";
import type { Catalogue } from "./money/catalogue.ts";
import { Prices } from "./money/prices.ts";
import type { TokenWeights } from "./money/tenants.ts";
import { defaultWeights, reconcile, sharePostings } from "./money/tenants.ts";
import { engineLatencies } from "./names.ts";
import { PostingList } from "./posting-list.ts";
import { isSubjectHere } from "./subjects.ts";

/** What the books are kept with. */
export interface BooksOptions extends Omit<LedgerOptions, "onBooked"> {
  /** First instant that is metered. */
  readonly start: UnixNanos;
  readonly catalogue?: Catalogue;
  readonly capacity?: ConfiguredRates;
  readonly weights?: TokenWeights;
  readonly objectives?: readonly Objective[];
  /** Whose latencies at gateways are exported under their name, `*` for all; nobody's by default. */
  readonly latencyTenants?: readonly string[];
  /** What nobody used for this long, and no source names any more, leaves the exported series; default a day. */
  readonly idleSeconds?: number;
  /** Called with everything that is booked in rows, as it is booked. */
  readonly onBooked?: (booking: Booking) => void;
}

/** Facts an interval is booked with; what is absent of the capacity facts lets nothing be learned. */
export type BookFacts = MeterFacts & Partial<CapacityFacts>;

/** What one beat hands out: the batch must be stored before the snapshot is shown. */
export interface Beat {
  readonly snapshot: LedgerSnapshot;
  readonly batch: LedgerBatch;
}

/** Time the ledger covers: what rates are divided by. */
const covered = { metric: "tokenwatt.covered_time", dimensions: {}, keptOnly: true } as const;
/** A wall clock this far behind the stored time is not waited for: every series begins again from zero. */
const backwardStepMax = 600_000_000_000n;
/** Entries kept for one beat: a server that restarts in a loop must not fill the record. */
const auditMax = 1000;
/** Of these, entries that callers of receivers bring about: they must not keep others off the record. */
const auditMaxOfCallers = 750;
const callersKinds: ReadonlySet<AuditEntry["kind"]> = new Set(["correction", "conflict"]);
const modelsNotedMax = 10;
const idleSecondsDefault = 86_400;
const lookNanos = 60_000_000_000n;
const latencyOfMetric: ReadonlyMap<string, LatencyName> = new Map(
  (Object.keys(engineLatencies) as LatencyName[]).map((name) => [engineLatencies[name], name]),
);

/** The books of one host. */
export class Books {
  readonly ledger: Ledger;
  readonly #billing = new Billing();
  readonly meter: Meter;
  readonly #posted = new PostingList("reused");
  readonly #buckets = new Buckets();
  readonly #capacity: CapacityMeter;
  readonly #weights: TokenWeights;
  readonly #objectives: readonly Objective[];
  readonly #unixNanos: (at: Nanos) => UnixNanos;
  readonly #idleNanos: UnixNanos;
  /** When series that rest were looked for. */
  #lookedAt: UnixNanos = 0n;
  #prices: Prices | undefined;
  #audit: AuditEntry[] = [];
  /** Entries over the bound since the last beat, by kind. */
  #unwritten: Partial<Record<AuditEntry["kind"], number>> = {};
  /** First bucket that a step of the wall clock opened again, until it is stored. */
  #reopened: BucketNumber | undefined;
  /** Buckets that closed and are in no batch yet. */
  #closed: ClosedBucket[] = [];

  constructor(options: BooksOptions, restored?: LedgerRestored) {
    const { catalogue, start, unixNanos } = options;
    this.meter = new Meter(this.#billing, options.latencyTenants);
    this.#unixNanos = unixNanos;
    this.#weights = options.weights ?? defaultWeights;
    this.#objectives = options.objectives ?? [];
    this.#idleNanos = BigInt(Math.round((options.idleSeconds ?? idleSecondsDefault) * 1000)) * 1_000_000n;
    this.#prices = catalogue === undefined ? undefined : new Prices(catalogue);
    this.#capacity = new CapacityMeter(options.capacity ?? {}, catalogue, options.objectives, this.#weights);
    const onBooked = (booking: Booking): void => {
      this.#buckets.book(booking);
      options.onBooked?.(booking);
    };
    this.ledger = new Ledger(start, { ...options, onBooked }, restored);
    if (restored !== undefined) this.#restore(restored, start);
    if (catalogue !== undefined) this.#billing.take(catalogue, start);
    else this.#billing.end(start);
  }

  /** Books what requests `server` saw used at times of their own, also in buckets that are closed. */
  postUsage(server: string, usage: readonly UsagePiece[], facts: MeterFacts, now: Nanos): void {
    const at = this.#unixNanos(now);
    this.ledger.postUntil(this.meter.postUsage(server, usage, facts, at), at);
  }

  /** Books one settled interval: tokens, seconds, joules, money, capacity. Returns the money. */
  bookInterval(interval: SettledInterval, facts: BookFacts): readonly Posting[] {
    const end = this.#unixNanos(interval.to);
    const posted = this.#posted;
    this.meter.meterInterval(interval, facts, end, posted);
    posted.addAll([{ ...covered, amount: interval.to - interval.from }]);
    const productOf = (server: string): string | undefined => this.meter.gpuModel(server);
    const money = this.#prices?.priceInterval(interval, facts, end) ?? [];
    posted.addAll(money);
    const capacityFacts = {
      waiting: () => undefined,
      running: () => undefined,
      cacheRatio: () => undefined,
      whole: () => false,
      ...facts,
    };
    posted.addAll(this.#capacity.measureInterval(interval, capacityFacts, end, productOf));
    for (const gauge of this.#capacity.gauges(facts, end, interval.to, productOf)) this.ledger.observe(gauge);
    this.#noteResets(interval);
    const parts = splitAtEdges(posted.all, this.#unixNanos(interval.from), end);
    for (const part of parts) this.ledger.postUntil(part.postings, part.end);
    this.#endIdle(facts, end);
    return money;
  }

  #endIdle(facts: MeterFacts, now: UnixNanos): void {
    if (now - this.#lookedAt < lookNanos) return;
    this.#lookedAt = now;
    const version = this.#prices?.version;
    this.ledger.endIdle(now - this.#idleNanos, (dimensions) => isSubjectHere(dimensions, facts, version));
  }

  /** What a server's GPUs can sustain by the rate in force; undefined while no source can say. */
  capacityRate(server: string, model: string | undefined, at: Nanos): CapacityRate | undefined {
    return this.#capacity.rate(server, this.meter.gpuModel(server), model, this.#unixNanos(at));
  }

  /** Version of the price catalogue in force; undefined without one. */
  get priceVersion(): string | undefined {
    return this.#prices?.version;
  }

  /** Prices from now on by another catalogue. */
  setCatalogue(catalogue: Catalogue, at: Nanos): void {
    const before = this.#prices?.version;
    const prices = new Prices(catalogue);
    if (this.#prices !== undefined) prices.remainders.restore(this.#prices.remainders.state());
    this.#prices = prices;
    this.#capacity.setCatalogue(catalogue);
    this.#billing.take(catalogue, this.#unixNanos(at));
    this.noteAudit("price", at, { before: before ?? null, after: catalogue.version });
  }

  /** Ends the series of holders of GPUs that are gone, by `holderKey`. */
  endHolders(gone: ReadonlySet<string>): void {
    this.ledger.endWhere((dimensions) =>
      gone.has(`${dimensions["tokenwatt.holder.kind"]} ${dimensions["tokenwatt.holder.name"]}`),
    );
    for (const key of gone) {
      this.meter.holders.forget(key);
      this.#prices?.holders.forget(key);
    }
  }

  /** The wall clock was stepped back to `start` for good: series begin again, and usage is booked in the hours it gives. */
  stepBack(start: UnixNanos): void {
    this.ledger.startAnew(start);
    const reopened = this.#buckets.reopen(start);
    if (reopened !== undefined) this.#reopened = Math.min(reopened, this.#reopened ?? reopened);
  }

  /** Adds an entry to the record; it is stored with the next beat. */
  noteAudit(kind: AuditEntry["kind"], at: Nanos, body: Readonly<Record<string, unknown>>): void {
    const most = callersKinds.has(kind) ? auditMaxOfCallers : auditMax;
    if (this.#audit.length >= most) this.#unwritten[kind] = (this.#unwritten[kind] ?? 0) + 1;
    else this.#audit.push({ at: String(this.#unixNanos(at)), kind, body });
  }

  /**
   * Closes the beat. `time` is the end of the last booked interval, `at` the instant now, `state` what else must be
   * stored in the same transaction (`Increments.takeChanges`). The batch is handed out once: it must reach the store.
   */
  commit(time: UnixNanos, at: Nanos, state: readonly StateRow[] = []): Beat {
    for (const bucket of this.#buckets.ended(time)) this.#closed.push(this.#close(bucket));
    this.#buckets.closeUntil(time);
    const snapshot = this.ledger.commit(time, at);
    return { snapshot, batch: this.#takeBatch(time, state) };
  }

  /** The spool did not take the last snapshot: the next one says again what a snapshot says once. */
  sayAgain(): void {
    this.ledger.sayAgain();
  }

  #takeBatch(time: UnixNanos, state: readonly StateRow[]): LedgerBatch {
    const own = [
      this.#capacity.state(),
      ...this.#billing.takeChanges(),
      ...this.meter.customers.bookedThen.takeChanges(),
    ];
    if (this.#prices !== undefined) own.push(priceState(this.#prices));
    if (this.#closed.length > 0) own.push(restingRow(this.ledger.resting(bucketOf(time))));
    const audit = [...this.#audit, ...this.#lostEntries(time)];
    const [closed, reopened] = [this.#closed, this.#reopened];
    this.#audit = [];
    this.#closed = [];
    this.#reopened = undefined;
    return {
      ...this.ledger.takeChanges(),
      state: [...state, ...own],
      ...this.#buckets.takeRows(),
      closed,
      late: this.#buckets.takeLate(),
      audit,
      ...(reopened === undefined ? {} : { reopened }),
    };
  }

  /** What the bound on entries kept off the record is on it as a sum. */
  #lostEntries(time: UnixNanos): readonly AuditEntry[] {
    if (Object.keys(this.#unwritten).length === 0) return [];
    const body = { why: "too many audit entries in one beat", unwritten: this.#unwritten };
    this.#unwritten = {};
    return [{ at: String(time), kind: "loss", body }];
  }

  /** Restarts seen as they came; those the agent slept through are noted where the reading is taken in. */
  #noteResets(interval: SettledInterval): void {
    for (const { increments, server } of interval.servers) {
      const resets = increments.filter((increment) => increment.resets > 0 && !increment.late);
      if (resets.length === 0) continue;
      const models = [...new Set(resets.map((increment) => increment.model ?? ""))].slice(0, modelsNotedMax);
      this.noteAudit("reset", interval.to, { server, models, labelSets: resets.length });
    }
  }

  #close(bucket: BucketNumber): ClosedBucket {
    const posted = [...sharePostings(this.#buckets, bucket, this.#weights)];
    if (this.#objectives.length > 0) posted.push(...this.#objectivePostings(bucket));
    const reconciliation = reconcile(this.#buckets, bucket);
    // Last: what cannot be computed must not be booked in part, and again with the next beat.
    this.ledger.postUntil(posted, endOf(bucket));
    return this.#buckets.close(bucket, reconciliation.length === 0 ? {} : { reconciliation });
  }

  #objectivePostings(bucket: BucketNumber): readonly Posting[] {
    const servers = new Map<string, Partial<Record<LatencyName, Histogram>>>();
    for (const [metric, dimensions, histogram] of this.#buckets.histograms(bucket)) {
      const [name, server] = [latencyOfMetric.get(metric), dimensions["tokenwatt.server.id"]];
      if (name === undefined || server === undefined || !isServed(dimensions["tokenwatt.outcome"])) continue;
      const known = servers.get(server) ?? {};
      known[name] = mergeOrLarger(known[name], histogram);
      servers.set(server, known);
    }
    const posted: Posting[] = [];
    for (const [server, histograms] of servers) {
      for (const objective of this.#objectives) {
        const met = goodput(objective, histograms);
        if (met === undefined) continue;
        const dimensions = { "tokenwatt.server.id": server, "tokenwatt.slo": objective.name };
        posted.push({ metric: "tokenwatt.slo.met_requests_min", dimensions, amount: met.min });
        posted.push({ metric: "tokenwatt.slo.met_requests_max", dimensions, amount: met.max });
      }
    }
    return posted;
  }

  #restore(restored: LedgerRestored, start: UnixNanos): void {
    const series = new Map(restored.series.map((one) => [one.series, one]));
    const time = BigInt(restored.time);
    this.#buckets.restore(restored.rows, bucketOf(time), (id) => series.get(id));
    for (const row of restored.state) {
      if (row.key === '["capacity"]') this.#capacity.restore(row);
      this.#billing.restore(row);
      this.meter.customers.bookedThen.restore(row);
      if (row.key === restingKey) this.ledger.restoreResting(JSON.parse(row.value) as Resting);
      if (row.key === '["prices"]') this.#prices?.remainders.restore(JSON.parse(row.value));
    }
    if (start >= time) return;
    const isStepped = start < time - backwardStepMax;
    if (isStepped) this.stepBack(start);
    const done = isStepped
      ? "series begin again from zero"
      : "time counts twice until the clock has caught up";
    const body = { stored: restored.time, found: String(start), done };
    this.#audit.push({ at: String(start), kind: "clock_step", body });
  }
}

function priceState(prices: Prices): StateRow {
  return { key: '["prices"]', value: JSON.stringify(prices.remainders.state()) };
}

const restingKey = '["resting"]';

function restingRow(resting: Resting): StateRow {
  return { key: restingKey, value: JSON.stringify(resting) };
}
