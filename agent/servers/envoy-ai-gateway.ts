// Envoy AI Gateway's extproc metrics (internal/metrics/genai.go, d55d320, metrics_impl.go, 0a4a25e): OpenTelemetry histograms
// in Prometheus names. A gateway: sums of gen_ai.client.token.usage at the end of a request. 0.3 and 0.4 put the unit into
// the name (`..._token_sum`, cmd/extproc/mainlib/admin_test.go at v0.4.0); before and since there is none. cached_input and
// cache_creation_input are subsets of input, reasoning of output, `total` (until 0.3) the sum. A model it never learned reads
// `unknown`. The tenant is a request header the operator maps to a label: name that label as `tenantLabel`.
import type { Outcome } from "../model.ts";
import { textServer } from "./page/server.ts";

/** By release: the unit is in the name or it is not. */
const USAGES = ["gen_ai_client_token_usage", "gen_ai_client_token_usage_token"];
const TYPE = "gen_ai_token_type";
const CLIENT_DURATION = "gen_ai_client_operation_duration_seconds_count";
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
    ...USAGES,
    DURATION,
    "gen_ai_server_time_to_first_token_seconds",
    "gen_ai_server_time_per_output_token_seconds",
  ],
  // Any program with OpenTelemetry's GenAI metrics has these names: its scope is its own, and so are client durations.
  recognises: (page) =>
    USAGES.find((name) => {
      const [sample] = page.samples.get(`${name}_sum`) ?? [];
      const scope = sample?.labels["otel_scope_name"];
      const isOwn =
        scope === undefined ? !page.samples.has(CLIENT_DURATION) : scope === "envoyproxy/ai-gateway";
      return sample !== undefined && isOwn;
    }),
  read: (readings) => {
    const usage = `${USAGES.find((name) => readings.page.samples.has(`${name}_sum`)) ?? USAGES[0]}_sum`;
    const cached = readings.parts(usage, [TYPE], is("cached_input"));
    const splits = cached.size > 0;
    readings.input(usage, (part) => (splits ? (cached.get(part) ?? 0) : undefined), [TYPE], is("input"));
    for (const sample of readings.counters(usage)) {
      const type = sample.labels[TYPE];
      if (type === "output") readings.of(sample.labels, "summed", [TYPE]).tokens("output", sample.value);
      else if (type === "reasoning") readings.of(sample.labels).reasoning(sample.value);
    }
    readings.requests(`${DURATION}_count`, outcomeOf);
    readings.latency("request_duration", DURATION, { outcome: outcomeOf });
    readings.latency("time_to_first_token", "gen_ai_server_time_to_first_token_seconds");
    readings.latency("time_per_output_token", "gen_ai_server_time_per_output_token_seconds");
    readings.epoch();
  },
});

/** Only durations say it: the first token of a stream was observed before it ended. */
function outcomeOf(labels: Readonly<Record<string, string>>): Outcome {
  return (labels["error_type"] ?? "") === "" ? "ok" : "error";
}

function is(type: string): (labels: Readonly<Record<string, string>>) => boolean {
  return (labels) => labels[TYPE] === type;
}
