// The hour of deploy-kpis-truth.ts as a ledger, and what `tokenwatt report` says of it, figure by figure.
import { mkdirSync } from "node:fs";
import { LEDGER_UNITS } from "../../agent/export/metrics/metric.ts";
import { findMetric } from "../../agent/export/metrics/metrics.ts";
import { Books } from "../../agent/meter/books.ts";
import type { AnyPosting, Posting } from "../../agent/model.ts";
import type { GroupName } from "../../deploy/prometheus/kpis.ts";
import { gatewayLatencies, kpis, latencies } from "../../deploy/prometheus/kpis.ts";
import { runCommand } from "../cli/capture-io.ts";
import { LedgerAtOnce } from "../store/ledger/ledger-at-once.ts";
import type { Attributes, Question } from "./deploy-kpis-truth.ts";
import { a, BUCKETS, counters, ENDED, FROM, HOUR, server } from "./deploy-kpis-truth.ts";

/**
 * What this report does not say: busy seconds, which no report has; rates, which divide by the time an agent covered, and
 * nobody ran here; shares of customers and what rests on them, which the ledger works out itself and test/meter holds.
 */
export const NOT_REPORTED: readonly RegExp[] = [
  /^tokens_per_busy_gpu_hour /,
  / per second by /,
  /^tenant_(?!revenue )/,
];

/** How a report is grouped for a group of the queries. */
const BY: Readonly<Record<GroupName, string>> = {
  ...{ fleet: "", gpu_model: "gpu_type", server: "server", replica: "server", model: "model" },
  ...{ tenant: "tenant", endpoint: "endpoint", kind: "kind", outcome: "outcome" },
};

type Line = Readonly<Record<string, unknown>> & { readonly kpis: Readonly<Record<string, unknown>> };

/** Answers in the order of the questions; none where a report has no such figure. */
export async function askReport(
  folder: string,
  questions: readonly Question[],
): Promise<readonly (Readonly<Record<string, number>> | undefined)[]> {
  fill(folder);
  const cache = new Map<string, Promise<Line[]>>();
  const linesOf = (by: string, source: string): Promise<Line[]> => {
    const key = `${by} ${source}`;
    const known = cache.get(key) ?? report(folder, by, source);
    cache.set(key, known);
    return known;
  };
  return Promise.all(
    questions.map(async ({ group, name }) => {
      const figure = figureOf(name);
      if (figure === undefined) return undefined;
      const lines = await linesOf(BY[group], figure.source);
      const found = lines.flatMap((line) => {
        const value = figure.of(line);
        if (value === undefined || value === null) return [];
        const key = BY[group] === "" ? "" : String(line[BY[group]] ?? "");
        return key === "" && group !== "fleet"
          ? []
          : [[group === "replica" ? `gpu-1 ${key}` : key, Number(value)] as const];
      });
      return Object.fromEntries(found);
    }),
  );
}

/** The hour as a ledger: everything counted in its middle, closed at its end. */
function fill(folder: string): void {
  mkdirSync(folder, { recursive: true });
  const start = BigInt(FROM) * 1_000_000_000n;
  const books = new Books({ start, unixNanos: (at) => start + BigInt(Math.round(at)) });
  const database = new LedgerAtOnce({ folder, pid: 1, freeBytesMin: 0, agentId: "i1" });
  const sums = counters.flatMap(({ attributes, gain, metric }): Posting[] => {
    const row = findMetric(metric);
    if (row === undefined || OWN_ARITHMETIC.test(metric)) return [];
    const amount = Math.round(gain * LEDGER_UNITS[row.ledger]);
    const kept = keptAs(metric, attributes);
    return [{ metric, dimensions: attributes, amount, ...(kept === undefined ? {} : { kept }) }];
  });
  const histograms = [...latencies, ...gatewayLatencies].flatMap((metric) =>
    ENDED.map(({ counts, outcome }) => ({
      metric,
      dimensions: {
        ...(latencies.includes(metric) ? server : a),
        ...(outcome === undefined ? {} : { "tokenwatt.outcome": outcome }),
      },
      histogram: {
        ...{ bounds: BUCKETS.bounds, counts, sum: 0 },
        count: counts.reduce((all, one) => all + one, 0),
      },
    })),
  );
  const postings: AnyPosting[] = [...sums, ...histograms];
  books.ledger.bookPostings(postings, (HOUR / 2) * 1e9);
  for (const at of [HOUR, HOUR + 1800]) {
    const { batch } = books.commit(start + BigInt(at) * 1_000_000_000n, at * 1e9);
    database.commit(batch);
  }
  database.close();
}

