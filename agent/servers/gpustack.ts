// A GPUStack worker's page (gpustack/worker/runtime_metrics_aggregator.py and assets/metrics_config, 47277d7, 2.2): the counters of
// every engine it runs on this host (vLLM, SGLang, MindIE) under one name, with the worker's and the instance's labels. An
// engine that is read here is not to be read at its own port, too. Volume as the engine behind (`runtime`): vLLM's per step,
// others at the end. Series of an engine that did not answer the worker vanish for a while: that is no reset.
import { firstRanks } from "./page/first-ranks.ts";
import type { Labels } from "./page/labels.ts";
import type { PageReadings } from "./page/readings.ts";
import { textServer } from "./page/server.ts";
import { outcomeOfReason } from "./vllm.ts";

const PROMPT = "gpustack_prompt_tokens";
const CACHED = "gpustack_prompt_tokens_cached";
const OUTPUT = "gpustack_generation_tokens";
const RUNNING = "gpustack_num_requests_running";
const WAITING = "gpustack_num_requests_waiting";
const USAGE = "gpustack_kv_cache_usage_ratio";
const QUEUED = "gpustack_request_queue_time_seconds";
/** What GPUStack adds to every series; any other label is the engine's own and differs between its families. */
const OWN: ReadonlySet<string> = new Set([
  "worker_id",
  "worker_name",
  "model_id",
  "model_name",
  "model_instance_id",
  "model_instance_name",
  "runtime",
]);

/** A GPUStack worker. */
export const gpustack = textServer({
  name: "gpustack",
  family: "engine",
  port: 10151,
  path: "/metrics",
  volume: "step",
  labels: { modelLabel: "model_name" },
  merges: true,
  families: [
    PROMPT,
    CACHED,
    OUTPUT,
    "gpustack_request_success",
    RUNNING,
    WAITING,
    USAGE,
    "gpustack_time_to_first_token_seconds",
    "gpustack_inter_token_latency_seconds",
    "gpustack_e2e_request_latency_seconds",
    QUEUED,
  ],
  recognises: (page) =>
    [OUTPUT, RUNNING].some((name) => page.samples.has(name)) ? "gpustack:* families" : undefined,
  read: (readings) => {
    const foreign = foreignLabels(readings, PROMPT, CACHED);
    const cached = readings.parts(CACHED, foreign);
    readings.input(PROMPT, (part) => cached.get(part), foreign);
    readings.tokens("output", OUTPUT);
    for (const { labels } of readings.counters(OUTPUT)) {
      if (labels["runtime"] !== "vLLM") readings.of(labels).volume("finish");
    }
    readings.requests("gpustack_request_success", (labels) => outcomeOfReason(labels["finished_reason"]));
    const isFirst = (name: string): ((labels: Labels) => boolean) => firstRanks(readings.gauges(name));
    readings.inFlight("running", RUNNING, isFirst(RUNNING));
    readings.inFlight("waiting", WAITING, isFirst(WAITING));
    readings.kvCache(USAGE, isFirst(USAGE));
    readings.latency("time_to_first_token", "gpustack_time_to_first_token_seconds");
    readings.latency("inter_token_latency", "gpustack_inter_token_latency_seconds");
    readings.latency("request_duration", "gpustack_e2e_request_latency_seconds");
    const queued = readings.counters(`${QUEUED}_count`);
    readings.latency("queue_time", QUEUED, { when: firstRanks(queued, readings.gauges(RUNNING)) });
  },
});

/** Labels of these families that are the engine's own: by them input and hits cannot be matched. */
function foreignLabels(readings: PageReadings, ...families: readonly string[]): readonly string[] {
  const names = new Set<string>();
  for (const family of families) {
    for (const { labels } of readings.counters(family)) {
      for (const name in labels) if (!OWN.has(name)) names.add(name);
    }
  }
  return [...names].sort();
}
