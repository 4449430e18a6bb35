// The llm-d endpoint picker (pkg/epp/metrics/metrics.go, ebab687), former Gateway API inference extension. A gateway:
// histogram sums at the end of a request, per target model and fairness id, the tenant. Over 1000 tenants are folded
// into `other` at the source. The twins inference_objective_* show the same tokens without the tenant: read only where
// the new names are absent. Series of collected flows vanish: that is no reset.
import type { Outcome } from "../model.ts";
import { textServer } from "./text-server.ts";

const CURRENT = {
  input: "llm_d_epp_request_input_tokens",
  output: "llm_d_epp_request_output_tokens",
  cached: "llm_d_epp_request_cached_tokens",
};
const FORMER = {
  input: "inference_objective_input_tokens",
  output: "inference_objective_output_tokens",
  cached: "inference_objective_prompt_cached_tokens",
};

/** llm-d's endpoint picker. */
export const llmDEpp = textServer({
  name: "llm-d-epp",
  family: "gateway",
  port: 9090,
  path: "/metrics",
  volume: "finish",
  labels: { modelLabel: ["target_model_name", "model_name"], tenantLabel: "fairness_id" },
  vanishing: true,
  families: [
    ...Object.values(CURRENT),
    ...Object.values(FORMER),
    "llm_d_epp_request_error",
    "llm_d_epp_request_ttft_seconds",
    "llm_d_epp_request_duration_seconds",
    "llm_d_epp_request_streaming_tpot_seconds",
  ],
  recognises: (page) => {
    if (page.samples.has(`${CURRENT.output}_sum`)) return "llm_d_epp_* families";
    return page.samples.has(`${FORMER.output}_sum`) ? "inference_objective_* families" : undefined;
  },
  read: (readings) => {
    const names = readings.page.samples.has(`${CURRENT.output}_sum`) ? CURRENT : FORMER;
    const cached = readings.parts(`${names.cached}_sum`);
    const splits = cached.size > 0;
    readings.input(`${names.input}_sum`, (part) => (splits ? (cached.get(part) ?? 0) : undefined));
    readings.tokens("output", `${names.output}_sum`);
    readings.requests(`${names.output}_count`, () => "ok");
    readings.requests("llm_d_epp_request_error", (labels) => outcomeOfCode(labels["error_code"] ?? ""));
    readings.latency("time_to_first_token", "llm_d_epp_request_ttft_seconds");
    readings.latency("time_per_output_token", "llm_d_epp_request_streaming_tpot_seconds");
    readings.latency("request_duration", "llm_d_epp_request_duration_seconds");
    readings.epoch();
  },
});

/** Codes are gRPC names (`ResourceExhausted`) or HTTP statuses. */
function outcomeOfCode(code: string): Outcome {
  if (code === "ResourceExhausted" || code === "429") return "rejected";
  return /^(Cancel|499)/.test(code) ? "aborted" : "error";
}
