// The agent's own health as OTLP metrics, through the stock SDK: what it costs, how its sources and senders do.
// A few dozen series where a lost point does no harm, so the SDK's limits (no retry, no start times) do not matter here.
// Load this file with import(): the SDK takes 17 MB. A second NodeSDK in one process reports nothing unless the first
// one's provider was disabled, which `stop` does.
import { monitorEventLoopDelay } from "node:perf_hooks";
import type { ObservableResult } from "@opentelemetry/api";
import { metrics as api } from "@opentelemetry/api";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";
import { NodeSDK } from "@opentelemetry/sdk-node";
import type { Attributes } from "../otlp/attributes.ts";
import type { Destination } from "../otlp/config.ts";
import { selfExporter } from "./exporter.ts";
import type { SelfMetric } from "./names.ts";
import { selfMetrics } from "./names.ts";

/** Counted by name of what it is counted for: a reason, a source, a destination. */
export type Tally = Readonly<Record<string, number>>;

/** What is reported beside the process' own figures; totals since start unless said otherwise. */
export interface SelfStats {
  readonly exportedPoints: Tally;
  readonly droppedPoints: Readonly<Record<string, Tally>>;
  readonly exportCalls: Tally;
  readonly exportSeconds: Tally;
  readonly retries: Tally;
  /** Now. */
  readonly queuedRecords: number;
  readonly queuedBytes: number;
  /** By reason. */
  readonly lostPoints: Tally;
  readonly deadLetters: number;
  /** By destination: age of the oldest record that waits for it. */
  readonly unsentSeconds: Tally;
  /** The audit chain as last stored; absent without a ledger on disk. */
  readonly ledgerHead?: { readonly length: number; readonly hash: string } | undefined;
  readonly polls: Tally;
  readonly pollSeconds: Tally;
  readonly gaps: Tally;
  readonly sourceRestarts: Tally;
}

/** The running report of the agent's own metrics to one destination. */
export interface SelfMetrics {
  /** Exports once more and stops; never rejects. */
  stop(): Promise<void>;
}

/** Starts reporting to one destination. A destination that does not answer costs nothing but the points. */
export async function startSelfMetrics(options: {
  readonly destination: Destination;
  readonly resource: Attributes;
  readonly intervalMs: number;
  readonly stats: () => SelfStats;
}): Promise<SelfMetrics> {
  const { destination, resource, intervalMs, stats } = options;
  const reader = new PeriodicExportingMetricReader({
    exporter: selfExporter(destination),
    exportIntervalMillis: intervalMs,
    exportTimeoutMillis: Math.min(intervalMs, destination.timeoutMs),
  });
  const sdk = new NodeSDK({
    resource: resourceFromAttributes(resource),
    autoDetectResources: false,
    metricReaders: [reader],
    spanProcessors: [],
    logRecordProcessors: [],
  });
  sdk.start();
  const delay = monitorEventLoopDelay({ resolution: 20 });
  delay.enable();
  observe(stats, delay);
  return {
    stop: async () => {
      delay.disable();
      await sdk.shutdown().catch(() => {});
      api.disable();
    },
  };
}

function observe(stats: () => SelfStats, delay: ReturnType<typeof monitorEventLoopDelay>): void {
  const meter = api.getMeter("tokenwatt.agent");
  const on = (
    { description, kind, name, unit }: SelfMetric,
    read: (result: ObservableResult) => void,
  ): void => {
    const options = { unit, description };
    const made =
      kind === "counter"
        ? meter.createObservableCounter(name, options)
        : meter.createObservableGauge(name, options);
    made.addCallback(read);
  };
  on(selfMetrics.cpuTime, (result) => {
    const { user, system } = process.cpuUsage();
    result.observe(user / 1e6, { "cpu.mode": "user" });
    result.observe(system / 1e6, { "cpu.mode": "system" });
  });
  on(selfMetrics.memory, (result) => result.observe(process.memoryUsage.rss()));
  on(selfMetrics.eventLoopDelay, (result) => {
    result.observe(delay.max / 1e9);
    delay.reset();
  });
  for (const key of TALLIES) {
    const metric = selfMetrics[key];
    on(metric, (result) => {
      for (const [value, count] of Object.entries(stats()[key])) {
        result.observe(count, { [metric.attributes[0] ?? ""]: value });
      }
    });
  }
  for (const key of PLAIN) on(selfMetrics[key], (result) => result.observe(stats()[key]));
  // A hash as an attribute would be a series for every beat; 52 bits of it fit a number, and leave the host all the same.
  on(selfMetrics.ledgerRecords, (result) => {
    const head = stats().ledgerHead;
    if (head !== undefined) result.observe(head.length);
  });
  on(selfMetrics.ledgerHead, (result) => {
    const head = stats().ledgerHead;
    if (head !== undefined) result.observe(Number.parseInt(head.hash.slice(0, 13) || "0", 16));
  });
  on(selfMetrics.droppedPoints, (result) => {
    for (const [destination, reasons] of Object.entries(stats().droppedPoints)) {
      for (const [reason, count] of Object.entries(reasons)) {
        result.observe(count, { "tokenwatt.destination": destination, reason });
      }
    }
  });
}

const TALLIES = [
  "exportedPoints",
  "exportCalls",
  "exportSeconds",
  "retries",
  "unsentSeconds",
  "lostPoints",
  "polls",
  "pollSeconds",
  "gaps",
  "sourceRestarts",
] as const;
const PLAIN = ["queuedRecords", "queuedBytes", "deadLetters"] as const;
