// Ready-made ratios for people who look at one host: sliding windows of 1 minute and 1 hour, per server and GPU product.
// They are gauges and described "do not aggregate": a fleet's figure is a quotient of sums of the counters, never a mean
// of these. Windows advance in steps of 10 s, so an hour costs 360 sums a row. A cost is given only for a window in which
// every second of the row had a price, in one currency.
import type { Dimensions, Gauge, GpuInfo, Nanos, Posting, SettledInterval } from "../../model.ts";
import type { CostBasis, CostState, Kpis } from "./kpis.ts";
import { kpis } from "./kpis.ts";
import type { WindowSums } from "./sums.ts";
import { addStates, addTokens, addUnknown, emptySums } from "./sums.ts";

const STEP_NANOS = 10e9;
const WINDOWS = [
  ["1m", 60e9],
  ["1h", 3600e9],
] as const;
const EVERY_MS = 10_000;
const ROWS_MAX = 500;

interface Sums extends WindowSums {
  /** 1e-9 of the currency, by state. */
  readonly cost: Partial<Record<CostState, number>>;
  /** Undefined: nothing had a price. */
  currency: string | undefined;
  unpriced: boolean;
}

interface Row {
  readonly dimensions: Dimensions;
  readonly sums: Sums;
  /** The product itself, or those of the GPUs a server held. */
  readonly homes: Set<string>;
}

interface Step {
  readonly from: Nanos;
  to: Nanos;
  readonly rows: Map<string, Row>;
}

/** Sums of the last hour, and the gauges made of them. */
export class Convenience {
  readonly #steps: Step[] = [];
  #reported = 0;

  /** Takes an interval and what it cost in; returns gauges once per 10 s. */
  takeInterval(
    interval: SettledInterval,
    gpus: ReadonlyMap<string, GpuInfo>,
    money: readonly Posting[] = [],
  ): readonly Gauge[] {
    const step = this.#stepAt(interval);
    const homes = new Map<string, Set<string>>();
    for (const gpu of interval.gpus) {
      const info = gpus.get(gpu.gpu);
      if (info === undefined) continue;
      const product = row(step, { "hw.model": info.name });
      product.homes.add(info.name);
      addStates(product.sums, gpu.nanos, gpu.millijoules);
      addUnknown(product.sums, gpu.activityMethod, gpu.nanos);
      for (const resident of gpu.residents) {
        if (resident.server === "unmetered" || resident.server === "unattributed") continue;
        homes.set(resident.server, (homes.get(resident.server) ?? new Set()).add(info.name));
        const server = row(step, { "tokenwatt.server.id": resident.server });
        server.homes.add(info.name);
        addStates(server.sums, resident.nanos, resident.millijoules);
        const own = interval.servers.find((candidate) => candidate.server === resident.server);
        addUnknown(server.sums, own?.activityMethod ?? "unknown", resident.nanos);
      }
    }
    for (const server of interval.servers) {
      const targets = [row(step, { "tokenwatt.server.id": server.server })];
      const products = [...(homes.get(server.server) ?? [])];
      // A server over GPUs of two products has no one product its tokens belong to.
      if (products.length === 1) targets.push(row(step, { "hw.model": products[0] as string }));
      for (const { sums } of targets) addTokens(sums, server);
    }
    for (const posting of money) if (posting.metric === "tokenwatt.cost") addCost(step, posting);
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
        for (const [key, { dimensions, homes, sums }] of step.rows) {
          const total = rows.get(key) ?? { dimensions, sums: empty() };
          rows.set(key, total);
          addStates(total.sums, sums.nanos, sums.millijoules);
          total.sums.unknownNanos += sums.unknownNanos;
          total.sums.input += sums.input;
          total.sums.output += sums.output;
          mergeCost(total.sums, sums);
          const elsewhere = [...homes].some((name) => isUnpriced(step.rows.get(keyOf({ "hw.model": name }))));
          total.sums.unpriced ||= elsewhere;
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
    unknownNanos: sums.unknownNanos,
    inputTokens: sums.input,
    outputTokens: sums.output,
    cost: sums.cost,
  });
  const values = [
    ["tokenwatt.tokens_per_gpu_hour", figures.tokensPerGpuHour],
    ["tokenwatt.tokens_per_joule", figures.tokensPerJoule],
    ["tokenwatt.token_active_utilization", figures.tokenActiveUtilization],
  ] as const;
  const windowed = { ...dimensions, "tokenwatt.window": window };
  const gauges: Gauge[] = [];
  for (const [metric, value] of values) {
    if (value === undefined) continue;
    gauges.push({
      metric,
      dimensions: { ...windowed, "tokenwatt.basis": "time" },
      value,
      at,
      everyMs: EVERY_MS,
    });
  }
  return [...gauges, ...costs(windowed, figures, sums, at)];
}

/** A server holds nothing but allocated time, so a figure of its fleet means nothing. */
function costs(windowed: Dimensions, figures: Kpis, sums: Sums, at: Nanos): readonly Gauge[] {
  const { currency } = sums;
  if (currency === undefined || sums.unpriced) return [];
  const bases: readonly CostBasis[] =
    "hw.model" in windowed ? ["fleet", "allocation", "active"] : ["allocation", "active"];
  return bases.flatMap((basis) => {
    const value = figures.costPerMillionTokens[basis];
    if (value === undefined) return [];
    const dimensions = { ...windowed, "tokenwatt.basis": basis, "tokenwatt.currency": currency };
    return [{ metric: "tokenwatt.cost_per_million_tokens", dimensions, value, at, everyMs: EVERY_MS }];
  });
}

/** Every second is charged once: to its product, and to the server that held it. */
function addCost(step: Step, { amount, dimensions }: Posting): void {
  const { "hw.model": product, "tokenwatt.server.id": server } = dimensions;
  const rows = [
    step.rows.get(keyOf({ "hw.model": product ?? "" })),
    step.rows.get(keyOf({ "tokenwatt.server.id": server ?? "" })),
  ];
  const state = dimensions["tokenwatt.gpu.state"] ?? "";
  const currency = dimensions["tokenwatt.currency"] ?? "";
  for (const found of rows) {
    if (found !== undefined) mergeCost(found.sums, { cost: { [state]: amount }, currency, unpriced: false });
  }
}

function mergeCost(sums: Sums, more: Pick<Sums, "cost" | "currency" | "unpriced">): void {
  sums.unpriced ||= more.unpriced || (sums.currency !== undefined && more.currency !== sums.currency);
  sums.currency ??= more.currency;
  for (const [state, amount] of Object.entries(more.cost) as [CostState, number][])
    sums.cost[state] = (sums.cost[state] ?? 0) + amount;
}

function isUnpriced(row: Row | undefined): boolean {
  return row === undefined || row.sums.unpriced || row.sums.currency === undefined;
}

function keyOf(dimensions: Dimensions): string {
  return Object.entries(dimensions).flat().join("\n");
}

function row(step: Step, dimensions: Dimensions): Row {
  const key = keyOf(dimensions);
  const known = step.rows.get(key);
  if (known !== undefined) return known;
  const fresh = { dimensions, sums: empty(), homes: new Set<string>() };
  if (step.rows.size < ROWS_MAX) step.rows.set(key, fresh);
  return fresh;
}

function empty(): Sums {
  return { ...emptySums(), cost: {}, currency: undefined, unpriced: false };
}
