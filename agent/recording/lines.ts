// The lines of a format 2 recording (METERING.md 10): GPU readings as in format 1 plus the driver's rings, and server
// polls with their readings as `probe` prints them plus what only replaying needs (progress, latencies, epochs).
// Pure: an instant becomes trace seconds by the caller's function and back.
import type {
  GpuSample,
  Latencies,
  Nanos,
  PhaseTimes,
  RankReading,
  Ring,
  TokenKind,
  TokenReading,
  TokenSample,
} from "../model.ts";
import type { JsonLine } from "./files.ts";
import { finite } from "./files.ts";

/** Trace seconds of an instant. */
export type Seconds = (at: Nanos) => number;

const times = (value: number | undefined, factor: number): number | undefined =>
  // Six digits after the unit are beyond any driver's resolution and keep files small.
  value === undefined ? undefined : Number((value * factor).toPrecision(12));

/** A GPU reading as a line; absent values are left out. */
export function gpuLine(sample: GpuSample, seconds: Seconds): JsonLine {
  return {
    t: seconds(sample.at),
    energy_mj: sample.energyMillijoules,
    energy_epoch: sample.energyEpoch,
    power_average_mw: times(sample.powerWatts, 1000),
    power_instant_mw: times(sample.powerInstantWatts, 1000),
    gpu_util_pct: times(sample.utilizationRatio, 100),
    mem_util_pct: times(sample.memoryBusyRatio, 100),
    mem_used_bytes: sample.memoryUsedBytes,
    temp_c: sample.temperatureCelsius,
    memory_temp_c: sample.memoryTemperatureCelsius,
    module_power_mw: times(sample.modulePowerWatts, 1000),
    encoder_util_pct: times(sample.encoderRatio, 100),
    decoder_util_pct: times(sample.decoderRatio, 100),
    power_limit_mw: times(sample.powerLimitWatts, 1000),
    sm_clock_mhz: times(sample.smClockHertz, 1e-6),
    memory_clock_mhz: times(sample.memoryClockHertz, 1e-6),
    gpm: gpm(sample),
    processes: sample.processes?.map(({ pid, memoryBytes, type, name }) => ({
      pid,
      used_memory_bytes: memoryBytes,
      type,
      name,
    })),
    process_utilization: sample.processShares?.map(({ pid, at, smRatio }) => ({
      pid,
      timestamp_us: Math.round(seconds(at) * 1e6),
      sm_util_pct: times(smRatio, 100),
    })),
    util_ring: ringPairs(sample.utilizationRing, 100, seconds),
    power_ring: ringPairs(sample.powerRing, 1000, seconds),
    throttle_s: sample.throttleSeconds,
    ecc_errors: sample.eccErrors,
    xid_events: sample.xidEvents,
    traffic_bytes: sample.trafficBytes,
  };
}

function ringPairs(ring: Ring | undefined, scale: number, seconds: Seconds): unknown {
  return ring?.instants.map((at, place) => [seconds(at), times(ring.values[place], scale)]);
}

function gpm(sample: GpuSample): JsonLine | undefined {
  const metrics = {
    graphics_util_pct: times(sample.graphicsActiveRatio, 100),
    sm_util_pct: times(sample.smActiveRatio, 100),
    any_tensor_util_pct: times(sample.tensorActiveRatio, 100),
    dram_bw_util_pct: times(sample.dramActiveRatio, 100),
  };
  return Object.values(metrics).every((value) => value === undefined) ? undefined : metrics;
}

/** A server poll as a line. */
export function pollLine(sample: TokenSample, seconds: Seconds): JsonLine {
  return {
    t_sent: seconds(sample.sent),
    t: seconds(sample.received),
    t_at: seconds(sample.at),
    family: sample.family,
    active_nanos: sample.activeNanos,
    phase_times: sample.phaseTimes,
    complete_epoch: sample.completeEpoch,
    scale: sample.scale,
    restarts: sample.restarts === 0 ? undefined : sample.restarts,
    doubt: sample.doubt,
    is_older: sample.isOlder,
    gpus: sample.gpus,
    pids: sample.pids,
    version: sample.version,
    readings: sample.readings.map((reading) => readingLine(reading, seconds)),
    ignored_samples: sample.ignoredSamples,
    errors: sample.errors,
  };
}

const KINDS: readonly TokenKind[] = ["input_uncached", "input_cached", "input_unsplit", "output"];

