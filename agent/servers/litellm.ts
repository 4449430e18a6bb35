// LiteLLM's proxy (callback `prometheus`; recorded from 1.89.7, before by docs.litellm.ai, 2025-26). A gateway: counters at
// the end of a request, per team, user, end user and key. Input includes what the provider read from its cache, whose
// series lack the labels of the organisation; total_tokens is the sum of the others; cached_tokens without "input" is
// LiteLLM's own response cache and no token at all. Series of end users are dropped after a while: that is no reset.
// proxy_total_requests names the model asked for, not the one deployed, so what went well is counted with its latency,
// which names both; releases without `model_id` there (1.80) keep the name asked for.
import { outcomeOfStatus } from "./entry.ts";
import type { PageReadings } from "./page/readings.ts";
import { textServer } from "./page/server.ts";

/** What the provider read from its cache, by release (https://github.com/BerriAI/litellm/pull/28372, pull/27660). */
const CACHES = ["litellm_input_cached_tokens_metric", "litellm_provider_cache_read_input_tokens_metric"];
const REQUESTS = "litellm_proxy_total_requests_metric";
const DURATION = "litellm_request_total_latency_metric";
const QUEUE = "litellm_request_queue_time_seconds";

/** Families of the proxy itself; exporters of its database use the prefix, too. */
const SIGNS = [
  "litellm_input_tokens_metric",
  "litellm_input_tokens",
  REQUESTS,
  "litellm_requests_metric",
  "litellm_deployment_state",
  "litellm_deployment_total_requests",
  "litellm_in_flight_requests",
  "litellm_self_latency_bucket",
];

/** Budgets of what may be a tenant, by the label that names it; all in the dollars of its price list. */
const budgets = ["team", "org", "user", "api_key"].map((of) => ({
  limit: `litellm_${of}_max_budget_metric`,
  remaining: `litellm_remaining_${of}_budget_metric`,
  hours: `litellm_${of}_budget_remaining_hours_metric`,
}));

/** LiteLLM's proxy. */
export const litellm = textServer({
  name: "litellm",
  family: "gateway",
  port: 4000,
  path: "/metrics",
  volume: "finish",
  labels: { modelLabel: ["model", "requested_model"], tenantLabel: "team" },
  bornAtZero: true,
  limits: { budgets, currency: "USD" },
  families: [
    "litellm_input_tokens_metric",
    "litellm_output_tokens_metric",
    "litellm_input_tokens",
    "litellm_output_tokens",
    ...CACHES,
    "litellm_output_reasoning_tokens_metric",
    REQUESTS,
    "litellm_llm_api_time_to_first_token_metric",
    DURATION,
    QUEUE,
    "litellm_requests_metric",
  ],
  recognises: (page) =>
    SIGNS.some((name) => page.samples.has(name)) ? "litellm_* families of the proxy" : undefined,
  read: (readings) => {
    const input = readings.firstOf("litellm_input_tokens_metric", "litellm_input_tokens");
    const hits = readings.firstOf(...CACHES);
    const unshared = labelsOnlyIn(readings, input, hits);
    const cached = readings.parts(hits, unshared);
    const splits = cached.size > 0;
    readings.input(input, (part) => (splits ? (cached.get(part) ?? 0) : undefined), unshared);
    readings.tokens("output", readings.firstOf("litellm_output_tokens_metric", "litellm_output_tokens"));
    for (const sample of readings.counters("litellm_output_reasoning_tokens_metric")) {
      readings.of(sample.labels).reasoning(sample.value);
    }
    if (!readings.page.samples.has(REQUESTS)) readings.requests("litellm_requests_metric", () => "ok");
    const deployed = readings.counters(REQUESTS).some((sample) => "model_id" in sample.labels);
    if (deployed) readings.requests(`${DURATION}_count`, () => "ok");
    readings.requests(REQUESTS, (labels) => {
      const outcome = outcomeOfStatus(labels["status_code"]);
      return deployed && outcome === "ok" ? undefined : outcome;
    });
    // Observed where a request went well (integrations/prometheus.py, and so in the recording): no page times failures.
    readings.latency("time_to_first_token", "litellm_llm_api_time_to_first_token_metric", { outcome: "ok" });
    readings.latency("request_duration", DURATION, { outcome: "ok" });
    readings.latency("queue_time", QUEUE, { outcome: "ok" });
    readings.epoch();
  },
});

/** Labels that series of `whole` have and those of `subset` have not: by them the two cannot be matched. */
function labelsOnlyIn(readings: PageReadings, whole: string, subset: string): readonly string[] {
  const [of] = readings.counters(subset);
  const [sample] = readings.counters(whole);
  if (of === undefined || sample === undefined) return [];
  return Object.keys(sample.labels).filter((name) => !(name in of.labels));
}
