// What OpenTelemetry's GenAI names mean here, old and new (semantic-conventions v1.27 to v1.44 and the redesign of
// semantic-conventions-genai #374). Cached input is a subset of input, reasoning of output; cache writes are input too
// and not told apart. Histograms gen_ai.client.inference.operation.* repeat the counters and are left out.
import type { LatencyName } from "../../model.ts";

/** What one series counts. */
export type Quantity = "input" | "cached" | "output" | "reasoning" | LatencyName;

const BY_TYPE: Readonly<Record<string, Quantity>> = {
  input: "input",
  prompt: "input",
  output: "output",
  completion: "output",
  cached_input: "cached",
  cache_read_input: "cached",
  reasoning: "reasoning",
};

/** A metric that is read: the group it belongs to, and what its points count. */
export interface MeaningOfMetric {
  /** A sender that has two metrics of one group says the same twice: the first group member it sends is read. */
  readonly group: "usage" | "duration" | "first_token" | "per_token";
  readonly variant: string;
  readonly quantity: (attributes: ReadonlyMap<string, string>) => Quantity | undefined;
}

const always = (quantity: Quantity) => () => quantity;
const usage = (quantity: Quantity): MeaningOfMetric => ({
  group: "usage",
  variant: "counters",
  quantity: always(quantity),
});

/** Metrics that are read, by name. */
export const metricMeanings: ReadonlyMap<string, MeaningOfMetric> = new Map<string, MeaningOfMetric>([
  [
    "gen_ai.client.token.usage",
    {
      group: "usage",
      variant: "histogram",
      quantity: (attributes) => BY_TYPE[attributes.get("gen_ai.token.type") ?? ""],
    },
  ],
  ["gen_ai.client.inference.usage.input_tokens", usage("input")],
  ["gen_ai.client.inference.usage.output_tokens", usage("output")],
  ["gen_ai.client.inference.usage.cache_read.input_tokens", usage("cached")],
  ["gen_ai.client.inference.usage.reasoning.output_tokens", usage("reasoning")],
  [
    "gen_ai.server.request.duration",
    { group: "duration", variant: "server", quantity: always("request_duration") },
  ],
  [
    "gen_ai.client.operation.duration",
    { group: "duration", variant: "client", quantity: always("request_duration") },
  ],
  [
    "gen_ai.server.time_to_first_token",
    { group: "first_token", variant: "server", quantity: always("time_to_first_token") },
  ],
  [
    "gen_ai.server.time_per_output_token",
    { group: "per_token", variant: "server", quantity: always("time_per_output_token") },
  ],
  [
    "gen_ai.client.operation.time_to_first_chunk",
    { group: "first_token", variant: "chunk", quantity: always("time_to_first_token") },
  ],
  [
    "gen_ai.client.operation.time_per_output_chunk",
    { group: "per_token", variant: "chunk", quantity: always("time_per_output_token") },
  ],
  // LiteLLM's names, recorded from 1.89.7.
  [
    "gen_ai.client.response.time_to_first_token",
    { group: "first_token", variant: "response", quantity: always("time_to_first_token") },
  ],
  [
    "gen_ai.client.response.time_per_output_token",
    { group: "per_token", variant: "response", quantity: always("time_per_output_token") },
  ],
]);

/** Which attributes name the customer's side, from the configuration. */
export interface AttributeNames {
  readonly tenantAttribute?: string | undefined;
  readonly endpointAttribute?: string | undefined;
  /** Says which upstream answered; absent = the convention's `server.address` and `server.port`. */
  readonly upstreamAttribute?: string | undefined;
  /** Where only some upstreams count, who answered is looked for. */
  readonly upstreams?: readonly string[] | undefined;
  readonly modelAliases?: Readonly<Record<string, string>> | undefined;
}

const MODEL_NAMES = ["gen_ai.request.model", "gen_ai.response.model", "llm.model"];

/** Those of a resource's attributes that `identityOf` may ask for. */
export function meaningful(
  resource: ReadonlyMap<string, string>,
  names: AttributeNames,
): ReadonlyMap<string, string> {
  const wanted = [...MODEL_NAMES, names.tenantAttribute, names.endpointAttribute];
  if (names.upstreams !== undefined) wanted.push(...upstreamNames(names));
  return new Map([...resource].filter(([name]) => wanted.includes(name)));
}

/** Whom attributes of a point, span or record belong to; those of its resource stand in where they say nothing. */
export function identityOf(
  attributes: ReadonlyMap<string, string>,
  resource: ReadonlyMap<string, string>,
  names: AttributeNames,
): {
  readonly model: string | undefined;
  readonly tenant: string | undefined;
  readonly endpoint: string | undefined;
  readonly upstream?: string | undefined;
} {
  const find = (name: string | undefined): string | undefined =>
    name === undefined ? undefined : (said(attributes.get(name)) ?? said(resource.get(name)));
  const model = MODEL_NAMES.map(find).find((name) => name !== undefined);
  return {
    model: model === undefined ? undefined : (names.modelAliases?.[model] ?? model),
    tenant: find(names.tenantAttribute),
    endpoint: find(names.endpointAttribute),
    ...(names.upstreams === undefined ? {} : { upstream: upstreamOf(names, find) }),
  };
}

/** `address:port`, or what the configured attribute says. */
function upstreamOf(names: AttributeNames, find: (name: string) => string | undefined): string | undefined {
  const [address, port] = upstreamNames(names).map(find);
  return address === undefined || port === undefined ? address : `${address}:${port}`;
}

function upstreamNames({ upstreamAttribute }: AttributeNames): readonly string[] {
  return upstreamAttribute === undefined ? ["server.address", "server.port"] : [upstreamAttribute];
}

/** The value of an attribute, unless empty or "-", which Envoy's log formatter writes for what it does not have. */
export function said(value: string | undefined): string | undefined {
  return value === "" || value === "-" ? undefined : value;
}
