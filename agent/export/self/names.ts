// What the agent says about itself (scope `tokenwatt.agent`), as rows of the same kind as the contract's: points.ts fills
// them, metrics.ts sends them through the SDK, /metrics shows them, METRICS.md lists them. Names of the OpenTelemetry
// conventions (process.*, otel.sdk.exporter.*, nodejs.*) where they have one, ours where they have none.
import type { Metric } from "../metrics/metric.ts";

const TO = "tokenwatt.destination";
const FROM = "tokenwatt.source";
/** The conventions' name of a call's status. */
export const RPC_CODE = "rpc.response.status_code";
/** Of an exporter; `error.type` only on what failed. */
const EXPORTER = [TO, "otel.component.type", "otel.component.name", "error.type"];

function row(
  kind: Metric["kind"],
  name: string,
  unit: string,
  attributes: readonly string[],
  description: string,
): Metric {
  const isOwn = name.startsWith("tokenwatt.");
  return {
    ...{ name, kind, unit, attributes, description },
    number: "double",
    ledger: "one",
    stability: isOwn ? "contract" : "development",
  };
}

function own(
  kind: "sum" | "gauge",
  name: string,
  unit: string,
  attributes: readonly string[],
  about: string,
): Metric {
  return row(kind, `tokenwatt.agent.${name}`, unit, attributes, about);
}

/** Every metric of the agent's own, by what it reports. */
export const selfMetrics = {
  cpuTime: row("sum", "process.cpu.time", "s", ["cpu.mode"], "Processor time of the agent"),
  memory: row("level", "process.memory.usage", "By", [], "Resident memory of the agent"),
  uptime: row("gauge", "process.uptime", "s", [], "Seconds since the agent started"),
  eventLoopDelay: row(
    "gauge",
    "nodejs.eventloop.delay.max",
    "s",
    [],
    "Longest delay of the event loop in the last six commits, or a minute where that is less",
  ),
  exportedPoints: row(
    "sum",
    "otel.sdk.exporter.metric_data_point.exported",
    "{data_point}",
    EXPORTER,
    "Points a destination gave its last word on: taken, or with error.type refused for good",
  ),
  exportDuration: row(
    "histogram",
    "otel.sdk.exporter.operation.duration",
    "s",
    EXPORTER,
    "Time from the first attempt to send a request to the last word on it, pauses between attempts included",
  ),
  retries: own("sum", "export_retries", "{call}", [TO], "Calls that failed and are repeated"),
  lostPoints: own("sum", "lost_points", "{point}", ["tokenwatt.reason"], "Points the spool had to give up"),
  unsentSeconds: own(
    "gauge",
    "unsent_age",
    "s",
    [TO],
    "Age of the oldest request that waits for the destination",
  ),
  deadLetters: own("gauge", "dead_letters", "{request}", [], "Refused requests that wait for a person"),
  queuedRecords: own("gauge", "queued_records", "{record}", [], "Requests in the spool"),
  queuedBytes: own("gauge", "queue_size", "By", [], "Size of the spool"),
  ledgerRecords: own("gauge", "ledger_records", "{record}", [], "Length of the ledger's audit chain"),
  ledgerHead: own(
    "gauge",
    "ledger_head",
    "{hash}",
    [],
    "First 52 bits of the audit chain's last hash, as a number: with the length, what `tokenwatt verify --against` compares",
  ),
  polls: own("sum", "polls", "{poll}", [FROM], "Polls of a source"),
  pollSeconds: own("sum", "poll_time", "s", [FROM], "Time spent polling"),
  gaps: own("sum", "gaps", "{gap}", [FROM], "Polls that gave no reading"),
  auditUnsent: own("gauge", "audit_unsent", "{record}", [TO], "Audit records that wait for the destination"),
  auditLost: own("sum", "audit_lost", "{record}", [TO], "Audit records the destination refused for good"),
  rlsCalls: own("sum", "rls_calls", "{call}", [RPC_CODE], "Rate-limit calls, by what they were answered"),
  rlsSeconds: own("sum", "rls_time", "s", [], "Time spent answering rate-limit calls"),
  orcaStreams: own("gauge", "orca_streams", "{stream}", [], "Streams on which load of servers is reported"),
  sourceRestarts: own("sum", "source_restarts", "{restart}", [FROM], "Restarts of a source"),
} as const satisfies Readonly<Record<string, Metric>>;
