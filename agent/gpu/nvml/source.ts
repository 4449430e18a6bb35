// The NVML GpuSource in the agent: one reader child at a time, restarted with backoff.
// A GPU that hangs is read last when its time to be tried again comes, so the others lose nothing to it.

import type { GpuInfo, GpuProcess, GpuSample, Nanos } from "../../model.ts";
import type { Cancel } from "../../platform/clock.ts";
import { NANOS_PER_MS } from "../../platform/clock.ts";
import type { GpuPoll, GpuSource, SourceContext } from "../../source.ts";
import { SourceError } from "../../source.ts";
import { Backoff } from "../backoff.ts";
import { sane } from "../sane.ts";
import { CODE } from "./codes.ts";
import type { NvmlConfig } from "./config.ts";
import { openOptions, restartAfterMs } from "./config.ts";
import { ReleasedDevices } from "./device-nodes.ts";
import { KnownGpus } from "./known-gpus.ts";
import { FreshRings, RunningTotals } from "./over-restarts.ts";
import type { Answer, Failure, Inventory, ReaderStatus, Unreadable } from "./protocol.ts";
import { Gone, Hung, ReaderProcess } from "./reader-process.ts";
import { StuckIndexes } from "./stuck-indexes.ts";
import { unpack } from "./unpack.ts";

const RESTART_FIRST_MS = 250;
const RESTART_MOST_MS = 60_000;
/** Children that were killed but are still in the kernel: no more are started above this. */
const STUCK_MAX = 3;
const LEAVE_MS = 2000;
/** A GPU that hangs at opening costs one timeout before the others are read. */
const OPEN_TRIES = 3;
/** Codes that a container keeps until it is started again: its library or its device rights are of another time. */
const RESTART_CODES: ReadonlySet<number> = new Set([
  CODE.operatingSystem,
  CODE.versionMismatch,
  CODE.unknown,
]);

/** Reads GPUs through reader children until closed. */
export class NvmlSource implements GpuSource {
  readonly backend = "nvml";
  generation = 0;
  readonly #config: NvmlConfig;
  readonly #context: SourceContext;
  readonly #known: KnownGpus;
  readonly #stuck: StuckIndexes;
  readonly #processes = new Map<string, readonly GpuProcess[]>();
  readonly #fresh = new FreshRings();
  readonly #totals = new RunningTotals();
  readonly #restart = new Backoff(RESTART_FIRST_MS, RESTART_MOST_MS);
  #process: ReaderProcess | undefined;
  #starting: Promise<void> | undefined;
  #failure: Failure | undefined;
  #failingSince: Nanos | undefined;
  #worked = false;
  #released: ReleasedDevices | undefined;
  #closed = false;
  #facts: Readonly<Record<string, unknown>> = {};
  #unreadable: readonly Unreadable[] = [];
  #status: ReaderStatus = { absurdReadings: 0, unsupported: {} };
  #counts = { starts: 0, hangs: 0, deaths: 0, stuck: 0, absurd: 0 };

  constructor(config: NvmlConfig, context: SourceContext) {
    this.#config = config;
    this.#context = context;
    this.#known = new KnownGpus(config.retryGpuMs);
    const limits = { retryMs: config.retryGpuMs, timeoutMs: config.openTimeoutMs };
    this.#stuck = new StuckIndexes(context.clock, openOptions(config), limits);
  }

  /** Starts the first reader; throws SourceError when the driver cannot be reached at all. */
  async open(): Promise<void> {
    await this.#ready(OPEN_TRIES * this.#config.openTimeoutMs);
  }

