// One agent, wired, and its life: sources -> pipeline -> ledger -> export beat. Two beats: the pipeline's tick settles and
// meters, the export beat commits and ships only what was committed (METERING.md 1).
// `run` and `demo` start it with different sources; it never exits the process and never reads argv.

import type { Config } from "../config/load.ts";
import { changedValues } from "../config/load.ts";
import type { LoadedPolicy } from "../config/policy.ts";
import type { ProcessFacts } from "../correlate/placement.ts";
import { destinations } from "../export/otlp/config.ts";
import type { Feed } from "../export/page/feed.ts";
import type { Catalogue } from "../meter/money/catalogue.ts";
import type { Nanos, SettledInterval } from "../model.ts";
import type { Cancel, Clock } from "../platform/clock.ts";
import { every } from "../platform/clock.ts";
import type { FileFacts } from "../platform/files.ts";
import type { Log } from "../platform/log.ts";
import type { CountedUsage, GpuSource, ServerSource, SourceContext, SourceError } from "../source.ts";
import type { Spool } from "../store/spool/spool.ts";
import type { Core } from "./accounting.ts";
import { createCore } from "./accounting.ts";
import { bookPast, recordOf, watchWall } from "./continuity.ts";
import type { Durable } from "./durable-state.ts";
import { continueState, forgetful, openDurable } from "./durable-state.ts";
import { Exports } from "./export-beat.ts";
import { FlightRecorder } from "./flight-recorder.ts";
import { hostNames } from "./host-names.ts";
import { HostServices } from "./host-services.ts";
import type { AgentLife } from "./life.ts";
import { Pipeline } from "./pipeline.ts";
import { PolicyDesk } from "./policy-desk.ts";
import { SourceMemory } from "./source-memory.ts";
import type { BackendTried } from "./sources.ts";
import { chooseGpu, GpuSearch, ServerSet } from "./sources.ts";
import { agentStatus } from "./status.ts";
import { createViewFeed } from "./view-feed.ts";

const GPU_RETRY_MS = 30_000;
const WALL_CHECK_MS = 1000;
const LAW_BROKEN_LATELY_NANOS = 600e9;
const SERVERS_APART_MS = 25;

/** What an agent is started with. */
export interface AgentOptions {
  readonly config: Config;
  /** What the configured price file holds; absent = nothing has a cost. */
  readonly catalogue?: Catalogue | undefined;
  /** What the configured policy file holds; absent = no quotas. */
  readonly policy?: LoadedPolicy | undefined;
  readonly clock: Clock;
  readonly log: Log;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Given sources instead of the configured ones: demo and tests. */
  readonly gpu?: GpuSource;
  readonly servers?: readonly ServerSource[];
  /** Facts of processes that are not of this host: demo. */
  readonly processes?: readonly ProcessFacts[];
  /** First instant that is metered; default now. */
  readonly origin?: Nanos;
  /** Nothing after this instant is metered: a recording's end. */
  readonly until?: Nanos;
  readonly strict?: boolean;
  /** Keeps nothing on disk: demo. */
  readonly stateless?: boolean;
  /** The file the configuration is from, for the audit record. */
  readonly configFile?: FileFacts | undefined;
  readonly onInterval?: (interval: SettledInterval) => void;
  /** Time between the snapshots of people who look, on the agent's clock; default a second. */
  readonly viewMs?: number;
}

/** Builds and starts an agent. Throws SourceError when the configuration is at fault or its port is taken. */
export async function startAgent(options: AgentOptions): Promise<Agent> {
  const { clock, config, log } = options;
  const abort = new AbortController();
  // Reaching a driver takes a process of its own, so the search runs while the ledger is opened.
  const search =
    options.gpu === undefined ? new GpuSearch(config, { clock, log, signal: abort.signal }) : undefined;
  let agent: Agent | undefined;
  try {
    const opened = options.stateless === true ? forgetful : await openDurable(config, log);
    const { durable, spool } = await continueState(opened, destinations(config.export.otlp), log);
    agent = new Agent(options, durable, spool, abort);
    await agent.start(search);
    return agent;
  } catch (error) {
    await agent?.stop();
    await search?.drop();
    throw error;
  }
}

