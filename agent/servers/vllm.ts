// vLLM's own metric page, python and Rust front ends (vllm v1 metrics/loggers.py, 0.33.0; its page on metrics, 2026), and
// its families where another server passes them on. Volume and progress: prompt_tokens and generation_tokens, both per
// engine step; input includes prefix hits, and lumps at the end of a prefill. `engine` is a data-parallel rank: ranks count
// different tokens, are summed, and read one by one where there are several. Left out: prefix_cache_queries/hits (inflated by
// repeated look-ups), corrupted and speculative counters, request_inference_time (prefill and decode time together). Aborted
// work is inside the token counters but in no request counter (https://github.com/vllm-project/vllm/issues/55634).
import type { Outcome } from "../model.ts";
import type { MetricPage } from "../source.ts";
import { partOf } from "./page/labels.ts";
import type { RankLabel } from "./page/ranks.ts";
import type { PageReadings } from "./page/readings.ts";
import { textServer } from "./page/server.ts";

type Labels = Readonly<Record<string, string>>;

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
  families: vllmFamilies("vllm_"),
  ranks: [vllmRanks("vllm_")],
  recognises: (page) => {
    const labels = vllmLabels(page, "vllm_");
    if (labels?.["model_name"] === undefined) return undefined;
    // Dynamo's worker passes vLLM's page through with labels of its own.
    return labels["dynamo_component"] === undefined ? "model_name label on vllm:*" : undefined;
  },
  read: (readings) => readVllm(readings),
});

/** Labels of the series vLLM's families are known by, under a prefix; undefined where there is none. */
export function vllmLabels(page: MetricPage, prefix: string): Labels | undefined {
  const known = ["generation_tokens", "num_requests_running"].map(
    (name) => page.samples.get(prefix + name)?.[0],
  );
  return known.find((sample) => sample !== undefined)?.labels;
}

/** vLLM's families under a prefix. */
export function vllmFamilies(prefix: string): readonly string[] {
  return [
    "prompt_tokens",
    "prompt_tokens_by_source",
    "prompt_tokens_cached",
    "generation_tokens",
    "request_success",
    "admission_rejections",
    "num_requests_running",
    "num_requests_waiting",
    "kv_cache_usage_perc",
    "gpu_cache_usage_perc",
    "time_to_first_token_seconds",
    "inter_token_latency_seconds",
    "time_per_output_token_seconds",
    "request_time_per_output_token_seconds",
    "e2e_request_latency_seconds",
    "request_queue_time_seconds",
    // Of what requests took in execution, the sums alone.
    "request_prefill_time_seconds_sum",
    "request_prefill_time_seconds_count",
    "request_decode_time_seconds_sum",
  ].map((name) => prefix + name);
}

/** The label that names a data-parallel rank in vLLM's families. */
export function vllmRanks(prefix: string): RankLabel {
  return { label: "engine", counter: `${prefix}generation_tokens`, gauge: `${prefix}num_requests_running` };
}

/** What vLLM's `finished_reason` says of a request; one that is not known counted as a success there. */
export function outcomeOfReason(reason: string | undefined): Outcome {
  return OUTCOMES[reason ?? ""] ?? "ok";
}

/** Gathers vLLM's families under a prefix. */
export function readVllm(readings: PageReadings, prefix = "vllm_"): void {
  readInput(readings, prefix);
  readings.tokens("output", `${prefix}generation_tokens`);
  readings.requests(`${prefix}request_success`, (labels) => outcomeOfReason(labels["finished_reason"]));
  readings.requests(`${prefix}admission_rejections`, () => "rejected");
  readings.inFlight("running", `${prefix}num_requests_running`);
  readings.inFlight("waiting", `${prefix}num_requests_waiting`);
  readings.kvCache(readings.firstOf(`${prefix}kv_cache_usage_perc`, `${prefix}gpu_cache_usage_perc`));
  readings.latency("time_to_first_token", `${prefix}time_to_first_token_seconds`);
  readings.latency(
    "inter_token_latency",
    readings.page.samples.has(`${prefix}inter_token_latency_seconds_count`)
      ? `${prefix}inter_token_latency_seconds`
      : `${prefix}time_per_output_token_seconds`,
  );
  readings.latency("time_per_output_token", `${prefix}request_time_per_output_token_seconds`);
  readings.latency("request_duration", `${prefix}e2e_request_latency_seconds`);
  readings.latency("queue_time", `${prefix}request_queue_time_seconds`);
  readings.phaseTimes(`${prefix}request_prefill_time_seconds`, `${prefix}request_decode_time_seconds`);
  readings.epoch();
}

/**
 * Input by where it came from; releases without the split give it unsplit. prompt_tokens is the truth: in 0.16 to 0.19 the
 * last token of a transferred prompt is of two sources (https://github.com/vllm-project/vllm/pull/33290, disjoint since
 * pull/37460), so the parts are cut to fit it. A request for n answers has its prompt in them n times, n - 1 of them mostly
 * as hits: each answer is a sequence of its own. A gateway counts it once (https://github.com/vllm-project/vllm/pull/56923).
 */
function readInput(readings: PageReadings, prefix: string): void {
  const bySource = `${prefix}prompt_tokens_by_source`;
  const source = (named: string): Map<string, number> =>
    readings.parts(bySource, ["source"], (labels) => labels["source"] === named);
  const [computed, hits, transferred] = [
    source("local_compute"),
    source("local_cache_hit"),
    source("external_kv_transfer"),
  ];
  const cached = readings.parts(`${prefix}prompt_tokens_cached`);
  const decode = readings.role === "decode";
  for (const { labels, value: total } of readings.counters(`${prefix}prompt_tokens`)) {
    const part = partOf(labels);
    const draft = readings.of(labels, "summed");
    const hit = hits.get(part) ?? 0;
    const moved = transferred.get(part) ?? 0;
    if (computed.has(part) || hits.has(part)) {
      // What a decode server was handed over is no input of its own (METERING.md 3), its last token included.
      const own = decode ? Math.max(0, total - moved) : total;
      const uncached = Math.min(computed.get(part) ?? 0, decode ? Math.max(0, own - hit) : own);
      draft.tokens("input_uncached", uncached);
      draft.tokens("input_cached", Math.min(hit + (decode ? 0 : moved), own - uncached));
      continue;
    }
    const inCache = cached.get(part);
    if (decode) {
      if (inCache !== undefined) draft.tokens("input_uncached", Math.max(0, total - inCache));
    } else if (inCache === undefined) draft.tokens("input_unsplit", total);
    else {
      draft.tokens("input_cached", Math.min(inCache, total));
      draft.tokens("input_uncached", Math.max(0, total - inCache));
    }
  }
}
