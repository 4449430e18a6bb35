// The way out: the export beat commits the ledger, encodes the committed snapshot into the spool, and serves the same
// snapshot as /metrics. Senders, one per destination, empty the spool at their own pace (METERING.md 1, rule 3).

import type { Config } from "../config/load.ts";
import type { HttpEndpoint } from "../export/http.ts";
import { serveHttp } from "../export/http.ts";
import { createOtlpEncoder } from "../export/otlp/encoder.ts";
import type { SenderStatus } from "../export/otlp/sender-status.ts";
import type { Feed } from "../export/page/feed.ts";
import { PrometheusPages } from "../export/prometheus.ts";
import type { Family, LedgerSnapshot, Nanos } from "../model.ts";
import { BUCKET_NANOS } from "../model.ts";
import type { Cancel, Clock } from "../platform/clock.ts";
import { every } from "../platform/clock.ts";
import type { Log } from "../platform/log.ts";
import { programVersion } from "../platform/version.ts";
import type { QuotaFeed } from "../policy/states.ts";
import { SourceError } from "../source.ts";
import type { Stored } from "../store/ledger/database.ts";
import { LedgerStoreError } from "../store/ledger/store.ts";
import type { Spool } from "../store/spool/spool.ts";
import type { Core } from "./accounting.ts";
import { coreState } from "./accounting.ts";
import { BeatWriter } from "./beat-writer.ts";
import { Deliveries } from "./deliveries.ts";
import type { Durable } from "./durable-state.ts";
import { loadSourcesOf, Reports, resourceOf } from "./export-reports.ts";
import type { AgentLife } from "./life.ts";
import type { Pipeline } from "./pipeline.ts";
import type { PolicyDesk } from "./policy-desk.ts";
import { quotaFeed } from "./quota-feed.ts";

/** Commits that fail for less are a passing fault. */
const STUCK_MS = 120_000;
const STUCK_BEATS = 6;
/** Least distance of beats asked for by callers who wait for a commit, and how long they are collected. */
const EARLY_BEAT_MS = 1000;
const EARLY_BEAT_JOIN_MS = 50;

/** What the way out is built from. */
export interface ExportsOptions {
  readonly config: Config;
  readonly clock: Clock;
  readonly log: Log;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly core: Core;
  /** What was settled, what sources must remember with it, and how they are. */
  readonly pipeline: Pipeline;
  readonly durable: Durable;
  readonly spool: Spool;
  readonly policy: PolicyDesk;
  readonly life: Pick<AgentLife, "needRestart" | "ready" | "unhealthy" | "degraded" | "status">;
  /** What people who look are sent. */
  readonly feed: () => Feed;
}

/** Everything behind the ledger. */
export class Exports {
  readonly #options: ExportsOptions;
  readonly #spool: Spool;
  readonly #deliveries: Deliveries;
  #writer: BeatWriter | undefined;
  #http: HttpEndpoint | undefined;
  #reports: Reports | undefined;
  #snapshot: LedgerSnapshot | undefined;
  #cancel: Cancel = () => {};
  #committing: Promise<void> = Promise.resolve();
  #stored: Stored | undefined;
  #early: Promise<void> | undefined;
  #lastBeat: Nanos = 0;
  #failure: Error | undefined;
  /** End of the last beat that was stored; the start before there was one. */
  #lastStored: Nanos;
  #stopping = false;
  #pages: PrometheusPages;
  readonly #delivered = new Map<string, number>();

  constructor(options: ExportsOptions) {
    const { clock, config, core, durable, env, log, spool } = options;
    this.#options = options;
    this.#spool = spool;
    this.#pages = new PrometheusPages({}, config.export.prometheus);
    this.#lastStored = clock.now();
    const keepsLetters = durable.store !== undefined;
    this.#deliveries = new Deliveries({ config, clock, log, spool, books: core.books, env, keepsLetters });
  }

  /** `host:port` of the endpoints, undefined when switched off. */
  get address(): string | undefined {
    return this.#http?.address;
  }

  /** What was committed last; undefined before the first commit. */
  get snapshot(): LedgerSnapshot | undefined {
    return this.#snapshot;
  }

  /** How each destination stands. */
  get deliveries(): readonly SenderStatus[] {
    return this.#deliveries.statuses();
  }

  /** Whether anything may be seen from outside yet. */
  get committed(): boolean {
    return this.#snapshot !== undefined;
  }

