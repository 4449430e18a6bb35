// The agent's own health as OTLP metrics, through the stock SDK: what it costs, how its sources and senders do.
// A few dozen series where a lost point does no harm, so the SDK's limits (no retry, no start times) do not matter here.
// Load this file with import(): the SDK takes 17 MB. A second NodeSDK in one process reports nothing unless the first
// one's provider was disabled, which `stop` does.
import { monitorEventLoopDelay } from "node:perf_hooks";
import { metrics as api } from "@opentelemetry/api";
import { OTLPMetricExporter } from "@opentelemetry/exporter-metrics-otlp-grpc";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";
import { NodeSDK } from "@opentelemetry/sdk-node";
import { callMetadata, channelCredentials } from "../grpc.ts";
import type { Attributes } from "./otlp-attributes.ts";
import type { Destination } from "./otlp-config.ts";

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
  readonly lostPoints: number;
  readonly polls: Tally;
  readonly pollSeconds: Tally;
  readonly gaps: Tally;
  readonly sourceRestarts: Tally;
}

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
  const { target } = destination.target;
  const secure = destination.target.tls !== undefined;
  const exporter = new OTLPMetricExporter({
    url: target.startsWith("unix:") ? target : `${secure ? "https" : "http"}://${target}`,
    timeoutMillis: destination.timeoutMs,
    metadata: callMetadata(destination.target),
    ...(secure ? { credentials: channelCredentials(destination.target) } : {}),
  });
  const reader = new PeriodicExportingMetricReader({
    exporter,
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
  const counter = (name: string, unit: string, description: string) =>
    meter.createObservableCounter(`tokenwatt.agent.${name}`, { unit, description });
  const gauge = (name: string, unit: string, description: string) =>
    meter.createObservableGauge(`tokenwatt.agent.${name}`, { unit, description });
  const tally = (
    name: string,
    unit: string,
    key: string,
    description: string,
    read: (now: SelfStats) => Tally,
  ): void => {
    counter(name, unit, description).addCallback((result) => {
      for (const [value, count] of Object.entries(read(stats()))) result.observe(count, { [key]: value });
    });
  };
  counter("cpu_time", "s", "Processor time of the agent").addCallback((result) => {
    const { user, system } = process.cpuUsage();
    result.observe(user / 1e6, { "cpu.mode": "user" });
    result.observe(system / 1e6, { "cpu.mode": "system" });
  });
  gauge("memory", "By", "Resident memory of the agent").addCallback((result) =>
    result.observe(process.memoryUsage.rss()),
  );
  gauge("event_loop_delay", "s", "Longest delay of the event loop since the last report").addCallback(
    (result) => {
      result.observe(delay.max / 1e9);
      delay.reset();
    },
  );
  const destination = "tokenwatt.destination";
  const source = "tokenwatt.source";
  tally("exported_points", "{point}", destination, "Points delivered", (now) => now.exportedPoints);
  tally("export_calls", "{call}", destination, "Calls to the destination", (now) => now.exportCalls);
  tally("export_time", "s", destination, "Time spent in calls", (now) => now.exportSeconds);
  tally("export_retries", "{call}", destination, "Calls that failed and are repeated", (now) => now.retries);
  tally("polls", "{poll}", source, "Polls of a source", (now) => now.polls);
  tally("poll_time", "s", source, "Time spent polling", (now) => now.pollSeconds);
  tally("gaps", "{gap}", source, "Polls that gave no reading", (now) => now.gaps);
  tally("source_restarts", "{restart}", source, "Restarts of a source", (now) => now.sourceRestarts);
  counter("dropped_points", "{point}", "Points a destination refused for good").addCallback((result) => {
    for (const [name, reasons] of Object.entries(stats().droppedPoints)) {
      for (const [reason, count] of Object.entries(reasons))
        result.observe(count, { [destination]: name, reason });
    }
  });
  counter("lost_points", "{point}", "Points the spool had to give up").addCallback((result) =>
    result.observe(stats().lostPoints),
  );
  gauge("queued_records", "{record}", "Requests in the spool").addCallback((result) =>
    result.observe(stats().queuedRecords),
  );
  gauge("queued_bytes", "By", "Size of the spool").addCallback((result) =>
    result.observe(stats().queuedBytes),
  );
}
