// Figures of the last minute for a person watching: what each GPU does and what comes out of it.
// Ratios of sums over a sliding window of settled intervals, as METERING.md 6 defines them; the ledger knows nothing of it.
import { kpis } from "../../meter/figures/kpis.ts";
import type { GpuInfo, GpuSample, GpuState, SettledInterval } from "../../model.ts";
import { tokens } from "../replay/lines.ts";

const STATES: readonly GpuState[] = ["token_active", "stalled", "parked", "other", "free", "unobserved"];

/** One GPU, or the whole host, over the window. A ratio without a denominator is undefined. */
export interface LiveRow {
  readonly seconds: Readonly<Record<GpuState, number>>;
  readonly tokensPerSecond: number;
  readonly tokensPerGpuHour: number | undefined;
  readonly tokenActiveUtilization: number | undefined;
  readonly tokensPerJoule: number | undefined;
}

export interface LiveGpu extends LiveRow {
  readonly info: GpuInfo;
  readonly utilizationRatio: number | undefined;
  readonly powerWatts: number | undefined;
  /** The state that took most of each of the last intervals, oldest first. */
  readonly history: readonly GpuState[];
}

interface Sums {
  readonly nanos: Record<GpuState, number>;
  readonly millijoules: Record<GpuState, number>;
  input: number;
  output: number;
}

/** Keeps the last intervals and says what they add up to. */
export class LiveFigures {
  readonly #windowNanos: number;
  readonly #intervals: SettledInterval[] = [];
  readonly #homes = new Map<string, ReadonlySet<string>>();

  constructor(windowSeconds = 60) {
    this.#windowNanos = windowSeconds * 1e9;
  }

  add(interval: SettledInterval): void {
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
    const sums = empty();
    for (const interval of this.#intervals) {
      for (const gpu of interval.gpus) addGpu(sums, gpu);
      for (const server of interval.servers) {
        sums.input += tokens(server, "input");
        sums.output += tokens(server, "output");
      }
    }
    return this.#row(sums);
  }

  /** One GPU: tokens of a server over several GPUs count in equal parts on each. */
  gpu(info: GpuInfo, sample: GpuSample | undefined): LiveGpu {
    const sums = empty();
    const history: GpuState[] = [];
    for (const interval of this.#intervals) {
      for (const gpu of interval.gpus) {
        if (gpu.gpu !== info.uuid) continue;
        addGpu(sums, gpu);
        history.push(STATES.reduce((most, state) => (gpu.nanos[state] > gpu.nanos[most] ? state : most)));
      }
      for (const server of interval.servers) {
        const home = this.#homes.get(server.server);
        if (!home?.has(info.uuid)) continue;
        sums.input += tokens(server, "input") / home.size;
        sums.output += tokens(server, "output") / home.size;
      }
    }
    return {
      ...this.#row(sums),
      info,
      history,
      utilizationRatio: sample?.utilizationRatio ?? sample?.utilizationRing?.at(-1)?.value,
      powerWatts: sample?.powerWatts ?? sample?.powerInstantWatts,
    };
  }

  #row(sums: Sums): LiveRow {
    const first = this.#intervals[0];
    const last = this.#intervals.at(-1);
    const wall = first === undefined || last === undefined ? 0 : (last.to - first.from) / 1e9;
    const ratios = kpis({
      gpuNanos: sums.nanos,
      gpuMillijoules: sums.millijoules,
      inputTokens: sums.input,
      outputTokens: sums.output,
    });
    return {
      seconds: Object.fromEntries(STATES.map((state) => [state, sums.nanos[state] / 1e9])) as Record<
        GpuState,
        number
      >,
      tokensPerSecond: wall > 0 ? (sums.input + sums.output) / wall : 0,
      tokensPerGpuHour: ratios.tokensPerGpuHour,
      tokenActiveUtilization: ratios.tokenActiveUtilization,
      tokensPerJoule: ratios.tokensPerJoule,
    };
  }
}

function empty(): Sums {
  const zeros = (): Record<GpuState, number> =>
    Object.fromEntries(STATES.map((state) => [state, 0])) as Record<GpuState, number>;
  return { nanos: zeros(), millijoules: zeros(), input: 0, output: 0 };
}

function addGpu(sums: Sums, gpu: SettledInterval["gpus"][number]): void {
  for (const state of STATES) {
    sums.nanos[state] += gpu.nanos[state];
    sums.millijoules[state] += gpu.millijoules[state];
  }
}
