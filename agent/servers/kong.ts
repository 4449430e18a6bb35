// Kong's AI plugins seen through its prometheus plugin (prometheus/exporter.lua, 22246ef; `ai_metrics: true`).
// A gateway: counters at the end of a request; input unsplit; token_type="total_tokens" is the sum of the others.
// There is no outcome: every counted request was answered. Tenant: the consumer, which newer pages name
// (developer.konghq.com, monitor-ai-llm-metrics, 2026), else the workspace.
import { textServer } from "./page/server.ts";

const TOKENS = "kong_ai_llm_tokens";

/** Kong Gateway with AI plugins. */
export const kong = textServer({
  name: "kong",
  family: "gateway",
  port: 8100,
  path: "/metrics",
  volume: "finish",
  neverSplits: true,
  labels: { modelLabel: "ai_model", tenantLabel: ["consumer", "workspace"] },
  families: [TOKENS, "kong_ai_llm_requests", "kong_ai_llm_provider_latency_ms"],
  recognises: (page) =>
    page.samples.has(TOKENS) || page.samples.has("kong_ai_llm_requests")
      ? "kong_ai_llm_* families"
      : undefined,
  read: (readings) => {
    for (const sample of readings.counters(TOKENS)) {
      const type = sample.labels["token_type"];
      const kind =
        type === "prompt_tokens" ? "input_unsplit" : type === "completion_tokens" ? "output" : undefined;
      if (kind !== undefined) readings.of(sample.labels, "summed", ["token_type"]).tokens(kind, sample.value);
    }
    readings.requests("kong_ai_llm_requests", () => "ok");
    readings.latency("request_duration", "kong_ai_llm_provider_latency_ms", { scale: 0.001 });
  },
});
