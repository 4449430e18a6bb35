// Ready-made ratios for people who look at one host: sliding windows of 1 minute and 1 hour, per server and GPU product.
// They are gauges and described "do not aggregate": a fleet's figure is a quotient of sums of the counters, never a mean
// of these. Windows advance in steps of 10 s, so an hour costs 360 sums a row. A cost is given only for a window in which
// every second of the row had a price, in one currency.
import type {
  ActivityMethod,
  Dimensions,
  Gauge,
  GpuInfo,
  Nanos,
  Posting,
  ServerInterval,
  SettledInterval,
} from "../../model.ts";
import { AttributeSets } from "../attribute-sets.ts";
import type { CostBasis, Kpis } from "./kpis.ts";
import { kpis } from "./kpis.ts";
import type { Row } from "./step-rows.ts";
import { Rows } from "./step-rows.ts";

const STEP_NANOS = 10e9;
const WINDOWS = [
  ["1m", 60e9],
  ["1h", 3600e9],
] as const;
const EVERY_MS = 10_000;
const ROWS_MAX = 500;

interface Step {
  readonly from: Nanos;
  to: Nanos;
  readonly rows: Rows;
}

/** Sums of the last hour, and the gauges made of them. */
export class Convenience {
  readonly #steps: Step[] = [];
  /** The one product of each server's GPUs in an interval, null where there are several. */
  readonly #products = new Map<string, string | null>();
  readonly #sets = new AttributeSets();
  #reported = 0;

  /** Takes an interval and what it cost in; returns gauges once per 10 s. */
  takeInterval(
    interval: SettledInterval,
    gpus: ReadonlyMap<string, GpuInfo>,
    money: readonly Posting[] = [],
  ): readonly Gauge[] {
    const { rows } = this.#stepAt(interval);
    this.#products.clear();
    for (const gpu of interval.gpus) {
      const name = gpus.get(gpu.gpu)?.name;
      if (name === undefined) continue;
      const product = rows.row("product", name);
      product.addStates(name, gpu.nanos, gpu.millijoules);
      product.addUnknown(gpu.activityMethod, gpu.nanos);
      for (const { millijoules, nanos, server } of gpu.residents) {
        if (server === "unmetered" || server === "unattributed") continue;
        const known = this.#products.get(server);
        this.#products.set(server, known === undefined || known === name ? name : null);
        const own = rows.row("server", server);
        own.addStates(name, nanos, millijoules);
        own.addUnknown(methodOf(interval.servers, server), nanos);
      }
    }
    for (const server of interval.servers) {
      rows.row("server", server.server).addTokens(server);
      // A server over GPUs of two products has no one product its tokens belong to.
      const product = this.#products.get(server.server) ?? undefined;
      if (product !== undefined) rows.row("product", product).addTokens(server);
    }
    for (const posting of money) if (posting.metric === "tokenwatt.cost") addCost(rows, posting);
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
    const step: Step = { from: interval.from, to: interval.to, rows: new Rows(ROWS_MAX) };
    this.#steps.push(step);
    while ((this.#steps[0]?.to ?? 0) < interval.to - 3600e9) this.#steps.shift();
    return step;
  }

  #gauges(at: Nanos): readonly Gauge[] {
    const gauges: Gauge[] = [];
    for (const [name, nanos] of WINDOWS) {
      const window = new Rows();
      for (const { from, rows } of this.#steps) {
        if (from < at - nanos) continue;
        for (const row of rows.all) {
          const total = window.row(row.kind, row.name);
          total.addRow(row);
          for (const home of row.homes) total.unpriced ||= isUnpriced(rows.find("product", home));
        }
      }
      for (const total of window.all)
        for (const gauge of ratios(total, name, at))
          gauges.push({ ...gauge, dimensions: this.#sets.same(gauge.dimensions) });
    }
    return gauges;
  }
}

function methodOf(servers: readonly ServerInterval[], id: string): ActivityMethod {
  for (const { activityMethod, server } of servers) if (server === id) return activityMethod;
  return "unknown";
}

function ratios(total: Row, window: string, at: Nanos): readonly Gauge[] {
  const figures = kpis(total.totals());
  const values = [
    ["tokenwatt.tokens_per_gpu_hour", figures.tokensPerGpuHour],
    ["tokenwatt.tokens_per_joule", figures.tokensPerJoule],
    ["tokenwatt.token_active_utilization", figures.tokenActiveUtilization],
  ] as const;
  const windowed = { ...total.dimensions, "tokenwatt.window": window };
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
  return [...gauges, ...costs(windowed, figures, total, at)];
}

/** A server holds nothing but allocated time, so a figure of its fleet means nothing. */
function costs(
  windowed: Dimensions,
  figures: Kpis,
  { currency, unpriced }: Row,
  at: Nanos,
): readonly Gauge[] {
  if (currency === undefined || unpriced) return [];
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
function addCost(rows: Rows, posting: Posting): void {
  const { "hw.model": product = "", "tokenwatt.server.id": server = "" } = posting.dimensions;
  rows.find("product", product)?.addCost(posting);
  rows.find("server", server)?.addCost(posting);
}

function isUnpriced(row: Row | undefined): boolean {
  return row === undefined || row.unpriced || row.currency === undefined;
}
