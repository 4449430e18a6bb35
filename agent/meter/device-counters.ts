// The driver's own cumulative counters as totals of ours: energy, ECC errors, throttle time, traffic,
// XID events, and gaps.
// A GPU seen first sets the base: what happened before the agent looked counts nothing. A counter that fell began
// again from zero, and its new value counts (energy excepted: a fall there is left to the correlator's judgement, METERING.md 7).
import type { Dimensions, GpuInfo, GpuSample, Nanos, Posting } from "../model.ts";
import { SetsOf } from "./attribute-sets.ts";
import { increment } from "./counters/increments.ts";
import { gpuDimensions, gpuHardware } from "./gauges.ts";

const COUNTERS_MAX = 20_000;
/** Bytes moved, by link and direction as seen from the GPU. */
const TRAFFIC = {
  pcieTransmit: ["pcie", "transmit"],
  pcieReceive: ["pcie", "receive"],
  nvlinkTransmit: ["nvlink", "transmit"],
  nvlinkReceive: ["nvlink", "receive"],
} as const;

/** Remembers the last value of every counter and returns what moved. */
export class DeviceCounters {
  readonly #last = new Map<string, number>();
  readonly #sets = new SetsOf<GpuInfo>();

  /** Postings of one GPU reading; counters it lacks move nothing. */
  countSample(info: GpuInfo, sample: GpuSample): readonly Posting[] {
    const postings: Posting[] = [];
    const gpu = gpuDimensions(info);
    const hardware = gpuHardware(info);
    const add = (
      metric: string,
      dimensions: Dimensions,
      key: string,
      value: number | undefined,
      fallsCount = true,
    ): void => {
      const amount = this.#moved(`${info.uuid} ${metric} ${key}`, value, fallsCount);
      if (amount > 0) postings.push({ metric, dimensions, amount });
    };
    add("hw.energy", hardware, sample.energyEpoch ?? "", sample.energyMillijoules, false);
    for (const [type, count] of Object.entries(sample.eccErrors ?? {})) {
      const set = this.#sets.of(info, `error ${type}`, () => ({ ...hardware, "error.type": type }));
      add("hw.errors", set, type, count);
    }
    for (const [reason, seconds] of Object.entries(sample.throttleSeconds ?? {})) {
      const nanos = seconds === undefined ? undefined : seconds * 1e9;
      const set = this.#sets.of(info, `throttled ${reason}`, () => ({ ...gpu, "tokenwatt.reason": reason }));
      add("tokenwatt.gpu.throttle_time", set, reason, nanos);
    }
    for (const [name, [link, direction]] of Object.entries(TRAFFIC)) {
      const bytes = sample.trafficBytes?.[name as keyof typeof TRAFFIC];
      const moving = { "network.io.direction": direction, "tokenwatt.gpu.link": link };
      add(
        "hw.gpu.io",
        this.#sets.of(info, name, () => ({ ...hardware, ...moving })),
        name,
        bytes,
        false,
      );
    }
    for (const [code, events] of Object.entries(sample.xidEvents ?? {})) {
      // The source counts from zero, so the first value is already a movement.
      const key = `${info.uuid} tokenwatt.gpu.xid_events ${code}`;
      if (!this.#last.has(key)) this.#remember(key, 0);
      const set = this.#sets.of(info, `xid ${code}`, () => ({ ...gpu, "tokenwatt.xid.code": code }));
      add("tokenwatt.gpu.xid_events", set, code, events);
    }
    return postings;
  }

  #moved(key: string, value: number | undefined, fallsCount: boolean): number {
    if (value === undefined || !Number.isFinite(value) || value < 0) return 0;
    const whole = Math.round(value);
    const step = increment(this.#last.get(key), whole);
    if (step.kind === "reset" && !fallsCount) return 0;
    this.#remember(key, whole);
    return step.amount;
  }

  #remember(key: string, value: number): void {
    if (this.#last.size >= COUNTERS_MAX) this.#last.clear();
    this.#last.set(key, value);
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
