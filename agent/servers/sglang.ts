// SGLang's metric page (python/sglang/srt/observability/metrics_collector.py, 0.5.23; --enable-metrics).
// Volume: prompt_tokens and generation_tokens of the tokenizer, at the end of a request, tenant label included. Aborted
// requests that ran are counted there and, since 0.5, in num_requests beside num_aborted_requests. Progress:
// realtime_tokens of the scheduler, every stats interval, repeated work counted again. Schedulers of one data-parallel
// rank repeat the same tokens per tp, pp and moe rank: only rank 0 is read. The series with cache_source="total" or
// priority="" are sums of others, where others are named. cached_tokens has no series before the first hit.
import type { Role } from "../model.ts";
import type { PageReadings } from "./page/readings.ts";
import { textServer } from "./page/server.ts";

type Labels = Readonly<Record<string, string>>;
const RANKS = ["tp_rank", "pp_rank", "moe_ep_rank"];
const ROLES: Readonly<Record<string, Role>> = { prefill: "prefill", decode: "decode", unified: "combined" };

/** SGLang behind its HTTP server, or the HTTP sidecar of its gRPC mode. */
export const sglang = textServer({
  name: "sglang",
  family: "engine",
  port: 30000,
  path: "/metrics",
  volume: "finish",
  labels: { modelLabel: "model_name", tenantLabel: "tenant" },
  families: [
    "sglang_prompt_tokens",
    "sglang_generation_tokens",
    "sglang_cached_tokens",
    "sglang_realtime_tokens",
    "sglang_forward_execution_seconds",
    "sglang_gpu_execution_seconds",
    "sglang_num_requests",
    "sglang_num_aborted_requests",
    "sglang_num_running_reqs",
    "sglang_num_queue_reqs",
    "sglang_token_usage",
    "sglang_time_to_first_token_seconds",
    "sglang_inter_token_latency_seconds",
    "sglang_time_per_output_token_seconds",
    "sglang_e2e_request_latency_seconds",
    "sglang_queue_time_seconds",
  ],
  recognises: (page) => {
    const sample =
      page.samples.get("sglang_num_running_reqs")?.[0] ?? page.samples.get("sglang_prompt_tokens")?.[0];
    return sample === undefined || sample.labels["dynamo_component"] !== undefined
      ? undefined
      : "sglang:* without a Dynamo label";
  },
  read: (readings) => readSglang(readings),
});

/** Gathers SGLang's families; other servers that pass them on share it. */
export function readSglang(readings: PageReadings): void {
  const scheduler =
    readings.page.samples.get("sglang_realtime_tokens") ??
    readings.page.samples.get("sglang_num_running_reqs");
  readings.role = readings.options.role ?? ROLES[scheduler?.[0]?.labels["engine_type"] ?? ""] ?? "combined";
  const bySource = (readings.page.samples.get("sglang_cached_tokens") ?? []).some(
    ({ labels }) => labels["cache_source"] !== undefined && labels["cache_source"] !== "total",
  );
  const cached = readings.parts(
    "sglang_cached_tokens",
    ["cache_source"],
    (labels) => !bySource || labels["cache_source"] !== "total",
  );
  // Split by is_streaming since 0.5, while cached_tokens is not.
  readings.input("sglang_prompt_tokens", (part) => cached.get(part) ?? 0, ["is_streaming"]);
  readings.tokens("output", "sglang_generation_tokens");
  for (const sample of readings.counters("sglang_realtime_tokens")) {
    if (!isOwn(sample.labels)) continue;
    const decoded = sample.labels["mode"] === "decode";
    readings.of(sample.labels).progress(decoded ? 0 : sample.value, decoded ? sample.value : 0);
  }
  readings.progressMoves("step");
  readBusy(readings);
  readings.requests("sglang_num_requests", () => "ok");
  readings.requests("sglang_num_aborted_requests", () => "aborted");
  readings.inFlight("running", "sglang_num_running_reqs", isOwn);
  readings.inFlight("waiting", "sglang_num_queue_reqs", isOwn);
  readings.kvCache("sglang_token_usage", isOwn);
  readings.latency("time_to_first_token", "sglang_time_to_first_token_seconds");
  const interToken = readings.firstOf(
    "sglang_inter_token_latency_seconds_count",
    "sglang_time_per_output_token_seconds_count",
  );
  readings.latency("inter_token_latency", interToken.replace(/_count$/, ""));
  readings.latency("request_duration", "sglang_e2e_request_latency_seconds");
  readings.latency("queue_time", "sglang_queue_time_seconds", 1, isOwn);
  readings.epoch("sglang_generation_tokens", "sglang_prompt_tokens");
}

/** Busy seconds are a server's active time only where one scheduler works: ranks in parallel overlap. */
function readBusy(readings: PageReadings): void {
  const name = readings.firstOf("sglang_forward_execution_seconds", "sglang_gpu_execution_seconds");
  const schedulers = readings.parts(name, ["category"], isOwn);
  const running = readings.parts("sglang_num_running_reqs", [], isOwn);
  if (schedulers.size === 1 && running.size <= 1) readings.active([...schedulers.values()][0]);
}

/** Whether a scheduler's series counts: the first of the ranks that repeat each other, and no sub-total. */
function isOwn(labels: Labels): boolean {
  const first = RANKS.every((rank) => labels[rank] === undefined || labels[rank] === "0");
  return first && (labels["priority"] === undefined || labels["priority"] === "");
}
