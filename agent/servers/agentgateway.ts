// agentgateway, also the data plane of kgateway (crates/agentgateway/src/telemetry/{metrics,log}.rs, 75b4e6c, 1.4; names the same
// since 0.4): OpenTelemetry's GenAI histograms under its prefix, no unit in the names, OpenMetrics. A gateway: sums at the end
// of a request, labels of bind, gateway, listener and route, and those an operator adds (name one as `tenantLabel`).
// `input_cache_read` (since 1.0) is inside `input` or beside it, as the upstream reports it (llm/mod.rs, cache_convention_for):
// beside it for Anthropic's and Bedrock's formats. A request without usage shows in no family here, until releases that put
// failed ones into the duration with an `error_type` (pull/3319); where it has none, a page does not say how they ended.
import type { Outcome } from "../model.ts";
import type { PageReadings } from "./page/readings.ts";
import { textServer } from "./page/server.ts";

type Labels = Readonly<Record<string, string>>;

const PREFIX = "agentgateway_gen_ai";
const USAGE = `${PREFIX}_client_token_usage`;
const DURATION = `${PREFIX}_server_request_duration`;
const TYPE = "gen_ai_token_type";

/** agentgateway and kgateway. */
export const agentgateway = textServer({
  name: "agentgateway",
  family: "gateway",
  port: 15020,
  path: "/metrics",
  volume: "finish",
  labels: { modelLabel: ["gen_ai_request_model", "gen_ai_response_model"], endpointLabel: "route" },
  bornAtZero: true,
  families: [
    USAGE,
    DURATION,
    `${PREFIX}_server_time_to_first_token`,
    `${PREFIX}_server_time_per_output_token`,
  ],
  recognises: (page) => (page.samples.has(`${USAGE}_sum`) ? `${USAGE}` : undefined),
  read: (readings) => {
    readInput(readings);
    for (const sample of readings.counters(`${USAGE}_sum`)) {
      if (isOf("output")(sample.labels))
        readings.of(sample.labels, "summed", [TYPE]).tokens("output", sample.value);
    }
    readings.requests(`${USAGE}_count`, (labels) => (isOf("output")(labels) ? "ok" : undefined));
    readings.requests(`${DURATION}_count`, failureOf);
    readings.latency("request_duration", DURATION, { outcome: failureOf });
    readings.latency("time_to_first_token", `${PREFIX}_server_time_to_first_token`);
    readings.latency("time_per_output_token", `${PREFIX}_server_time_per_output_token`);
    readings.epoch();
  },
});

/** Input split where somebody reported cache reads; a format that may be either stays unsplit. */
function readInput(readings: PageReadings): void {
  const cached = readings.parts(`${USAGE}_sum`, [TYPE], isOf("input_cache_read"));
  const written = readings.parts(`${USAGE}_sum`, [TYPE], isOf("input_cache_write"));
  for (const [part, { labels, value }] of readings.sums(`${USAGE}_sum`, [TYPE], isOf("input"))) {
    const draft = readings.of(labels, "summed", [TYPE]);
    const convention = conventionOf(labels);
    if (cached.size === 0 || convention === undefined) draft.tokens("input_unsplit", value);
    else if (convention === "included") {
      const hits = Math.min(cached.get(part) ?? 0, value);
      draft.tokens("input_cached", hits);
      draft.tokens("input_uncached", value - hits);
    } else {
      draft.tokens("input_cached", cached.get(part) ?? 0);
      draft.tokens("input_uncached", value + (written.get(part) ?? 0));
    }
  }
}

/** Whether cache reads are part of `input`; undefined where the labels cannot tell. */
function conventionOf(labels: Labels): "included" | "beside" | undefined {
  const system = labels["gen_ai_system"] ?? "";
  if (system === "anthropic" || system === "aws.bedrock") return "beside";
  if (system === "copilot" || system === "gcp.vertex_ai") {
    return /anthropic|claude/i.test(labels["gen_ai_request_model"] ?? "") ? "beside" : "included";
  }
  return /^(openai|azure|gcp\.gemini)/.test(system) ? "included" : undefined;
}

function failureOf(labels: Labels): Outcome | undefined {
  return (labels["error_type"] ?? "") === "" ? undefined : "error";
}

function isOf(type: string): (labels: Labels) => boolean {
  return (labels) => labels[TYPE] === type;
}
