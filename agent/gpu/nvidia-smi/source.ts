// The nvidia-smi GpuSource: one resident `--query-gpu ... -lms` child whose lines become samples at the instant they
// arrive, and a compute-apps run every few seconds. The tool has no energy counter: the meter integrates its power.
// A tool stuck in the kernel cannot be killed: then no further one is started and the GPUs are gaps.
import type { Cancel } from "../../clock.ts";
import type { Gap, GpuInfo, GpuSample, Nanos } from "../../model.ts";
import type { Resident, Slot } from "../../process.ts";
import { startResident } from "../../process.ts";
import type { GpuPoll, GpuSource, SourceContext } from "../../source.ts";
import { SourceError } from "../../source.ts";
import { Backoff } from "../backoff.ts";
import { sane } from "../sane.ts";
import type { ProcessLists } from "./apps.ts";
import { readApps } from "./apps.ts";
import type { NvidiaSmiConfig } from "./config.ts";
import { failureOf, isFailure, unknownField } from "./failures.ts";
import type { Query } from "./fields.ts";
import { chooseQuery, listedFields, parseLine, withoutField } from "./fields.ts";
import { readInventory, tool } from "./inventory.ts";

const NANOS_PER_MS = 1e6;
const RESTART_FIRST_MS = 1000;
const RESTART_MOST_MS = 60_000;
/** Lines kept between two polls. */
const QUEUE_MAX = 1024;
/** A GPU without a line for this many intervals is a gap. */
const SILENT_INTERVALS = 3;

export class NvidiaSmiSource implements GpuSource {
  readonly backend = "nvidia-smi";
  generation = 0;
  readonly #config: NvidiaSmiConfig;
  readonly #context: SourceContext;
  readonly #program: string;
  readonly #slot: Slot = { busy: false };
  readonly #appsSlot: Slot = { busy: false };
  readonly #strangers = new Set<string>();
  readonly #restart = new Backoff(RESTART_FIRST_MS, RESTART_MOST_MS);
  readonly #known = new Map<string, GpuInfo>();
  readonly #lastLine = new Map<string, Nanos>();
  readonly #absent = new Map<string, Readonly<Record<string, string>>>();
  readonly #counts = { starts: 0, lines: 0, unreadableLines: 0, absurd: 0, droppedLines: 0 };
  #query: Query = { fields: [], numbers: [], missing: [] };
  #resident: Resident | undefined;
  #queue: GpuSample[] = [];
  #failure: SourceError | undefined;
  #inventoryFrom = "";
  #processes: { readonly at: Nanos; readonly lists: ProcessLists } | undefined;
  #processesDue: Nanos = 0;
  #first: (() => void) | undefined;
  #released = false;
  #closed = false;

  constructor(config: NvidiaSmiConfig, context: SourceContext, program: string) {
    this.#config = config;
    this.#context = context;
    this.#program = program;
  }

