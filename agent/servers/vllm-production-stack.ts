// The vLLM production stack's router (src/vllm_router/services/metrics_service, a6c01db). A gateway that speaks vllm:*
// with a `server` label: tokens of non-streaming responses only, at their end, so never a measure of volume for an
// engine. Its vllm:num_requests_running and the gauge vllm:gpu_prefix_cache_hits_total repeat the engines' and are left.
import { textServer } from "./page/server.ts";

/** The router of the vLLM production stack. */
export const vllmProductionStack = textServer({
  name: "vllm-production-stack",
  family: "gateway",
  port: 8001,
  path: "/metrics",
  volume: "finish",
  neverSplits: true,
  labels: { modelLabel: "model", upstreamLabel: "server" },
  families: ["vllm_input_tokens", "vllm_output_tokens", "vllm_num_requests_running"],
  recognises: (page) => {
    const sample =
      page.samples.get("vllm_output_tokens")?.[0] ?? page.samples.get("vllm_num_requests_running")?.[0];
    const { server, model_name: model } = sample?.labels ?? {};
    return server === undefined || model !== undefined
      ? undefined
      : "server label on vllm:* and no model_name";
  },
  read: (readings) => {
    readings.input("vllm_input_tokens", () => undefined);
    readings.tokens("output", "vllm_output_tokens");
    readings.epoch();
  },
});
