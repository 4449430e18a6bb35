// Higress's ai-statistics plugin on the gateway's Envoy page (plugins/wasm-go/extensions/ai-statistics, 4e0d691).
// A gateway: counters at the end of a request, per route, model and consumer, the tenant (`none` when nobody is
// authenticated). Input unsplit; durations are sums in milliseconds without buckets and not used.
import { textServer } from "./page/server.ts";

const PREFIX = "route_upstream_model_consumer_metric";

/** Higress with the ai-statistics plugin. */
export const higress = textServer({
  name: "higress",
  family: "gateway",
  port: 15020,
  path: "/stats/prometheus",
  volume: "finish",
  labels: { modelLabel: "ai_model", tenantLabel: "ai_consumer", endpointLabel: "ai_route" },
  families: [`${PREFIX}_input_token`, `${PREFIX}_output_token`, `${PREFIX}_llm_duration_count`],
  recognises: (page) => (page.samples.has(`${PREFIX}_output_token`) ? `${PREFIX}_*` : undefined),
  read: (readings) => {
    readings.input(`${PREFIX}_input_token`, () => undefined);
    readings.tokens("output", `${PREFIX}_output_token`);
    readings.requests(`${PREFIX}_llm_duration_count`, () => "ok");
  },
});
