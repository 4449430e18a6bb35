// The one data path: sources -> increments -> correlator -> meter -> ledger, driven by the injected clock.
// Production, demo and replay run this same code; they differ in their sources and their clock only. Sources are read
// at their own pace into bounded buffers; a tick settles what is decidable, meters it and posts it to the ledger.

import { Convenience } from "../meter/figures/ratios.ts";
import { Recent } from "../meter/figures/recent.ts";
import type { Nanos, SettledInterval, StateRow } from "../model.ts";
import type { Cancel, Clock } from "../platform/clock.ts";
import { every, NANOS_PER_MS } from "../platform/clock.ts";
import { keepShape } from "../platform/kept-shapes.ts";
import type { GpuSource, PullServerSource, PushServerSource, ServerSource } from "../source.ts";
import { CounterDoubts } from "./counter-doubts.ts";
import { HolderSeries } from "./holder-series.ts";
import type { IntakeParts } from "./intake.ts";
import { Intake } from "./intake.ts";
import type { PipelineLife } from "./life.ts";
import { SourceMemory } from "./source-memory.ts";

/** What a pipeline is built from; it owns none of these. */
export interface PipelineParts extends IntakeParts {
  readonly tickMs: number;
  /** Servers are asked this much after one another, so that not all their pages are in memory at once; default 0. */
  readonly serversApartMs?: number;
  /** What sources remember over restarts; nothing survives where it is absent. */
  readonly memory?: SourceMemory;
  /** Nothing after this instant is metered: a recording's end. */
  readonly until?: Nanos;
  readonly life: PipelineLife;
}

/** Runs the data path from `start` to `stop`. */
export class Pipeline {
  readonly #parts: PipelineParts;
  readonly #clock: Clock;
  readonly intake: Intake;
  /** The last minute and hour, for people who look. */
  readonly recent = new Recent();
  readonly #cancels = new Set<Cancel>();
  readonly #running = new Map<ServerSource, Cancel | undefined>();
  #gpu: GpuSource | undefined;
  #generation: number | undefined;
  #settledUntil: Nanos;
  #settledIntervals = 0;
  readonly #memory: SourceMemory;
  readonly #doubts: CounterDoubts;
  readonly #holders: HolderSeries;
  readonly #convenience = new Convenience();
  /** Until the GPUs were looked for nothing is settled: they are there since the start, and so is their time. */
  #isStarted = false;
  #stopped = false;

  constructor(parts: PipelineParts) {
    this.#parts = parts;
    this.#clock = parts.clock;
    this.intake = new Intake(parts);
    this.#doubts = new CounterDoubts(parts.books, parts.log);
    this.#holders = new HolderSeries(parts.books);
    this.#memory = parts.memory ?? new SourceMemory();
    this.#settledUntil = parts.correlator.settledUntil;
  }

  /** Takes the sources in, each polled once at once, and starts all timers. */
  async start(gpu: GpuSource | undefined, servers: readonly ServerSource[]): Promise<void> {
    const { serversApartMs = 0, tickMs } = this.#parts;
    const now = this.#clock.now();
    for (const [index, source] of servers.entries()) {
      const late = (index * serversApartMs) % (source.info.pollMs / 2);
      this.addServer(source, now + late * NANOS_PER_MS);
    }
    if (gpu !== undefined) await this.setGpu(gpu, now);
    this.#isStarted = true;
    this.#cancels.add(every(this.#clock, tickMs, () => this.tick(), now + tickMs * NANOS_PER_MS));
  }

  /** The GPUs that are read; undefined until a backend works here. */
  get gpu(): GpuSource | undefined {
    return this.#gpu;
  }

  /** End of the last settled interval. */
  get settledUntil(): Nanos {
    return this.#settledUntil;
  }

  /** How many intervals were settled since start. */
  get settledIntervals(): number {
    return this.#settledIntervals;
  }

  /** Takes the GPUs in: at start, or when a driver appeared later. */
  async setGpu(gpu: GpuSource, first: Nanos = this.#clock.now()): Promise<void> {
    const { gpuPollMs, inventoryMs } = this.#parts;
    this.#gpu = gpu;
    await this.#enumerate(gpu);
    this.#cancels.add(every(this.#clock, gpuPollMs, () => this.#pollGpu(gpu), first));
    this.#cancels.add(every(this.#clock, inventoryMs, () => this.#enumerate(gpu)));
  }

  /** Takes a server in: configured, found by discovery, or new in a reloaded config. */
  addServer(source: ServerSource, first: Nanos = this.#clock.now()): void {
    this.intake.addServer(source.info);
    if (source.kind === "pull") {
      this.#running.set(
        source,
        every(this.#clock, source.info.pollMs, () => this.#pollServer(source), first),
      );
    } else {
      this.#running.set(source, undefined);
      void this.#runServer(source);
    }
  }

