// AIBrix's gateway plugin (pkg/metrics/gateway_metrics.go, custom_metrics.go, e3e10f9). A gateway: counters at the end of a
// request, per model and pod; pods are summed, and a pod's series vanish with it: that is no reset. Input unsplit, no tenant.
// gateway_*_tokens_total are names anyone may use: AIBrix puts its own pod's name on every series (`gateway_pod`).
// gateway_*_bucket_total are pseudo-histograms and not used.
import { textServer } from "./page/server.ts";

/** AIBrix's gateway plugin. */
export const aibrix = textServer({
  name: "aibrix",
  family: "gateway",
  port: 8080,
  path: "/metrics",
  volume: "finish",
  neverSplits: true,
  labels: { modelLabel: "model", upstreamLabel: "pod" },
  families: [
    "gateway_input_tokens",
    "gateway_output_tokens",
    "gateway_request_model_success",
    "gateway_request_model_fail",
  ],
  recognises: (page) =>
    ["gateway_output_tokens", "gateway_request_model_success"].some(
      (name) => page.samples.get(name)?.[0]?.labels["gateway_pod"] !== undefined,
    )
      ? "gateway_pod label on gateway_*"
      : undefined,
  read: (readings) => {
    readings.input("gateway_input_tokens", () => undefined);
    readings.tokens("output", "gateway_output_tokens");
    readings.requests("gateway_request_model_success", () => "ok");
    readings.requests("gateway_request_model_fail", () => "error");
    readings.epoch();
  },
});