/** A running agent. */
export class Agent implements AgentLife {
  /** The way in: sources, increments, correlator, books. */
  readonly pipeline: Pipeline;
  /** The way out: commit, spool, destinations, /metrics. */
  readonly exports: Exports;
  /** What people who look are shown. */
  readonly feed: Feed;
  readonly #options: AgentOptions;
  readonly #context: SourceContext;
  readonly #abort: AbortController;
  readonly #durable: Durable;
  readonly #flight: FlightRecorder;
  readonly #core: Core;
  readonly #policy: PolicyDesk;
  readonly #cancels: Cancel[] = [];
  readonly #restart = Promise.withResolvers<SourceError>();
  #config: Config;
  #tried: readonly BackendTried[] = [];
  #servers: ServerSet | undefined;
  #host: HostServices | undefined;
  #released = false;
  #stopping: Promise<Nanos> | undefined;

  constructor(options: AgentOptions, durable: Durable, spool: Spool, abort: AbortController) {
    const { clock, config, env, log } = options;
    const memory = new SourceMemory(durable.restored?.state);
    this.#options = options;
    this.#config = config;
    this.#durable = durable;
    this.#abort = abort;
    this.#context = {
      clock,
      log,
      signal: abort.signal,
      aliases: config.aliases,
      hostNames: hostNames(config, env),
      remembered: (server) => memory.of(server),
      ...(durable.store === undefined ? {} : { countedUsage: countedIn(durable.store) }),
    };
    this.#flight = new FlightRecorder(durable.store === undefined ? undefined : config.stateDir);
    this.#policy = deskOf(options, durable);
    this.#core = coreOf(options, durable, this.#policy);
    if (options.processes !== undefined) this.#core.correlator.setProcessFacts(options.processes);
    this.pipeline = new Pipeline({
      ...this.#core,
      clock,
      log,
      memory,
      flight: this.#flight,
      life: this,
      gpuPollMs: config.rates.gpuMs,
      tickMs: config.rates.tickMs,
      inventoryMs: config.rates.inventoryMs,
      ...(options.servers === undefined ? { serversApartMs: SERVERS_APART_MS } : {}),
      ...(options.until === undefined ? {} : { until: options.until }),
    });
    const { pipeline } = this;
    this.exports = new Exports({
      config,
      clock,
      log,
      env,
      core: this.#core,
      pipeline,
      durable,
      spool,
      policy: this.#policy,
      life: this,
      feed: () => this.feed,
    });
    this.feed = createViewFeed({
      ...{ clock, pipeline, exports: this.exports, correlator: this.#core.correlator, policy: this.#policy },
      capacityOf: (server) => {
        const { books, increments } = this.#core;
        return books.capacityRate(server, increments.soleModel(server), clock.now());
      },
      tried: () => this.#tried,
      mayShow: config.export.prometheus.tenants,
      viewMs: options.viewMs,
    });
  }

