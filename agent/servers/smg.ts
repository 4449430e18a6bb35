// The model gateway smg, once SGLang's router (model_gateway/src/observability/metrics.rs, f8daa88; seen with smg 1.13.0
// and sglang-router 0.3.2, which has the same names). A gateway: tokens are counted at the end of a gRPC streaming response
// only, so HTTP workers and answers that are not streamed show requests and no tokens here. Its /engine_metrics page
// merges the workers' own pages and is no source: names and values lose their colons there.
import { outcomeOfStatus } from "./entry.ts";
import type { PageReadings } from "./page/readings.ts";
import { textServer } from "./page/server.ts";

const RESPONSES = "smg_http_responses";
const DURATION = "smg_router_request_duration_seconds";
/** Paths that generate or embed; others, such as /v1/models, are no requests to meter. */
const PATHS =
  /^\/(v1\/)?(chat\/completions|completions|responses|messages|generate|embeddings|rerank|classify|audio\/transcriptions)$/;

/** The gateway smg. */
export const smg = textServer({
  name: "smg",
  family: "gateway",
  port: 29000,
  path: "/metrics",
  volume: "finish",
  neverSplits: true,
  withoutTokens: "it counts tokens of gRPC streaming responses only; count at the engines",
  labels: { modelLabel: "model" },
  families: [
    "smg_router_tokens",
    RESPONSES,
    "smg_router_request_errors",
    "smg_worker_requests_active",
    "smg_router_ttft_seconds",
    "smg_router_tpot_seconds",
    DURATION,
  ],
  recognises: (page) =>
    [...page.samples.keys()].some((name) => /^smg_(router|http|worker|engine)_/.test(name))
      ? "smg_* families"
      : undefined,
  read: (readings) => {
    for (const sample of readings.counters("smg_router_tokens")) {
      const kind = sample.labels["token_type"] === "output" ? "output" : "input_unsplit";
      readings.of(sample.labels, "summed", ["token_type"]).tokens(kind, sample.value);
    }
    const namesPaths = readings.counters(RESPONSES).some(({ labels }) => labels["path"] !== undefined);
    readRequests(readings, namesPaths);
    readings.inFlight("running", "smg_worker_requests_active");
    readings.latency("time_to_first_token", "smg_router_ttft_seconds");
    readings.latency("time_per_output_token", "smg_router_tpot_seconds");
    readings.latency("request_duration", DURATION, namesPaths ? {} : { outcome: "ok" });
    readings.epoch();
  },
});

/** Responses by path; SGLang's router names none, but counts those that ended well and those that failed by model. */
function readRequests(readings: PageReadings, namesPaths: boolean): void {
  if (namesPaths) {
    readings.requests(RESPONSES, (labels) =>
      PATHS.test(labels["path"] ?? "") ? outcomeOfStatus(labels["status_code"]) : undefined,
    );
    return;
  }
  readings.requests(`${DURATION}_count`, () => "ok");
  readings.requests("smg_router_request_errors", () => "error");
}
