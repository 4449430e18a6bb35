// SGLang's metric page (python/sglang/srt/observability/metrics_collector.py, 0.5.23; --enable-metrics), and its families where
// another server passes them on. Volume: prompt_tokens and generation_tokens of the tokenizer, at the end of a request,
// tenant label included. Aborted requests that ran are counted there and, since 0.5, in num_requests beside
// num_aborted_requests. Progress: realtime_tokens of the scheduler, every stats interval, repeated work counted again.
// Schedulers of one data-parallel rank (dp_rank) repeat the same tokens per tp, pp and moe rank: only the first is read;
// priority="" is the sum over priorities.
import type { Role } from "../model.ts";
import type { MetricPage } from "../source.ts";
import { firstRanks } from "./page/first-ranks.ts";
import type { RankLabel } from "./page/ranks.ts";
import type { PageReadings } from "./page/readings.ts";
import { textServer } from "./page/server.ts";

type Labels = Readonly<Record<string, string>>;
const ROLES: Readonly<Record<string, Role>> = { prefill: "prefill", decode: "decode", unified: "combined" };

/** SGLang behind its HTTP server, or the HTTP sidecar of its gRPC mode. */
export const sglang = textServer({
  name: "sglang",
  family: "engine",
  port: 30000,
  path: "/metrics",
  volume: "finish",
  // `name` until 0.3.
  labels: { modelLabel: ["model_name", "name"], tenantLabel: "tenant" },
  families: sglangFamilies("sglang_"),
  ranks: [sglangRanks("sglang_")],
  recognises: (page) => {
    const labels = sglangLabels(page, "sglang_");
    if (labels === undefined) return undefined;
    return labels["dynamo_component"] === undefined ? "sglang:* without a Dynamo label" : undefined;
  },
  read: (readings) => readSglang(readings),
});

/** Labels of the series SGLang's families are known by, under a prefix; undefined where there is none. */
export function sglangLabels(page: MetricPage, prefix: string): Labels | undefined {
  const known = ["num_running_reqs", "prompt_tokens"].map((name) => page.samples.get(prefix + name)?.[0]);
  return known.find((sample) => sample !== undefined)?.labels;
}

/** SGLang's families under a prefix. */
export function sglangFamilies(prefix: string): readonly string[] {
  return [
    "prompt_tokens",
    "generation_tokens",
    "cached_tokens",
    "uncached_prompt_tokens_histogram",
    "realtime_tokens",
    "forward_execution_seconds",
    "gpu_execution_seconds",
    "num_requests",
    "num_aborted_requests",
    "num_running_reqs",
    "num_queue_reqs",
    "token_usage",
    "time_to_first_token_seconds",
    "inter_token_latency_seconds",
    "time_per_output_token_seconds",
    "e2e_request_latency_seconds",
    "queue_time_seconds",
  ].map((name) => prefix + name);
}

/** The label that names a data-parallel rank in what SGLang's schedulers count; its tokenizer's tokens have none. */
export function sglangRanks(prefix: string): RankLabel {
  return { label: "dp_rank", counter: `${prefix}realtime_tokens`, gauge: `${prefix}num_running_reqs` };
}

/** Gathers SGLang's families under a prefix. */
export function readSglang(readings: PageReadings, prefix = "sglang_"): void {
  const { samples } = readings.page;
  const scheduler = samples.get(`${prefix}realtime_tokens`) ?? samples.get(`${prefix}num_running_reqs`);
  readings.role =
    readings.options.role ?? ROLES[scheduler?.[0]?.labels["engine_type"] ?? ""] ?? readings.role;
  readInput(readings, prefix);
  readings.tokens("output", `${prefix}generation_tokens`);
  const stepped = readings.counters(`${prefix}realtime_tokens`);
  const schedulers = readings.gauges(`${prefix}num_running_reqs`);
  const isFirstStepped = firstRanks(stepped, schedulers);
  for (const sample of stepped) {
    if (!isFirstStepped(sample.labels)) continue;
    const decoded = sample.labels["mode"] === "decode";
    readings.of(sample.labels).progress(decoded ? 0 : sample.value, decoded ? sample.value : 0);
  }
  readings.progressMoves("step");
  readBusy(readings, prefix);
  readings.requests(`${prefix}num_requests`, () => "ok");
  readings.requests(`${prefix}num_aborted_requests`, () => "aborted");
  const isFirst = (name: string): ((labels: Labels) => boolean) => firstRanks(readings.gauges(prefix + name));
  readings.inFlight("running", `${prefix}num_running_reqs`, isFirst("num_running_reqs"));
  readings.inFlight("waiting", `${prefix}num_queue_reqs`, isFirst("num_queue_reqs"));
  readings.kvCache(`${prefix}token_usage`, isFirst("token_usage"));
  readings.latency("time_to_first_token", `${prefix}time_to_first_token_seconds`);
  const interToken = readings.firstOf(
    `${prefix}inter_token_latency_seconds_count`,
    `${prefix}time_per_output_token_seconds_count`,
  );
  readings.latency("inter_token_latency", interToken.replace(/_count$/, ""));
  readings.latency("request_duration", `${prefix}e2e_request_latency_seconds`);
  const queued = readings.counters(`${prefix}queue_time_seconds_count`);
  readings.latency("queue_time", `${prefix}queue_time_seconds`, { when: firstRanks(queued, schedulers) });
  readings.epoch();
}

/**
 * Input by its cache hits, once the page shows that this release counts them: cached_tokens has no series before the first
 * hit, and 0.4.3 had none at all (its page on production metrics). Its sources are disjoint: cache_source="total" is
 * for requests without details (observe_one_finished_request; https://github.com/sgl-project/sglang/pull/26590).
 */
function readInput(readings: PageReadings, prefix: string): void {
  const { samples } = readings.page;
  const cached = readings.parts(`${prefix}cached_tokens`, ["cache_source"]);
  const counts =
    cached.size > 0 ||
    samples.has(`${prefix}realtime_tokens`) ||
    samples.has(`${prefix}uncached_prompt_tokens_histogram_count`);
  // Split by is_streaming since 0.5, while cached_tokens is not.
  readings.input(`${prefix}prompt_tokens`, (part) => (counts ? (cached.get(part) ?? 0) : undefined), [
    "is_streaming",
  ]);
}

/** Busy seconds are a server's active time only where one scheduler works: ranks in parallel overlap. */
function readBusy(readings: PageReadings, prefix: string): void {
  const name = readings.firstOf(`${prefix}forward_execution_seconds`, `${prefix}gpu_execution_seconds`);
  const schedulers = readings.parts(name, ["category"], firstRanks(readings.counters(name)));
  const gauges = readings.gauges(`${prefix}num_running_reqs`);
  const isFirst = firstRanks(gauges);
  const running = gauges.filter(({ labels }) => isFirst(labels));
  if (schedulers.size === 1 && running.length <= 1) readings.active([...schedulers.values()][0]);
}
