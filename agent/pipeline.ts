// The one data path: sources -> increments -> correlator -> meter -> ledger, driven by the injected clock.
// Production, demo and replay run this same code; they differ in their sources and their clock only. Sources poll at
// their own pace into bounded buffers; a tick settles what is decidable, meters it and posts it to the ledger.
import type { Cancel, Clock } from "./clock.ts";
import { every } from "./clock.ts";
import type { Correlator } from "./correlate/correlator.ts";
import type { Log } from "./log.ts";
import { gpuGauges, gpuInfoGauge, serverGauges, serverInfoGauge } from "./meter/gauges.ts";
import type { Increments } from "./meter/increments.ts";
import type { Ledger } from "./meter/ledger.ts";
import type { Meter } from "./meter/meter.ts";
import type { Gap, GpuInfo, GpuSample, Nanos, ServerInfo, SettledInterval, TokenSample } from "./model.ts";
import type { GpuSource, PullServerSource, PushServerSource, ServerSource } from "./source.ts";
import { SourceError } from "./source.ts";
import { SourceHealth } from "./source-health.ts";

const NANOS_PER_MS = 1_000_000;

/** What a pipeline is built from; it owns none of these but its timers. */
export interface PipelineParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly gpu: GpuSource | undefined;
  readonly servers: readonly ServerSource[];
  readonly correlator: Correlator;
  readonly increments: Increments;
  readonly meter: Meter;
  readonly ledger: Ledger;
  readonly gpuPollMs: number;
  readonly tickMs: number;
  readonly inventoryMs: number;
  /** Nothing after this instant is metered: a recording's end. */
  readonly until?: Nanos;
  /** Called with each settled interval after it was posted. */
  readonly onInterval?: (interval: SettledInterval) => void;
  /** Called when a source says that only a restart of the agent helps. */
  readonly onRestartNeeded?: (error: SourceError) => void;
}

/** Runs the data path from `start` to `stop`; `status` is what `/-/status` shows of the sources. */
export class Pipeline {
  readonly #parts: PipelineParts;
  readonly #health = new SourceHealth();
  readonly #gpus = new Map<string, GpuInfo>();
  readonly #servers = new Map<string, ServerInfo>();
  readonly #lastGpu = new Map<string, GpuSample>();
  readonly #lastTokens = new Map<string, TokenSample>();
  readonly #cancels = new Set<Cancel>();
  readonly #running = new Map<ServerSource, Cancel | undefined>();
  #gpu: GpuSource | undefined;
  #generation: number | undefined;
  #settledIntervals = 0;
  #settledUntil: Nanos;

  constructor(parts: PipelineParts) {
    this.#parts = parts;
    this.#settledUntil = parts.clock.now();
  }

  /** GPUs as last enumerated, by UUID. */
  get gpus(): ReadonlyMap<string, GpuInfo> {
    return this.#gpus;
  }

  get servers(): ReadonlyMap<string, ServerInfo> {
    return this.#servers;
  }

  get lastGpuSamples(): ReadonlyMap<string, GpuSample> {
    return this.#lastGpu;
  }

  get lastTokenSamples(): ReadonlyMap<string, TokenSample> {
    return this.#lastTokens;
  }

  get health(): SourceHealth {
    return this.#health;
  }

  get settledUntil(): Nanos {
    return this.#settledUntil;
  }

  get settledIntervals(): number {
    return this.#settledIntervals;
  }

