// Triton's metric page on port 8002 (core src/metrics.cc, seen with 2.51; vllm_backend utils/metrics.py, 1e66a22;
// tensorrtllm_backend custom_metrics_reporter.cc, 7f9aa46). The vLLM back end counts tokens per step, with `model` and
// `version`, unlike vLLM's own page. The TensorRT-LLM back end has histograms of tokens per request, whose sums move at
// its end; older ones publish none, and only gauges of queue and KV cache. Input is unsplit.
// An ensemble counts one failure per level, a python model's error answer counts as success. nv_gpu_* names the GPUs by
// UUID: placement for free.
import type { Outcome } from "../model.ts";
import type { PageReadings } from "./page/readings.ts";
import { textServer } from "./page/server.ts";

type Labels = Readonly<Record<string, string>>;
const FAILURES: Readonly<Record<string, Outcome>> = { REJECTED: "rejected", CANCELED: "aborted" };

/** Triton Inference Server. */
export const triton = textServer({
  name: "triton",
  family: "engine",
  port: 8002,
  path: "/metrics",
  volume: "step",
  neverSplits: true,
  withoutTokens: "its back end publishes none (vLLM's and TensorRT-LLM's newer ones do); count at a gateway",
  labels: { modelLabel: "model" },
  families: [
    "nv_inference_request_success",
    "nv_inference_request_failure",
    "nv_inference_pending_request_count",
    "nv_gpu_utilization",
    "nv_llm_input_token_len",
    "nv_llm_output_token_len",
    "nv_trt_llm_request_metrics",
    "nv_trt_llm_kv_cache_block_metrics",
    "vllm_prompt_tokens",
    "vllm_generation_tokens",
    "vllm_time_to_first_token_seconds",
    "vllm_time_per_output_token_seconds",
    "vllm_e2e_request_latency_seconds",
    "vllm_request_queue_time_seconds",
    "vllm_num_requests_running",
    "vllm_num_requests_waiting",
    "vllm_gpu_cache_usage_perc",
  ],
  recognises: (page) => {
    if ([...page.samples.keys()].some((name) => name.startsWith("nv_inference_")))
      return "nv_inference_* families";
    const labels = page.samples.get("vllm_generation_tokens")?.[0]?.labels;
    return labels?.["version"] !== undefined && labels["model"] !== undefined
      ? "model and version labels on vllm:*"
      : undefined;
  },
  read: (readings) => {
    readings.input("vllm_prompt_tokens", () => undefined);
    readings.tokens("output", "vllm_generation_tokens");
    readTensorrtLlmBackEnd(readings);
    readings.requests("nv_inference_request_success", () => "ok");
    readings.requests(
      "nv_inference_request_failure",
      (labels) => FAILURES[labels["reason"] ?? ""] ?? "error",
    );
    readings.inFlight("waiting", "nv_inference_pending_request_count");
    readings.inFlight("running", "vllm_num_requests_running");
    readings.inFlight("waiting", "vllm_num_requests_waiting");
    readings.kvCache("vllm_gpu_cache_usage_perc");
    readings.latency("time_to_first_token", "vllm_time_to_first_token_seconds");
    readings.latency("inter_token_latency", "vllm_time_per_output_token_seconds");
    readings.latency("request_duration", "vllm_e2e_request_latency_seconds");
    readings.latency("queue_time", "vllm_request_queue_time_seconds");
    const gpus = readings.page.samples.get("nv_gpu_utilization") ?? [];
    readings.gpus(gpus.flatMap(({ labels }) => labels["gpu_uuid"] ?? []));
  },
});

/** Tokens per request in histograms, so at its end, and gauges of the last iteration. */
function readTensorrtLlmBackEnd(readings: PageReadings): void {
  const kinds = {
    input_unsplit: "nv_llm_input_token_len_sum",
    output: "nv_llm_output_token_len_sum",
  } as const;
  for (const [kind, family] of Object.entries(kinds) as [keyof typeof kinds, string][]) {
    readings.tokens(kind, family);
    for (const { labels } of readings.counters(family)) readings.of(labels).volume("finish");
  }
  readings.inFlight("running", "nv_trt_llm_request_metrics", is("request_type", "active"));
  readings.kvCache("nv_trt_llm_kv_cache_block_metrics", is("kv_cache_block_type", "fraction"));
}

function is(label: string, value: string): (labels: Labels) => boolean {
  return (labels) => labels[label] === value;
}
