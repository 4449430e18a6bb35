// Dynamo's frontend (lib/runtime/src/metrics/prometheus_names.rs; seen with 1.6.1): a router, so a gateway here; the same
// tokens show again on the workers (servers.dynamo-worker). Volume: histogram sums at the end of a request, cancelled
// ones included. The live counter output_tokens_total is read only where they are absent: it misses streamed text
// completions, whose input no family counts at all. DYN_METRICS_PREFIX can rename everything: use prometheus-generic then.
import type { Outcome } from "../model.ts";
import { textServer } from "./page/server.ts";

const ERRORS: Readonly<Record<string, Outcome>> = { "": "ok", overload: "rejected", cancelled: "aborted" };

/** Dynamo's HTTP frontend. */
export const dynamo = textServer({
  name: "dynamo",
  family: "gateway",
  port: 8000,
  path: "/metrics",
  volume: "finish",
  labels: { modelLabel: "model" },
  families: [
    "dynamo_frontend_output_tokens",
    "dynamo_frontend_output_sequence_tokens",
    "dynamo_frontend_input_sequence_tokens",
    "dynamo_frontend_cached_tokens",
    "dynamo_frontend_requests",
    "dynamo_frontend_inflight_requests",
    "dynamo_frontend_queued_requests",
    "dynamo_frontend_time_to_first_token_seconds",
    "dynamo_frontend_inter_token_latency_seconds",
    "dynamo_frontend_request_duration_seconds",
  ],
  recognises: (page) =>
    [...page.samples.keys()].some((name) => name.startsWith("dynamo_frontend_"))
      ? "dynamo_frontend_* families"
      : undefined,
  read: (readings) => {
    const cached = readings.parts("dynamo_frontend_cached_tokens_sum");
    const splits = cached.size > 0;
    readings.input("dynamo_frontend_input_sequence_tokens_sum", (part) =>
      splits ? (cached.get(part) ?? 0) : undefined,
    );
    readings.tokens(
      "output",
      readings.firstOf("dynamo_frontend_output_sequence_tokens_sum", "dynamo_frontend_output_tokens"),
    );
    readings.requests("dynamo_frontend_requests", (labels) => ERRORS[labels["error_type"] ?? ""] ?? "error");
    readings.inFlight("running", "dynamo_frontend_inflight_requests");
    readings.inFlight("waiting", "dynamo_frontend_queued_requests");
    readings.latency("time_to_first_token", "dynamo_frontend_time_to_first_token_seconds");
    readings.latency("inter_token_latency", "dynamo_frontend_inter_token_latency_seconds");
    readings.latency("request_duration", "dynamo_frontend_request_duration_seconds");
    readings.epoch();
  },
});
