// What was last seen, not additive over time: hw.* and tokenwatt.* gauges from one reading (METERING.md 5).
// hw.* names are the OpenTelemetry hardware conventions 1.44 (development). `hw.gpu.memory.utilization` is the share of
// memory occupied, not how busy the memory controller is.
import type {
  Dimensions,
  Gauge,
  GpuInfo,
  GpuSample,
  ServerInfo,
  TokenReading,
  TokenSample,
} from "../model.ts";
import { SetsOf } from "./attribute-sets.ts";

/** The attribute sets of one GPU. */
interface GpuSets {
  readonly plain: Dimensions;
  readonly hardware: Dimensions;
  readonly general: Dimensions;
  readonly encoder: Dimensions;
  readonly decoder: Dimensions;
  readonly ok: Dimensions;
  readonly failed: Dimensions;
  readonly info: Dimensions;
}

// Made once for what the inventory says of a GPU: the ledger finds a series by the identity of its set.
const gpuSets = new WeakMap<GpuInfo, GpuSets>();
const serverSets = new SetsOf<ServerInfo>();

function setsOf(info: GpuInfo): GpuSets {
  const known = gpuSets.get(info);
  if (known !== undefined) return known;
  const plain = {
    "hw.id": info.uuid,
    "hw.model": info.name,
    ...(info.parent === undefined ? {} : { "hw.parent": info.parent }),
  };
  // Every backend is NVIDIA's.
  const hardware = { ...plain, "hw.type": "gpu", "hw.vendor": "NVIDIA" };
  const [ok, failed] = [
    { ...hardware, "hw.state": "ok" },
    { ...hardware, "hw.state": "failed" },
  ];
  const [general, encoder, decoder] = [
    { ...hardware, "hw.gpu.task": "general" },
    { ...hardware, "hw.gpu.task": "encoder" },
    { ...hardware, "hw.gpu.task": "decoder" },
  ];
  const sets = { plain, hardware, general, encoder, decoder, ok, failed, info: infoOf(info, plain) };
  gpuSets.set(info, sets);
  return sets;
}

/** The identity that does not belong on every series. */
function infoOf(info: GpuInfo, plain: Dimensions): Dimensions {
  const text = (key: string, value: string | undefined): Dimensions =>
    value === undefined ? {} : { [key]: value };
  return {
    ...plain,
    "hw.name": String(info.index),
    "hw.vendor": "NVIDIA",
    ...text("hw.driver_version", info.driverVersion),
    ...text("tokenwatt.gpu.pci", info.pciBusId),
    ...text("tokenwatt.gpu.mig_profile", info.migProfile),
  };
}

/** The attributes every series of a GPU carries: `hw.id`, `hw.model`, under MIG `hw.parent`. */
export function gpuDimensions(info: GpuInfo): Dimensions {
  return setsOf(info).plain;
}

/** The attributes of the `hw.*` series of a GPU: those of all its series, type and vendor. */
export function gpuHardware(info: GpuInfo): Dimensions {
  return setsOf(info).hardware;
}

/** Gauges of one GPU reading; a value the reading lacks gives no gauge. */
export function gpuGauges(info: GpuInfo, sample: GpuSample, everyMs: number): readonly Gauge[] {
  const { decoder, encoder, general, hardware, plain: dimensions } = setsOf(info);
  const gauges: Gauge[] = [];
  const add = (metric: string, value: number | undefined, keys: Dimensions): void => {
    if (value !== undefined && Number.isFinite(value)) {
      gauges.push({ metric, dimensions: keys, value, at: sample.at, everyMs });
    }
  };
  const used = sample.memoryUsedBytes;
  const total = info.memoryTotalBytes;
  add("hw.gpu.utilization", sample.utilizationRatio ?? sample.utilizationRing?.values.at(-1), general);
  add("hw.gpu.utilization", sample.encoderRatio, encoder);
  add("hw.gpu.utilization", sample.decoderRatio, decoder);
  add("hw.gpu.memory.usage", used, hardware);
  add("hw.gpu.memory.limit", total, hardware);
  add("hw.gpu.memory.utilization", used !== undefined && total ? used / total : undefined, hardware);
  add("hw.power", sample.powerWatts ?? sample.powerInstantWatts, hardware);
  add("hw.temperature", sample.temperatureCelsius, hardware);
  gauges.push(...statusGauges(info, "ok", sample.at, everyMs));
  add("tokenwatt.gpu.sm_active", sample.smActiveRatio, dimensions);
  add("tokenwatt.gpu.tensor_active", sample.tensorActiveRatio, dimensions);
  add("tokenwatt.gpu.dram_active", sample.dramActiveRatio, dimensions);
  add("tokenwatt.gpu.clock", sample.smClockHertz, dimensions);
  add("tokenwatt.gpu.memory_clock", sample.memoryClockHertz, dimensions);
  add("tokenwatt.gpu.power_limit", sample.powerLimitWatts ?? info.powerLimitWatts, dimensions);
  return gauges;
}