  /** Lets a server go: its timers stop, its series end. */
  async removeServer(source: ServerSource): Promise<void> {
    this.#memory.collect(source);
    this.#running.get(source)?.();
    this.#running.delete(source);
    this.intake.removeServer(source.info);
    await source.close();
    this.#takeAccess(source);
  }

  #takeAccess(source: ServerSource): void {
    if (source.kind === "push")
      this.#parts.access.take(`server:${source.info.id}`, source.takeAccess?.() ?? []);
  }

  /** What sources must remember of everything accepted so far, to be committed with it. */
  sourceState(): readonly StateRow[] {
    for (const source of this.#running.keys()) {
      this.#memory.collect(source);
      this.#takeAccess(source);
    }
    return [...this.#memory.takeChanges(), this.intake.gpusRow()];
  }

  /** Settles what is decidable now and posts it. Throws only on a broken invariant of our own. */
  tick(): void {
    const { correlator, until } = this.#parts;
    if (this.#isStarted && !this.#stopped)
      this.#book(correlator.settle(Math.min(this.#clock.now(), until ?? Number.POSITIVE_INFINITY)));
  }

  /** Polls every source once more: the end of a recording, or the last reading before a stop. */
  async pollAll(): Promise<void> {
    if (this.#gpu !== undefined) await this.#pollGpu(this.#gpu);
    for (const source of this.#running.keys()) if (source.kind === "pull") await this.#pollServer(source);
  }

  /** Stops the timers, settles everything up to `at` (the last interval is cut there) and closes the sources. */
  async stop(at: Nanos = this.#clock.now()): Promise<void> {
    for (const source of this.#running.keys()) this.#memory.collect(source);
    for (const cancel of this.#cancels) cancel();
    this.#cancels.clear();
    for (const cancel of this.#running.values()) cancel?.();
    this.#stopped = true;
    this.#book(this.#parts.correlator.finish(at));
    const sources = [...this.#running.keys()];
    this.#running.clear();
    await Promise.allSettled([...sources.map((source) => source.close()), this.#gpu?.close()]);
    for (const source of sources) this.#takeAccess(source);
  }

  #book(intervals: readonly SettledInterval[]): void {
    if (intervals.length === 0) return;
    const { books, correlator, life, pending } = this.#parts;
    const facts = this.intake.bookFacts();
    const { energy } = correlator.status();
    for (const interval of intervals) {
      const money = books.bookInterval(interval, facts);
      this.recent.addInterval(interval, money);
      pending.booked(interval);
      this.intake.record.recordEnergy(interval, energy);
      this.#holders.follow(interval);
      this.#doubts.report(energy, this.intake.gpus, interval.to);
      for (const gauge of this.#convenience.takeInterval(interval, facts.gpus, money))
        books.ledger.observe(gauge);
      if (interval.violations.length > 0) this.#violated(interval);
      this.#settledUntil = interval.to;
      this.#settledIntervals++;
      life.intervalSettled(interval);
      keepShape(this, interval);
    }
    this.intake.observeInventory();
  }

  /** The interval was booked as unattributed; what led to it is put on disk, and the error line names the file. */
  #violated(interval: SettledInterval): void {
    const { flight, log } = this.#parts;
    const at = this.#clock.now();
    const unixMillis = Number(this.#clock.unixNanos(at) / 1_000_000n);
    const { gpus, servers } = this.intake;
    const known = { gpus: gpus.values(), servers: servers.values() };
    const recording = flight?.violated(interval, { at, unixMillis }, known) ?? null;
    for (const cause of interval.violations) log.error("accounting law broken", { cause, recording });
  }

  async #enumerate(gpu: GpuSource): Promise<void> {
    try {
      const infos = await gpu.inventory();
      this.#generation = gpu.generation;
      this.intake.setGpus(infos);
    } catch (error) {
      this.intake.acceptFailure("gpu", error);
    }
  }

  async #pollGpu(gpu: GpuSource): Promise<void> {
    try {
      const poll = await gpu.poll();
      if (gpu.generation !== this.#generation) await this.#enumerate(gpu);
      this.intake.acceptGpus(poll);
    } catch (error) {
      this.intake.acceptFailure("gpu", error);
      return;
    }
    this.tick();
  }

  async #pollServer(source: PullServerSource): Promise<void> {
    try {
      this.intake.acceptTokens(source.info, await source.poll());
    } catch (error) {
      this.intake.acceptFailure(`server:${source.info.id}`, error);
    }
  }

  async #runServer(source: PushServerSource): Promise<void> {
    try {
      await source.run(async (reading) => {
        if (!this.#running.has(source)) return;
        if ("reason" in reading) this.intake.acceptGap(reading);
        else this.intake.acceptTokens(source.info, reading);
        this.tick();
        if (source.acknowledges === true) await this.#parts.life.recorded();
      });
    } catch (error) {
      this.intake.acceptFailure(`server:${source.info.id}`, error);
    }
  }
}
