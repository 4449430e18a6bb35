// LMDeploy's metric page (lmdeploy/metrics/loggers.py, 1263d5c). Volume and progress: prompt and generation tokens per
// engine step, summed over `engine`. cached_tokens moves only when a request ends, so it cannot split the input without
// making the split fall: input is unsplit. request_success counts every end, failures included.
import type { Outcome } from "../model.ts";
import { textServer } from "./text-server.ts";

/** LMDeploy's api_server. */
export const lmdeploy = textServer({
  name: "lmdeploy",
  family: "engine",
  port: 23333,
  path: "/metrics",
  volume: "step",
  labels: { modelLabel: "model_name" },
  families: [
    "lmdeploy_prompt_tokens",
    "lmdeploy_generation_tokens",
    "lmdeploy_request_success",
    "lmdeploy_num_requests_running",
    "lmdeploy_num_requests_waiting",
    "lmdeploy_gpu_cache_usage_perc",
    "lmdeploy_time_to_first_token_seconds",
    "lmdeploy_time_per_output_token_seconds",
    "lmdeploy_e2e_request_latency_seconds",
    "lmdeploy_request_queue_time_seconds",
  ],
  recognises: (page) =>
    page.samples.has("lmdeploy_generation_tokens") || page.samples.has("lmdeploy_num_requests_running")
      ? "lmdeploy:* families"
      : undefined,
  read: (readings) => {
    readings.input("lmdeploy_prompt_tokens", () => undefined);
    readings.tokens("output", "lmdeploy_generation_tokens");
    readings.requests("lmdeploy_request_success", (labels) => outcomeOf(labels["finished_reason"] ?? ""));
    readings.inFlight("running", "lmdeploy_num_requests_running");
    readings.inFlight("waiting", "lmdeploy_num_requests_waiting");
    readings.kvCache("lmdeploy_gpu_cache_usage_perc");
    readings.latency("time_to_first_token", "lmdeploy_time_to_first_token_seconds");
    readings.latency("inter_token_latency", "lmdeploy_time_per_output_token_seconds");
    readings.latency("request_duration", "lmdeploy_e2e_request_latency_seconds");
    readings.latency("queue_time", "lmdeploy_request_queue_time_seconds");
    readings.epoch();
  },
});

/** `ResponseType.FINISH` and the like. */
function outcomeOf(reason: string): Outcome {
  if (/(FINISH|SUCCESS)$/.test(reason)) return "ok";
  return /CANCEL/.test(reason) ? "aborted" : "error";
}
