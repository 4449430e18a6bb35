// Envoy AI Gateway's extproc metrics (internal/metrics/genai.go, d55d320, metrics_impl.go, 0a4a25e): OpenTelemetry histograms
// in Prometheus names. A gateway: sums of gen_ai.client.token.usage at the end of a request. cached_input and
// cache_creation_input are subsets of input, reasoning of output. A model it never learned reads `unknown`. The tenant is a
// request header the operator maps to a label: name that label as `tenantLabel`.
import { textServer } from "./page/server.ts";

const USAGE = "gen_ai_client_token_usage_sum";
const TYPE = "gen_ai_token_type";
const DURATION = "gen_ai_server_request_duration_seconds";

/** Envoy AI Gateway. */
export const envoyAiGateway = textServer({
  name: "envoy-ai-gateway",
  family: "gateway",
  port: 1064,
  path: "/metrics",
  volume: "finish",
  labels: { modelLabel: ["gen_ai_request_model", "gen_ai_response_model", "gen_ai_original_model"] },
  families: [
    "gen_ai_client_token_usage",
    DURATION,
    "gen_ai_server_time_to_first_token_seconds",
    "gen_ai_server_time_per_output_token_seconds",
  ],
  recognises: (page) => (page.samples.has(USAGE) ? "gen_ai_client_token_usage" : undefined),
  read: (readings) => {
    const cached = readings.parts(USAGE, [TYPE], is("cached_input"));
    const splits = cached.size > 0;
    readings.input(USAGE, (part) => (splits ? (cached.get(part) ?? 0) : undefined), [TYPE], is("input"));
    for (const sample of readings.counters(USAGE)) {
      const type = sample.labels[TYPE];
      if (type === "output") readings.of(sample.labels, "summed", [TYPE]).tokens("output", sample.value);
      else if (type === "reasoning") readings.of(sample.labels).reasoning(sample.value);
    }
    readings.requests(`${DURATION}_count`, (labels) =>
      (labels["error_type"] ?? "") === "" ? "ok" : "error",
    );
    readings.latency("request_duration", DURATION);
    readings.latency("time_to_first_token", "gen_ai_server_time_to_first_token_seconds");
    readings.latency("time_per_output_token", "gen_ai_server_time_per_output_token_seconds");
    readings.epoch();
  },
});

function is(type: string): (labels: Readonly<Record<string, string>>) => boolean {
  return (labels) => labels[TYPE] === type;
}
