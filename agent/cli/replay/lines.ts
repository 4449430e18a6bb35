// The JSON lines of `tokenwatt replay --json`, as METERING.md section 9 fixes them.
// Seconds, joules and ratios are JSON numbers; a KPI with an empty denominator is null.
import type { KpiTotals } from "../../meter/figures/kpis.ts";
import { kpis } from "../../meter/figures/kpis.ts";
import { Meter } from "../../meter/meter.ts";
import type { AllocatedState, GpuInterval, GpuState, ServerInterval, SettledInterval } from "../../model.ts";

const GPU_STATES: readonly GpuState[] = ["token_active", "stalled", "parked", "other", "free", "unobserved"];
const ALLOCATED: readonly AllocatedState[] = ["token_active", "stalled", "parked"];

/** Wall-clock seconds of an instant. */
export type ToSeconds = (at: number) => number;

/** The lines of one settled interval: one per GPU, then one per server. */
export function intervalLines(interval: SettledInterval, seconds: ToSeconds): readonly object[] {
  const from = seconds(interval.from);
  const to = seconds(interval.to);
  return [
    ...interval.gpus.map((gpu) => ({
      type: "interval",
      from,
      to,
      gpu: gpu.gpu,
      state_seconds: scaled(GPU_STATES, gpu.nanos, 1e9),
      energy_joules: scaled([...GPU_STATES, "unattributed"], gpu.millijoules, 1e3),
      busy_seconds: gpu.busyNanos / 1e9,
      servers: Object.fromEntries(
        gpu.residents.map((resident) => [
          resident.server,
          {
            gpu_seconds: scaled(ALLOCATED, resident.nanos, 1e9),
            energy_joules: scaled(ALLOCATED, resident.millijoules, 1e3),
            method: resident.method,
          },
        ]),
      ),
    })),
    ...interval.servers.map((server) => serverLine(server, from, to)),
  ];
}

/** Adds settled intervals up to the last line. Integers until the end, so that no rounding adds up. */
export class ReplayTotals {
  readonly #meter = new Meter();
  #unknownNanos = 0;
  readonly #unmatched = { input: 0, output: 0 };
  /** What rests on an assumption, by the reason. */
  readonly #uncertain = new Map<string, { nanos: number; millijoules: number }>();
  /** Of engines alone: a gateway counts the same tokens again. */
  readonly #engines = { input: 0, output: 0 };
  readonly #gpus = new Map<string, { nanos: Record<string, number>; millijoules: Record<string, number> }>();
  readonly #servers = new Map<
    string,
    { input: number; output: number; nanos: number; millijoules: number }
  >();

  /** Makes a GPU or server appear in the totals although it never did anything. */
  know(gpus: Iterable<string>, servers: Iterable<string>): void {
    for (const gpu of gpus) this.#gpu(gpu);
    for (const server of servers) this.#server(server);
  }

  /** Adds an interval. */
  addInterval(interval: SettledInterval): void {
    for (const posting of this.#meter.meterInterval(interval, { gpus: new Map(), servers: new Map() })) {
      if (posting.metric !== "tokenwatt.unmatched_tokens" || !("amount" in posting)) continue;
      const side = posting.dimensions["tokenwatt.token.kind"] === "output" ? "output" : "input";
      this.#unmatched[side] += posting.amount;
    }
    for (const gpu of interval.gpus) this.#addGpu(gpu);
    for (const server of interval.servers) {
      const total = this.#server(server.server);
      total.input += tokens(server, "input");
      total.output += tokens(server, "output");
      const increments = server.increments.filter(({ family }) => family === "engine");
      this.#engines.input += tokens({ increments }, "input");
      this.#engines.output += tokens({ increments }, "output");
    }
  }

