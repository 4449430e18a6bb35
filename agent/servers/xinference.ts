// A Xinference worker's metric exporter (xinference/core/{metrics,model}.py, 7ecec16, 2.x; docs: user_guide/metrics; the port is
// --metrics-exporter-port; the supervisor's page at :9997 has no tokens). Volume: counters at the end of an answer whose usage
// was seen, per model replica; input unsplit. generate_tokens_total (since 2.6) repeats the output, generate_tokens_per_s and
// time_to_first_token_ms (before) are gauges of the last answer: none of them is read. Requests and what runs: since 2.6.
import type { PageReadings } from "./page/readings.ts";
import { textServer } from "./page/server.ts";

const INPUT = "xinference_input_tokens_total_counter";
const OUTPUT = "xinference_output_tokens_total_counter";
const REQUESTS = "xinference_model_request";

/** A Xinference worker. */
export const xinference = textServer({
  name: "xinference",
  family: "engine",
  port: 9998,
  path: "/metrics",
  volume: "finish",
  neverSplits: true,
  // `model` is what a release before 2.6 called the model's uid, which is the name callers use.
  labels: { modelLabel: ["model_uid", "model", "model_name"] },
  families: [
    INPUT,
    OUTPUT,
    REQUESTS,
    `${REQUESTS}_errors`,
    "xinference_model_serve_count",
    "xinference_time_to_first_token_seconds",
    `${REQUESTS}_duration_seconds`,
  ],
  recognises: (page) =>
    [INPUT, OUTPUT, "xinference_model_serve_count", "xinference_generate_tokens_per_s"].some((name) =>
      page.samples.has(name),
    )
      ? "xinference:* families of a worker"
      : undefined,
  read: (readings) => {
    readings.input(INPUT, () => undefined);
    readings.tokens("output", OUTPUT);
    readRequests(readings);
    readings.inFlight("running", "xinference_model_serve_count");
    readings.latency("time_to_first_token", "xinference_time_to_first_token_seconds");
    readings.latency("request_duration", `${REQUESTS}_duration_seconds`);
    readings.epoch();
  },
});

/** Failed requests are counted among all of them. */
function readRequests(readings: PageReadings): void {
  const failed = readings.parts(`${REQUESTS}_errors`);
  for (const [part, { labels, value }] of readings.sums(REQUESTS, ["stream"])) {
    readings.of(labels).requests("ok", Math.max(0, value - (failed.get(part) ?? 0)));
  }
  readings.requests(`${REQUESTS}_errors`, () => "error");
}