  /** Where telemetry goes, for people. */
  get destination(): string | undefined {
    const endpoint = this.#options.config.export.otlp.endpoint;
    return endpoint === "" ? undefined : endpoint;
  }

  /** That nothing was stored for longer than a passing fault lasts, and why; undefined while beats are stored. */
  get stuck(): string | undefined {
    const { clock, config } = this.#options;
    const seconds = Math.floor((clock.now() - this.#lastStored) / 1e9);
    if (seconds * 1000 < Math.max(STUCK_MS, STUCK_BEATS * config.rates.exportMs)) return undefined;
    return `nothing was committed for ${seconds} s: ${this.#failure?.message ?? "a beat does not end"}`;
  }

  /** That what is metered is not kept as it should be; undefined where it is. */
  get unkept(): string | undefined {
    const { durable } = this.#options;
    if (durable.unusable !== undefined) return `nothing survives a restart: ${durable.unusable}`;
    if (this.#stored?.stored !== "totals") return undefined;
    const { lostRows, waitingRows } = this.#stored;
    return `the disk is nearly full: ${waitingRows} ledger rows wait in memory, ${lostRows} were lost`;
  }

  /** What was shipped since start, over all destinations. */
  get counts(): { readonly requests: number; readonly data_points: number } {
    const all = this.#deliveries.statuses();
    return {
      requests: all.reduce((sum, one) => sum + one.sentRequests, 0),
      data_points: all.reduce((sum, one) => sum + one.sentPoints, 0),
    };
  }

  /** Opens the endpoints and begins to read who this host is. Throws SourceError when the port is taken. */
  async start(): Promise<void> {
    const { clock, config, life, log, policy } = this.#options;
    const listen = config.export.prometheus.listen;
    if (listen !== "") {
      this.#http = await serveHttp({
        listen,
        log,
        tls: config.export.prometheus.tls,
        metrics: (accept) => this.#pages.page(this.#snapshot, accept),
        unhealthy: () => life.unhealthy(),
        degraded: () => life.degraded(),
        ready: () => life.ready(),
        status: () => life.status(),
        feed: this.#options.feed(),
        page: config.export.prometheus.page,
        policy: () => policy.page(config.export.prometheus.tenants),
      });
    }
    await policy.listen(loadSourcesOf(this.#options));
    this.#cancel = every(clock, config.rates.exportMs, () => this.beat());
    this.#identify();
  }

  /** From here on there are beats. */
  #identify(): void {
    const { config } = this.#options;
    const resource = resourceOf(this.#options);
    const [spool, stored] = [() => this.#spool.status(), () => this.#stored];
    const reports = new Reports({ ...this.#options, resource, spool, stored, deliveries: this.#deliveries });
    this.#reports = reports;
    this.#pages = new PrometheusPages(resource, config.export.prometheus, () => reports.read());
    const { senders } = this.#deliveries;
    const encoder =
      senders.length === 0 ? undefined : createOtlpEncoder({ resource, version: programVersion() });
    const { core, durable } = this.#options;
    this.#writer = new BeatWriter({ books: core.books, store: durable.store, spool: this.#spool, encoder });
    for (const sender of senders) sender.start();
  }

  /** One export beat: commit, encode, spool, publish. Beats never overlap. */
  beat(): Promise<void> {
    this.#committing = this.#committing
      .then(() => this.#commit())
      .then(() => {
        this.#failure = undefined;
        this.#lastStored = this.#options.clock.now();
      })
      .catch((error: Error) => {
        this.#failure = error;
        if (isStoreLost(error)) {
          const message = `Cannot commit any more: ${error.message}`;
          this.#options.life.needRestart(new SourceError("restart", message, { cause: error }));
        }
        this.#options.log.error("export beat failed", { cause: error.message });
      });
    return this.#committing;
  }

  /**
   * Resolves once everything accepted before the call is on disk, rejects when the disk did not take it. Callers share a beat, at most one a second: a gateway
   * that pushes must not make the agent commit at its pace.
   */
  recorded(): Promise<void> {
    this.#early ??= this.#earlyBeat();
    return this.#early;
  }

  async #earlyBeat(): Promise<void> {
    const { clock } = this.#options;
    const wait = this.#lastBeat + EARLY_BEAT_MS * 1e6 - clock.now();
    await clock.sleep(Math.max(EARLY_BEAT_JOIN_MS, wait / 1e6));
    this.#early = undefined;
    await this.beat();
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Commits what was settled last and sends what is queued within `flushMs`; what is left is logged. */
  async stop(flushMs: number): Promise<void> {
    this.#cancel();
    this.#stopping = true;
    this.#options.policy.close();
    await this.beat();
    const delivered = await Promise.all(this.#deliveries.senders.map((sender) => sender.flush(flushMs)));
    if (delivered.includes(false)) {
      this.#options.log.warn("not everything was delivered before the stop", { spool: this.#spool.status() });
    }
    await this.#reports?.audit.stop(flushMs);
    await Promise.allSettled(this.#deliveries.senders.map((sender) => sender.stop()));
    await this.#reports?.stop();
    await this.#http?.close();
    await this.#spool.close();
    await this.#options.durable.store?.close();
  }

  /** For `/-/status`, and facts of the last line of the log. */
  status(): Readonly<Record<string, unknown>> {
    return {
      sequence: this.#snapshot?.sequence ?? 0,
      series: this.#snapshot?.series.names.length ?? 0,
      durable: this.#options.durable.store !== undefined,
      ledger: this.#stored ?? null,
      spool: this.#spool.status(),
      destinations: this.#deliveries.statuses().map(({ durations: _, ...status }) => status),
      deadLetters: this.#deliveries.deadLetters,
      audit: this.#reports?.audit.status() ?? [],
    };
  }

  /** Commits what was settled, hands it to every way out, and fails at the end where one did not take it. */
  async #commit(): Promise<void> {
    const writer = this.#writer;
    if (writer === undefined) return;
    const { clock, core, pipeline, policy } = this.#options;
    this.#lastBeat = clock.now();
    await this.#deliveries.beforeCommit(this.#stopping);
    // Sources first: what they hand over while they are asked belongs to this commit.
    writer.takeRows(pipeline.sourceState());
    core.access.take("http", this.#http?.takeAccess() ?? []);
    core.access.writeDue(clock.now(), this.#stopping);
    const [time, at] = [clock.unixNanos(pipeline.settledUntil), clock.now()];
    const feedOf = (source: Family): QuotaFeed => quotaFeed(pipeline.intake, source, clock);
    writer.takeRows(policy.beforeCommit({ books: core.books, time, at, feedOf }));
    for (const body of this.#reports?.audit.takeLosses() ?? []) core.books.noteAudit("loss", at, body);
    writer.takeRows(this.#reports?.audit.takeRows() ?? []);
    writer.takeRows(coreState(core, clock));
    const written = await writer.write(time, at, (sequence) => policy.beatRow(sequence));
    if (written.stored !== undefined) this.#noteStored(written.stored);
    this.#snapshot = written.snapshot;
    await policy.stored(this.#stored);
    this.#reports?.afterCommit();
    await this.#noteDelivered();
    if (written.unspooled !== undefined) throw written.unspooled;
  }

  /** One line when rows begin to wait for room, and one when they are stored. */
  #noteStored(stored: Stored): void {
    const { config, log } = this.#options;
    const before = this.#stored?.stored ?? "all";
    this.#stored = stored;
    if (stored.stored === before) return;
    const facts = { source: "ledger", stateDir: config.stateDir };
    if (stored.stored === "all") log.info("ledger rows that waited for room are stored", facts);
    else
      log.warn("the disk is nearly full: totals are stored, ledger rows wait in memory", {
        ...facts,
        hint: "make room: 64 MiB at least must be free",
      });
  }

  /** Records in the ledger which buckets every destination has, so that retention never drops one that waits. */
  async #noteDelivered(): Promise<void> {
    const { clock, core, durable } = this.#options;
    if (durable.store === undefined || this.#snapshot === undefined) return;
    for (const { destination, position } of this.#deliveries.statuses()) {
      const waiting = this.#spool.peek(position)?.time ?? this.#snapshot.time;
      const bucket = Number(waiting / BUCKET_NANOS);
      if (this.#delivered.get(destination) === bucket) continue;
      this.#delivered.set(destination, bucket);
      await durable.store.delivered(destination, bucket);
      core.books.noteAudit("delivery", clock.now(), {
        destination,
        before: bucket,
        head: this.#stored?.head,
      });
    }
  }
}

/** The ledger's file is gone, or the disk did not keep it: other errors of it may pass. */
function isStoreLost(error: Error): boolean {
  return error instanceof LedgerStoreError && error.gone;
}
