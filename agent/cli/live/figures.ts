// Figures of the last minute for a person watching: what each GPU does and what comes out of it.
// Ratios of sums over a sliding window of settled intervals, as METERING.md 6 defines them; the ledger knows nothing of it.
import { kpis } from "../../meter/figures/kpis.ts";
import type { WindowSums } from "../../meter/figures/sums.ts";
import { addStates, addTokens, addUnknown, emptySums } from "../../meter/figures/sums.ts";
import { gpuStates } from "../../meter/meter.ts";
import type { GpuInfo, GpuInterval, GpuSample, GpuState, SettledInterval } from "../../model.ts";

/** One GPU, or the whole host, over the window. A ratio without a denominator is undefined. */
export interface LiveRow {
  readonly seconds: Readonly<Record<GpuState, number>>;
  readonly tokensPerSecond: number;
  readonly tokensPerGpuHour: number | undefined;
  readonly tokenActiveUtilization: number | undefined;
  readonly tokensPerJoule: number | undefined;
}

/** One GPU over the window, and its last reading. */
export interface LiveGpu extends LiveRow {
  readonly info: GpuInfo;
  readonly utilizationRatio: number | undefined;
  readonly powerWatts: number | undefined;
  /** The state that took most of each of the last intervals, oldest first. */
  readonly history: readonly GpuState[];
}

/** Keeps the last intervals and says what they add up to. */
export class LiveFigures {
  readonly #windowNanos: number;
  readonly #intervals: SettledInterval[] = [];
  readonly #homes = new Map<string, ReadonlySet<string>>();

  constructor(windowSeconds = 60) {
    this.#windowNanos = windowSeconds * 1e9;
  }

  /** Takes an interval into the window. */
  addInterval(interval: SettledInterval): void {
    this.#intervals.push(interval);
    const oldest = interval.to - this.#windowNanos;
    while ((this.#intervals[0]?.from ?? oldest) < oldest) this.#intervals.shift();
    for (const gpu of interval.gpus) {
      for (const resident of gpu.residents) {
        const home = this.#homes.get(resident.server);
        if (home?.has(gpu.gpu)) continue;
        this.#homes.set(resident.server, new Set([...(home ?? []), gpu.gpu]));
      }
    }
  }

  /** The host as a whole. */
  host(): LiveRow {
    const sums = emptySums();
    for (const interval of this.#intervals) {
      for (const gpu of interval.gpus) addGpu(sums, gpu);
      for (const server of interval.servers) addTokens(sums, server);
    }
    return this.#row(sums);
  }

  /** One GPU: tokens of a server over several GPUs count in equal parts on each. */
  gpu(info: GpuInfo, sample: GpuSample | undefined): LiveGpu {
    const sums = emptySums();
    const history: GpuState[] = [];
    for (const interval of this.#intervals) {
      for (const gpu of interval.gpus) {
        if (gpu.gpu !== info.uuid) continue;
        addGpu(sums, gpu);
        history.push(gpuStates.reduce((most, state) => (gpu.nanos[state] > gpu.nanos[most] ? state : most)));
      }
      for (const server of interval.servers) {
        const home = this.#homes.get(server.server);
        if (home?.has(info.uuid)) addTokens(sums, server, home.size);
      }
    }
    return {
      ...this.#row(sums),
      info,
      history,
      utilizationRatio: sample?.utilizationRatio ?? sample?.utilizationRing?.values.at(-1),
      powerWatts: sample?.powerWatts ?? sample?.powerInstantWatts,
    };
  }

  #row(sums: WindowSums): LiveRow {
    const first = this.#intervals[0];
    const last = this.#intervals.at(-1);
    const wall = first === undefined || last === undefined ? 0 : (last.to - first.from) / 1e9;
    const ratios = kpis({
      gpuNanos: sums.nanos,
      gpuMillijoules: sums.millijoules,
      inputTokens: sums.input,
      outputTokens: sums.output,
      unknownNanos: sums.unknownNanos,
    });
    return {
      seconds: Object.fromEntries(
        gpuStates.map((state) => [state, sums.nanos[state] / 1e9]),
      ) as LiveRow["seconds"],
      tokensPerSecond: wall > 0 ? (sums.input + sums.output) / wall : 0,
      tokensPerGpuHour: ratios.tokensPerGpuHour,
      tokenActiveUtilization: ratios.tokenActiveUtilization,
      tokensPerJoule: ratios.tokensPerJoule,
    };
  }
}

function addGpu(sums: WindowSums, { activityMethod, millijoules, nanos }: GpuInterval): void {
  addStates(sums, nanos, millijoules);
  addUnknown(sums, activityMethod, nanos);
}