function readingLine(reading: TokenReading, seconds: Seconds): JsonLine {
  return {
    model: reading.model,
    tenant: reading.tenant,
    endpoint: reading.endpoint,
    role: reading.role,
    ...Object.fromEntries(KINDS.map((kind) => [kind, reading.tokens[kind]])),
    by_outcome: reading.tokensByOutcome,
    reasoning: reading.reasoningTokens,
    progress: reading.progress,
    requests: reading.requests,
    running: reading.running,
    waiting: reading.waiting,
    kv_cache_utilization: reading.kvCacheUtilization,
    latencies: reading.latencies,
    ranks: reading.ranks?.map(rankLine),
    volume: reading.volume,
    progress_kind: reading.progressKind,
    epoch: reading.epoch,
    epoch_began: reading.epochBegan === undefined ? undefined : seconds(reading.epochBegan),
  };
}

function rankLine({ activeNanos, tokens, ...rank }: RankReading): JsonLine {
  return { ...rank, active_nanos: activeNanos, ...tokens };
}

function rankOf(line: JsonLine): RankReading {
  return defined<RankReading>({
    rank: text(line["rank"]) ?? "",
    tokens: tokensOf(line),
    progress: line["progress"] as RankReading["progress"],
    requests: finite(line["requests"]),
    running: finite(line["running"]),
    waiting: finite(line["waiting"]),
    latencies: line["latencies"] as Latencies | undefined,
    activeNanos: finite(line["active_nanos"]),
  });
}

function tokensOf(line: JsonLine): TokenReading["tokens"] {
  const tokens = KINDS.flatMap((kind) => {
    const count = finite(line[kind]);
    return count === undefined ? [] : [[kind, count] as const];
  });
  return Object.fromEntries(tokens);
}

/** A server poll out of its line; undefined when the line is no poll. `instant` is the inverse of the writer's seconds. */
export function pollOf(
  line: JsonLine,
  server: string,
  instant: (seconds: number) => Nanos,
): TokenSample | undefined {
  const received = finite(line["t"]);
  const readings = line["readings"];
  if (received === undefined || !Array.isArray(readings)) return undefined;
  const when = (key: string): Nanos => instant(finite(line[key]) ?? received);
  return defined<TokenSample>({
    server,
    family: line["family"] === "gateway" ? "gateway" : "engine",
    sent: when("t_sent"),
    received: when("t"),
    at: when("t_at"),
    activeNanos: finite(line["active_nanos"]),
    phaseTimes: line["phase_times"] as PhaseTimes | undefined,
    completeEpoch: text(line["complete_epoch"]),
    scale: text(line["scale"]),
    restarts: finite(line["restarts"]),
    doubt: oneOf(line["doubt"], ["partial_counters", "estimated_counters"] as const),
    isOlder: line["is_older"] === true ? true : undefined,
    gpus: list(line["gpus"], "string") as readonly string[] | undefined,
    pids: list(line["pids"], "number") as readonly number[] | undefined,
    version: text(line["version"]),
    readings: readings.map((reading: JsonLine) => readingOf(reading, instant)),
    ignoredSamples: finite(line["ignored_samples"]) ?? 0,
    errors: (list(line["errors"], "string") as readonly string[] | undefined) ?? [],
  });
}

function readingOf(line: JsonLine, instant: (seconds: number) => Nanos): TokenReading {
  const began = finite(line["epoch_began"]);
  const ranks = line["ranks"];
  return defined<TokenReading>({
    model: text(line["model"]),
    tenant: text(line["tenant"]),
    endpoint: text(line["endpoint"]),
    role: oneOf(line["role"], ["combined", "prefill", "decode"] as const) ?? "combined",
    tokens: tokensOf(line),
    tokensByOutcome: line["by_outcome"] as TokenReading["tokensByOutcome"],
    reasoningTokens: finite(line["reasoning"]),
    progress: line["progress"] as TokenReading["progress"],
    requests: (line["requests"] ?? {}) as TokenReading["requests"],
    running: finite(line["running"]),
    waiting: finite(line["waiting"]),
    kvCacheUtilization: finite(line["kv_cache_utilization"]),
    latencies: line["latencies"] as Latencies | undefined,
    ranks: Array.isArray(ranks) ? ranks.map((rank: JsonLine) => rankOf(rank)) : undefined,
    volume: oneOf(line["volume"], ["step", "finish", "estimate"] as const) ?? "step",
    progressKind: oneOf(line["progress_kind"], ["step", "finish", "estimate"] as const),
    epoch: text(line["epoch"]),
    epochBegan: began === undefined ? undefined : instant(began),
  });
}

/** The object without its undefined fields: in our types absent and undefined are not the same. */
function defined<Wanted>(fields: { readonly [Key in keyof Wanted]: Wanted[Key] | undefined }): Wanted {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Wanted;
}

function text(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

function list(value: unknown, type: "string" | "number"): readonly unknown[] | undefined {
  return Array.isArray(value) ? value.filter((entry) => typeof entry === type) : undefined;
}

function oneOf<Value extends string>(value: unknown, values: readonly Value[]): Value | undefined {
  return values.find((known) => known === value);
}
