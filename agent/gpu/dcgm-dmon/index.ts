// GPU readings from a resident `dcgmi dmon`: where a DCGM host engine runs, and on A100 MIG hosts the only activity.
// Whole GPUs only: rows of MIG instances carry DCGM's own entity numbers, which say neither UUID nor profile.
// Processes are not in it. If the host engine refuses profiling fields (no rights, Volta and older) they are left out.

import { z } from "zod";
import type { Gap, GpuInfo, GpuSample, Nanos } from "../../model.ts";
import { addressText, parseHostPort, parseUnixSocket } from "../../platform/address.ts";
import { NANOS_PER_MS } from "../../platform/clock.ts";
import { run } from "../../platform/process.ts";
import type { Detection, GpuBackend, GpuPoll, GpuSource, SourceContext } from "../../source.ts";
import { SourceError } from "../../source.ts";
import { DCGM_FIELDS, dcgmSample } from "../dcgm-readings.ts";
import { isUnread, KnownBoards } from "../known-boards.ts";
import { ResidentTool } from "../resident-tool.ts";
import { isSilent, sane } from "../sane.ts";
import { DmonTable, parseDiscovery } from "./table.ts";

const TIMEOUT_MS = 5000;
const QUEUE_MAX = 1024;
const SILENT_INTERVALS = 3;
const PROFILING_FROM = 1000;
/** Limits and totals do not change from second to second. */
const FIXED: ReadonlySet<string> = new Set(["memoryTotalBytes", "memoryFreeBytes", "powerLimitWatts"]);

const config = z.strictObject({
  /** The tool; absent = `dcgmi` from PATH. */
  path: z.string().min(1).default("dcgmi"),
  /** Host engine, `host`, `host:port` or `unix:///path`; absent = the local one. */
  host: addressText((text) => parseUnixSocket(text) ?? parseHostPort(text, { defaultPort: 5555 })).optional(),
  intervalMs: z.int().min(100).max(60_000).default(1000),
});

type DcgmDmonConfig = z.output<typeof config>;

/** Reads NVIDIA GPUs through DCGM's command line tool. */
export const dcgmDmonBackend: GpuBackend<typeof config> = {
  name: "dcgm-dmon",
  config,
  detect: async (options, context): Promise<Detection> => {
    try {
      const gpus = await discover(options, context);
      return { usable: true, reason: `${gpus.length} GPUs through ${options.path}` };
    } catch (error) {
      const { hint, message } = error as SourceError;
      return { usable: false, reason: message, ...(hint === undefined ? {} : { hint }) };
    }
  },
  open: async (options, context) => {
    const source = new DcgmDmonSource(options, context, await discover(options, context));
    await source.begin();
    return source;
  },
};

function hostOption({ host }: DcgmDmonConfig): readonly string[] {
  return host === undefined ? [] : ["--host", host];
}

async function discover(options: DcgmDmonConfig, { clock }: SourceContext): Promise<readonly GpuInfo[]> {
  const command = { program: options.path, arguments: ["discovery", "-l", ...hostOption(options)] };
  const ended = await run(clock, command, { timeoutMs: TIMEOUT_MS, bytesMax: 2 ** 20 });
  const gpus = parseDiscovery(ended.stdout);
  if (gpus.some((gpu) => !isUnread(gpu))) return gpus;
  throw failureOf(
    options.path,
    `${ended.stdout}\n${ended.stderr}\n${ended.problem ?? ""}`.trim(),
    ended.cause,
  );
}

function failureOf(program: string, output: string, cause: string | undefined): SourceError {
  if (cause === "ENOENT" || cause === "EACCES") {
    return new SourceError(
      "absent",
      `Cannot run ${program}: ${cause === "ENOENT" ? "not found" : "not allowed (EACCES)"}`,
      {
        hint: "install DCGM or set gpu.dcgm-dmon.path",
      },
    );
  }
  const said =
    output.split("\n").find((line) => /error|unable|no data/i.test(line)) ?? output.split("\n").at(-1);
  return new SourceError(
    "transient",
    `Cannot read GPUs with ${program}: ${said?.trim().slice(0, 200) || "no output"}`,
    {
      hint: "check that nv-hostengine runs: systemctl status nvidia-dcgm",
    },
  );
}