  /** Books what the last run left; opens endpoints, so that a taken port is known before anything is read; then sources. */
  async start(search: GpuSearch | undefined): Promise<void> {
    const { clock, log, servers } = this.#options;
    const { exports, pipeline } = this;
    if (servers === undefined) this.#servers = new ServerSet(this.#config, this.#context);
    const sources = servers ?? this.#servers?.sources ?? [];
    const history = { books: this.#core.books, clock, log, pipeline };
    const { outdated, restored } = this.#durable;
    const { stateDir } = this.#config;
    // Beats begin with the endpoints, and finding the GPUs may take long: what the last run left comes before both.
    bookPast(history, {
      stateDir,
      outdated,
      restored,
      servers: sources.map(({ info }) => info),
      configFile: this.#options.configFile,
    });
    await exports.start();
    const found = await search?.take();
    this.#tried = found?.tried ?? [];
    await pipeline.start(found?.source ?? this.#options.gpu, sources);
    if (search !== undefined) this.#host = this.#watchHost();
    this.#cancels.push(every(clock, WALL_CHECK_MS, () => watchWall(history, () => exports.beat())));
    if (pipeline.gpu === undefined) this.#cancels.push(every(clock, GPU_RETRY_MS, () => this.#retryGpu()));
    void exports.beat();
    log.info("metering started", {
      gpus: [...pipeline.intake.gpus.values()].map((gpu) => ({ uuid: gpu.uuid, model: gpu.name })),
      backend: pipeline.gpu?.backend ?? "none",
      servers: [...pipeline.intake.servers.keys()],
      endpoint: exports.address,
      otlp: exports.destination,
    });
  }

  /**
   * Settles up to `at` (default now), commits, sends what is queued within `flushMs` and closes everything; returns the
   * instant metering ended. Calling it again waits for the first call.
   */
  stop(options: { readonly at?: Nanos; readonly flushMs?: number } = {}): Promise<Nanos> {
    this.#stopping ??= this.#stop(options.at ?? this.#options.clock.now(), options.flushMs ?? 7000);
    return this.#stopping;
  }

  async #stop(at: Nanos, flushMs: number): Promise<Nanos> {
    for (const cancel of this.#cancels) cancel();
    this.#host?.stop();
    await this.pipeline.stop(at);
    this.#abort.abort();
    await this.exports.stop(flushMs);
    return at;
  }

  /** Takes over what a new configuration changes in servers, prices and quotas; returns the rest, which needs a restart. */
  async reload(
    config: Config,
    catalogue?: Catalogue,
    configFile?: FileFacts,
    policy?: LoadedPolicy,
  ): Promise<{ readonly applied: readonly string[]; readonly needRestart: readonly string[] }> {
    const { books } = this.#core;
    const changes = Object.keys(changedValues(this.#config, config));
    const isLive = (path: string): boolean =>
      path.startsWith("servers.") || path === "policy" || (path === "prices" && catalogue !== undefined);
    // Servers that discovery found keep the aliases of the start, so the configured ones do too.
    await this.#servers?.reload({ ...config, aliases: this.#config.aliases }, this.pipeline);
    if (catalogue !== undefined && catalogue.version !== books.priceVersion) {
      books.setCatalogue(catalogue, this.pipeline.settledUntil);
    }
    this.#policy.take(policy);
    if (changes.length > 0)
      books.noteAudit("config", this.pipeline.settledUntil, { changed: changes, ...recordOf(configFile) });
    this.#config = { ...this.#config, servers: config.servers, prices: config.prices, policy: config.policy };
    return { applied: changes.filter(isLive), needRestart: changes.filter((path) => !isLive(path)) };
  }

  /** A new configuration was refused, and the old one stays in force. */
  noteRefused(configFile: FileFacts | undefined): void {
    this.#core.books.noteAudit("config", this.pipeline.settledUntil, {
      refused: true,
      ...recordOf(configFile),
    });
  }

  /** Closes every GPU handle so that a driver can be unloaded; GPUs read as `unobserved` until `resumeGpus`. */
  async releaseGpus(): Promise<void> {
    if (this.released) return;
    this.#released = true;
    await this.pipeline.gpu?.release?.();
    this.#options.log.info("GPU handles released", { backend: this.pipeline.gpu?.backend });
  }

  /** Opens them again. */
  async resumeGpus(): Promise<void> {
    if (!this.released) return;
    this.#released = false;
    await this.pipeline.gpu?.resume?.();
    this.#options.log.info("GPU metering resumed", { backend: this.pipeline.gpu?.backend });
  }

  /** Whether the GPUs are released now; a source may take them back by itself after a driver reload. */
  get released(): boolean {
    const said = this.pipeline.gpu?.status()["released"];
    return typeof said === "boolean" ? said : this.#released;
  }

  /** Never rejects; resolves with the cause when only a restart of the process helps (exit code 75). */
  get restartNeeded(): Promise<SourceError> {
    return this.#restart.promise;
  }

  needRestart(cause: SourceError): void {
    this.#restart.resolve(cause);
  }

  /** The first interval is exported at once: a page should not stay empty for a whole beat. */
  intervalSettled(interval: SettledInterval): void {
    this.#options.onInterval?.(interval);
    this.#host?.bookInterval(interval);
    if (this.pipeline.settledIntervals === 1) void this.exports.beat();
  }

  recorded(): Promise<void> {
    return this.exports.recorded();
  }

  ready(): boolean {
    if (this.#stopping !== undefined || !this.exports.committed) return false;
    return this.pipeline.gpu === undefined || this.pipeline.intake.health.get("gpu") !== undefined;
  }

  unhealthy(): string | undefined {
    return this.exports.stuck ?? this.#brokenLaw(true);
  }

  degraded(): string | undefined {
    return this.exports.unkept ?? this.#brokenLaw(false);
  }

  /** A law that was broken lately asks for a restart; one of long ago is only shown. */
  #brokenLaw(lately: boolean): string | undefined {
    const { clock } = this.#options;
    const broken = this.#flight.degraded;
    if (broken === undefined) return undefined;
    const isLate = clock.now() - broken.instant < LAW_BROKEN_LATELY_NANOS;
    return isLate === lately ? `an accounting law was broken: ${broken.last}` : undefined;
  }

  /** The object of `/-/policy`, tenants included; undefined without a policy. */
  policyPage(): Readonly<Record<string, unknown>> | undefined {
    return this.#policy.page(true);
  }

  status(): Readonly<Record<string, unknown>> {
    return agentStatus({
      clock: this.#options.clock,
      pipeline: this.pipeline,
      tried: this.#tried,
      released: this.released,
      exports: this.exports,
      correlator: this.#core.correlator,
      flight: this.#flight,
      host: this.#host?.status() ?? {},
    });
  }

  #watchHost(): HostServices {
    const { clock, log } = this.#options;
    const [config, context, core, pipeline] = [this.#config, this.#context, this.#core, this.pipeline];
    return new HostServices({ clock, log, config, context, core, pipeline });
  }

  async #retryGpu(): Promise<void> {
    if (this.pipeline.gpu !== undefined || this.#stopping !== undefined) return;
    const choice = await chooseGpu(this.#config, this.#context);
    this.#tried = choice.tried;
    if (choice.restart !== undefined) this.needRestart(choice.restart);
    if (choice.source === undefined) return;
    await this.pipeline.setGpu(choice.source);
    this.#options.log.info("GPUs found", { backend: choice.source.backend });
  }
}

function deskOf({ clock, config, log, policy }: AgentOptions, durable: Durable): PolicyDesk {
  const { outdated, restored, store } = durable;
  const hasPrices = config.prices !== undefined;
  return new PolicyDesk({
    policy,
    clock,
    log,
    store,
    restored,
    outdated,
    hasPrices,
    aliases: config.aliases,
    everyMs: config.rates.exportMs,
  });
}

function coreOf(
  { catalogue, clock, config, origin, strict }: AgentOptions,
  durable: Durable,
  policy: PolicyDesk,
): Core {
  return createCore({
    onBooked: (booking) => policy.count(booking),
    clock,
    intervalMs: config.rates.tickMs,
    gpuPollMs: config.rates.gpuMs,
    correlate: config.correlate,
    series: config.series,
    capacity: config.capacity,
    objectives: config.objectives,
    restored: durable.restored,
    outdated: durable.outdated,
    strict: strict ?? false,
    ...(catalogue === undefined ? {} : { catalogue }),
    ...(origin === undefined ? {} : { origin }),
  });
}

/** Usage records that were counted, as the ledger on disk has them. */
function countedIn(store: NonNullable<Durable["store"]>): CountedUsage {
  return { find: (keys) => store.findUsage(keys) };
}