  /** Chooses the fields this driver knows, takes the inventory and starts the resident query. Throws SourceError. */
  async open(): Promise<void> {
    const help = await tool(this.#context.clock, this.#program, ["--help-query-gpu"], this.#slot);
    this.#query = chooseQuery(listedFields(help.stdout));
    if (this.#query.numbers.length === 0) {
      throw failureOf(
        this.#program,
        `${help.stdout}\n${help.stderr}\n${help.problem ?? ""}`.trim(),
        help.cause,
      );
    }
    await this.inventory();
    await this.#firstLine();
  }

  async inventory(): Promise<readonly GpuInfo[]> {
    try {
      const { gpus, from } = await readInventory(this.#context.clock, this.#program, this.#slot);
      this.#inventoryFrom = from;
      this.#take(gpus);
    } catch (error) {
      if (this.#known.size === 0) throw error;
    }
    return [...this.#known.values()];
  }

  async poll(): Promise<GpuPoll> {
    const { clock } = this.#context;
    const sent = clock.now();
    if (this.#closed) throw new SourceError("ended", "the nvidia-smi source is closed");
    if (this.#released) throw new SourceError("transient", "Cannot read GPUs: their devices are released");
    if (this.#resident === undefined && sent >= this.#restart.due) this.#start();
    this.#refreshProcesses(sent);
    const samples = this.#queue.map((sample) => this.#withProcesses(sample, sent));
    this.#queue = [];
    const gaps = this.#gaps(sent);
    if (samples.length === 0 && this.#failure !== undefined) throw this.#failure;
    return { sent, received: clock.now(), samples, gaps };
  }

  async release(): Promise<void> {
    this.#released = true;
    this.#resident?.stop();
    this.#resident = undefined;
  }

  async resume(): Promise<void> {
    this.#released = false;
    this.#restart.succeeded();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#resident?.stop();
    this.#resident = undefined;
  }

  status(): Readonly<Record<string, unknown>> {
    return {
      program: this.#program,
      pid: this.#resident?.pid,
      fields: this.#query.fields,
      missingFields: this.#query.missing,
      inventoryFrom: this.#inventoryFrom,
      failure: this.#failure?.message,
      hint: this.#failure?.hint,
      ...this.#counts,
      unsupported: Object.fromEntries(this.#absent),
    };
  }

  /** Starts the resident query and waits for its first line, its end, or three intervals. */
  async #firstLine(): Promise<void> {
    const { clock } = this.#context;
    let cancel: Cancel = () => {};
    await new Promise<void>((resolve) => {
      this.#first = resolve;
      cancel = clock.at(clock.now() + SILENT_INTERVALS * this.#config.intervalMs * NANOS_PER_MS, resolve);
      this.#start();
      this.#refreshProcesses(clock.now());
    });
    cancel();
    this.#first = undefined;
  }

  #start(): void {
    const stuck = this.#resident !== undefined && !this.#resident.gone;
    if (stuck || this.#closed) return;
    this.#counts.starts++;
    const interval = String(this.#config.intervalMs);
    this.#resident = startResident(
      {
        program: this.#program,
        arguments: [
          `--query-gpu=${this.#query.fields.join(",")}`,
          "--format=csv,noheader,nounits",
          "-lms",
          interval,
        ],
      },
      { onLine: (line) => this.#line(line), onEnd: (why) => this.#ended(why) },
    );
  }

  #line(line: string): void {
    const at = this.#context.clock.now();
    const parsed = parseLine(this.#query, line, at);
    if (parsed === undefined) {
      if (line.trim() !== "") this.#counts.unreadableLines++;
      if (isFailure(line)) this.#failure = failureOf(this.#program, line);
      return;
    }
    this.#counts.lines++;
    const checked = sane(parsed.sample, at);
    this.#counts.absurd += checked?.dropped ?? 1;
    if (checked === undefined) return;
    const { gpu } = checked.sample;
    this.#absent.set(gpu, parsed.absent);
    this.#lastLine.set(gpu, at);
    this.#failure = undefined;
    this.#restart.succeeded();
    if (this.#queue.length >= QUEUE_MAX) {
      this.#queue.shift();
      this.#counts.droppedLines++;
    }
    this.#queue.push(checked.sample);
    this.#first?.();
    // A GPU the inventory does not have: asked for once.
    if (!this.#known.has(gpu) && !this.#strangers.has(gpu)) {
      this.#strangers.add(gpu);
      this.generation++;
    }
  }

  #ended(why: { readonly output: string; readonly cause?: string }): void {
    this.#resident = undefined;
    const refused = unknownField(why.output);
    if (refused !== undefined && this.#query.fields.indexOf(refused) > 0) {
      this.#query = withoutField(this.#query, refused);
      this.#start();
      return;
    }
    this.#failure = failureOf(this.#program, why.output, why.cause);
    this.#first?.();
    this.#restart.failed(this.#context.clock.now());
    this.#context.log.warn("nvidia-smi ended", { source: "gpu", cause: this.#failure.message });
  }

  #refreshProcesses(now: Nanos): void {
    if (now < this.#processesDue || this.#appsSlot.busy) return;
    this.#processesDue = now + this.#config.processesMs * NANOS_PER_MS;
    void readApps(this.#context.clock, this.#program, this.#appsSlot).then((lists) => {
      if (lists !== undefined) this.#processes = { at: this.#context.clock.now(), lists };
    });
  }

  #withProcesses(sample: GpuSample, now: Nanos): GpuSample {
    const known = this.#processes;
    const oldest = now - SILENT_INTERVALS * this.#config.processesMs * NANOS_PER_MS;
    if (known === undefined || known.at < oldest) return sample;
    return { ...sample, processes: known.lists.get(sample.gpu) ?? [] };
  }

  #gaps(now: Nanos): readonly Gap[] {
    const oldest = now - SILENT_INTERVALS * this.#config.intervalMs * NANOS_PER_MS;
    return [...this.#known.values()].flatMap((info) => {
      if ((this.#lastLine.get(info.uuid) ?? -Infinity) >= oldest) return [];
      const reason =
        info.parent === undefined
          ? (this.#failure?.message ?? "nvidia-smi printed no line for this GPU")
          : "nvidia-smi reads no MIG instance; use nvml or DCGM";
      return [{ source: `gpu:${info.uuid}`, at: now, reason }];
    });
  }

  #take(gpus: readonly GpuInfo[]): void {
    const before = [...this.#known.keys()].join();
    const known = new Set(gpus.map(({ uuid }) => uuid));
    for (const uuid of this.#known.keys()) if (!known.has(uuid)) this.#known.delete(uuid);
    for (const info of gpus) this.#known.set(info.uuid, info);
    if ([...this.#known.keys()].join() !== before) this.generation++;
  }
}
