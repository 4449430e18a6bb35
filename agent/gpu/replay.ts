// GPU readings from a recording, the way a driver's are read (formats 1 and 2, METERING.md 10).
// A poll takes the newest line at or before it; a line seen before is not published again. In format 1 the first line of
// gpu.jsonl is the device; `power_mw` is the 1 s average on the recorded H100, `gpu_util_pct` the driver's last window.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import type { Gap, GpuInfo, GpuProcess, GpuSample, Nanos, ProcessShare, Ring } from "../model.ts";
import type { JsonLine } from "../recording/files.ts";
import { finite, listRecording, readJsonLines, traceMicros } from "../recording/files.ts";
import type { TraceTime } from "../recording/position.ts";
import { recordedTime, runningTime } from "../recording/position.ts";
import type { Detection, GpuBackend, GpuPoll, GpuSource, SourceContext } from "../source.ts";
import { SourceError } from "../source.ts";

const config = z.strictObject({
  /** Folder of the recording; empty = this backend is not used. */
  path: z.string().default(""),
  /** `recorded`: agent time is recorded time. `now`: the recording starts when the source opens. */
  time: z.enum(["recorded", "now"]).default("recorded"),
  fromSeconds: z.number().min(0).default(0),
  loop: z.boolean().default(false),
});

/** Replays recorded GPU readings: demo, tests and bug reports run the real path. */
export const replayBackend: GpuBackend<typeof config> = {
  name: "replay",
  config,
  detect: async (options): Promise<Detection> =>
    options.path === ""
      ? { usable: false, reason: "no recording is configured (gpu.replay.path)" }
      : { usable: true, reason: `recording ${options.path}` },
  check: ({ path }) => {
    if (path !== "") readGpus(path);
  },
  open: async (options, context) => openReplay(options, context),
};

/** A reading of a recording and its time, microseconds since 1970. */
export interface RecordedLine {
  readonly micros: number;
  readonly line: JsonLine;
}

/** One GPU of a recording. */
export interface RecordedGpu {
  readonly info: GpuInfo;
  readonly lines: readonly RecordedLine[];
}

/** The GPUs of a recording and the texts of what was left out of it. */
export interface GpuRecording {
  readonly format: 1 | 2;
  /** How often the recorded GPUs were polled, where the recording says it. */
  readonly pollMs?: number;
  readonly gpus: readonly RecordedGpu[];
  readonly problems: readonly string[];
}

/** The GPUs of a recording folder and what was wrong with its lines. Throws SourceError when there are none. */
export function readGpus(folder: string): GpuRecording {
  const files = listRecording(folder);
  const problems: string[] = [];
  const gpus = files.gpus.map((path, index) => {
    const read = readJsonLines(path);
    problems.push(...read.problems);
    const device = read.lines.find((line) => line["kind"] === "device");
    if (device === undefined || typeof device["uuid"] !== "string") {
      throw new SourceError(
        "misconfigured",
        `Cannot replay ${path}: wanted a device line with a uuid first`,
        {
          hint: "the first line of a recording's gpu.jsonl describes the GPU: kind, uuid, name, power_limit_mw, driver",
        },
      );
    }
    const lines = read.lines
      .map((line) => ({ micros: traceMicros(line["t"]), line }))
      .filter((entry): entry is RecordedLine => entry.micros !== undefined)
      .sort((a, b) => a.micros - b.micros);
    return { info: gpuInfo(device, index), lines };
  });
  if (gpus.every((gpu) => gpu.lines.length === 0)) {
    throw new SourceError("misconfigured", `Cannot replay ${folder}: its gpu files hold no reading`);
  }
  const pollMs = files.format === 2 ? recordedPollMs(folder) : undefined;
  return { format: files.format, gpus, problems, ...(pollMs === undefined ? {} : { pollMs }) };
}

function recordedPollMs(folder: string): number | undefined {
  try {
    return finite(
      (JSON.parse(readFileSync(join(folder, "recording.json"), "utf8")) as JsonLine)["gpu_poll_ms"],
    );
  } catch {
    return undefined;
  }
}

/** First and last reading of a recording's GPUs, microseconds since 1970. */
export function recordedSpan(gpus: readonly RecordedGpu[]): {
  readonly first: number;
  readonly last: number;
} {
  const times = gpus.flatMap((gpu) => [
    gpu.lines[0]?.micros ?? Infinity,
    gpu.lines.at(-1)?.micros ?? -Infinity,
  ]);
  return { first: Math.min(...times), last: Math.max(...times.filter((time) => time !== Infinity)) };
}

