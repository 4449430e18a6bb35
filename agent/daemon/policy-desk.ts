// Quotas inside of the agent: takes usage as the ledger books it, and with every beat posts what was charged, shows used,
// limit and state, and hands out rows to be stored with the ledger's own. Without a policy it does nothing, but forgets
// what an earlier run counted: of the time in between it would know nothing.
import type { LoadedPolicy } from "../config/policy.ts";
import { identityOf, readPolicy } from "../config/policy.ts";
import type { SelfStats } from "../export/self/points.ts";
import type { Books } from "../meter/books.ts";
import type { Booking } from "../meter/ledger/ledger.ts";
import type { LedgerRestored, Nanos, StateRow, UnixNanos } from "../model.ts";
import { BUCKET_NANOS } from "../model.ts";
import type { Clock } from "../platform/clock.ts";
import type { Log } from "../platform/log.ts";
import { policyPage } from "../policy/api.ts";
import { auditBodies, isQuotaRow, PolicyBook, quotaBeatKey } from "../policy/book.ts";
import type { QuotaFeed, QuotaReading } from "../policy/states.ts";
import { countedMetrics } from "../policy/usage.ts";
import type { Stored } from "../store/ledger/database.ts";
import type { LedgerStore } from "../store/ledger/store.ts";
import { FeedSilence } from "./feed-silence.ts";
import { FleetUsage } from "./fleet-usage.ts";
import { GatewayLimits } from "./gateway-limits.ts";
import { LimiterPages } from "./limiter-pages.ts";
import type { LoadSources } from "./load-reports.ts";
import { LoadReports } from "./load-reports.ts";
import { changesOf, inForce } from "./policy-changes.ts";
import { endQuotaSeries, QuotaSeries } from "./quota-series.ts";
import { RateLimits } from "./rate-limits.ts";

const AUDIT_ENTRIES_MAX = 100;

/** What the desk is built from. */
export interface PolicyDeskOptions {
  readonly policy: LoadedPolicy | undefined;
  readonly clock: Clock;
  readonly log: Log;
  readonly store: LedgerStore | undefined;
  readonly restored: LedgerRestored | undefined;
  /** Why restored totals may be below those seen outside. */
  readonly outdated: string | undefined;
  readonly hasPrices: boolean;
  readonly everyMs: number;
  /** Model name as asked for to model as served. */
  readonly aliases: Readonly<Record<string, string>>;
}

/** What a beat brings along. */
export interface BeatContext {
  readonly books: Books;
  /** End of the last settled interval, and now. */
  readonly time: UnixNanos;
  readonly at: Nanos;
  readonly feedOf: (source: "gateway" | "engine") => QuotaFeed;
}

/** The quotas of one agent. */
export class PolicyDesk {
  readonly #options: PolicyDeskOptions;
  #loaded: LoadedPolicy | undefined;
  #loadedMillis: number;
  #book: PolicyBook | undefined;
  #series: QuotaSeries | undefined;
  /** As of the last stored beat. */
  #shown: readonly QuotaReading[] = [];
  #next: readonly QuotaReading[] = [];
  #stale: readonly StateRow[];
  #identity: string | undefined;
  #refused: string | undefined;
  /** Nothing is left of the series of an earlier policy. */
  #isEnded = false;
  readonly #silence = new FeedSilence();
  readonly #fleet: FleetUsage;
  readonly #limits: GatewayLimits;
  readonly #limiters: LimiterPages;
  #gateways: LoadSources | undefined;
  readonly #rateLimits: RateLimits;
  readonly #loads: LoadReports;
  /** For the record, with the next beat. */
  #notes: Readonly<Record<string, unknown>>[] = [];

