// vLLM Semantic Router (src/semantic-router/pkg/observability/metrics/metrics.go, 3d48f8c, 2026). A gateway: counters at the end
// of a response whose usage it saw (streams: with include_usage), per model it chose; input unsplit, no tenant. Answers from its
// own cache count like any other (reportCacheHitTelemetry), so its tokens may pass those of the engines behind it.
// llm_model_tokens_total is the sum of the other two.
import type { Outcome } from "../model.ts";
import { textServer } from "./page/server.ts";

const COMPLETION = "llm_model_completion_tokens";
const SIGNS = [
  "llm_model_routing_latency_seconds_count",
  "llm_model_routing_modifications",
  "llm_routing_reason_codes",
  "llm_model_inflight_requests",
  "llm_model_requests",
  "llm_model_cost",
];
/** Reasons that end a request; others (a usage that could not be read, a classifier that failed) do not. */
const ENDS: Readonly<Record<string, Outcome>> = {
  cancellation: "aborted",
  timeout: "error",
  upstream_4xx: "error",
  upstream_5xx: "error",
  pii_policy_denied: "rejected",
  jailbreak_block: "rejected",
};

/** The semantic router of the vLLM project. */
export const vllmSemanticRouter = textServer({
  name: "vllm-semantic-router",
  family: "gateway",
  port: 9190,
  path: "/metrics",
  volume: "finish",
  neverSplits: true,
  labels: { modelLabel: "model" },
  bornAtZero: true,
  families: [
    "llm_model_prompt_tokens",
    COMPLETION,
    "llm_completion_tokens_per_request",
    "llm_request_errors",
    "llm_model_inflight_requests",
    "llm_model_ttft_seconds",
    "llm_model_tpot_seconds",
    "llm_model_completion_latency_seconds",
  ],
  // The names are plain: what only a router of models has must stand beside them, and no other label than the model.
  recognises: (page) => {
    const counted = page.samples.get(COMPLETION) ?? page.samples.get("llm_model_requests");
    const labels = Object.keys(counted?.[0]?.labels ?? {});
    const beside = SIGNS.some((name) => page.samples.has(name));
    return beside && labels.join() === "model" ? "llm_model_* families of a router of models" : undefined;
  },
  read: (readings) => {
    readings.input("llm_model_prompt_tokens", () => undefined);
    readings.tokens("output", COMPLETION);
    readings.requests("llm_completion_tokens_per_request_count", () => "ok");
    readings.requests("llm_request_errors", (labels) => ENDS[labels["reason"] ?? ""]);
    readings.inFlight("running", "llm_model_inflight_requests");
    readings.latency("time_to_first_token", "llm_model_ttft_seconds");
    readings.latency("time_per_output_token", "llm_model_tpot_seconds");
    readings.latency("request_duration", "llm_model_completion_latency_seconds");
    readings.epoch();
  },
});
