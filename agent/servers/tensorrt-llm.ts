// trtllm-serve's Prometheus page (tensorrt_llm/metrics/collector.py@050f80d; needs return_perf_metrics).
// Volume and progress: at the end of a request. `/metrics` is a JSON queue that a reader drains: never read it.
// Cached input is a subset of input; its counter has no series before the first hit, a histogram beside it has, from the
// first request on. Early builds (1.1.0rc5) have no token counter.
import type { PageReadings } from "./page/readings.ts";
import { textServer } from "./page/server.ts";

/** TensorRT-LLM behind trtllm-serve. */
export const tensorrtLlm = textServer({
  name: "tensorrt-llm",
  family: "engine",
  port: 8000,
  path: "/prometheus/metrics",
  volume: "finish",
  withoutTokens:
    "trtllm-serve publishes token counters since 1.2 (1.1.0rc5 had none); update it, or count at a gateway",
  labels: { modelLabel: "model_name" },
  families: [
    "trtllm_prompt_tokens",
    "trtllm_generation_tokens",
    "trtllm_prompt_cached_tokens",
    "trtllm_prompt_cached_tokens_per_request",
    "trtllm_request_success",
    "trtllm_request_error",
    "trtllm_num_requests_running",
    "trtllm_num_requests_waiting",
    "trtllm_kv_cache_utilization",
    "trtllm_time_to_first_token_seconds",
    "trtllm_time_per_output_token_seconds",
    "trtllm_e2e_request_latency_seconds",
    "trtllm_request_queue_time_seconds",
  ],
  recognises: (page) => {
    const name = [...page.samples.keys()].find((each) => each.startsWith("trtllm_"));
    const labels = name === undefined ? undefined : page.samples.get(name)?.[0]?.labels;
    return labels !== undefined && labels["dynamo_component"] === undefined ? "trtllm_* families" : undefined;
  },
  read: (readings) => readTensorrtLlm(readings),
});

/** Gathers TensorRT-LLM's families; other servers that pass them on share it. */
export function readTensorrtLlm(readings: PageReadings): void {
  const cached = readings.parts("trtllm_prompt_cached_tokens");
  const splits =
    cached.size > 0 || readings.page.samples.has("trtllm_prompt_cached_tokens_per_request_count");
  readings.input("trtllm_prompt_tokens", (part) => (splits ? (cached.get(part) ?? 0) : undefined));
  readings.tokens("output", "trtllm_generation_tokens");
  readings.requests("trtllm_request_success", (labels) =>
    labels["finished_reason"] === "cancelled" ? "aborted" : "ok",
  );
  readings.requests("trtllm_request_error", () => "error");
  readings.inFlight("running", "trtllm_num_requests_running");
  readings.inFlight("waiting", "trtllm_num_requests_waiting");
  readings.kvCache("trtllm_kv_cache_utilization");
  readings.latency("time_to_first_token", "trtllm_time_to_first_token_seconds");
  readings.latency("time_per_output_token", "trtllm_time_per_output_token_seconds");
  readings.latency("request_duration", "trtllm_e2e_request_latency_seconds");
  readings.latency("queue_time", "trtllm_request_queue_time_seconds");
  readings.epoch("trtllm_generation_tokens", "trtllm_prompt_tokens");
}
