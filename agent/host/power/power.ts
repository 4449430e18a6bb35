// What the host draws, where it can tell: BMC (IPMI DCMI), ACPI or hwmon power meters, RAPL.
// Boundaries differ and the method says which: `ipmi` and `meter` are the whole node (on Grace the module, GPU included),
// `rapl` is CPU packages and memory only. One source at a time, never added to each other nor to GPU energy.
import { z } from "zod";
import type { Nanos } from "../../model.ts";
import type { SourceContext } from "../../source.ts";
import { hwmonMeter } from "./hwmon.ts";
import { ipmiMeter } from "./ipmi.ts";
import type { HostPowerMethod, Meter, MeterFound } from "./meter.ts";
import { raplMeter } from "./rapl.ts";

const NANOS_PER_SECOND = 1e9;
const WATTS_MAX = 200_000;
/** Power is integrated over steps of at most this many intervals: what lies between is not known. */
const GAP_INTERVALS = 3;

/** The section `host.power`. */
export const hostPowerConfig = z.strictObject({
  /** `auto` takes the first that answers: ipmi, meter, rapl. */
  source: z.enum(["auto", "ipmi", "meter", "rapl", "off"]).default("auto"),
  intervalMs: z.int().min(1000).max(600_000).default(10_000),
  /** The tool for the BMC; absent = `ipmitool` from PATH. */
  ipmitool: z.string().min(1).default("ipmitool"),
});

/** The section as the opener is given it. */
export type HostPowerConfig = z.output<typeof hostPowerConfig>;

/** One reading. `joules` never falls: energy since the source opened, over the time it was observed. */
export interface HostPowerReading {
  readonly at: Nanos;
  readonly method: HostPowerMethod;
  readonly watts?: number;
  readonly joules: number;
}

/** An open meter. */
export interface HostPower {
  readonly method: HostPowerMethod;
  /** False for RAPL, which sees processors and memory only: no node energy to model the facility's from. */
  readonly wholeNode: boolean;
  readonly intervalMs: number;
  /** The host's power now; undefined when the meter did not answer this time. */
  read(): Promise<HostPowerReading | undefined>;
  status(): Readonly<Record<string, unknown>>;
}

/** Opens the host's power meter. Resolves with the reasons when it has none that may be read. */
export async function openHostPower(
  config: HostPowerConfig,
  context: SourceContext,
  sysfs = "/sys",
): Promise<HostPower | { readonly missing: Readonly<Record<string, string>> }> {
  const openers: Readonly<Record<HostPowerMethod, () => Promise<MeterFound>>> = {
    ipmi: () => ipmiMeter(config.ipmitool, context),
    meter: async () => hwmonMeter(sysfs),
    rapl: async () => raplMeter(sysfs),
  };
  const wanted = config.source === "auto" ? (["ipmi", "meter", "rapl"] as const) : [config.source];
  const missing: Record<string, string> = {};
  for (const method of wanted) {
    if (method === "off") continue;
    const found = await openers[method]();
    if ("read" in found) return new MeteredHost(found, config.intervalMs, context);
    missing[method] = found.missing;
  }
  return { missing };
}

class MeteredHost implements HostPower {
  readonly intervalMs: number;
  readonly #meter: Meter;
  readonly #context: SourceContext;
  #last:
    | { readonly at: Nanos; readonly watts: number | undefined; readonly joules: number | undefined }
    | undefined;
  #joules = 0;
  #failures = 0;
  #absurd = 0;

  constructor(meter: Meter, intervalMs: number, context: SourceContext) {
    this.#meter = meter;
    this.intervalMs = intervalMs;
    this.#context = context;
  }

  get method(): HostPowerMethod {
    return this.#meter.method;
  }

  get wholeNode(): boolean {
    return this.method !== "rapl";
  }

  async read(): Promise<HostPowerReading | undefined> {
    try {
      const { watts, joules } = await this.#meter.read();
      return this.#book(this.#context.clock.now(), watts, joules);
    } catch (error) {
      this.#failures++;
      this.#last = undefined;
      this.#context.log.warn("host power cannot be read", {
        source: `host:${this.method}`,
        cause: (error as Error).message,
      });
      return undefined;
    }
  }

  status(): Readonly<Record<string, unknown>> {
    return { method: this.method, failures: this.#failures, absurd: this.#absurd };
  }

  #book(
    at: Nanos,
    wattsRead: number | undefined,
    joulesRead: number | undefined,
  ): HostPowerReading | undefined {
    const watts = within(wattsRead, WATTS_MAX);
    const joules = within(joulesRead, Number.MAX_SAFE_INTEGER);
    if (watts === undefined && joules === undefined) {
      this.#absurd++;
      return undefined;
    }
    const before = this.#last;
    this.#last = { at, watts, joules };
    const seconds = before === undefined ? 0 : (at - before.at) / NANOS_PER_SECOND;
    const step = this.#step(seconds, before, { watts, joules });
    if (step === undefined) this.#absurd++;
    else this.#joules += step;
    const mean = watts ?? (step !== undefined && seconds > 0 ? step / seconds : undefined);
    return { at, method: this.method, joules: this.#joules, ...(mean === undefined ? {} : { watts: mean }) };
  }

  /** Joules since the reading before; 0 when they are not known, undefined when they are absurd. */
  #step(
    seconds: number,
    before: { readonly watts: number | undefined; readonly joules: number | undefined } | undefined,
    now: { readonly watts: number | undefined; readonly joules: number | undefined },
  ): number | undefined {
    if (before === undefined || seconds <= 0) return 0;
    if (now.joules !== undefined && before.joules !== undefined) {
      const moved = now.joules - before.joules;
      // A counter that fell was reset; what it held before is booked, what it lost is not known.
      if (moved < 0) return 0;
      return moved <= WATTS_MAX * seconds ? moved : undefined;
    }
    if (now.watts === undefined || before.watts === undefined) return 0;
    if (seconds > (GAP_INTERVALS * this.intervalMs) / 1000) return 0;
    return ((now.watts + before.watts) / 2) * seconds;
  }
}

function within(value: number | undefined, most: number): number | undefined {
  return value !== undefined && value >= 0 && value <= most ? value : undefined;
}
