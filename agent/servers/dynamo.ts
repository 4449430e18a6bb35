// Dynamo's frontend (lib/runtime/src/metrics/prometheus_names.rs; seen with 1.6.1): a router, so a gateway here; the same
// tokens show again on the workers (servers.dynamo-worker). Volume: histogram sums at the end of a request, cancelled
// ones included. The live counter output_tokens_total is read only where they are absent: it misses streamed text
// completions, whose input no family counts at all. Until 0.3, and in NIM, the names begin with nv_llm_http_service
// (lib/llm/src/http/service/metrics.rs), before 0.3 without tokens; DYN_METRICS_PREFIX can say anything else: use
// prometheus-generic then.
import type { Outcome } from "../model.ts";
import type { MetricPage } from "../source.ts";
import { textServer } from "./page/server.ts";

const ERRORS: Readonly<Record<string, Outcome>> = { "": "ok", overload: "rejected", cancelled: "aborted" };

/** By release, newest first. */
const PREFIXES = ["dynamo_frontend", "nv_llm_http_service"];

/** Dynamo's HTTP frontend. */
export const dynamo = textServer({
  name: "dynamo",
  family: "gateway",
  port: 8000,
  path: "/metrics",
  volume: "finish",
  withoutTokens: "frontends before 0.3 publish none; update it, or read the workers",
  labels: { modelLabel: "model" },
  families: PREFIXES.flatMap((prefix) =>
    [
      "output_tokens",
      "output_sequence_tokens",
      "input_sequence_tokens",
      "cached_tokens",
      "requests",
      "inflight_requests",
      "queued_requests",
      "time_to_first_token_seconds",
      "inter_token_latency_seconds",
      "request_duration_seconds",
    ].map((name) => `${prefix}_${name}`),
  ),
  recognises: (page) => {
    const prefix = prefixOf(page);
    return prefix === undefined ? undefined : `${prefix}_* families`;
  },
  read: (readings) => {
    const prefix = prefixOf(readings.page) ?? (PREFIXES[0] as string);
    const cached = readings.parts(`${prefix}_cached_tokens_sum`);
    const splits = cached.size > 0;
    readings.input(`${prefix}_input_sequence_tokens_sum`, (part) =>
      splits ? (cached.get(part) ?? 0) : undefined,
    );
    readings.tokens(
      "output",
      readings.firstOf(`${prefix}_output_sequence_tokens_sum`, `${prefix}_output_tokens`),
    );
    readings.requests(`${prefix}_requests`, outcomeOf);
    readings.inFlight("running", `${prefix}_inflight_requests`);
    readings.inFlight("waiting", `${prefix}_queued_requests`);
    readings.latency("time_to_first_token", `${prefix}_time_to_first_token_seconds`);
    readings.latency("inter_token_latency", `${prefix}_inter_token_latency_seconds`);
    readings.latency("request_duration", `${prefix}_request_duration_seconds`);
    readings.epoch();
  },
});

function prefixOf(page: MetricPage): string | undefined {
  const names = [...page.samples.keys()];
  return PREFIXES.find((prefix) => names.some((name) => name.startsWith(`${prefix}_`)));
}

/** `error_type` says more than `status`, and came later. */
function outcomeOf(labels: Readonly<Record<string, string>>): Outcome {
  const kind = labels["error_type"] ?? "";
  if (kind === "" && labels["status"] === "error") return "error";
  return ERRORS[kind] ?? "error";
}
