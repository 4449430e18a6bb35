// What the agent says about itself (scope `tokenwatt.agent`), as data: metrics.ts makes instruments of it,
// METRICS.md a table. Kept apart so that the page needs no SDK.

/** One metric of the agent's own. */
export interface SelfMetric {
  readonly name: `tokenwatt.agent.${string}`;
  readonly kind: "counter" | "gauge";
  readonly unit: string;
  readonly attributes: readonly string[];
  readonly description: string;
}

const TO = ["tokenwatt.destination"];
const FROM = ["tokenwatt.source"];

function row(
  kind: SelfMetric["kind"],
  name: string,
  unit: string,
  attributes: readonly string[],
  description: string,
): SelfMetric {
  return { name: `tokenwatt.agent.${name}`, kind, unit, attributes, description };
}

/** Every metric of the agent's own, by what it reports. */
export const selfMetrics = {
  cpuTime: row("counter", "cpu_time", "s", ["cpu.mode"], "Processor time of the agent"),
  memory: row("gauge", "memory", "By", [], "Resident memory of the agent"),
  eventLoopDelay: row(
    "gauge",
    "event_loop_delay",
    "s",
    [],
    "Longest delay of the event loop since the last report",
  ),
  exportedPoints: row("counter", "exported_points", "{point}", TO, "Points delivered"),
  droppedPoints: row(
    "counter",
    "dropped_points",
    "{point}",
    [...TO, "reason"],
    "Points a destination refused for good",
  ),
  exportCalls: row("counter", "export_calls", "{call}", TO, "Calls to the destination"),
  exportSeconds: row("counter", "export_time", "s", TO, "Time spent in calls"),
  retries: row("counter", "export_retries", "{call}", TO, "Calls that failed and are repeated"),
  lostPoints: row("counter", "lost_points", "{point}", ["reason"], "Points the spool had to give up"),
  unsentSeconds: row(
    "gauge",
    "unsent_age",
    "s",
    TO,
    "Age of the oldest request that waits for the destination",
  ),
  deadLetters: row("gauge", "dead_letters", "{request}", [], "Refused requests that wait for a person"),
  queuedRecords: row("gauge", "queued_records", "{record}", [], "Requests in the spool"),
  queuedBytes: row("gauge", "queued_bytes", "By", [], "Size of the spool"),
  ledgerRecords: row("gauge", "ledger_records", "{record}", [], "Length of the ledger's audit chain"),
  ledgerHead: row(
    "gauge",
    "ledger_head",
    "1",
    [],
    "First 52 bits of the audit chain's last hash, as a number: with the length, what `tokenwatt verify --against` compares",
  ),
  polls: row("counter", "polls", "{poll}", FROM, "Polls of a source"),
  pollSeconds: row("counter", "poll_time", "s", FROM, "Time spent polling"),
  gaps: row("counter", "gaps", "{gap}", FROM, "Polls that gave no reading"),
  sourceRestarts: row("counter", "source_restarts", "{restart}", FROM, "Restarts of a source"),
} as const satisfies Readonly<Record<string, SelfMetric>>;
