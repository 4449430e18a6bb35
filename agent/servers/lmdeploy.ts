// LMDeploy's metric page (lmdeploy/metrics/loggers.py, 0.18.0). Volume and progress: prompt and generation tokens per
// engine step, summed over `engine`. cached_tokens moves only when a request ends, so it cannot split the input without
// making the split fall: input is unsplit. request_success counted every end, failures included, in older versions (0.9)
// and only good ones since; num_requests_failed, a cumulative gauge, has the failed ones, given-up ones among them.
import type { Outcome } from "../model.ts";
import type { MetricSample } from "../source.ts";
import type { PageReadings } from "./page/readings.ts";
import { textServer } from "./page/server.ts";

/** LMDeploy's api_server. */
export const lmdeploy = textServer({
  name: "lmdeploy",
  family: "engine",
  port: 23333,
  path: "/metrics",
  volume: "step",
  neverSplits: true,
  labels: { modelLabel: "model_name" },
  families: [
    "lmdeploy_prompt_tokens",
    "lmdeploy_generation_tokens",
    "lmdeploy_request_success",
    "lmdeploy_num_requests_failed",
    "lmdeploy_num_requests_running",
    "lmdeploy_num_requests_waiting",
    "lmdeploy_gpu_cache_usage_perc",
    "lmdeploy_time_to_first_token_seconds",
    "lmdeploy_time_per_output_token_seconds",
    "lmdeploy_e2e_request_latency_seconds",
    "lmdeploy_request_queue_time_seconds",
    "lmdeploy_request_prefill_time_seconds_sum",
    "lmdeploy_request_prefill_time_seconds_count",
    "lmdeploy_request_decode_time_seconds_sum",
  ],
  ranks: [{ label: "engine", counter: "lmdeploy_generation_tokens", gauge: "lmdeploy_num_requests_running" }],
  recognises: (page) =>
    page.samples.has("lmdeploy_generation_tokens") || page.samples.has("lmdeploy_num_requests_running")
      ? "lmdeploy:* families"
      : undefined,
  read: (readings) => {
    readings.input("lmdeploy_prompt_tokens", () => undefined);
    readings.tokens("output", "lmdeploy_generation_tokens");
    readings.requests("lmdeploy_request_success", (labels) => outcomeOf(labels["finished_reason"] ?? ""));
    readUnnamedFailures(readings);
    readings.inFlight("running", "lmdeploy_num_requests_running");
    readings.inFlight("waiting", "lmdeploy_num_requests_waiting");
    readings.kvCache("lmdeploy_gpu_cache_usage_perc");
    readings.latency("time_to_first_token", "lmdeploy_time_to_first_token_seconds");
    readings.latency("inter_token_latency", "lmdeploy_time_per_output_token_seconds");
    readings.latency("request_duration", "lmdeploy_e2e_request_latency_seconds");
    readings.latency("queue_time", "lmdeploy_request_queue_time_seconds");
    readings.phaseTimes("lmdeploy_request_prefill_time_seconds", "lmdeploy_request_decode_time_seconds");
    readings.epoch();
  },
});

/** Failures of versions whose request_success names none: there the gauge counts them, and never falls. */
function readUnnamedFailures(readings: PageReadings): void {
  const failed = ({ labels, value }: MetricSample): boolean =>
    value > 0 && outcomeOf(labels["finished_reason"] ?? "") !== "ok";
  if (readings.counters("lmdeploy_request_success").some(failed)) return;
  for (const { labels, value } of readings.counters("lmdeploy_num_requests_failed"))
    readings.of(labels).requests("error", value);
}

/** `ResponseType.FINISH` and the like. */
function outcomeOf(reason: string): Outcome {
  if (/(FINISH|SUCCESS)$/.test(reason)) return "ok";
  return /CANCEL/.test(reason) ? "aborted" : "error";
}