  /** Reads the inventory, polls every source once and starts all timers; the first tick is one tick from now. */
  async start(): Promise<void> {
    const { clock, gpu, tickMs } = this.#parts;
    const now = clock.now();
    for (const source of this.#parts.servers) this.addServer(source, now);
    if (gpu !== undefined) await this.setGpu(gpu, now);
    this.#cancels.add(every(clock, tickMs, () => this.tick(), now + tickMs * NANOS_PER_MS));
  }

  /** Takes the GPUs in: at start, or when a driver appeared later. */
  async setGpu(gpu: GpuSource, first: Nanos = this.#parts.clock.now()): Promise<void> {
    const { clock, gpuPollMs, inventoryMs } = this.#parts;
    this.#gpu = gpu;
    await this.#enumerate(gpu);
    this.#cancels.add(every(clock, gpuPollMs, () => this.#pollGpu(gpu), first));
    this.#cancels.add(every(clock, inventoryMs, () => this.#enumerate(gpu)));
  }

  /** Takes a server in: found by discovery, or new in a reloaded config. */
  addServer(source: ServerSource, first: Nanos = this.#parts.clock.now()): void {
    const { clock } = this.#parts;
    this.#servers.set(source.info.id, source.info);
    this.#announceServers();
    if (source.kind === "pull") {
      this.#running.set(
        source,
        every(clock, source.info.pollMs, () => this.#pollServer(source), first),
      );
    } else {
      this.#running.set(source, undefined);
      void this.#runServer(source);
    }
  }

  /** Lets a server go: its series end, its timers stop. */
  async removeServer(source: ServerSource): Promise<void> {
    this.#running.get(source)?.();
    this.#running.delete(source);
    this.#servers.delete(source.info.id);
    this.#lastTokens.delete(source.info.id);
    this.#health.forget(`server:${source.info.id}`);
    this.#announceServers();
    await source.close();
  }

  /** Settles what is decidable now and posts it. */
  tick(): void {
    const { clock, correlator, until } = this.#parts;
    this.#book(correlator.settle(Math.min(clock.now(), until ?? Number.POSITIVE_INFINITY)));
  }

  /** Polls every source once more: the end of a recording, or the last reading before a stop. */
  async pollAll(): Promise<void> {
    if (this.#gpu !== undefined) await this.#pollGpu(this.#gpu);
    for (const source of this.#running.keys()) if (source.kind === "pull") await this.#pollServer(source);
  }

  /** Stops the timers, settles everything up to `at` (the last interval is cut there) and closes the sources. */
  async stop(at: Nanos = this.#parts.clock.now()): Promise<void> {
    for (const cancel of this.#cancels) cancel();
    this.#cancels.clear();
    for (const cancel of this.#running.values()) cancel?.();
    this.#book(this.#parts.correlator.finish(at));
    const sources = [...this.#running.keys()];
    this.#running.clear();
    await Promise.allSettled([...sources.map((source) => source.close()), this.#gpu?.close()]);
  }

  #book(intervals: readonly SettledInterval[]): void {
    const { clock, increments, ledger, log, meter, onInterval } = this.#parts;
    const facts = {
      gpus: this.#gpus,
      servers: this.#servers,
      soleModel: (server: string) => increments.soleModel(server),
    };
    for (const interval of intervals) {
      ledger.post(meter.post(interval, facts), interval.to);
      for (const violation of interval.violations) log.error("accounting law broken", { cause: violation });
      this.#settledUntil = interval.to;
      this.#settledIntervals++;
      onInterval?.(interval);
    }
    const now = clock.now();
    for (const info of this.#gpus.values()) ledger.observe(gpuInfoGauge(info, now, this.#parts.inventoryMs));
  }

  async #enumerate(gpu: GpuSource): Promise<void> {
    const { clock, correlator, log } = this.#parts;
    try {
      const infos = await gpu.inventory();
      this.#generation = gpu.generation;
      this.#gpus.clear();
      for (const info of infos) this.#gpus.set(info.uuid, info);
      correlator.setGpus(infos, clock.now());
    } catch (error) {
      log.warn("GPU inventory failed", { source: "gpu", cause: (error as Error).message });
    }
  }

  async #pollGpu(gpu: GpuSource): Promise<void> {
    const { clock, correlator, gpuPollMs, ledger, log } = this.#parts;
    const sent = clock.now();
    try {
      const poll = await gpu.poll();
      if (gpu.generation !== this.#generation) await this.#enumerate(gpu);
      for (const sample of poll.samples) {
        this.#lastGpu.set(sample.gpu, sample);
        correlator.acceptGpu(sample);
        const info = this.#gpus.get(sample.gpu);
        if (info !== undefined) for (const gauge of gpuGauges(info, sample, gpuPollMs)) ledger.observe(gauge);
      }
      for (const gap of poll.gaps) this.#gap(gap);
      if (this.#health.succeeded("gpu", clock.now(), clock.now() - sent))
        log.info("source read again", { source: "gpu" });
    } catch (error) {
      this.#failed(
        "gpu",
        error,
        [...this.#gpus.keys()].map((uuid) => `gpu:${uuid}`),
      );
    }
  }

  async #pollServer(source: PullServerSource): Promise<void> {
    const { clock } = this.#parts;
    const sent = clock.now();
    try {
      this.#accept(source.info, await source.poll(), clock.now() - sent);
    } catch (error) {
      this.#failed(`server:${source.info.id}`, error, [`server:${source.info.id}`]);
    }
  }

  async #runServer(source: PushServerSource): Promise<void> {
    const name = `server:${source.info.id}`;
    try {
      await source.run(async (reading) => {
        if (!this.#running.has(source)) return;
        if ("reason" in reading) this.#failed(name, new SourceError("transient", reading.reason), [name]);
        else this.#accept(source.info, reading, reading.received - reading.sent);
      });
    } catch (error) {
      this.#failed(name, error, [name]);
    }
  }

  #accept(info: ServerInfo, sample: TokenSample, tookNanos: Nanos): void {
    const { clock, correlator, increments, ledger, log } = this.#parts;
    const id = sample.server;
    if (id !== info.id) this.#serverBehind(info, id);
    if (sample.pids !== undefined || sample.gpus !== undefined) this.#placed(info, sample);
    this.#lastTokens.set(id, sample);
    const accepted = increments.accept(sample);
    if (accepted.poll !== undefined) correlator.acceptTokens(id, accepted.poll, accepted.increments);
    const known = this.#servers.get(id) ?? info;
    for (const gauge of serverGauges(known, sample)) ledger.observe(gauge);
    ledger.observe(serverInfoGauge(known, sample));
    this.#dropped(`server:${id}`, accepted.dropped + sample.ignoredSamples);
    for (const error of sample.errors)
      log.warn("metric page is damaged", { source: `server:${id}`, cause: error });
    if (this.#health.succeeded(`server:${id}`, clock.now(), tookNanos)) {
      log.info("source read again", { source: `server:${id}` });
    }
  }

  /** A target with several servers: each takes the target's place under its own name. */
  #serverBehind(target: ServerInfo, id: string): void {
    if (this.#servers.has(id)) return;
    this.#servers.delete(target.id);
    this.#servers.set(id, { ...target, id });
    this.#announceServers();
  }

  #dropped(source: string, amount: number): void {
    if (amount === 0) return;
    const dimensions = { "tokenwatt.source": source, reason: "invalid" };
    this.#parts.ledger.post([{ metric: "tokenwatt.dropped", dimensions, amount }], this.#settledUntil);
  }

  /** Where the server says it runs is as good as the config's word, and yields to it. */
  #placed(info: ServerInfo, sample: TokenSample): void {
    const known = this.#servers.get(sample.server) ?? info;
    const gpus = known.gpus ?? sample.gpus;
    const pids = known.pids ?? sample.pids;
    if (String(gpus) === String(known.gpus) && String(pids) === String(known.pids)) return;
    this.#servers.set(sample.server, {
      ...known,
      ...(gpus === undefined ? {} : { gpus }),
      ...(pids === undefined ? {} : { pids }),
    });
    this.#announceServers();
  }

  #announceServers(): void {
    this.#parts.correlator.setServers([...this.#servers.values()], this.#parts.clock.now());
  }

  #failed(source: string, error: unknown, gaps: readonly string[]): void {
    const { clock, log, onRestartNeeded } = this.#parts;
    const reason = error instanceof Error ? error.message : String(error);
    const at = clock.now();
    for (const gap of gaps) this.#parts.correlator.acceptGap({ source: gap, at, reason });
    const hint = error instanceof SourceError ? error.hint : undefined;
    if (this.#health.failed(source, at, reason)) {
      log.warn("source cannot be read", { source, cause: reason, ...(hint === undefined ? {} : { hint }) });
    }
    if (error instanceof SourceError && error.kind === "restart") onRestartNeeded?.(error);
    if (!(error instanceof SourceError)) log.error("source failed unexpectedly", { source, cause: reason });
  }

  #gap(gap: Gap): void {
    this.#parts.correlator.acceptGap(gap);
    if (this.#health.failed(gap.source, gap.at, gap.reason)) {
      this.#parts.log.warn("GPU cannot be read", { source: gap.source, cause: gap.reason });
    }
  }
}
