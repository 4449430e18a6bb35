// LiteLLM's proxy (callback `prometheus`; recorded from 1.89.7, before by docs.litellm.ai, 2025-26). A gateway: counters at
// the end of a request, per team, user, end user and key. Input includes what the provider read from its cache, whose
// series lack the labels of the organisation; total_tokens is the sum of the others; cached_tokens without "input" is
// LiteLLM's own response cache and no token at all. Series of end users are dropped after a while: that is no reset.
// proxy_total_requests names the model asked for, not the one deployed, so what went well is counted with its latency,
// which names both; releases without `model_id` there (1.80) keep the name asked for.
import { outcomeOfStatus } from "./entry.ts";
import type { PageReadings } from "./page/readings.ts";
import { textServer } from "./page/server.ts";

const CACHED = "litellm_input_cached_tokens_metric";
const REQUESTS = "litellm_proxy_total_requests_metric";
const DURATION = "litellm_request_total_latency_metric";
const QUEUE = "litellm_request_queue_time_seconds";

/** LiteLLM's proxy. */
export const litellm = textServer({
  name: "litellm",
  family: "gateway",
  port: 4000,
  path: "/metrics",
  volume: "finish",
  labels: { modelLabel: ["model", "requested_model"], tenantLabel: "team" },
  vanishing: true,
  bornAtZero: true,
  families: [
    "litellm_input_tokens_metric",
    "litellm_output_tokens_metric",
    "litellm_input_tokens",
    "litellm_output_tokens",
    CACHED,
    "litellm_output_reasoning_tokens_metric",
    REQUESTS,
    "litellm_llm_api_time_to_first_token_metric",
    DURATION,
    QUEUE,
  ],
  recognises: (page) =>
    [...page.samples.keys()].some((name) => name.startsWith("litellm_")) ? "litellm_* families" : undefined,
  read: (readings) => {
    const input = readings.firstOf("litellm_input_tokens_metric", "litellm_input_tokens");
    const unshared = labelsOnlyIn(readings, input, CACHED);
    const cached = readings.parts(CACHED, unshared);
    const splits = cached.size > 0;
    readings.input(input, (part) => (splits ? (cached.get(part) ?? 0) : undefined), unshared);
    readings.tokens("output", readings.firstOf("litellm_output_tokens_metric", "litellm_output_tokens"));
    for (const sample of readings.counters("litellm_output_reasoning_tokens_metric")) {
      readings.of(sample.labels).reasoning(sample.value);
    }
    const deployed = readings.counters(REQUESTS).some((sample) => "model_id" in sample.labels);
    if (deployed) readings.requests(`${DURATION}_count`, () => "ok");
    readings.requests(REQUESTS, (labels) => {
      const outcome = outcomeOfStatus(labels["status_code"]);
      return deployed && outcome === "ok" ? undefined : outcome;
    });
    readings.latency("time_to_first_token", "litellm_llm_api_time_to_first_token_metric");
    readings.latency("request_duration", DURATION);
    readings.latency("queue_time", QUEUE);
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
