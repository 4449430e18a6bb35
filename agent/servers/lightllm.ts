// LightLLM's metric page (lightllm/server/metrics/metrics.py, httpserver/manager.py, fc72ffa, 2025-07). Volume: the sums of two
// length histograms: input when a request comes, output when it ends (aborted ones never), so no counter shows progress. No
// model label (name it with `modelAliases` or at the gateway). lightllm_cache_length, the hits, moves only at the end of a
// request, later than the input, so that a split would fall: input is unsplit. The PD master's page shows the same families
// without input: its tokens are those of the nodes behind it.
import { textServer } from "./page/server.ts";

const INPUT = "lightllm_request_input_length";
const OUTPUT = "lightllm_request_generated_tokens";

/** LightLLM's API server. */
export const lightllm = textServer({
  name: "lightllm",
  family: "engine",
  port: 8000,
  path: "/metrics",
  volume: "finish",
  neverSplits: true,
  labels: {},
  families: [
    INPUT,
    OUTPUT,
    "lightllm_request_success",
    "lightllm_request_failure",
    "lightllm_batch_current_size",
    "lightllm_queue_size",
    "lightllm_request_first_token_duration",
    "lightllm_request_inference_duration",
    "lightllm_request_mean_time_per_token_duration",
  ],
  recognises: (page) => (page.samples.has(`${OUTPUT}_sum`) ? "lightllm_* families" : undefined),
  read: (readings) => {
    readings.input(`${INPUT}_sum`, () => undefined);
    readings.tokens("output", `${OUTPUT}_sum`);
    readings.requests("lightllm_request_success", () => "ok");
    readings.requests("lightllm_request_failure", () => "error");
    readings.inFlight("running", "lightllm_batch_current_size");
    readings.inFlight("waiting", "lightllm_queue_size");
    readings.latency("time_to_first_token", "lightllm_request_first_token_duration");
    readings.latency("request_duration", "lightllm_request_inference_duration");
    readings.latency("time_per_output_token", "lightllm_request_mean_time_per_token_duration");
    readings.epoch();
  },
});
