// Ready-made ratios for people who look at one host: sliding windows of 1 minute and 1 hour, per server and GPU product.
// They are gauges and described "do not aggregate": a fleet's figure is a quotient of sums of the counters, never a mean
// of these. Windows advance in steps of 10 s, so an hour costs 360 sums a row.
import type { Dimensions, Gauge, GpuInfo, GpuState, Nanos, SettledInterval } from "../model.ts";
import { kpis } from "./kpis.ts";

const STEP_NANOS = 10e9;
const WINDOWS = [
  ["1m", 60e9],
  ["1h", 3600e9],
] as const;
const EVERY_MS = 10_000;
const ROWS_MAX = 500;

interface Sums {
  readonly nanos: Record<GpuState, number>;
  readonly millijoules: Record<GpuState, number>;
  input: number;
  output: number;
}

interface Step {
  readonly from: Nanos;
  to: Nanos;
  readonly rows: Map<string, { readonly dimensions: Dimensions; readonly sums: Sums }>;
}

/** Sums of the last hour, and the gauges made of them. */
export class Convenience {
  readonly #steps: Step[] = [];
  #reported = 0;

  /** Takes an interval in; returns gauges once per 10 s. */
  add(interval: SettledInterval, gpus: ReadonlyMap<string, GpuInfo>): readonly Gauge[] {
    const step = this.#stepAt(interval);
    const homes = new Map<string, Set<string>>();
    for (const gpu of interval.gpus) {
      const info = gpus.get(gpu.gpu);
      if (info === undefined) continue;
      const product = row(step, { "hw.model": info.name });
      addStates(product, gpu.nanos, gpu.millijoules);
      for (const resident of gpu.residents) {
        if (resident.server === "unmetered" || resident.server === "unattributed") continue;
        homes.set(resident.server, (homes.get(resident.server) ?? new Set()).add(info.name));
        addStates(
          row(step, { "tokenwatt.server.id": resident.server }),
          resident.nanos,
          resident.millijoules,
        );
      }
    }
    for (const server of interval.servers) {
      const targets = [row(step, { "tokenwatt.server.id": server.server })];
      const products = [...(homes.get(server.server) ?? [])];
      // A server over GPUs of two products has no one product its tokens belong to.
      if (products.length === 1) targets.push(row(step, { "hw.model": products[0] as string }));
      for (const increment of server.increments) {
        if (increment.family !== "engine" || increment.late) continue;
        for (const target of targets) addTokens(target, increment.tokens);
      }
    }
    if (interval.to - this.#reported < STEP_NANOS) return [];
    this.#reported = interval.to;
    return this.#gauges(interval.to);
  }

  #stepAt(interval: SettledInterval): Step {
    const last = this.#steps.at(-1);
    if (last !== undefined && interval.from < last.from + STEP_NANOS) {
      last.to = interval.to;
      return last;
    }
    const step: Step = { from: interval.from, to: interval.to, rows: new Map() };
    this.#steps.push(step);
    while ((this.#steps[0]?.to ?? 0) < interval.to - 3600e9) this.#steps.shift();
    return step;
  }

  #gauges(at: Nanos): readonly Gauge[] {
    const gauges: Gauge[] = [];
    for (const [name, nanos] of WINDOWS) {
      const rows = new Map<string, { readonly dimensions: Dimensions; readonly sums: Sums }>();
      for (const step of this.#steps) {
        if (step.from < at - nanos) continue;
        for (const [key, { dimensions, sums }] of step.rows) {
          const total = rows.get(key) ?? { dimensions, sums: empty() };
          rows.set(key, total);
          addStates(total.sums, sums.nanos, sums.millijoules);
          total.sums.input += sums.input;
          total.sums.output += sums.output;
        }
      }
      for (const { dimensions, sums } of rows.values()) gauges.push(...ratios(dimensions, name, sums, at));
    }
    return gauges;
  }
}

function ratios(dimensions: Dimensions, window: string, sums: Sums, at: Nanos): readonly Gauge[] {
  const figures = kpis({
    gpuNanos: sums.nanos,
    gpuMillijoules: sums.millijoules,
    inputTokens: sums.input,
    outputTokens: sums.output,
  });
  const values = [
    ["tokenwatt.tokens_per_gpu_hour", figures.tokensPerGpuHour],
    ["tokenwatt.tokens_per_joule", figures.tokensPerJoule],
    ["tokenwatt.token_active_utilization", figures.tokenActiveUtilization],
  ] as const;
  return values.flatMap(([metric, value]) =>
    value === undefined
      ? []
      : [
          {
            metric,
            dimensions: { ...dimensions, "tokenwatt.window": window, "tokenwatt.basis": "time" },
            value,
            at,
            everyMs: EVERY_MS,
          },
        ],
  );
}

function row(step: Step, dimensions: Dimensions): Sums {
  const key = Object.entries(dimensions).flat().join("\n");
  const known = step.rows.get(key);
  if (known !== undefined) return known.sums;
  const sums = empty();
  if (step.rows.size < ROWS_MAX) step.rows.set(key, { dimensions, sums });
  return sums;
}

function empty(): Sums {
  const zeros = (): Record<GpuState, number> => ({
    token_active: 0,
    stalled: 0,
    parked: 0,
    other: 0,
    free: 0,
    unobserved: 0,
  });
  return { nanos: zeros(), millijoules: zeros(), input: 0, output: 0 };
}

function addStates(
  sums: Sums,
  nanos: Readonly<Partial<Record<GpuState, number>>>,
  millijoules: Readonly<Partial<Record<GpuState, number>>>,
): void {
  for (const state of Object.keys(sums.nanos) as GpuState[]) {
    sums.nanos[state] += nanos[state] ?? 0;
    sums.millijoules[state] += millijoules[state] ?? 0;
  }
}

function addTokens(sums: Sums, tokens: Readonly<Record<string, number>>): void {
  for (const [kind, amount] of Object.entries(tokens)) {
    if (kind === "output") sums.output += amount;
    else sums.input += amount;
  }
}
