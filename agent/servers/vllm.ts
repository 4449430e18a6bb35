// vLLM's own metric page, python and Rust front ends (vllm v1 metrics/loggers.py, 0.33.0; https://docs.vllm.ai/en/latest/usage/metrics.html).
// Volume and progress: prompt_tokens and generation_tokens, both per engine step; input includes prefix hits, and lumps
// at the end of a prefill. `engine` is a data-parallel rank: ranks count different tokens and are summed.
// Left out: prefix_cache_queries/hits (inflated by repeated look-ups), corrupted and speculative counters. Aborted work
// is inside the token counters but in no request counter (vllm#55634).
import type { Outcome } from "../model.ts";
import { partOf } from "./page/labels.ts";
import type { PageReadings } from "./page/readings.ts";
import { textServer } from "./page/server.ts";

/** What a request's end means. */
const OUTCOMES: Readonly<Record<string, Outcome>> = {
  stop: "ok",
  length: "ok",
  abort: "aborted",
  error: "error",
  // Ended for repeating itself: an answer was given.
  repetition: "ok",
};

/** vLLM behind its OpenAI-compatible HTTP server. */
export const vllm = textServer({
  name: "vllm",
  family: "engine",
  port: 8000,
  path: "/metrics",
  volume: "step",
  labels: { modelLabel: "model_name" },
  families: [
    "vllm_prompt_tokens",
    "vllm_prompt_tokens_by_source",
    "vllm_prompt_tokens_cached",
    "vllm_generation_tokens",
    "vllm_request_success",
    "vllm_admission_rejections",
    "vllm_num_requests_running",
    "vllm_num_requests_waiting",
    "vllm_kv_cache_usage_perc",
    "vllm_gpu_cache_usage_perc",
    "vllm_time_to_first_token_seconds",
    "vllm_inter_token_latency_seconds",
    "vllm_time_per_output_token_seconds",
    "vllm_request_time_per_output_token_seconds",
    "vllm_e2e_request_latency_seconds",
    "vllm_request_queue_time_seconds",
  ],
  recognises: (page) => {
    const sample =
      page.samples.get("vllm_generation_tokens")?.[0] ?? page.samples.get("vllm_num_requests_running")?.[0];
    if (sample?.labels["model_name"] === undefined) return undefined;
    // Dynamo's worker passes vLLM's page through with labels of its own.
    return sample.labels["dynamo_component"] === undefined ? "model_name label on vllm:*" : undefined;
  },
  read: (readings) => readVllm(readings),
});

/** Gathers vLLM's families; other servers that pass them on share it. */
export function readVllm(readings: PageReadings): void {
  const computed = readings.parts("vllm_prompt_tokens_by_source", ["source"], from("local_compute"));
  const hits = readings.parts("vllm_prompt_tokens_by_source", ["source"], from("local_cache_hit"));
  const transferred = readings.parts(
    "vllm_prompt_tokens_by_source",
    ["source"],
    from("external_kv_transfer"),
  );
  const cached = readings.parts("vllm_prompt_tokens_cached");
  const decode = readings.role === "decode";
  for (const sample of readings.counters("vllm_prompt_tokens")) {
    const part = partOf(sample.labels);
    const draft = readings.of(sample.labels, "summed");
    const uncached = computed.get(part);
    const hit = hits.get(part);
    if (uncached !== undefined || hit !== undefined) {
      draft.tokens("input_uncached", uncached ?? 0);
      // What a decode server was handed over is no input of its own (METERING.md 3).
      draft.tokens("input_cached", (hit ?? 0) + (decode ? 0 : (transferred.get(part) ?? 0)));
      continue;
    }
    const inCache = cached.get(part);
    if (inCache !== undefined) {
      if (!decode) draft.tokens("input_cached", Math.min(inCache, sample.value));
      draft.tokens("input_uncached", Math.max(0, sample.value - inCache));
    } else if (!decode) draft.tokens("input_unsplit", sample.value);
  }
  readings.tokens("output", "vllm_generation_tokens");
  readings.requests("vllm_request_success", (labels) => OUTCOMES[labels["finished_reason"] ?? ""] ?? "ok");
  readings.requests("vllm_admission_rejections", () => "rejected");
  readings.inFlight("running", "vllm_num_requests_running");
  readings.inFlight("waiting", "vllm_num_requests_waiting");
  readings.kvCache(readings.firstOf("vllm_kv_cache_usage_perc", "vllm_gpu_cache_usage_perc"));
  readings.latency("time_to_first_token", "vllm_time_to_first_token_seconds");
  readings.latency(
    "inter_token_latency",
    readings.page.samples.has("vllm_inter_token_latency_seconds_count")
      ? "vllm_inter_token_latency_seconds"
      : "vllm_time_per_output_token_seconds",
  );
  readings.latency("time_per_output_token", "vllm_request_time_per_output_token_seconds");
  readings.latency("request_duration", "vllm_e2e_request_latency_seconds");
  readings.latency("queue_time", "vllm_request_queue_time_seconds");
  readings.epoch("vllm_generation_tokens", "vllm_prompt_tokens");
}

function from(source: string): (labels: Readonly<Record<string, string>>) => boolean {
  return (labels) => labels["source"] === source;
}