function openReplay(options: z.output<typeof config>, context: SourceContext): GpuSource {
  if (options.path === "") {
    throw new SourceError("absent", "Cannot replay GPUs: no recording is configured (gpu.replay.path)");
  }
  const recording = readGpus(options.path);
  const { first, last } = recordedSpan(recording.gpus);
  const time =
    options.time === "recorded"
      ? recordedTime(context.clock)
      : runningTime({
          origin: context.clock.now(),
          first,
          from: first + options.fromSeconds * 1e6,
          last,
          loop: options.loop,
        });
  return openRecordedGpus(recording, time, context);
}

/**
 * A GPU source that reads `recording` where `time` says the agent's clock stands in it. With `rings` a reading carries
 * every line since the one before, as a driver's own history would.
 */
export function openRecordedGpus(
  recording: GpuRecording,
  time: TraceTime,
  context: SourceContext,
  { rings = false }: { readonly rings?: boolean } = {},
): GpuSource {
  const { gpus, problems, format } = recording;
  for (const problem of problems) context.log.warn("recording line left out", { cause: problem });
  const cursors = gpus.map((gpu) => ({ gpu, index: -1, pass: 0 }));
  return {
    backend: "replay",
    generation: 0,
    inventory: async () => gpus.map((gpu) => gpu.info),
    poll: async (): Promise<GpuPoll> => {
      const now = context.clock.now();
      const { micros, pass } = time.position(now);
      const samples: GpuSample[] = [];
      const gaps: Gap[] = [];
      for (const cursor of cursors) {
        const before = cursor.pass === pass ? cursor.index : -1;
        if (cursor.pass !== pass) Object.assign(cursor, { pass, index: -1 });
        const lines = cursor.gpu.lines;
        while ((lines[cursor.index + 1]?.micros ?? Number.POSITIVE_INFINITY) <= micros) cursor.index++;
        const entry = lines[cursor.index];
        if (entry === undefined || cursor.index === before) continue;
        const { uuid } = cursor.gpu.info;
        if (format === 2) {
          // Its lines carry the driver's history and gaps: none may be passed over.
          for (const { micros: then, line } of lines.slice(before + 1, cursor.index + 1)) {
            const at = time.instant(then, pass);
            if (typeof line["error"] === "string")
              gaps.push({ source: `gpu:${uuid}`, at, reason: line["error"] });
            else samples.push(readingOf(uuid, line, at, pass));
          }
          continue;
        }
        const at = time.instant(entry.micros, pass);
        const since = rings ? lines.slice(before + 1, cursor.index + 1) : [];
        const history = rings ? historyOf(since, ({ micros }) => time.instant(micros, pass)) : {};
        samples.push({ ...readingOf(uuid, entry.line, at, pass), ...history });
      }
      return { sent: now, received: now, samples, gaps };
    },
    close: async () => {},
    status: () => ({ problems: problems.length }),
  };
}

/** Lines as the history a driver keeps: busy share and power, oldest first. */
export function historyOf(
  lines: readonly RecordedLine[],
  instant: (line: RecordedLine) => Nanos,
): Pick<GpuSample, "utilizationRing" | "powerRing"> {
  const points = (key: string, scale: number): Ring =>
    ringOf(
      lines.flatMap((entry) => {
        const value = finite(entry.line[key]);
        return value === undefined ? [] : [[instant(entry), value * scale] as const];
      }),
    );
  return { utilizationRing: points("gpu_util_pct", 0.01), powerRing: points("power_instant_mw", 0.001) };
}

function gpuInfo(device: JsonLine, index: number): GpuInfo {
  const text = (key: string): string | undefined =>
    typeof device[key] === "string" ? (device[key] as string) : undefined;
  const limit = finite(device["power_limit_mw"]);
  const memory = finite(device["memory_total_bytes"]);
  const parent = text("parent");
  const driver = text("driver");
  return {
    uuid: text("uuid") ?? `GPU-recorded-${index}`,
    index,
    name: text("name") ?? "unknown",
    weight: finite(device["weight"]) ?? 1,
    ...(parent === undefined ? {} : { parent }),
    ...(memory === undefined ? {} : { memoryTotalBytes: memory }),
    ...(limit === undefined ? {} : { powerLimitWatts: limit / 1000 }),
    ...(driver === undefined ? {} : { driverVersion: driver }),
  };
}