/** What the ledger keeps beside what is exported: what customers pay and for which server. */
function keptAs(metric: string, attributes: Attributes): Attributes | undefined {
  if (metric !== "tokenwatt.gateway.tokens") return undefined;
  const perMillion = PER_MILLION[attributes["tokenwatt.token.kind"] ?? ""];
  const isBilled = attributes["tokenwatt.outcome"] === "ok" && perMillion !== undefined;
  return {
    ...{ ...attributes, ...server, "hw.model": "H100", "tokenwatt.upstream": "here" },
    ...(isBilled ? { ...PRICE, "tokenwatt.price.per_million": perMillion } : {}),
  };
}

/** The ledger shares out by model and customer itself, and has revenue in the price of tokens. */
const OWN_ARITHMETIC = /^tokenwatt\.(model\.|tenant\.|revenue$)/;

const PRICE = { "tokenwatt.currency": "USD", "tokenwatt.price.version": "1" };
const PER_MILLION: Readonly<Record<string, string>> = { input_uncached: "2.5", output: "1" };

async function report(folder: string, by: string, source: string): Promise<Line[]> {
  const iso = (seconds: number): string => new Date(seconds * 1000).toISOString().replace(".000", "");
  const { stderr, stdout } = await runCommand([
    ...["report", "--state-dir", folder, "--json", "--source", source],
    ...["--from", iso(FROM), "--to", iso(FROM + HOUR)],
    ...(by === "" ? [] : ["--by", by]),
  ]);
  if (stdout === "") throw new Error(stderr);
  return (JSON.parse(stdout) as { lines: Line[] }).lines;
}

/** A cost on the whole fleet, or what servers held. */
type Bases = { readonly fleet?: number | null; readonly allocation?: number | null };

interface Figure {
  readonly source: "engine" | "gateway";
  readonly of: (line: Line) => unknown;
}

/** Where a report has a figure, if it does. */
function figureOf(name: string): Figure | undefined {
  const [metric = "", percentile] = name.replace(" failed", "").split(" p");
  const field = name.includes(" failed ") ? "failed_latency_seconds" : "latency_seconds";
  if (/^\d+$/.test(percentile ?? "")) {
    const source = gatewayLatencies.includes(metric) ? "gateway" : "engine";
    const latency = metric
      .replace(/^(gen_ai|tokenwatt)\.(server|gateway)\./, "")
      .replace("request.duration", "request_duration");
    return {
      source,
      of: (line) => (line[field] as Record<string, Record<string, number>>)[latency]?.[`p${percentile}`],
    };
  }
  const usage = USAGE[name];
  if (usage !== undefined) return usage;
  // The report's margin of a customer rests on shares that its own ledger worked out: test/cli/report holds it.
  if (name.startsWith("tenant_")) return undefined;
  if (name !== "intensity" && !kpis.some((kpi) => kpi.name === name)) return undefined;
  const key = name.replace(/^model_/, "");
  return {
    source: name === "error_share" ? "gateway" : "engine",
    of: ({ kpis: found }) => {
      const value = found[key];
      return typeof value === "object" && value !== null
        ? ((value as Bases).fleet ?? (value as Bases).allocation)
        : value;
    },
  };
}

const USAGE: Readonly<Record<string, Figure>> = {
  gateway_tokens: { source: "gateway", of: (line) => line["total_tokens"] },
  gateway_requests: { source: "gateway", of: (line) => line["total_requests"] },
  tokens: { source: "engine", of: (line) => line["total_tokens"] },
  tenant_revenue: { source: "gateway", of: (line) => line["revenue"] },
  revenue_earned: { source: "engine", of: (line) => line["revenue"] },
};
