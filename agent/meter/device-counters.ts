// The driver's own cumulative counters as totals of ours: energy, ECC errors, throttle time, traffic,
// XID events, and gaps.
// A GPU seen first sets the base: what happened before the agent looked counts nothing. A counter that fell began
// again from zero, and its new value counts (energy excepted: a fall there is left to the correlator's judgement, METERING.md 7).
import type { Dimensions, GpuInfo, GpuSample, Nanos, Posting } from "../model.ts";
import { WithAttribute } from "./attribute-sets.ts";
import { increment } from "./counters/increments.ts";
import { gpuDimensions, gpuHardware } from "./gauges.ts";

const COUNTERS_MAX = 20_000;
const ofError = new WithAttribute("error.type");
const forReason = new WithAttribute("tokenwatt.reason");
const inDirection = new WithAttribute("network.io.direction");
const overLink = new WithAttribute("tokenwatt.gpu.link");
const ofXid = new WithAttribute("tokenwatt.xid.code");
/** Bytes moved, by link and direction as seen from the GPU. */
const TRAFFIC = {
  pcieTransmit: ["pcie", "transmit"],
  pcieReceive: ["pcie", "receive"],
  nvlinkTransmit: ["nvlink", "transmit"],
  nvlinkReceive: ["nvlink", "receive"],
} as const;
type Traffic = keyof typeof TRAFFIC;
type EccError = keyof NonNullable<GpuSample["eccErrors"]>;
const TRAFFIC_NAMES = Object.keys(TRAFFIC) as readonly Traffic[];

/** Remembers the last value of every counter and returns what moved. */
export class DeviceCounters {
  /** By GPU, then by counter, then by its name: a key made of the three would be a text, and its hash, at every reading. */
  readonly #last = new Map<string, Map<string, Map<string, number>>>();
  /** Of all maps. */
  #size = 0;

  /** Postings of one GPU reading; counters it lacks move nothing. */
  countSample(info: GpuInfo, sample: GpuSample): readonly Posting[] {
    // Codes and names come from outside.
    if (this.#size >= COUNTERS_MAX) this.#forgetAll();
    const postings: Posting[] = [];
    const gpu = gpuDimensions(info);
    const hardware = gpuHardware(info);
    const add = (
      metric: string,
      dimensions: Dimensions,
      name: string,
      value: number | undefined,
      fallsCount = true,
    ): void => {
      const amount = this.#moved(this.#valuesOf(info.uuid, metric), name, value, fallsCount);
      if (amount > 0) postings.push({ metric, dimensions, amount });
    };
    add("hw.energy", hardware, sample.energyEpoch ?? "", sample.energyMillijoules, false);
    for (const type in sample.eccErrors)
      add("hw.errors", ofError.of(hardware, type), type, sample.eccErrors[type as EccError]);
    for (const reason in sample.throttleSeconds) {
      const seconds = sample.throttleSeconds[reason];
      const nanos = seconds === undefined ? undefined : seconds * 1e9;
      add("tokenwatt.gpu.throttle_time", forReason.of(gpu, reason), reason, nanos);
    }
    for (let place = 0; place < TRAFFIC_NAMES.length; place++) {
      const name = TRAFFIC_NAMES[place] as Traffic;
      const [link, direction] = TRAFFIC[name];
      const set = overLink.of(inDirection.of(hardware, direction), link);
      add("hw.gpu.io", set, name, sample.trafficBytes?.[name], false);
    }
    for (const code in sample.xidEvents) {
      // The source counts from zero, so the first value is already a movement.
      const values = this.#valuesOf(info.uuid, "tokenwatt.gpu.xid_events");
      if (!values.has(code)) this.#remember(values, code, 0);
      add("tokenwatt.gpu.xid_events", ofXid.of(gpu, code), code, sample.xidEvents[code]);
    }
    return postings;
  }

  #moved(values: Map<string, number>, name: string, value: number | undefined, fallsCount: boolean): number {
    if (value === undefined || !Number.isFinite(value) || value < 0) return 0;
    const whole = Math.round(value);
    const step = increment(values.get(name), whole);
    if (step.kind === "reset" && !fallsCount) return 0;
    this.#remember(values, name, whole);
    return step.amount;
  }

  #remember(values: Map<string, number>, name: string, value: number): void {
    const before = values.size;
    values.set(name, value);
    this.#size += values.size - before;
  }

  #valuesOf(uuid: string, metric: string): Map<string, number> {
    let metrics = this.#last.get(uuid);
    if (metrics === undefined) {
      metrics = new Map();
      this.#last.set(uuid, metrics);
    }
    let values = metrics.get(metric);
    if (values === undefined) {
      values = new Map();
      metrics.set(metric, values);
      this.#size++;
    }
    return values;
  }

  #forgetAll(): void {
    this.#last.clear();
    this.#size = 0;
  }
}

/** How long each source could not be read, as postings at each failure and at the recovery. */
export class GapTimes {
  readonly #since = new Map<string, { at: Nanos; reason: string }>();

  /** A failure at `at`; the time since the failure before it is booked under the reason that one had. */
  noteFailure(source: string, at: Nanos, reason: string): readonly Posting[] {
    const postings = this.#book(source, at);
    this.#since.set(source, { at, reason });
    return postings;
  }

  /** The source was read at `at`. */
  succeeded(source: string, at: Nanos): readonly Posting[] {
    const postings = this.#book(source, at);
    this.#since.delete(source);
    return postings;
  }

  #book(source: string, at: Nanos): readonly Posting[] {
    const since = this.#since.get(source);
    if (since === undefined || at <= since.at) return [];
    const dimensions = { "tokenwatt.source": source, "tokenwatt.reason": reasonClass(since.reason) };
    return [{ metric: "tokenwatt.gap_time", dimensions, amount: Math.round(at - since.at) }];
  }
}

/** A bounded set of reasons: the text of an error names hosts and times and would be a series each. */
function reasonClass(reason: string): string {
  if (/release/i.test(reason)) return "released";
  if (/time|deadline|answer|hang/i.test(reason)) return "timeout";
  if (/nothing listens|refused|unreachable|connect/i.test(reason)) return "unreachable";
  if (/lost|reset|gone/i.test(reason)) return "lost";
  return "failed";
}
