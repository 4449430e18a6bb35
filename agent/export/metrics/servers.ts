// Metrics of inference servers, gateways, models and tenants: tokens, requests, their GPU time, energy, money, latency.
import { genai } from "./conventions.ts";
import type { Metric } from "./metric.ts";
import { count, GATEWAY, GPU, gauge, info, joules, latency, money, SERVER, seconds } from "./rows.ts";

const KIND = "tokenwatt.token.kind";
const STATE = "tokenwatt.gpu.state";
const METHOD = "tokenwatt.method";
const OUTCOME = "tokenwatt.outcome";
const TENANT = "tokenwatt.tenant";
const PRICED = ["tokenwatt.currency", "tokenwatt.price.version"] as const;
const INFERENCE = [...SERVER, genai.operationName, genai.providerName, OUTCOME] as const;
const CAPACITY = [...SERVER, "hw.model", "tokenwatt.capacity.source"] as const;
const PHASED = [...SERVER, "hw.model", "tokenwatt.phase", METHOD] as const;
const WINDOWED = ["tokenwatt.server.id", "hw.model", "tokenwatt.window", "tokenwatt.basis"] as const;
const development = { stability: "development" } as const;

/** Rows of the token side of METERING.md 5. */
export const serverMetrics: readonly Metric[] = [
  count(
    "tokenwatt.tokens",
    "{token}",
    [...SERVER, "hw.model", KIND, "tokenwatt.server.role"],
    "Tokens processed by an inference server; the kinds are disjoint and add up",
  ),
  count(
    "tokenwatt.reasoning_tokens",
    "{token}",
    SERVER,
    "Output tokens spent on reasoning, a subset of kind output of tokenwatt.tokens",
  ),
  count(
    "tokenwatt.unmatched_tokens",
    "{token}",
    [...SERVER, "hw.model", KIND, "tokenwatt.reason"],
    "Subset of tokenwatt.tokens read late, made on another host or while the GPU was unobserved: efficiency leaves them out, billing does not",
  ),
  count(
    "tokenwatt.uncertain_tokens",
    "{token}",
    [...SERVER, "hw.model", KIND, "tokenwatt.reason"],
    "Subset of tokenwatt.tokens that rests on an assumption, by the reason: no counter of them was read whole",
  ),
  count("tokenwatt.billable_tokens", "{token}", [...SERVER, "hw.model"], "Tokens a price applies to"),
  count("tokenwatt.requests", "{request}", [...SERVER, OUTCOME], "Requests finished by an inference server"),
  count(
    "tokenwatt.gateway.tokens",
    "{token}",
    [...GATEWAY, KIND, OUTCOME],
    "Tokens as a gateway counted them; never added to tokenwatt.tokens",
  ),
  count(
    "tokenwatt.gateway.requests",
    "{request}",
    [...GATEWAY, OUTCOME],
    "Requests as a gateway counted them",
  ),
  seconds(
    "tokenwatt.server.gpu_time",
    [...SERVER, ...GPU, STATE, METHOD],
    "GPU-seconds allotted to a server, by the server's own state; shares of one GPU sum to its allocated seconds",
  ),
  joules(
    "tokenwatt.server.energy",
    [...SERVER, ...GPU, STATE, METHOD],
    "GPU energy allotted to a server, by the server's own state",
  ),
  seconds(
    "tokenwatt.server.phase_time",
    PHASED,
    "Token-active GPU-seconds of a server by what they were spent on: prefill, decode, or unsplit where it is not known",
  ),
  joules("tokenwatt.server.phase_energy", PHASED, "Energy of those seconds, by what it was spent on"),
  seconds(
    "tokenwatt.server.phase_uncertain_time",
    [...SERVER, "hw.model"],
    "How much of the prefill of tokenwatt.server.phase_time may be decode, or the other way round: one standard error",
  ),
  joules(
    "tokenwatt.server.phase_uncertain_energy",
    [...SERVER, "hw.model"],
    "How much of the prefill of tokenwatt.server.phase_energy may be decode, or the other way round: one standard error",
  ),
  seconds("tokenwatt.model.gpu_time", [genai.requestModel, METHOD], "GPU-seconds allotted to a model"),
  joules("tokenwatt.model.energy", [genai.requestModel, METHOD], "GPU energy allotted to a model"),
  seconds(
    "tokenwatt.tenant.gpu_time",
    [TENANT, genai.requestModel, METHOD],
    "GPU-seconds allotted to a tenant when a bucket closes",
  ),
  joules(
    "tokenwatt.tenant.energy",
    [TENANT, genai.requestModel, METHOD],
    "GPU energy allotted to a tenant when a bucket closes",
  ),
  money(
    "tokenwatt.tenant.cost",
    [TENANT, genai.requestModel, METHOD, ...PRICED],
    "Cost allotted to a tenant when a bucket closes",
  ),
  money(
    "tokenwatt.tenant.revenue",
    [TENANT, genai.requestModel, ...PRICED],
    "Tokens of a tenant times their list price: another view of tokenwatt.revenue, never added to it",
  ),
  count(
    "tokenwatt.capacity_tokens",
    "{token}",
    CAPACITY,
    "Tokens of the mix served that the allocated GPU-seconds could have produced at the capacity rate",
  ),
  count(
    "tokenwatt.uncertain_capacity_tokens",
    "{token}",
    [...CAPACITY, "tokenwatt.reason"],
    "By how much tokenwatt.capacity_tokens may be more or less: the limit of a learned capacity was not seen, or the costs it rests on are known only roughly",
  ),
  count(
    "tokenwatt.rated_tokens",
    "{token}",
    CAPACITY,
    "Subset of tokenwatt.tokens made while the capacity of their server was known: capacity utilisation is these over tokenwatt.capacity_tokens",
  ),
  gauge(
    "tokenwatt.capacity.rate",
    "{token}",
    CAPACITY,
    "Tokens of the mix served a GPU-hour could produce; do not add up",
  ),
  gauge(
    "tokenwatt.capacity.seen",
    "1",
    CAPACITY,
    "Share of a learned capacity rate that is there at least; it is at most as much above 1 (9 of 10 cases)",
  ),
  gauge(
    "tokenwatt.capacity.minutes",
    "{minute}",
    CAPACITY,
    "Minutes a learned capacity rate rests on, older ones faded",
  ),
  gauge(
    "tokenwatt.capacity.age",
    "s",
    CAPACITY,
    "Time since the newest minute a learned capacity rate rests on",
  ),
  money(
    "tokenwatt.cost",
    ["hw.model", ...SERVER, STATE, "tokenwatt.cost.component", ...PRICED],
    "Cost of GPU-seconds with a known price, unobserved ones included",
  ),
  money("tokenwatt.revenue", [...SERVER, KIND, ...PRICED], "Tokens times their list price"),
  count(
    "tokenwatt.slo.met_requests_min",
    "{request}",
    [...SERVER, "tokenwatt.slo"],
    "Requests that certainly met the objective (histogram bound below the target)",
  ),
  count(
    "tokenwatt.slo.met_requests_max",
    "{request}",
    [...SERVER, "tokenwatt.slo"],
    "Requests that may have met the objective (histogram bound above the target)",
  ),
  latency(
    genai.timeToFirstToken,
    INFERENCE,
    "Time to the first token, buckets as the server publishes them",
    development,
  ),
  latency(
    genai.timePerOutputToken,
    INFERENCE,
    "Time per output token after the first, buckets as the server publishes them",
    development,
  ),
  latency(
    genai.requestDuration,
    INFERENCE,
    "Duration of a request at the server, buckets as the server publishes them",
    development,
  ),
  latency(
    "tokenwatt.server.inter_token_latency",
    [...SERVER, OUTCOME],
    "Time between two tokens of a request",
  ),
  latency("tokenwatt.server.queue_time", [...SERVER, OUTCOME], "Time a request waited at the server"),
  latency(
    "tokenwatt.gateway.time_to_first_token",
    [...GATEWAY, OUTCOME],
    "Time to the first token as the gateway saw it",
  ),
  latency(
    "tokenwatt.gateway.time_per_output_token",
    [...GATEWAY, OUTCOME],
    "Time per output token as the gateway saw it",
  ),
  latency(
    "tokenwatt.gateway.inter_token_latency",
    [...GATEWAY, OUTCOME],
    "Time between two tokens as the gateway saw it",
  ),
  latency(
    "tokenwatt.gateway.request_duration",
    [...GATEWAY, OUTCOME],
    "Duration of a request as the gateway saw it; without an outcome the gateway says none",
  ),
  latency("tokenwatt.gateway.queue_time", [...GATEWAY, OUTCOME], "Time a request waited at the gateway"),
  gauge("tokenwatt.server.running", "{request}", SERVER, "Requests in execution", { number: "int" }),
  gauge("tokenwatt.server.waiting", "{request}", SERVER, "Requests waiting", { number: "int" }),
  gauge("tokenwatt.server.kv_cache.utilization", "1", SERVER, "Share of the KV cache in use"),
  info(
    "tokenwatt.gateway.info",
    ["tokenwatt.server.id", "tokenwatt.gateway.id", "tokenwatt.gateway.scope", "tokenwatt.gateway.run"],
    "1 per gateway that is read; one run read by two hosts whose scope is not upstreams is counted twice",
  ),
  info(
    "tokenwatt.server.info",
    [
      ...SERVER,
      "tokenwatt.server.type",
      "tokenwatt.server.version",
      "tokenwatt.server.address",
      "tokenwatt.server.role",
      "k8s.namespace.name",
      "k8s.pod.name",
    ],
    "1 per known server; its attributes describe it",
  ),
  gauge(
    "tokenwatt.tokens_per_gpu_hour",
    "{token}",
    WINDOWED,
    "Tokens per allocated GPU-hour over the window; convenience, do not aggregate",
  ),
  gauge(
    "tokenwatt.tokens_per_joule",
    "{token}",
    WINDOWED,
    "Tokens per joule of the allocated states over the window; convenience, do not aggregate",
  ),
  gauge(
    "tokenwatt.cost_per_million_tokens",
    "{currency}",
    [...WINDOWED, "tokenwatt.currency"],
    "Cost of a million tokens over the window; convenience, do not aggregate",
  ),
  gauge(
    "tokenwatt.token_active_utilization",
    "1",
    WINDOWED,
    "Token-active share of the allocated GPU-seconds over the window; convenience, do not aggregate",
  ),
];
