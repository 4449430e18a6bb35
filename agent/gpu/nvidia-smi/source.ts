// The nvidia-smi GpuSource: one resident `--query-gpu ... -lms` whose lines become samples at the instant they arrive, and
// a resident `pmon` for processes, or a compute-apps run every few seconds where pmon does not work.
// The tool has no energy counter: the meter integrates its power.

import type { Gap, GpuInfo, GpuSample, Nanos } from "../../model.ts";
import { NANOS_PER_MS } from "../../platform/clock.ts";
import type { Slot } from "../../platform/process.ts";
import type { GpuPoll, GpuSource, SourceContext } from "../../source.ts";
import { SourceError } from "../../source.ts";
import { isUnread, KnownBoards } from "../known-boards.ts";
import { ResidentTool } from "../resident-tool.ts";
import { isSilent, sane } from "../sane.ts";
import type { NvidiaSmiConfig } from "./config.ts";
import { failureOf, isFailure, unknownField } from "./failures.ts";
import type { Query } from "./fields.ts";
import { chooseQuery, listedFields, parseLine, withoutField } from "./fields.ts";
import { readInventory, tool } from "./inventory.ts";
import { ProcessWatch } from "./process-watch.ts";
import { silenceOf } from "./values.ts";

/** Lines kept between two polls. */
const QUEUE_MAX = 1024;
/** A GPU without a line for this many intervals is a gap. */
const SILENT_INTERVALS = 3;

/** Reads GPUs through nvidia-smi until closed. */
export class NvidiaSmiSource implements GpuSource {
  readonly backend = "nvidia-smi";
  generation = 0;
  readonly #config: NvidiaSmiConfig;
  readonly #context: SourceContext;
  readonly #program: string;
  readonly #slot: Slot = { busy: false };
  readonly #strangers = new Set<string>();
  readonly #known = new KnownBoards();
  /** GPUs whose last row was no reading, and why. */
  readonly #silent = new Map<string, string>();
  #since: Nanos = 0;
  readonly #lastLine = new Map<string, Nanos>();
  readonly #absent = new Map<string, Readonly<Record<string, string>>>();
  readonly #counts = { lines: 0, unreadableLines: 0, absurd: 0, droppedLines: 0 };
  readonly #tool: ResidentTool;
  readonly #processes: ProcessWatch;
  #query: Query = { fields: [], numbers: [], missing: [] };
  #queue: GpuSample[] = [];
  #inventoryFrom = "";
  #released = false;
  #closed = false;