/** `tokenwatt.gpu.energy_counter.agreement`: what the energy counter moved over what power integrates to. */
export function counterRatioGauge(info: GpuInfo, ratio: number, at: number): Gauge {
  return {
    metric: "tokenwatt.gpu.energy_counter.agreement",
    dimensions: gpuDimensions(info),
    value: ratio,
    at,
    // A new ratio comes every minute.
    everyMs: 60_000,
  };
}

/** `hw.status`: 1 for the state the GPU is in, 0 for the other. */
export function statusGauges(
  info: GpuInfo,
  state: "ok" | "failed",
  at: number,
  everyMs: number,
): readonly Gauge[] {
  return (["ok", "failed"] as const).map((one) => ({
    metric: "hw.status",
    dimensions: setsOf(info)[one],
    value: one === state ? 1 : 0,
    at,
    everyMs,
  }));
}

/** `tokenwatt.gpu.info`: identity that does not belong on every series. */
export function gpuInfoGauge(info: GpuInfo, at: number, everyMs: number): Gauge {
  return { metric: "tokenwatt.gpu.info", dimensions: setsOf(info).info, value: 1, at, everyMs };
}

/** Gauges of one server reading, summed over its models, tenants and endpoints. */
export function serverGauges(info: ServerInfo, sample: TokenSample): readonly Gauge[] {
  const dimensions = serverSets.of(info, "plain", () => ({ "tokenwatt.server.id": info.id }));
  let [running, waiting, cache] = [Number.NaN, Number.NaN, Number.NaN];
  // By place: a gateway has thousands of readings, and none of these.
  for (let place = 0; place < sample.readings.length; place++) {
    const reading = sample.readings[place] as TokenReading;
    running = sumOf(running, reading.running);
    waiting = sumOf(waiting, reading.waiting);
    const used = reading.kvCacheUtilization;
    if (used !== undefined) cache = Number.isNaN(cache) ? used : Math.max(cache, used);
  }
  const gauges: Gauge[] = [];
  const add = (metric: string, value: number): void => {
    if (Number.isFinite(value))
      gauges.push({ metric, value, dimensions, at: sample.at, everyMs: info.pollMs });
  };
  add("tokenwatt.server.running", running);
  add("tokenwatt.server.waiting", waiting);
  add("tokenwatt.server.kv_cache.utilization", cache);
  return gauges;
}

/** A sum and what is known more; not a number while nothing is known. */
function sumOf(sum: number, more: number | undefined): number {
  if (more === undefined) return sum;
  return Number.isNaN(sum) ? more : sum + more;
}

/**
 * `tokenwatt.gateway.info`: which gateway is read under which rule, and the run that answers, where its page says when it
 * began. Two hosts that show one run under `all` or `owner` count the same tokens twice.
 */
export function gatewayInfoGauge(info: ServerInfo, sample: TokenSample): Gauge {
  const run = sample.readings.find(({ epoch }) => epoch?.startsWith("start:") === true)?.epoch;
  return {
    metric: "tokenwatt.gateway.info",
    dimensions: serverSets.of(info, `gateway ${run}`, () => ({
      "tokenwatt.server.id": info.id,
      "tokenwatt.gateway.id": info.gateway?.id ?? info.id,
      "tokenwatt.gateway.scope": info.gateway?.scope ?? "all",
      ...(run === undefined ? {} : { "tokenwatt.gateway.run": run.slice("start:".length) }),
    })),
    value: 1,
    at: sample.at,
    everyMs: info.pollMs,
  };
}

/** `tokenwatt.server.info`: what the server is, beside its id. */
export function serverInfoGauge(info: ServerInfo, sample: TokenSample): Gauge {
  const version = sample.version === undefined ? {} : { "tokenwatt.server.version": sample.version };
  const role = sample.readings[0]?.role ?? "combined";
  return {
    metric: "tokenwatt.server.info",
    dimensions: serverSets.of(info, `server ${role} ${sample.version}`, () => ({
      "tokenwatt.server.id": info.id,
      "tokenwatt.server.type": info.type,
      "tokenwatt.server.address": info.address,
      "tokenwatt.server.role": role,
      ...(info.pod === undefined
        ? {}
        : { "k8s.namespace.name": info.pod.namespace, "k8s.pod.name": info.pod.name }),
      ...version,
    })),
    value: 1,
    at: sample.at,
    everyMs: info.pollMs,
  };
}