  async inventory(): Promise<readonly GpuInfo[]> {
    const process = this.#process;
    if (process?.alive && this.#starting === undefined) {
      const asked = process.ask({ ask: "enumerate" }, this.#config.openTimeoutMs);
      const answer = await asked.catch((error) => void this.#broke(process, error, 1));
      if (answer?.answer === "inventory") this.#take(answer.inventory);
    }
    if (this.#known.infos.length === 0) throw this.#error("no GPU was found");
    return this.#known.infos.map((info) => {
      const unsupported = { ...info.unsupported, ...this.#status.unsupported[info.uuid] };
      return Object.keys(unsupported).length === 0 ? info : { ...info, unsupported };
    });
  }

  async poll(): Promise<GpuPoll> {
    const sent = this.#context.clock.now();
    this.#refuseIfReleased(sent);
    this.#recycleIfDue(sent);
    await this.#ready(this.#config.callTimeoutMs);
    const process = this.#process;
    if (process === undefined) throw this.#error("the reader is not running");
    const samples: GpuSample[] = [];
    const lost = new Map<string, Failure>();
    const { skip, last } = this.#known.hung(sent);
    try {
      const end = await process.ask({ ask: "poll", skip, last }, this.#config.callTimeoutMs, (answer) => {
        if (answer.answer === "reading") this.#takeReading(answer, process, samples);
        if (answer.answer === "lost") lost.set(answer.gpu, answer.failure);
      });
      if (end.answer === "failed") throw this.#libraryFailed(end.failure);
      if (end.answer === "done") this.#finished(end, lost);
    } catch (error) {
      this.#broke(process, error, samples.length);
      if (samples.length === 0) throw this.#asSourceError(error);
    }
    const received = this.#context.clock.now();
    const read = new Set(samples.map(({ gpu }) => gpu));
    for (const uuid of read) {
      if (this.#known.heal(uuid)) this.#context.log.info("GPU read again", { source: `gpu:${uuid}` });
    }
    return { sent, received, samples, gaps: this.#known.gaps(read, received) };
  }

  async release(): Promise<void> {
    if (this.#released !== undefined) return;
    this.#released = new ReleasedDevices(this.#context.clock.now());
    await this.#stop();
    this.#context.log.info("GPU devices released", { source: "gpu" });
  }

  async resume(): Promise<void> {
    if (this.#released === undefined) return;
    this.#released = undefined;
    this.#restart.forgetFailures();
    this.#context.log.info("GPU devices taken again", { source: "gpu" });
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#stop();
  }

  status(): Readonly<Record<string, unknown>> {
    return {
      ...this.#facts,
      pid: this.#process?.pid,
      generation: this.generation,
      released: this.#released !== undefined,
      failure: this.#failure?.message,
      hint: this.#failure?.hint,
      unreadable: this.#unreadable.map(({ index, failure }) => `GPU ${index}: ${failure.message}`),
      trouble: this.#known.reasons,
      restarts: Math.max(0, this.#counts.starts - 1),
      ...this.#counts,
      absurd: this.#counts.absurd + this.#status.absurdReadings,
      processRowBytes: this.#status.processRowBytes,
      unsupported: this.#status.unsupported,
    };
  }

  /** Resolves once a reader answers; throws when it is not its time yet or it does not come up within `waitMs`. */
  async #ready(waitMs: number): Promise<void> {
    if (this.#closed) throw new SourceError("ended", "the NVML source is closed");
    if (this.#process?.alive && this.#starting === undefined) return;
    const now = this.#context.clock.now();
    if (this.#starting === undefined) {
      if (now < this.#restart.due) throw this.#error("the reader waits before it is started again");
      if (this.#counts.stuck >= STUCK_MAX) throw this.#error("killed readers are still stuck in the driver");
      this.#starting = this.#start().finally(() => {
        this.#starting = undefined;
      });
      // A poll may stop waiting for it before it fails.
      this.#starting.catch(() => {});
    }
    let cancel: Cancel = () => {};
    const late = new Promise<never>((_, reject) => {
      cancel = this.#context.clock.at(now + waitMs * NANOS_PER_MS, () =>
        reject(new SourceError("transient", "Cannot read GPUs: the NVML reader is still starting")),
      );
    });
    try {
      await Promise.race([this.#starting, late]);
    } finally {
      cancel();
    }
  }

  async #start(): Promise<void> {
    const process = new ReaderProcess(this.#context.clock);
    this.#process = process;
    this.#counts.starts++;
    this.#processes.clear();
    this.#totals.restarted();
    const options = { ...openOptions(this.#config), skip: this.#stuck.skip };
    try {
      const answer = await process.ask({ ask: "open", options }, this.#config.openTimeoutMs);
      if (answer.answer !== "inventory") throw this.#libraryFailed((answer as { failure: Failure }).failure);
      this.#take(answer.inventory);
      this.#failure = undefined;
      this.#failingSince = undefined;
      this.#worked = true;
      const facts = { source: "gpu", pid: process.pid, ...answer.inventory.facts };
      this.#context.log.info("GPU reader started", facts);
    } catch (error) {
      const blamed = this.#broke(process, error, 0);
      // One GPU that hangs when it is opened: the next reader leaves it out.
      if (blamed && !this.#closed) return this.#start();
      throw this.#asSourceError(error);
    }
  }

  /** After a failed exchange: the child is ended and the next one waits; true when only one GPU was at fault. */
  #broke(process: ReaderProcess, error: unknown, readings: number): boolean {
    const now = this.#context.clock.now();
    const gpu = error instanceof Hung ? error.gpu : undefined;
    if (error instanceof Hung) this.#counts.hangs++;
    if (error instanceof Gone) this.#counts.deaths++;
    if (gpu !== undefined && !this.#stuck.markHung(gpu))
      this.#known.markUnread(gpu, "hung", (error as Error).message, now);
    const facts = { source: "gpu", cause: (error as Error).message, pid: process.pid };
    this.#context.log.warn("GPU reader stopped", facts);
    if (readings === 0 && gpu === undefined) this.#restart.doubleWait(now);
    this.#end(process);
    return gpu !== undefined;
  }

  #end(process: ReaderProcess): void {
    if (this.#process === process) this.#process = undefined;
    process.kill();
    this.#counts.stuck++;
    void process.exited.then(() => this.#counts.stuck--);
  }

  /** Lets the child close its handles and leave; kills it when it does not within two seconds. */
  async #stop(): Promise<void> {
    this.#stuck.close();
    await this.#starting?.catch(() => {});
    const process = this.#process;
    this.#process = undefined;
    if (process === undefined) return;
    await process.ask({ ask: "close" }, LEAVE_MS).catch(() => undefined);
    process.leave();
    const { clock } = this.#context;
    const cancel = clock.at(clock.now() + LEAVE_MS * NANOS_PER_MS, () => process.kill());
    await Promise.race([process.exited, clock.sleep(2 * LEAVE_MS)]);
    cancel();
  }

  /** A lost GPU comes back only to a library that was initialised again: replace the child when it is time. */
  #recycleIfDue(now: Nanos): void {
    const process = this.#process;
    if (process === undefined || this.#starting !== undefined) return;
    if (this.#known.lostIsDue(now) || this.#stuck.takeFreed()) this.#end(process);
    else this.#stuck.probe(now);
  }

  #refuseIfReleased(now: Nanos): void {
    if (this.#released === undefined) return;
    const message = "Cannot read GPUs: their devices are released (tokenwatt gpu release)";
    if (!this.#released.isOver(now, this.#config.releaseMaxMs)) throw new SourceError("transient", message);
    void this.resume();
  }

  #takeReading(
    answer: Extract<Answer, { answer: "reading" }>,
    process: ReaderProcess,
    samples: GpuSample[],
  ): void {
    const sample = unpack(answer.reading, (nanos) => process.instant(nanos), this.#processes);
    const checked = sane(sample, this.#context.clock.now());
    this.#counts.absurd += checked?.dropped ?? 1;
    if (checked !== undefined) samples.push(this.#totals.keep(this.#fresh.keep(checked.sample)));
  }

  #finished(end: Extract<Answer, { answer: "done" }>, lost: ReadonlyMap<string, Failure>): void {
    this.#status = end.status ?? this.#status;
    this.#restart.forgetFailures();
    const now = this.#context.clock.now();
    for (const [uuid, failure] of lost) this.#known.markUnread(uuid, "lost", failure.message, now);
    if (end.inventory !== undefined) this.#take(end.inventory);
  }

  #take(inventory: Inventory): void {
    this.#facts = inventory.facts;
    this.#unreadable = inventory.unreadable;
    if (this.#known.take(inventory, this.#context.clock.now())) this.generation++;
  }

  #libraryFailed(failure: Failure): SourceError {
    const now = this.#context.clock.now();
    this.#failure = failure;
    this.#failingSince ??= now;
    const patienceMs = restartAfterMs(this.#config);
    const stuck = patienceMs > 0 && now - this.#failingSince > patienceMs * NANOS_PER_MS;
    const curable = this.#worked && RESTART_CODES.has(failure.code ?? -1);
    return this.#error(failure.message, stuck && curable ? "restart" : "transient");
  }

  #asSourceError(error: unknown): SourceError {
    return error instanceof SourceError ? error : this.#error((error as Error).message);
  }

  #error(reason: string, kind: "transient" | "restart" = "transient"): SourceError {
    const failure = this.#failure;
    const known = failure === undefined || failure.message === reason ? "" : ` (${failure.message})`;
    const options = failure?.hint === undefined ? {} : { hint: failure.hint };
    return new SourceError(kind, `Cannot read GPUs: ${reason}${known}`, options);
  }
}