  constructor(config: NvidiaSmiConfig, context: SourceContext, program: string) {
    this.#config = config;
    this.#context = context;
    this.#program = program;
    this.#processes = new ProcessWatch(config, context, program);
    this.#tool = new ResidentTool(context, {
      command: () => ({
        program,
        arguments: [
          `--query-gpu=${this.#query.fields.join(",")}`,
          "--format=csv,noheader,nounits",
          "-lms",
          String(config.intervalMs),
        ],
      }),
      onLine: (line, at) => this.#line(line, at),
      explain: (output, cause) => this.#explain(output, cause),
    });
  }

  /** Chooses the fields this driver knows, takes the inventory and starts the resident query. Throws SourceError. */
  async open(): Promise<void> {
    const help = await tool(this.#context.clock, this.#program, ["--help-query-gpu"], this.#slot);
    this.#query = chooseQuery(listedFields(help.stdout));
    if (this.#query.numbers.length === 0) {
      const output = `${help.stdout}\n${help.stderr}\n${help.problem ?? ""}`.trim();
      throw failureOf(this.#program, output, help.cause);
    }
    await this.inventory();
    this.#processes.ensure(this.#context.clock.now());
    this.#since = this.#context.clock.now();
    // Rows come one by one: the first poll has all of them.
    await this.#tool.begin(SILENT_INTERVALS * this.#config.intervalMs, () =>
      this.#known.infos.every((info) => this.#lastLine.has(info.uuid) || neverPrinted(info)),
    );
  }

  async inventory(): Promise<readonly GpuInfo[]> {
    try {
      const { gpus, from } = await readInventory(this.#context.clock, this.#program, this.#slot);
      this.#inventoryFrom = from;
      this.#take(gpus);
    } catch (error) {
      if (this.#known.infos.length === 0) throw error;
    }
    return this.#known.infos;
  }

  async poll(): Promise<GpuPoll> {
    const { clock } = this.#context;
    const sent = clock.now();
    if (this.#closed) throw new SourceError("ended", "the nvidia-smi source is closed");
    if (this.#released) throw new SourceError("transient", "Cannot read GPUs: their devices are released");
    this.#tool.ensure(sent);
    this.#processes.ensure(sent);
    const samples = this.#queue.map((sample) =>
      this.#processes.join(sample, this.#known.get(sample.gpu), sent),
    );
    this.#queue = [];
    const gaps = this.#gaps(sent);
    if (samples.length === 0 && this.#tool.failure !== undefined) throw this.#tool.failure;
    return { sent, received: clock.now(), samples, gaps };
  }

  async release(): Promise<void> {
    this.#released = true;
    this.#tool.stop();
    this.#processes.stop();
  }

  async resume(): Promise<void> {
    this.#released = false;
    this.#tool.forget();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#tool.stop();
    this.#processes.stop();
  }

  status(): Readonly<Record<string, unknown>> {
    return {
      program: this.#program,
      pid: this.#tool.pid,
      released: this.#released,
      restarts: Math.max(0, this.#tool.starts - 1),
      processesFrom: this.#processes.from,
      fields: this.#query.fields,
      missingFields: this.#query.missing,
      inventoryFrom: this.#inventoryFrom,
      failure: this.#tool.failure?.message,
      hint: this.#tool.failure?.hint,
      ...this.#counts,
      unsupported: Object.fromEntries(this.#absent),
    };
  }

  #line(line: string, at: Nanos): boolean {
    const parsed = parseLine(this.#query, line, at);
    if (parsed === undefined) {
      if (line.trim() !== "") this.#counts.unreadableLines++;
      if (isFailure(line)) this.#tool.failure = failureOf(this.#program, line);
      return false;
    }
    this.#counts.lines++;
    const { sample, absent } = parsed;
    this.#absent.set(sample.gpu, absent);
    this.#lastLine.set(sample.gpu, at);
    const utilizationOrPower =
      (sample.utilizationRatio ?? sample.powerWatts ?? sample.powerInstantWatts) !== undefined;
    const silence = silenceOf({ any: !isSilent(sample), utilizationOrPower }, absent);
    if (silence === undefined) this.#silent.delete(sample.gpu);
    else this.#silent.set(sample.gpu, silence);
    this.#askForStranger(sample.gpu);
    if (silence !== undefined) return true;
    const checked = sane(parsed.sample, at);
    this.#counts.absurd += checked?.dropped ?? 1;
    if (checked === undefined) return false;
    // What is left of absurd values may be nothing.
    if (isSilent(checked.sample)) this.#silent.set(sample.gpu, "values no GPU can have");
    if (isSilent(checked.sample)) return true;
    if (this.#queue.length >= QUEUE_MAX) {
      this.#queue.shift();
      this.#counts.droppedLines++;
    }
    this.#known.markRead(sample.gpu);
    this.#queue.push(checked.sample);
    return true;
  }

  /** A GPU the inventory does not have: asked for once. */
  #askForStranger(gpu: string): void {
    if (this.#known.get(gpu) !== undefined || this.#strangers.has(gpu)) return;
    this.#strangers.add(gpu);
    this.generation++;
  }

  #explain(output: string, cause: string | undefined): SourceError | undefined {
    const refused = unknownField(output);
    if (refused !== undefined && this.#query.fields.indexOf(refused) > 0) {
      this.#query = withoutField(this.#query, refused);
      return undefined;
    }
    return failureOf(this.#program, output, cause);
  }

  #gaps(now: Nanos): readonly Gap[] {
    const oldest = now - SILENT_INTERVALS * this.#config.intervalMs * NANOS_PER_MS;
    return this.#known.gaps(now, (info) => {
      const said = this.#silent.get(info.uuid);
      if (said !== undefined) return `GPU ${info.index}: nvidia-smi says "${said}" in place of its readings`;
      if ((this.#lastLine.get(info.uuid) ?? this.#since) >= oldest && !neverPrinted(info)) return undefined;
      if (info.parent !== undefined) return "nvidia-smi reads no MIG instance; use nvml or DCGM";
      return this.#tool.failure?.message ?? `GPU ${info.index}: nvidia-smi printed no line for it`;
    });
  }

  #take(gpus: readonly GpuInfo[]): void {
    if (this.#known.take(gpus)) this.generation++;
  }
}

/** Whether the resident query has no line for it: MIG instances, and GPUs that do not say who they are. */
function neverPrinted(info: GpuInfo): boolean {
  return info.parent !== undefined || isUnread(info);
}