/** A recorded line as a reading at `at`; its energy counter begins anew with each pass. */
export function readingOf(gpu: string, line: JsonLine, at: Nanos, pass: number): GpuSample {
  const gpm = (typeof line["gpm"] === "object" && line["gpm"] !== null ? line["gpm"] : {}) as JsonLine;
  const scaled = (value: unknown, by: number): number | undefined => {
    const number = finite(value);
    return number === undefined ? undefined : number * by;
  };
  const fields = {
    energyMillijoules: finite(line["energy_mj"]),
    powerWatts: scaled(line["power_average_mw"] ?? line["power_mw"], 0.001),
    powerInstantWatts: scaled(line["power_instant_mw"], 0.001),
    utilizationRatio: scaled(line["gpu_util_pct"], 0.01),
    memoryBusyRatio: scaled(line["mem_util_pct"], 0.01),
    memoryUsedBytes: finite(line["mem_used_bytes"]),
    temperatureCelsius: finite(line["temp_c"]),
    memoryTemperatureCelsius: finite(line["memory_temp_c"]),
    memoryClockHertz: scaled(line["memory_clock_mhz"], 1e6),
    modulePowerWatts: scaled(line["module_power_mw"], 0.001),
    encoderRatio: scaled(line["encoder_util_pct"], 0.01),
    decoderRatio: scaled(line["decoder_util_pct"], 0.01),
    powerLimitWatts: scaled(line["power_limit_mw"], 0.001),
    throttleSeconds: counters(line["throttle_s"]),
    eccErrors: counters(line["ecc_errors"]),
    xidEvents: counters(line["xid_events"]),
    trafficBytes: counters(line["traffic_bytes"]),
    smClockHertz: scaled(line["sm_clock_mhz"], 1e6),
    graphicsActiveRatio: scaled(gpm["graphics_util_pct"], 0.01),
    smActiveRatio: scaled(gpm["sm_util_pct"], 0.01),
    tensorActiveRatio: scaled(gpm["any_tensor_util_pct"], 0.01),
    dramActiveRatio: scaled(gpm["dram_bw_util_pct"], 0.01),
    processes: processes(line["processes"]),
    processShares: processShares(line["process_utilization"], at, finite(line["t"]) ?? 0),
    utilizationRing: ring(line["util_ring"], 0.01, at, finite(line["t"]) ?? 0),
    powerRing: ring(line["power_ring"], 0.001, at, finite(line["t"]) ?? 0),
  };
  const known = Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
  return { gpu, at, energyEpoch: `pass-${pass}${epochOf(line)}`, ...known };
}

/** The driver's own epoch where the recording has it. */
function epochOf(line: JsonLine): string {
  return typeof line["energy_epoch"] === "string" ? `/${line["energy_epoch"]}` : "";
}

function counters(value: unknown): Readonly<Record<string, number>> | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  return Object.fromEntries(Object.entries(value).filter((entry) => finite(entry[1]) !== undefined));
}

function processes(value: unknown): readonly GpuProcess[] | undefined {
  if (!Array.isArray(value)) return undefined;
  return value.flatMap((entry: JsonLine) => {
    const pid = finite(entry["pid"]);
    const memory = finite(entry["used_memory_bytes"]);
    if (pid === undefined) return [];
    const name = typeof entry["name"] === "string" ? { name: entry["name"] } : {};
    const type = entry["type"] === "mps" ? ("mps" as const) : ("compute" as const);
    return [{ pid, type, ...(memory === undefined ? {} : { memoryBytes: memory }), ...name }];
  });
}

/** Drivers round and smear shares over their windows; beyond this they are no shares. */
const percentMax = 200;

/** Driver samples carry the driver's own time; their distance to the line's time is what counts. */
function processShares(value: unknown, at: Nanos, lineSeconds: number): readonly ProcessShare[] | undefined {
  if (!Array.isArray(value)) return undefined;
  return value.flatMap((entry: JsonLine) => {
    const pid = finite(entry["pid"]);
    const stamp = finite(entry["timestamp_us"]);
    const percent = finite(entry["sm_util_pct"]);
    if (
      pid === undefined ||
      stamp === undefined ||
      percent === undefined ||
      percent > percentMax ||
      stamp <= 0
    )
      return [];
    return [
      { pid, at: at + Math.round((stamp - lineSeconds * 1e6) * 1000), smRatio: Math.min(1, percent / 100) },
    ];
  });
}

function ring(value: unknown, scale: number, at: Nanos, lineSeconds: number): Ring | undefined {
  if (!Array.isArray(value)) return undefined;
  return ringOf(
    value.flatMap((pair: unknown) => {
      const [seconds, reading] = Array.isArray(pair) ? [finite(pair[0]), finite(pair[1])] : [];
      if (seconds === undefined || reading === undefined) return [];
      return [[at + Math.round((seconds - lineSeconds) * 1e6) * 1000, reading * scale] as const];
    }),
  );
}

function ringOf(points: readonly (readonly [at: Nanos, value: number])[]): Ring {
  return { instants: points.map(([at]) => at), values: points.map(([, value]) => value) };
}
