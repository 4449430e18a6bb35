// trtllm-serve's Prometheus page (tensorrt_llm/metrics/collector.py@050f80d; needs return_perf_metrics).
// Volume and progress: at the end of a request. `/metrics` is a JSON queue that a reader drains: never read it.
// Cached input is a subset of input; its counter has no series before the first hit, a histogram beside it has, from the
// first request on. Token counters came in 1.3 (https://github.com/NVIDIA/TensorRT-LLM/pull/12545); 1.0 and 1.1 have latencies
// and finished requests only, without the prefix and known by engine_type (https://github.com/vllm-project/aibrix/issues/2004).
import type { MetricPage } from "../source.ts";
import type { PageReadings } from "./page/readings.ts";
import { textServer } from "./page/server.ts";

const PREFIX = "trtllm_";
/** Newest first. */
const PREFIXES = [PREFIX, ""];

/** TensorRT-LLM behind trtllm-serve. */
export const tensorrtLlm = textServer({
  name: "tensorrt-llm",
  family: "engine",
  port: 8000,
  path: "/prometheus/metrics",
  volume: "finish",
  withoutTokens: "trtllm-serve publishes token counters since 1.3; update it, or count at a gateway",
  labels: { modelLabel: "model_name" },
  families: PREFIXES.flatMap(tensorrtLlmFamilies),
  recognises: (page) => {
    const prefix = prefixOf(page);
    if (prefix === undefined) return undefined;
    return prefix === "" ? "engine_type label on families without a prefix" : "trtllm_* families";
  },
  read: (readings) => readTensorrtLlm(readings, prefixOf(readings.page)),
});

/** TensorRT-LLM's families under a prefix. */
export function tensorrtLlmFamilies(prefix: string): readonly string[] {
  return [
    "prompt_tokens",
    "generation_tokens",
    "prompt_cached_tokens",
    "prompt_cached_tokens_per_request",
    "request_success",
    "request_error",
    "num_requests_running",
    "num_requests_waiting",
    "kv_cache_utilization",
    "time_to_first_token_seconds",
    "time_per_output_token_seconds",
    "e2e_request_latency_seconds",
    "request_queue_time_seconds",
    // Of what requests took in execution, the sums alone.
    "request_prefill_time_seconds_sum",
    "request_prefill_time_seconds_count",
    "request_decode_time_seconds_sum",
  ].map((name) => prefix + name);
}

/** The prefix of a page that is trtllm-serve's own; undefined for any other. */
function prefixOf(page: MetricPage): string | undefined {
  const name = [...page.samples.keys()].find((each) => each.startsWith(PREFIX));
  const labels = name === undefined ? undefined : page.samples.get(name)?.[0]?.labels;
  if (labels !== undefined) return labels["dynamo_component"] === undefined ? PREFIX : undefined;
  const plain = page.samples.get("e2e_request_latency_seconds_count")?.[0]?.labels;
  return plain?.["engine_type"] !== undefined && plain["model_name"] !== undefined ? "" : undefined;
}

/** Gathers TensorRT-LLM's families under a prefix; other servers that pass them on share it. */
export function readTensorrtLlm(readings: PageReadings, prefix = PREFIX): void {
  const cached = readings.parts(`${prefix}prompt_cached_tokens`);
  const splits =
    cached.size > 0 || readings.page.samples.has(`${prefix}prompt_cached_tokens_per_request_count`);
  readings.input(`${prefix}prompt_tokens`, (part) => (splits ? (cached.get(part) ?? 0) : undefined));
  readings.tokens("output", `${prefix}generation_tokens`);
  readings.requests(`${prefix}request_success`, (labels) =>
    labels["finished_reason"] === "cancelled" ? "aborted" : "ok",
  );
  readings.requests(`${prefix}request_error`, () => "error");
  readings.inFlight("running", `${prefix}num_requests_running`);
  readings.inFlight("waiting", `${prefix}num_requests_waiting`);
  readings.kvCache(`${prefix}kv_cache_utilization`);
  readings.latency("time_to_first_token", `${prefix}time_to_first_token_seconds`);
  readings.latency("time_per_output_token", `${prefix}time_per_output_token_seconds`);
  readings.latency("request_duration", `${prefix}e2e_request_latency_seconds`);
  readings.latency("queue_time", `${prefix}request_queue_time_seconds`);
  readings.phaseTimes(`${prefix}request_prefill_time_seconds`, `${prefix}request_decode_time_seconds`);
  readings.epoch();
}