class DcgmDmonSource implements GpuSource {
  readonly backend = "dcgm-dmon";
  generation = 1;
  readonly #options: DcgmDmonConfig;
  readonly #context: SourceContext;
  readonly #tool: ResidentTool;
  readonly #lastRow = new Map<string, Nanos>();
  readonly #counts = { rows: 0, absurd: 0, droppedRows: 0 };
  #table = new DmonTable();
  #profiling = true;
  readonly #known = new KnownBoards();
  /** GPUs whose last row held no reading. */
  readonly #silent = new Set<string>();
  #since: Nanos = 0;
  #queue: GpuSample[] = [];

  constructor(options: DcgmDmonConfig, context: SourceContext, infos: readonly GpuInfo[]) {
    this.#options = options;
    this.#context = context;
    this.#known.take(infos);
    this.#tool = new ResidentTool(context, {
      command: () => {
        this.#table = new DmonTable();
        return { program: options.path, arguments: this.#arguments() };
      },
      onLine: (line, at) => this.#line(line, at),
      explain: (output, cause) => this.#explain(output, cause),
    });
  }

  async begin(): Promise<void> {
    this.#since = this.#context.clock.now();
    // Rows come one by one: the first poll has all of them.
    await this.#tool.begin(SILENT_INTERVALS * this.#options.intervalMs, () =>
      this.#known.infos.every((info) => this.#lastRow.has(info.uuid) || isUnread(info)),
    );
  }

  async inventory(): Promise<readonly GpuInfo[]> {
    const listed = await discover(this.#options, this.#context).catch(() => undefined);
    if (listed !== undefined && this.#known.take(listed)) this.generation++;
    return this.#known.infos;
  }

  async poll(): Promise<GpuPoll> {
    const sent = this.#context.clock.now();
    this.#tool.ensure(sent);
    const samples = this.#queue;
    this.#queue = [];
    if (samples.length === 0 && this.#tool.failure !== undefined) throw this.#tool.failure;
    return { sent, received: this.#context.clock.now(), samples, gaps: this.#gaps(sent) };
  }

  async close(): Promise<void> {
    this.#tool.stop();
  }

  status(): Readonly<Record<string, unknown>> {
    return {
      program: this.#options.path,
      pid: this.#tool.pid,
      restarts: Math.max(0, this.#tool.starts - 1),
      profiling: this.#profiling,
      failure: this.#tool.failure?.message,
      ...this.#counts,
    };
  }

  #arguments(): readonly string[] {
    const ids = DCGM_FIELDS.filter(
      ({ id, reading }) => !FIXED.has(reading) && (this.#profiling || id < PROFILING_FROM),
    ).map(({ id }) => id);
    return [
      "dmon",
      "-e",
      ids.join(","),
      "-d",
      String(this.#options.intervalMs),
      ...hostOption(this.#options),
    ];
  }

  #line(line: string, at: Nanos): boolean {
    const row = this.#table.readLine(line);
    const info = this.#known.infos.find(({ index }) => index === row?.index);
    if (row === undefined || info === undefined) return false;
    this.#counts.rows++;
    this.#lastRow.set(info.uuid, at);
    const checked = sane(dcgmSample(info.uuid, at, row.readings), at);
    this.#counts.absurd += checked?.dropped ?? 1;
    if (checked === undefined) return false;
    if (isSilent(checked.sample)) {
      this.#silent.add(info.uuid);
      return true;
    }
    this.#silent.delete(info.uuid);
    this.#known.markRead(info.uuid);
    if (this.#queue.length >= QUEUE_MAX) {
      this.#queue.shift();
      this.#counts.droppedRows++;
    }
    this.#queue.push(checked.sample);
    return true;
  }

  /** Profiling fields that cannot be watched fail the whole command: then they are left out. */
  #explain(output: string, cause: string | undefined): SourceError | undefined {
    if (
      this.#profiling &&
      this.#counts.rows === 0 &&
      /setting watches|profiling|not supported/i.test(output)
    ) {
      this.#profiling = false;
      return undefined;
    }
    return failureOf(this.#options.path, output, cause);
  }

  #gaps(now: Nanos): readonly Gap[] {
    const oldest = now - SILENT_INTERVALS * this.#options.intervalMs * NANOS_PER_MS;
    return this.#known.gaps(now, ({ index, uuid }) => {
      if (this.#silent.has(uuid))
        return `GPU ${index}: dcgmi prints N/A in place of its readings: it is lost or needs a reset`;
      if ((this.#lastRow.get(uuid) ?? this.#since) >= oldest) return undefined;
      return this.#tool.failure?.message ?? `GPU ${index}: dcgmi printed no row for it`;
    });
  }
}
