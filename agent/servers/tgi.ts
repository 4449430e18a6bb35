// Text Generation Inference's metric page (router/src/server.rs, backends/v3, db931fc, 2026-01).
// Volume: the sums of the two length histograms, when a request is validated and when it ends; no counter exists, no
// model label either (name it with `modelAliases` or read it from the gateway). Input includes prefix hits, unsplit.
// Progress: prefill and decode calls, once per batch step; one call follows the other (router/src/infer), so that what they
// took is how long requests were in execution. Counters have no `_total`; durations are seconds.
import type { Outcome } from "../model.ts";
import type { PageReadings } from "./page/readings.ts";
import { textServer } from "./page/server.ts";

const FAILURES: Readonly<Record<string, Outcome>> = { overloaded: "rejected", dropped: "aborted" };

/** TGI's router. */
export const tgi = textServer({
  name: "tgi",
  family: "engine",
  port: 3000,
  path: "/metrics",
  volume: "finish",
  neverSplits: true,
  labels: {},
  families: [
    "tgi_request_input_length",
    "tgi_request_generated_tokens",
    "tgi_request_success",
    "tgi_request_failure",
    "tgi_batch_inference_count",
    "tgi_batch_inference_duration_sum",
    "tgi_batch_current_size",
    "tgi_queue_size",
    "tgi_request_duration",
    "tgi_request_queue_duration",
    "tgi_request_mean_time_per_token_duration",
  ],
  recognises: (page) =>
    page.samples.has("tgi_request_count") || page.samples.has("tgi_queue_size")
      ? "tgi_* families"
      : undefined,
  read: (readings) => {
    readings.input("tgi_request_input_length_sum", () => undefined);
    readings.tokens("output", "tgi_request_generated_tokens_sum");
    for (const sample of readings.counters("tgi_batch_inference_count")) {
      const decode = sample.labels["method"] === "decode";
      readings.of(sample.labels).progress(decode ? 0 : sample.value, decode ? sample.value : 0);
    }
    readings.progressMoves("step");
    readings.active(callSeconds(readings));
    readings.requests("tgi_request_success", () => "ok");
    readings.requests("tgi_request_failure", (labels) => FAILURES[labels["err"] ?? ""] ?? "error");
    readings.inFlight("running", "tgi_batch_current_size");
    readings.inFlight("waiting", "tgi_queue_size");
    // Observed beside tgi_request_success (router/src/server.rs), never for a failure.
    readings.latency("request_duration", "tgi_request_duration", { outcome: "ok" });
    readings.latency("queue_time", "tgi_request_queue_duration", { outcome: "ok" });
    readings.latency("time_per_output_token", "tgi_request_mean_time_per_token_duration", { outcome: "ok" });
  },
});

/** Seconds that calls of the model took, both methods; undefined where the page does not say. */
function callSeconds(readings: PageReadings): number | undefined {
  const calls = readings.counters("tgi_batch_inference_duration_sum");
  return calls.length === 0 ? undefined : calls.reduce((sum, { value }) => sum + value, 0);
}
