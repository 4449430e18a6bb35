// Higress's ai-statistics plugin on the gateway's Envoy page (plugins/wasm-go/extensions/ai-statistics, 4e0d691). A gateway:
// counters at the end of a request, per route, model and, since 2.0.6, consumer, the tenant (`none` where no one is
// authenticated). Names by release: route_upstream_model_input_token (1.4, 2.0.0), ..._model_metric_... (2.0.1),
// ..._model_consumer_metric_... Input unsplit; durations are sums in milliseconds without buckets and not used.
import { textServer } from "./page/server.ts";

/** By release, newest first. */
const PREFIXES = [
  "route_upstream_model_consumer_metric",
  "route_upstream_model_metric",
  "route_upstream_model",
];

/** Higress with the ai-statistics plugin. */
export const higress = textServer({
  name: "higress",
  family: "gateway",
  port: 15020,
  path: "/stats/prometheus",
  volume: "finish",
  neverSplits: true,
  labels: {
    modelLabel: "ai_model",
    tenantLabel: "ai_consumer",
    endpointLabel: "ai_route",
    upstreamLabel: "ai_cluster",
  },
  families: PREFIXES.flatMap((prefix) => [
    `${prefix}_input_token`,
    `${prefix}_output_token`,
    `${prefix}_llm_duration_count`,
  ]),
  recognises: (page) => {
    const prefix = PREFIXES.find((each) => page.samples.has(`${each}_output_token`));
    return prefix === undefined ? undefined : `${prefix}_*`;
  },
  read: (readings) => {
    // A page may show the counters of a plugin before and after its update: they count different requests.
    for (const prefix of PREFIXES) {
      readings.input(`${prefix}_input_token`, () => undefined);
      readings.tokens("output", `${prefix}_output_token`);
      readings.requests(`${prefix}_llm_duration_count`, () => "ok");
    }
  },
});