  /** The last line of a replay. */
  line(): object {
    const all = { nanos: zeros(GPU_STATES), millijoules: zeros([...GPU_STATES, "unattributed"]) };
    for (const gpu of this.#gpus.values()) {
      addTo(all.nanos, gpu.nanos);
      addTo(all.millijoules, gpu.millijoules);
    }
    const totals: KpiTotals = {
      gpuNanos: all.nanos as Record<GpuState, number>,
      gpuMillijoules: all.millijoules as Record<GpuState, number>,
      inputTokens: this.#engines.input,
      outputTokens: this.#engines.output,
      unknownNanos: this.#unknownNanos,
      unmatchedInputTokens: this.#unmatched.input,
      unmatchedOutputTokens: this.#unmatched.output,
    };
    const ratios = kpis(totals);
    return {
      type: "totals",
      gpus: Object.fromEntries(
        [...this.#gpus].map(([uuid, gpu]) => [
          uuid,
          {
            state_seconds: scaled(GPU_STATES, gpu.nanos, 1e9),
            energy_joules: scaled([...GPU_STATES, "unattributed"], gpu.millijoules, 1e3),
          },
        ]),
      ),
      state_seconds: scaled(GPU_STATES, all.nanos, 1e9),
      energy_joules: scaled([...GPU_STATES, "unattributed"], all.millijoules, 1e3),
      servers: Object.fromEntries(
        [...this.#servers].map(([id, server]) => [
          id,
          {
            input_tokens: server.input,
            output_tokens: server.output,
            gpu_seconds: server.nanos / 1e9,
            energy_joules: server.millijoules / 1e3,
          },
        ]),
      ),
      uncertain: Object.fromEntries(
        [...this.#uncertain]
          .sort(([, one], [, other]) => other.nanos - one.nanos || other.millijoules - one.millijoules)
          .map(([reason, { millijoules, nanos }]) => [
            reason,
            { gpu_seconds: nanos / 1e9, energy_joules: millijoules / 1e3 },
          ]),
      ),
      kpis: {
        tokens_per_gpu_hour: ratios.tokensPerGpuHour ?? null,
        output_tokens_per_gpu_hour: ratios.outputTokensPerGpuHour ?? null,
        token_active_utilization: ratios.tokenActiveUtilization ?? null,
        tokens_per_joule: ratios.tokensPerJoule ?? null,
        output_tokens_per_joule: ratios.outputTokensPerJoule ?? null,
      },
    };
  }

  #addGpu(gpu: GpuInterval): void {
    if (gpu.activityMethod === "unknown")
      for (const state of ALLOCATED) this.#unknownNanos += gpu.nanos[state];
    for (const { millijoules, nanos, reason } of gpu.uncertain ?? []) {
      const sums = this.#uncertain.get(reason) ?? { nanos: 0, millijoules: 0 };
      this.#uncertain.set(reason, sums);
      sums.nanos += nanos;
      sums.millijoules += millijoules;
    }
    const total = this.#gpu(gpu.gpu);
    addTo(total.nanos, gpu.nanos);
    addTo(total.millijoules, gpu.millijoules);
    for (const resident of gpu.residents) {
      const server = this.#server(resident.server);
      for (const state of ALLOCATED) {
        server.nanos += resident.nanos[state];
        server.millijoules += resident.millijoules[state];
      }
    }
  }

  #gpu(uuid: string): { nanos: Record<string, number>; millijoules: Record<string, number> } {
    const known = this.#gpus.get(uuid);
    if (known !== undefined) return known;
    const fresh = { nanos: zeros(GPU_STATES), millijoules: zeros([...GPU_STATES, "unattributed"]) };
    this.#gpus.set(uuid, fresh);
    return fresh;
  }

  #server(id: string): { input: number; output: number; nanos: number; millijoules: number } {
    const known = this.#servers.get(id);
    if (known !== undefined) return known;
    const fresh = { input: 0, output: 0, nanos: 0, millijoules: 0 };
    this.#servers.set(id, fresh);
    return fresh;
  }
}

function serverLine(server: ServerInterval, from: number, to: number): object {
  return {
    type: "server",
    from,
    to,
    server: server.server,
    input_tokens: tokens(server, "input"),
    output_tokens: tokens(server, "output"),
    active_seconds: server.nanos.token_active / 1e9,
  };
}

/** Tokens a server's increments booked: all input kinds, or output. */
function tokens(server: Pick<ServerInterval, "increments">, side: "input" | "output"): number {
  let sum = 0;
  for (const increment of server.increments) {
    for (const [kind, amount] of Object.entries(increment.tokens)) {
      if ((kind === "output") === (side === "output")) sum += amount ?? 0;
    }
  }
  return sum;
}

function zeros(keys: readonly string[]): Record<string, number> {
  return Object.fromEntries(keys.map((key) => [key, 0]));
}

function addTo(total: Record<string, number>, part: Readonly<Record<string, number>>): void {
  for (const [key, value] of Object.entries(part)) total[key] = (total[key] ?? 0) + value;
}

function scaled(
  keys: readonly string[],
  values: Readonly<Record<string, number>>,
  by: number,
): Record<string, number> {
  return Object.fromEntries(keys.map((key) => [key, (values[key] ?? 0) / by]));
}
