// PaddlePaddle FastDeploy 2.x's metric page (fastdeploy/metrics/metrics.py and output/token_processor.py, and
// its documentation of online serving). Volume: prompt_tokens when a request is taken in, generation_tokens per engine step, which is the progress. No
// model label (name it with `modelAliases` or at the gateway). prefix_cache_token_num, the hits, moves when a request is
// scheduled, later than the input, so that a split would fall: input is unsplit.
import { textServer } from "./page/server.ts";

const PREFIX = "fastdeploy_";

/** FastDeploy's API server. */
export const fastdeploy = textServer({
  name: "fastdeploy",
  family: "engine",
  port: 8001,
  path: "/metrics",
  volume: "step",
  neverSplits: true,
  labels: { modelLabel: ["model_id", "model_name"] },
  families: [
    "prompt_tokens",
    "generation_tokens",
    "request_success",
    "num_requests_running",
    "num_requests_waiting",
    "gpu_cache_usage_perc",
    "time_to_first_token_seconds",
    "time_per_output_token_seconds",
    "e2e_request_latency_seconds",
    "request_queue_time_seconds",
  ].map((name) => PREFIX + name),
  recognises: (page) =>
    ["generation_tokens", "num_requests_running"].some((name) => page.samples.has(PREFIX + name))
      ? "fastdeploy:* families"
      : undefined,
  read: (readings) => {
    readings.input(`${PREFIX}prompt_tokens`, () => undefined);
    readings.tokens("output", `${PREFIX}generation_tokens`);
    readings.requests(`${PREFIX}request_success`, () => "ok");
    readings.inFlight("running", `${PREFIX}num_requests_running`);
    readings.inFlight("waiting", `${PREFIX}num_requests_waiting`);
    readings.kvCache(`${PREFIX}gpu_cache_usage_perc`);
    readings.latency("time_to_first_token", `${PREFIX}time_to_first_token_seconds`);
    readings.latency("inter_token_latency", `${PREFIX}time_per_output_token_seconds`);
    readings.latency("request_duration", `${PREFIX}e2e_request_latency_seconds`);
    readings.latency("queue_time", `${PREFIX}request_queue_time_seconds`);
    readings.epoch();
  },
});
