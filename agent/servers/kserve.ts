// KServe's python model server (python/kserve/kserve/metrics.py, aaac4e2): four latency histograms and no tokens.
// Read for its requests and their duration; token counts come from the engine behind it, if that publishes any.
import { textServer } from "./page/server.ts";

/** A KServe python runtime. */
export const kserve = textServer({
  name: "kserve",
  family: "engine",
  port: 8080,
  path: "/metrics",
  volume: "finish",
  withoutTokens: "never",
  labels: { modelLabel: "model_name" },
  families: ["request_predict_seconds"],
  recognises: (page) =>
    page.samples.get("request_predict_seconds_count")?.[0]?.labels["model_name"] !== undefined &&
    !page.samples.has("vllm_generation_tokens")
      ? "request_predict_seconds; it counts requests and no tokens"
      : undefined,
  read: (readings) => {
    readings.requests("request_predict_seconds_count", () => "ok");
    readings.latency("request_duration", "request_predict_seconds");
    readings.epoch();
  },
});
