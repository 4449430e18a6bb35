// Wiring and lifecycle: sources, pipeline, ledger, exporters and endpoints of one agent.
// `run` and `demo` start it with different sources; it never exits the process and never reads argv. Two beats: the
// pipeline's tick settles and meters, the export beat commits and ships only what was committed (METERING.md 1).

import type { Config } from "../config/load.ts";
import { changedValues } from "../config/load.ts";
import { destinations } from "../export/otlp/config.ts";
import type { Catalogue } from "../meter/money/catalogue.ts";
import type { Nanos, SettledInterval } from "../model.ts";
import type { Cancel, Clock } from "../platform/clock.ts";
import { every } from "../platform/clock.ts";
import type { Log } from "../platform/log.ts";
import type { GpuSource, ServerSource, SourceContext } from "../source.ts";
import { SourceError } from "../source.ts";
import type { Spool } from "../store/spool/spool.ts";
import type { Core } from "./accounting.ts";
import { createCore } from "./accounting.ts";
import { noteStart, watchWall } from "./chronicle.ts";
import type { Durable } from "./durable-state.ts";
import { continueState, forgetful, openDurable } from "./durable-state.ts";
import { Exports } from "./export-beat.ts";
import { FlightRecorder } from "./flight-recorder.ts";
import { HostServices } from "./host-services.ts";
import { Pipeline } from "./pipeline.ts";
import { ServerSet } from "./server-set.ts";
import { SourceMemory } from "./source-memory.ts";
import type { BackendTried } from "./sources.ts";
import { chooseGpu, GpuSearch } from "./sources.ts";
import { agentStatus } from "./status.ts";

const GPU_RETRY_MS = 30_000;
const WALL_CHECK_MS = 1000;
const SERVERS_APART_MS = 25;

export interface AgentOptions {
  readonly config: Config;
  /** What the configured price file holds; absent = nothing has a cost. */
  readonly catalogue?: Catalogue | undefined;
  readonly clock: Clock;
  readonly log: Log;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Given sources instead of the configured ones: demo and tests. */
  readonly gpu?: GpuSource;
  readonly servers?: readonly ServerSource[];
  /** First instant that is metered; default now. */
  readonly origin?: Nanos;
  /** Nothing after this instant is metered: a recording's end. */
  readonly until?: Nanos;
  readonly strict?: boolean;
  /** Keeps nothing on disk: demo. */
  readonly stateless?: boolean;
  readonly onInterval?: (interval: SettledInterval) => void;
}

