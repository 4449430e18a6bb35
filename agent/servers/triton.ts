// Triton's metric page on port 8002 (core src/metrics.cc, vllm_backend utils/metrics.py, tensorrtllm_backend README).
// Volume and progress: the vLLM backend's token counters, per step; they carry `model` and `version`, unlike vLLM's own
// page. The TensorRT-LLM backend publishes no cumulative tokens: its gauges give only queue and KV cache here, tokens
// come from servers.triton-grpc as an estimate. Input is unsplit. An ensemble counts one failure per level.
// nv_gpu_* names the GPUs by UUID: placement for free.
import type { Outcome } from "../model.ts";
import { textServer } from "./text-server.ts";

type Labels = Readonly<Record<string, string>>;
const FAILURES: Readonly<Record<string, Outcome>> = { REJECTED: "rejected", CANCELED: "aborted" };

/** Triton Inference Server. */
export const triton = textServer({
  name: "triton",
  family: "engine",
  port: 8002,
  path: "/metrics",
  volume: "step",
  labels: { modelLabel: "model" },
  families: [
    "nv_inference_request_success",
    "nv_inference_request_failure",
    "nv_inference_pending_request_count",
    "nv_gpu_utilization",
    "nv_trt_llm_request_metrics",
    "nv_trt_llm_kv_cache_block_metrics",
    "vllm_prompt_tokens",
    "vllm_generation_tokens",
    "vllm_time_to_first_token_seconds",
    "vllm_time_per_output_token_seconds",
    "vllm_e2e_request_latency_seconds",
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
    readings.requests("nv_inference_request_success", () => "ok");
    readings.requests(
      "nv_inference_request_failure",
      (labels) => FAILURES[labels["reason"] ?? ""] ?? "error",
    );
    readings.inFlight("waiting", "nv_inference_pending_request_count");
    readings.inFlight("running", "nv_trt_llm_request_metrics", is("request_type", "active"));
    readings.kvCache("nv_trt_llm_kv_cache_block_metrics", is("kv_cache_block_type", "fraction"));
    readings.latency("time_to_first_token", "vllm_time_to_first_token_seconds");
    readings.latency("inter_token_latency", "vllm_time_per_output_token_seconds");
    readings.latency("request_duration", "vllm_e2e_request_latency_seconds");
    const gpus = readings.page.samples.get("nv_gpu_utilization") ?? [];
    readings.gpus(gpus.flatMap(({ labels }) => labels["gpu_uuid"] ?? []));
  },
});

function is(label: string, value: string): (labels: Labels) => boolean {
  return (labels) => labels[label] === value;
}
