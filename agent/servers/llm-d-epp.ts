// The llm-d endpoint picker (pkg/epp/metrics/metrics.go, ebab687), former Gateway API inference extension. A gateway:
// histogram sums at the end of a request, per target model and fairness id, the tenant. Over 1000 tenants are folded
// into `other` at the source. Before 1.1 the extension called them inference_model_* (pkg/epp/metrics/metrics.go, v0.1.0 to
// v1.0.2), without latencies per token. The twins llm_d_router_epp_* (b64f44e) and inference_objective_* show the same tokens
// without the tenant: read only where the newer names are absent. Series of collected flows vanish: that is no reset.
import type { Outcome } from "../model.ts";
import type { MetricPage } from "../source.ts";
import { textServer } from "./page/server.ts";

/** Names by release, newest first. */
const GENERATIONS = [
  {
    input: "llm_d_epp_request_input_tokens",
    output: "llm_d_epp_request_output_tokens",
    cached: "llm_d_epp_request_cached_tokens",
    errors: "llm_d_epp_request_error",
    first: "llm_d_epp_request_ttft_seconds",
    perToken: "llm_d_epp_request_streaming_tpot_seconds",
    duration: "llm_d_epp_request_duration_seconds",
  },
  {
    input: "llm_d_router_epp_input_tokens",
    output: "llm_d_router_epp_output_tokens",
    cached: "llm_d_router_epp_prompt_cached_tokens",
    errors: "llm_d_router_epp_request_error",
    first: "llm_d_router_epp_request_ttft_seconds",
    perToken: "llm_d_router_epp_request_tpot_seconds",
    duration: "llm_d_router_epp_request_duration_seconds",
  },
  {
    input: "inference_objective_input_tokens",
    output: "inference_objective_output_tokens",
    cached: "inference_objective_prompt_cached_tokens",
    errors: "inference_objective_request_error",
    first: "inference_objective_request_ttft_seconds",
    perToken: "inference_objective_request_tpot_seconds",
    duration: "inference_objective_request_duration_seconds",
  },
  {
    input: "inference_model_input_tokens",
    output: "inference_model_output_tokens",
    cached: "inference_model_prompt_cached_tokens",
    errors: "inference_model_request_error",
    first: "inference_model_request_ttft_seconds",
    perToken: "inference_model_request_tpot_seconds",
    duration: "inference_model_request_duration_seconds",
  },
] as const;

/** llm-d's endpoint picker. */
export const llmDEpp = textServer({
  name: "llm-d-epp",
  family: "gateway",
  port: 9090,
  path: "/metrics",
  volume: "finish",
  labels: { modelLabel: ["target_model_name", "model_name"], tenantLabel: "fairness_id" },
  bornAtZero: true,
  families: GENERATIONS.flatMap((names) => Object.values(names)),
  recognises: (page) => {
    const names = generationOf(page);
    return names === undefined
      ? undefined
      : `${names.output.replace(/_(request_)?output_tokens$/, "")}_* families`;
  },
  read: (readings) => {
    const names = generationOf(readings.page) ?? GENERATIONS[0];
    const cached = readings.parts(`${names.cached}_sum`);
    const splits = cached.size > 0;
    readings.input(`${names.input}_sum`, (part) => (splits ? (cached.get(part) ?? 0) : undefined));
    readings.tokens("output", `${names.output}_sum`);
    readings.requests(`${names.output}_count`, () => "ok");
    readings.requests(names.errors, (labels) => outcomeOfCode(labels["error_code"] ?? ""));
    readings.latency("time_to_first_token", names.first);
    readings.latency("time_per_output_token", names.perToken);
    readings.latency("request_duration", names.duration);
    readings.epoch();
  },
});

function generationOf(page: MetricPage): (typeof GENERATIONS)[number] | undefined {
  return GENERATIONS.find(
    ({ output }) => page.samples.get(`${output}_sum`)?.[0]?.labels["target_model_name"] !== undefined,
  );
}

/** Codes are gRPC names (`ResourceExhausted`) or HTTP statuses. */
function outcomeOfCode(code: string): Outcome {
  if (code === "ResourceExhausted" || code === "429") return "rejected";
  return /^(Cancel|499)/.test(code) ? "aborted" : "error";
}
