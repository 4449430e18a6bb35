// MindIE's service page for Ascend NPUs (MindIE 2.x, service metrics of its documentation): vLLM's names without a prefix, known
// by its NPU's KV cache beside them. Read for its tokens: GPU time and joules of an NPU are none of this program's. Volume:
// when it moves is not documented, so it is not taken for progress. Input unsplit: hits show only as a rate. A Coordinator's page
// looks the same and sums its nodes: read the nodes. Several models are joined in one name with `&`.
import { textServer } from "./page/server.ts";

/** MindIE behind its OpenAI-compatible HTTP server, at the management port. */
export const mindie = textServer({
  name: "mindie",
  family: "engine",
  port: 1027,
  path: "/metrics",
  volume: "finish",
  neverSplits: true,
  labels: { modelLabel: "model_name" },
  families: [
    "prompt_tokens",
    "generation_tokens",
    "request_success",
    "request_failed",
    "num_requests_running",
    "num_requests_waiting",
    "npu_cache_usage_perc",
    "time_to_first_token_seconds",
    "time_per_output_token_seconds",
    "e2e_request_latency_seconds",
  ],
  recognises: (page) =>
    page.samples.has("npu_cache_usage_perc") &&
    (page.samples.has("generation_tokens") || page.samples.has("num_requests_running"))
      ? "npu_cache_usage_perc beside vLLM's names without a prefix"
      : undefined,
  read: (readings) => {
    readings.input("prompt_tokens", () => undefined);
    readings.tokens("output", "generation_tokens");
    readings.requests("request_success", () => "ok");
    readings.requests("request_failed", () => "error");
    readings.inFlight("running", "num_requests_running");
    readings.inFlight("waiting", "num_requests_waiting");
    readings.kvCache("npu_cache_usage_perc");
    readings.latency("time_to_first_token", "time_to_first_token_seconds");
    readings.latency("inter_token_latency", "time_per_output_token_seconds");
    readings.latency("request_duration", "e2e_request_latency_seconds");
    readings.epoch();
  },
});
