// Where the nvidia-smi backend gets its processes from: `pmon`, which also knows SM shares, as long as it prints rows;
// else `--query-compute-apps`, a run of its own every few seconds.

import type { GpuInfo, GpuSample, Nanos } from "../../model.ts";
import { NANOS_PER_MS } from "../../platform/clock.ts";
import type { Slot } from "../../platform/process.ts";
import type { SourceContext } from "../../source.ts";
import { ResidentTool } from "../resident-tool.ts";
import type { ProcessLists } from "./apps.ts";
import { processesOf, readApps } from "./apps.ts";
import type { NvidiaSmiConfig } from "./config.ts";
import { failureOf } from "./failures.ts";
import { PmonReader } from "./pmon.ts";

/** A compute-apps run costs 20 ms of CPU. */
const APPS_MS = 5000;
/** A list older than this many of its periods is not used any more. */
const STALE_PERIODS = 3;

/** Keeps the newest list of processes. */
export class ProcessWatch {
  readonly #config: NvidiaSmiConfig;
  readonly #context: SourceContext;
  readonly #program: string;
  readonly #slot: Slot = { busy: false };
  readonly #pmon: ResidentTool;
  readonly #taken = new Map<string, Nanos>();
  #reader = new PmonReader();
  #apps: { readonly at: Nanos; readonly lists: ProcessLists } | undefined;
  #appsDue: Nanos = 0;

  constructor(config: NvidiaSmiConfig, context: SourceContext, program: string) {
    this.#config = config;
    this.#context = context;
    this.#program = program;
    const seconds = String(Math.max(1, Math.round(config.processesMs / 1000)));
    this.#pmon = new ResidentTool(context, {
      command: () => {
        this.#reader = new PmonReader();
        return { program, arguments: ["pmon", "-s", "um", "-d", seconds] };
      },
      onLine: (line, at) => this.#reader.readLine(line, at),
      explain: (output, cause) => failureOf(`${program} pmon`, output, cause),
    });
  }

  /** Which of the two answers. */
  get from(): string {
    return this.#reader.rounds.size > 0 ? "pmon" : "compute-apps";
  }

  /** Keeps pmon running and asks compute-apps while it has nothing. */
  ensure(now: Nanos): void {
    this.#pmon.ensure(now);
    if (this.from === "pmon" || now < this.#appsDue || this.#slot.busy) return;
    this.#appsDue = now + Math.max(APPS_MS, this.#config.processesMs) * NANOS_PER_MS;
    void readApps(this.#context.clock, this.#program, this.#slot).then((lists) => {
      if (lists !== undefined) this.#apps = { at: this.#context.clock.now(), lists };
    });
  }

  /** The sample with its GPU's processes, and with SM shares the first time a round of pmon is seen. */
  join(sample: GpuSample, info: GpuInfo | undefined, now: Nanos): GpuSample {
    const oldest = now - STALE_PERIODS * Math.max(APPS_MS, this.#config.processesMs) * NANOS_PER_MS;
    const round = info === undefined ? undefined : this.#reader.rounds.get(info.index);
    if (round !== undefined && round.at >= oldest) {
      const isNew = this.#taken.get(sample.gpu) !== round.at;
      this.#taken.set(sample.gpu, round.at);
      const shares = isNew && round.processes.length > 1 ? { processShares: round.shares } : {};
      return { ...sample, processes: round.processes, ...shares };
    }
    if (this.#apps === undefined || this.#apps.at < oldest) return sample;
    const processes = processesOf(this.#apps.lists, sample.gpu);
    return processes === undefined ? sample : { ...sample, processes };
  }

  stop(): void {
    this.#pmon.stop();
  }
}
