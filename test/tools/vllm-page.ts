// A vLLM metric page of a size asked for, whose counters move with time: what a busy server would show.
import { padded } from "./litellm-page.ts";

const BOUNDS = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 320,
  640,
];
const HISTOGRAMS = [
  "time_to_first_token_seconds",
  "inter_token_latency_seconds",
  "e2e_request_latency_seconds",
  "request_queue_time_seconds",
  "request_time_per_output_token_seconds",
  // Families no one here reads: a page is mostly these.
  "iteration_tokens_total",
  "request_prompt_tokens",
  "request_generation_tokens",
  "request_inference_time_seconds",
  "request_prefill_time_seconds",
  "request_decode_time_seconds",
  "request_params_n",
  "request_params_max_tokens",
];

/** The page after `seconds` of serving `models` models, padded to at least `bytes`. */
export function vllmPage(seconds: number, models: number, bytes: number): string {
  const lines: string[] = [];
  for (let model = 0; model < models; model++) {
    const labels = `engine="0",model_name="org/model-${model}"`;
    const tokens = Math.floor(seconds * 1000) + model;
    lines.push(
      `vllm:prompt_tokens_total{${labels}} ${tokens * 4}`,
      `vllm:prompt_tokens_cached_total{${labels}} ${tokens}`,
      `vllm:generation_tokens_total{${labels}} ${tokens}`,
      `vllm:num_requests_running{${labels}} ${4 + (model % 3)}`,
      `vllm:num_requests_waiting{${labels}} 0`,
      `vllm:kv_cache_usage_perc{${labels}} 0.5`,
    );
    for (const reason of ["stop", "length", "abort", "error"]) {
      lines.push(
        `vllm:request_success_total{${labels},finished_reason="${reason}"} ${Math.floor(tokens / 300)}`,
      );
    }
    for (const name of HISTOGRAMS) lines.push(...histogram(`vllm:${name}`, labels, Math.floor(tokens / 100)));
  }
  return padded(lines, bytes, "vllm:other_metric_total");
}

function histogram(name: string, labels: string, count: number): string[] {
  const buckets = BOUNDS.map((bound, index) => {
    const below = Math.floor((count * (index + 1)) / BOUNDS.length);
    return `${name}_bucket{${labels},le="${bound}"} ${below}`;
  });
  return [
    ...buckets,
    `${name}_bucket{${labels},le="+Inf"} ${count}`,
    `${name}_count{${labels}} ${count}`,
    `${name}_sum{${labels}} ${count * 0.3}`,
  ];
}
