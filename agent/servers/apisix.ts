// APISIX's ai-proxy plugins seen through its prometheus plugin (apisix/plugins/prometheus/exporter.lua, f519a0f, 2026). A gateway:
// counters without `_total` at the end of a request, per route, consumer (the tenant) and model; input unsplit. The
// histograms *_tokens_dist show the same tokens and are not read. Requests are those of http_status with an AI request type,
// else (older) the answered ones. llm_latency is in ms; only `type="total"` and `type="ttft"` say what they measure.
// Series may expire by configuration: that is no reset. `metric_prefix` can rename all: use prometheus-generic then.
import { outcomeOfStatus } from "./entry.ts";
import { textServer } from "./page/server.ts";

type Labels = Readonly<Record<string, string>>;

/** Apache APISIX with ai-proxy or ai-proxy-multi. */
export const apisix = textServer({
  name: "apisix",
  family: "gateway",
  port: 9091,
  path: "/apisix/prometheus/metrics",
  volume: "finish",
  neverSplits: true,
  labels: {
    modelLabel: ["llm_model", "request_llm_model"],
    tenantLabel: "consumer",
    endpointLabel: ["route_id", "route"],
    upstreamLabel: "node",
  },
  families: [
    "apisix_llm_prompt_tokens",
    "apisix_llm_completion_tokens",
    "apisix_llm_latency",
    "apisix_llm_active_connections",
    "apisix_http_status",
  ],
  recognises: (page) =>
    page.samples.has("apisix_llm_completion_tokens") || page.samples.has("apisix_llm_prompt_tokens")
      ? "apisix_llm_* families"
      : undefined,
  read: (readings) => {
    readings.input("apisix_llm_prompt_tokens", () => undefined);
    readings.tokens("output", "apisix_llm_completion_tokens");
    const isAi = (labels: Labels): boolean => /^ai_/.test(labels["request_type"] ?? "");
    if (readings.counters("apisix_http_status").some(({ labels }) => isAi(labels))) {
      readings.requests("apisix_http_status", (labels) =>
        isAi(labels) ? outcomeOfStatus(labels["code"]) : undefined,
      );
    } else {
      readings.requests("apisix_llm_latency_count", ({ type }) => (type === "ttft" ? undefined : "ok"));
    }
    readings.inFlight("running", "apisix_llm_active_connections");
    readings.latency("request_duration", "apisix_llm_latency", {
      scale: 0.001,
      when: ({ type }) => type === "total",
    });
    readings.latency("time_to_first_token", "apisix_llm_latency", {
      scale: 0.001,
      when: ({ type }) => type === "ttft",
    });
    readings.epoch();
  },
});