  constructor(options: PolicyDeskOptions) {
    const { clock, outdated, policy, restored } = options;
    this.#options = options;
    this.#rateLimits = new RateLimits(options);
    this.#loads = new LoadReports(options);
    this.#fleet = new FleetUsage(options);
    this.#limits = new GatewayLimits(options);
    this.#limiters = new LimiterPages(options);
    this.#loaded = policy;
    this.#loadedMillis = millisOf(clock.unixNanos(clock.now()));
    const rows = restored?.state.filter(isQuotaRow) ?? [];
    const beat = restored?.state.find(({ key }) => key === quotaBeatKey)?.value;
    const isRecent = beat === String(restored?.sequence);
    this.#stale = policy === undefined || !isRecent ? rows.map(({ key }) => ({ key, value: "" })) : [];
    if (policy === undefined) return;
    this.#identity = identityOf(policy.path);
    const isTrusted = outdated === undefined;
    this.#open(policy, new PolicyBook(policy.policy, this.#loadedMillis, isRecent ? rows : [], isTrusted));
    this.#notes.push({ ...inForce(policy), ...(isTrusted ? {} : { outdated }) });
  }

  /** Counts what the ledger booked. */
  count({ at, dimensions, metric, moved, to }: Booking): void {
    if (this.#book === undefined || typeof moved !== "number") return;
    const own = at !== undefined;
    this.#book.book({ metric, dimensions, amount: moved, atMillis: millisOf(at ?? to - 1n), own });
  }

  /** Posts and shows what changed since the beat before. Call it before the books are closed. */
  beforeCommit({ at, books, feedOf, time }: BeatContext): readonly StateRow[] {
    this.#watchFile();
    const stale = this.#stale;
    this.#stale = [];
    for (const body of this.#notes.splice(0)) books.noteAudit("policy", at, body);
    for (const body of this.#rateLimits.takeNotes()) books.noteAudit("rls", at, body);
    books.ledger.postUntil([...this.#rateLimits.takePostings(), ...this.#limiters.takePostings()], time);
    if (this.#book === undefined || this.#series === undefined) {
      // What an earlier policy left, once: of this run or of the one before.
      if (!this.#isEnded) {
        endQuotaSeries(books.ledger, undefined);
        this.#limiters.endGone(books.ledger);
      }
      this.#isEnded = true;
      return stale;
    }
    this.#isEnded = false;
    const beat = this.#book.commit(millisOf(time), feedOf, (...counter) => this.#fleet.read(...counter));
    this.#next = beat.readings;
    this.#series.post(books.ledger, this.#book, beat, {
      time,
      at,
      refused: this.#refused !== undefined,
      fleetAgeSeconds: this.#fleet.ageSeconds,
    });
    for (const body of auditBodies(beat.transitions).slice(0, AUDIT_ENTRIES_MAX)) {
      books.noteAudit("quota_state", at, body);
    }
    for (const body of this.#silence.follow(beat.readings)) books.noteAudit("policy", at, body);
    const limitRow = this.#lookAtLimits(books, beat.readings, at);
    return [...stale, ...beat.rows, ...limitRow, ...this.#book.takeRows()];
  }

  /** What gateways enforce by themselves, unless the policy says not to look. */
  #lookAtLimits(books: Books, readings: readonly QuotaReading[], at: Nanos): readonly StateRow[] {
    const gateways = this.#book?.policy.observe === true ? this.#gateways : undefined;
    for (const body of this.#limits.look(gateways, readings).slice(0, AUDIT_ENTRIES_MAX))
      books.noteAudit("policy", at, body);
    const { ledger } = books;
    for (const gauge of this.#limits.gauges(at, this.#options.everyMs, (tenant) => ledger.admits(tenant)))
      ledger.observe(gauge);
    this.#limiters.endGone(ledger);
    return [...this.#limits.takeRow(), ...this.#limiters.takeRow()];
  }

  /** Rows that name the beat they are stored with. */
  beatRow(sequence: number): readonly StateRow[] {
    return this.#book === undefined ? [] : [{ key: quotaBeatKey, value: String(sequence) }];
  }

  /** The beat is on disk: it may be shown, and the ledger be read for windows that began before their count. */
  async stored(stored: Stored | undefined): Promise<void> {
    this.#shown = this.#next;
    await this.listen();
    const { log, store } = this.#options;
    const book = this.#book;
    if (book === undefined || store === undefined || stored?.stored !== "all") return;
    for (const seed of book.seeds()) {
      const from = BigInt(seed.fromMillis) * 1_000_000n;
      const bucket = Number(from / BUCKET_NANOS);
      const { heldSince, rows } = await store.sumsSince([...countedMetrics], bucket);
      book.seed(seed, rows, heldSince !== undefined && heldSince <= seed.fromMillis);
      const { name } = seed.usage.quota;
      log.info("quota counted from the ledger", { quota: name, whole: seed.usage.isComplete });
    }
  }

  /** Opens the listeners that are wished and not open; one that cannot be had is tried again with the next beat. */
  async listen(sources?: LoadSources): Promise<void> {
    this.#gateways = sources ?? this.#gateways;
    this.#loads.use(this.#book, sources);
    await this.#rateLimits.follow();
    await this.#loads.follow();
  }

  /** The port rate-limit calls are answered on; undefined while they are not. */
  get rateLimitPort(): number | undefined {
    return this.#rateLimits.port;
  }

  /** The agent's own figures of what it answers; what does not listen has none. */
  get answering(): Pick<SelfStats, "rlsCalls" | "rlsSeconds" | "orcaStreams"> {
    const { answered } = this.#rateLimits;
    return {
      rlsCalls: answered?.calls ?? {},
      rlsSeconds: answered?.seconds,
      orcaStreams: this.#loads.streams,
    };
  }

  /** Closes the listeners for good. */
  close(): void {
    this.#rateLimits.close();
    this.#loads.close();
    this.#fleet.close();
    this.#limiters.close();
  }

  /** Takes over a policy, or none; counters of quotas that mean the same go on. */
  take(loaded: LoadedPolicy | undefined): void {
    const before = this.#loaded;
    if (loaded?.policy.digest === before?.policy.digest && loaded?.path === before?.path) return;
    const { clock, log, outdated } = this.#options;
    const rows = this.#book?.takeRows(true) ?? [];
    this.#loaded = loaded;
    this.#loadedMillis = millisOf(clock.unixNanos(clock.now()));
    this.#refused = undefined;
    this.#identity = loaded === undefined ? undefined : identityOf(loaded.path);
    this.#notes.push(changesOf(before, loaded));
    if (loaded === undefined) {
      this.#stale = [...rows.map(({ key }) => ({ key, value: "" })), { key: quotaBeatKey, value: "" }];
      this.#book = undefined;
      this.#series = undefined;
      this.#rateLimits.use(undefined);
      this.#fleet.use(undefined);
      this.#limiters.use(undefined);
      this.#next = [];
    } else {
      this.#open(loaded, new PolicyBook(loaded.policy, this.#loadedMillis, rows, outdated === undefined));
    }
    log.info("policy in force", { version: loaded?.policy.version, digest: loaded?.policy.digest });
  }

  /** The object of `/-/policy`; undefined without a policy. */
  page(withTenants: boolean): Readonly<Record<string, unknown>> | undefined {
    if (this.#loaded === undefined) return undefined;
    const { policy } = this.#loaded;
    const limits = withTenants ? this.#limits.shown : [];
    const shown = {
      policy,
      loadedMillis: this.#loadedMillis,
      readings: this.#shown,
      limits,
      limiters: this.#limiters.shown,
    };
    return {
      ...policyPage(shown, withTenants),
      refused: this.#refused ?? null,
      fleet_failure: this.#fleet.failure ?? null,
    };
  }

  #open(loaded: LoadedPolicy, book: PolicyBook): void {
    this.#book = book;
    this.#rateLimits.use(book);
    this.#fleet.use(book);
    this.#limiters.use(loaded.policy);
    this.#series = new QuotaSeries(loaded.policy, this.#options.everyMs);
  }

  /** A file that changed is read; one that is broken leaves the policy in force, and says so until it is mended. */
  #watchFile(): void {
    const loaded = this.#loaded;
    if (loaded === undefined) return;
    const identity = identityOf(loaded.path);
    if (identity === this.#identity) return;
    this.#identity = identity;
    try {
      this.take(readPolicy(loaded.path, { hasPrices: this.#options.hasPrices }));
      this.#refused = undefined;
    } catch (error) {
      this.#refused = (error as Error).message;
      this.#options.log.error("policy refused, the last good one stays in force", {
        policy: loaded.path,
        cause: this.#refused,
      });
      this.#notes.push({ refused: this.#refused.slice(0, 500), version: loaded.policy.version });
    }
  }
}

function millisOf(at: UnixNanos): number {
  return Number(at / 1_000_000n);
}
