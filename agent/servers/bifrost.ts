// Bifrost's telemetry plugin (plugins/telemetry/main.go, 001016f, 2026). A gateway: counters at the end of a request, one per
// attempt that reached a provider, so a fallback counts where it went. Cache reads are read as a part of the input, as in
// OpenAI's usage, whose shape Bifrost gives every provider's. bifrost_cache_hits_total is its own response cache and no token.
// The tenant is the first of customer, team and virtual key that the request had. Durations have `is_success`, in newer releases.
import type { Outcome } from "../model.ts";
import { outcomeOfStatus } from "./entry.ts";
import { textServer } from "./page/server.ts";

const CACHED = "bifrost_cache_read_input_tokens";

/** Bifrost. */
export const bifrost = textServer({
  name: "bifrost",
  family: "gateway",
  port: 8080,
  path: "/metrics",
  volume: "finish",
  labels: { modelLabel: "model", tenantLabel: ["customer_name", "team_name", "virtual_key_name"] },
  bornAtZero: true,
  families: [
    "bifrost_input_tokens",
    "bifrost_output_tokens",
    CACHED,
    "bifrost_success_requests",
    "bifrost_error_requests",
    "bifrost_upstream_latency_seconds",
    "bifrost_stream_first_token_latency_seconds",
    "bifrost_stream_inter_token_latency_seconds",
  ],
  recognises: (page) =>
    ["bifrost_output_tokens", "bifrost_upstream_requests"].some((name) => page.samples.has(name))
      ? "bifrost_* families"
      : undefined,
  read: (readings) => {
    const cached = readings.parts(CACHED);
    const splits = cached.size > 0;
    readings.input("bifrost_input_tokens", (part) => (splits ? (cached.get(part) ?? 0) : undefined));
    readings.tokens("output", "bifrost_output_tokens");
    readings.requests("bifrost_success_requests", () => "ok");
    readings.requests("bifrost_error_requests", (labels) => {
      const outcome = outcomeOfStatus(labels["status_code"]);
      return outcome === "ok" ? "error" : outcome;
    });
    readings.latency("request_duration", "bifrost_upstream_latency_seconds", { outcome: outcomeOf });
    readings.latency("time_to_first_token", "bifrost_stream_first_token_latency_seconds");
    readings.latency("inter_token_latency", "bifrost_stream_inter_token_latency_seconds");
    readings.epoch();
  },
});

function outcomeOf({ is_success: isSuccess }: Readonly<Record<string, string>>): Outcome | undefined {
  if (isSuccess === "true") return "ok";
  return isSuccess === "false" ? "error" : undefined;
}
