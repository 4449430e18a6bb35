// LiteLLM's proxy (callback `prometheus`; docs.litellm.ai, 2025-26). A gateway: counters at the end of a request, per
// team, user, end user and key. Input includes what the provider read from its cache; total_tokens is the sum of the
// others; cached_tokens without "input" is LiteLLM's own response cache and no token at all. Series of end users are
// dropped after a while: that is no reset. Tenant is `team` unless configured.
import { outcomeOfStatus } from "./outcomes.ts";
import { textServer } from "./text-server.ts";

const CACHED = "litellm_input_cached_tokens_metric";

/** LiteLLM's proxy. */
export const litellm = textServer({
  name: "litellm",
  family: "gateway",
  port: 4000,
  path: "/metrics",
  volume: "finish",
  labels: { modelLabel: ["model", "requested_model"], tenantLabel: "team" },
  vanishing: true,
  families: [
    "litellm_input_tokens_metric",
    "litellm_output_tokens_metric",
    "litellm_input_tokens",
    "litellm_output_tokens",
    CACHED,
    "litellm_output_reasoning_tokens_metric",
    "litellm_proxy_total_requests_metric",
    "litellm_llm_api_time_to_first_token_metric",
    "litellm_request_total_latency_metric",
  ],
  recognises: (page) =>
    [...page.samples.keys()].some((name) => name.startsWith("litellm_")) ? "litellm_* families" : undefined,
  read: (readings) => {
    const cached = readings.parts(CACHED);
    const splits = cached.size > 0;
    const input = readings.firstOf("litellm_input_tokens_metric", "litellm_input_tokens");
    readings.input(input, (part) => (splits ? (cached.get(part) ?? 0) : undefined));
    readings.tokens("output", readings.firstOf("litellm_output_tokens_metric", "litellm_output_tokens"));
    for (const sample of readings.counters("litellm_output_reasoning_tokens_metric")) {
      readings.of(sample.labels).reasoning(sample.value);
    }
    readings.requests("litellm_proxy_total_requests_metric", (labels) =>
      outcomeOfStatus(labels["status_code"]),
    );
    readings.latency("time_to_first_token", "litellm_llm_api_time_to_first_token_metric");
    readings.latency("request_duration", "litellm_request_total_latency_metric");
    readings.epoch();
  },
});