/** Builds and starts an agent. Throws SourceError when the configuration is at fault or its port is taken. */
export async function startAgent(options: AgentOptions): Promise<Agent> {
  const { clock, config, log } = options;
  const abort = new AbortController();
  const context = { clock, log, signal: abort.signal };
  const search = options.gpu === undefined ? new GpuSearch(config, context) : undefined;
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
export class Agent {
  readonly #options: AgentOptions;
  readonly #core: Core;
  readonly #context: SourceContext;
  readonly #memory: SourceMemory;
  readonly #abort: AbortController;
  readonly #cancels: Cancel[] = [];
  readonly #restart = Promise.withResolvers<SourceError>();
  readonly #exports: Exports;
  readonly #durable: Durable;
  readonly #flight: FlightRecorder;
  #config: Config;
  #pipeline: Pipeline;
  #gpu: GpuSource | undefined;
  #tried: readonly BackendTried[] = [];
  #servers: ServerSet | undefined;
  #host: HostServices | undefined;
  #released = false;
  #stopping: Promise<Nanos> | undefined;

  constructor(options: AgentOptions, durable: Durable, spool: Spool, abort: AbortController) {
    const { clock, config, log } = options;
    this.#abort = abort;
    this.#durable = durable;
    this.#options = options;
    this.#config = config;
    this.#memory = new SourceMemory(durable.restored?.state);
    const remembered = (server: string) => this.#memory.of(server);
    this.#context = { clock, log, signal: this.#abort.signal, remembered };
    this.#flight = new FlightRecorder(durable.store === undefined ? undefined : config.stateDir);
    this.#core = createCore({
      clock,
      intervalMs: config.rates.tickMs,
      gpuPollMs: config.rates.gpuMs,
      correlate: config.correlate,
      series: config.series,
      capacity: config.capacity,
      objectives: config.objectives,
      ...(options.catalogue === undefined ? {} : { catalogue: options.catalogue }),
      restored: durable.restored,
      outdated: durable.outdated,
      strict: options.strict ?? false,
      ...(options.origin === undefined ? {} : { origin: options.origin }),
    });
    this.#pipeline = this.#newPipeline(options.gpu, []);
    this.#exports = new Exports({
      config,
      clock,
      log,
      env: options.env,
      core: this.#core,
      durable,
      spool,
      sourceState: () => this.#pipeline.sourceState(),
      settledUntil: () => this.#pipeline.settledUntil,
      health: () => this.#pipeline.intake.health,
      restarts: () => ({ gpu: Number(this.#gpu?.status()["restarts"] ?? 0) }),
      onStoreLost: (cause) => {
        const message = `Cannot commit any more: ${cause.message}`;
        this.#restart.resolve(new SourceError("restart", message, { cause }));
      },
      status: () => this.status(),
      ready: () => this.ready(),
      degraded: () => this.#flight.degraded?.last,
    });
  }

  get pipeline(): Pipeline {
    return this.#pipeline;
  }

  get exports(): Exports {
    return this.#exports;
  }

  /** Rejected never; resolves with the cause when only a restart of the process helps (exit code 75). */
  get restartNeeded(): Promise<SourceError> {
    return this.#restart.promise;
  }

  /** Opens endpoints first, so that a taken port is known before anything is read; then sources and timers. */
  async start(search: GpuSearch | undefined): Promise<void> {
    const { clock, log, servers } = this.#options;
    await this.#exports.start();
    const choice = await search?.take();
    this.#tried = choice?.tried ?? [];
    this.#gpu = choice?.source ?? this.#options.gpu;
    if (servers === undefined) this.#servers = new ServerSet(this.#config, this.#context);
    this.#pipeline = this.#newPipeline(this.#gpu, servers ?? this.#servers?.sources ?? []);
    await this.#pipeline.start();
    const life = { books: this.#core.books, clock, log, pipeline: this.#pipeline };
    noteStart(life, this.#config.stateDir, this.#durable);
    if (this.#options.gpu === undefined) {
      const parts = { clock, config: this.#config, context: this.#context, core: this.#core, log };
      this.#host = new HostServices({ ...parts, pipeline: this.#pipeline });
    }
    this.#cancels.push(every(clock, WALL_CHECK_MS, () => watchWall(life)));
    if (this.#gpu === undefined) this.#cancels.push(every(clock, GPU_RETRY_MS, () => this.#retryGpu()));
    void this.#exports.beat();
    log.info("metering started", {
      gpus: [...this.#pipeline.intake.gpus.values()].map((gpu) => ({ uuid: gpu.uuid, model: gpu.name })),
      backend: this.#gpu?.backend ?? "none",
      servers: [...this.#pipeline.intake.servers.keys()],
      endpoint: this.#exports.address,
      otlp: this.#exports.destination,
    });
  }

  /** Ready once the ledger took a first beat and the GPUs were read, or found missing: pages are served from then on. */
  ready(): boolean {
    if (this.#stopping !== undefined || !this.#exports.committed) return false;
    return this.#gpu === undefined || this.#pipeline.intake.health.get("gpu") !== undefined;
  }

  /** Takes over what a new configuration changes in servers and log level; returns the rest, which needs a restart. */
  async reload(
    config: Config,
    catalogue?: Catalogue,
  ): Promise<{ readonly applied: readonly string[]; readonly needRestart: readonly string[] }> {
    const changes = Object.keys(changedValues(this.#config, config));
    const live = changes.filter(
      (path) => path.startsWith("servers.") || (path === "prices" && catalogue !== undefined),
    );
    await this.#servers?.reload(config, this.#pipeline);
    if (catalogue !== undefined && catalogue.version !== this.#core.books.priceVersion) {
      this.#core.books.setCatalogue(catalogue, this.#pipeline.settledUntil);
    }
    if (changes.length > 0)
      this.#core.books.note("config", this.#pipeline.settledUntil, { changed: changes });
    this.#config = { ...this.#config, servers: config.servers, prices: config.prices };
    return { applied: live, needRestart: changes.filter((path) => !live.includes(path)) };
  }

  /** Closes every GPU handle so that a driver can be unloaded; GPUs read as `unobserved` until `resumeGpus`. */
  async releaseGpus(): Promise<void> {
    if (this.released) return;
    this.#released = true;
    await this.#gpu?.release?.();
    this.#options.log.info("GPU handles released", { backend: this.#gpu?.backend });
  }

  async resumeGpus(): Promise<void> {
    if (!this.released) return;
    this.#released = false;
    await this.#gpu?.resume?.();
    this.#options.log.info("GPU metering resumed", { backend: this.#gpu?.backend });
  }

  /** Whether the GPUs are released now; a source may take them back by itself after a driver reload. */
  get released(): boolean {
    const told = this.#gpu?.status()["released"];
    return typeof told === "boolean" ? told : this.#released;
  }

  /** What `/-/status` shows. */
  status(): Readonly<Record<string, unknown>> {
    return agentStatus({
      clock: this.#options.clock,
      pipeline: this.#pipeline,
      gpu: this.#gpu,
      tried: this.#tried,
      released: this.released,
      exports: this.#exports,
      correlator: this.#core.correlator,
      flight: this.#flight,
      host: this.#host?.status() ?? {},
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
    await this.#pipeline.stop(at);
    this.#abort.abort();
    await this.#exports.stop(flushMs);
    return at;
  }

  #newPipeline(gpu: GpuSource | undefined, servers: readonly ServerSource[]): Pipeline {
    const { clock, config, log, until } = this.#options;
    return new Pipeline({
      clock,
      log,
      gpu,
      servers,
      ...this.#core,
      flight: this.#flight,
      gpuPollMs: config.rates.gpuMs,
      tickMs: config.rates.tickMs,
      ...(this.#options.servers === undefined ? { serversApartMs: SERVERS_APART_MS } : {}),
      inventoryMs: config.rates.inventoryMs,
      onInterval: (interval) => this.#settled(interval),
      ...(until === undefined ? {} : { until }),
      memory: this.#memory,
      recorded: () => this.#exports.recorded(),
      onRestartNeeded: (error) => this.#restart.resolve(error),
    });
  }

  /** The first interval is exported at once: nobody should look at an empty page for a whole beat. */
  #settled(interval: SettledInterval): void {
    this.#options.onInterval?.(interval);
    this.#host?.settled(interval);
    if (this.#pipeline.settledIntervals === 1) void this.#exports.beat();
  }

  async #retryGpu(): Promise<void> {
    if (this.#gpu !== undefined || this.#stopping !== undefined) return;
    const choice = await chooseGpu(this.#config, this.#context);
    this.#tried = choice.tried;
    if (choice.restart !== undefined) this.#restart.resolve(choice.restart);
    if (choice.source === undefined) return;
    this.#gpu = choice.source;
    await this.#pipeline.setGpu(choice.source);
    this.#options.log.info("GPUs found", { backend: choice.source.backend });
  }
}
