// Families of an unknown metric page that look like tokens, and a mapping for `prometheus-generic` made from them: a place to
// start from for whoever knows the server, never something to count by. Names say most: `prompt`, `input`, `completion`,
// `output` beside `token`; then label values (`type="input"`). `# TYPE` tells counters from gauges, where it is there.
import type { MetricPage, MetricSample } from "../../source.ts";
import type { Labels } from "./labels.ts";

/** What a family seems to count. `input` includes cache hits, `cached` are those hits. */
export type TokenGuess = "input" | "cached" | "output" | "reasoning";

/** A family that looks like tokens. */
export interface TokenFamily {
  /** As on the page; the sum, where it is a histogram. */
  readonly metric: string;
  /** The label values that pick the kind, where the family holds several. */
  readonly where?: Labels;
  /** Undefined where its name does not say; then it is listed and not mapped. */
  readonly guess: TokenGuess | undefined;
  readonly labels: readonly string[];
  readonly value: number;
}

/** An entry of `servers.prometheus-generic`, without what has a default. */
export type Mapping = Readonly<Record<string, unknown>>;

const FAMILIES_MAX = 40;
/** Tokens that no request spent: limits, rates, shares, the clock, security tokens. */
const NOT_COUNTED =
  /(_per_s(ec(ond)?)?|throughput|rate|ratio|perc|usage_perc|limit|quota|budget|max|capacity|seconds|latency|duration|created|bucket|auth|bearer|csrf|refresh|jwt)(_|$)/i;
const TOKENS = /(^|[_:.])tok(en)?s?([_:.]|$)/i;
const KIND_LABEL = /(^|_)(type|kind|direction|mode|category)$/i;
const MODEL_LABELS = ["model_name", "model", "served_model", "gen_ai_request_model", "llm_model", "model_id"];
const TENANT_LABELS = [
  "tenant",
  "team",
  "customer",
  "consumer",
  "organization",
  "project",
  "user",
  "namespace",
];

/** Families of the page that look like counters of tokens, in the order of the page; at most 40. */
export function findTokenFamilies(bytes: Uint8Array, page: MetricPage): readonly TokenFamily[] {
  const types = typesOf(bytes);
  const found: TokenFamily[] = [];
  for (const [filed, samples] of page.samples) {
    const [first] = samples;
    if (first === undefined || !TOKENS.test(filed) || NOT_COUNTED.test(filed.replace(/_sum$/, ""))) continue;
    const family = filed.replace(/_(sum|count|bucket)$/, "");
    const isPart = family !== filed && page.samples.has(`${family}_count`);
    if (isPart && !filed.endsWith("_sum")) continue;
    const type = types.get(isPart ? family : filed);
    if (type?.type === "gauge" && !/_total$/.test(type.name)) continue;
    const metric = isPart ? `${type?.name ?? family}_sum` : (type?.name ?? filed);
    found.push(...kindsOf(metric, samples));
    if (found.length >= FAMILIES_MAX) break;
  }
  return found.slice(0, FAMILIES_MAX);
}

/** A mapping of what was guessed: each kind from one family, counters before histograms. */
export function mappingOf(endpoint: string, families: readonly TokenFamily[], page: MetricPage): Mapping {
  const tokens: Record<string, { metric: string; where?: Labels }[]> = {};
  for (const guess of ["input", "cached", "output", "reasoning"] as const) {
    const candidates = families.filter((family) => family.guess === guess);
    const chosen = candidates.find(({ metric }) => !metric.endsWith("_sum")) ?? candidates[0];
    if (chosen === undefined) continue;
    const { metric, where } = chosen;
    // Values of one label that mean the same, as `prompt` and `input` may, are parts of one family.
    tokens[guess] = candidates
      .filter((each) => each === chosen || (each.metric === metric && where !== undefined))
      .map((each) => ({ metric, ...(each.where === undefined ? {} : { where: each.where }) }));
  }
  const labels = new Set(families.flatMap((family) => family.labels));
  const model = MODEL_LABELS.find((name) => labels.has(name));
  const tenant = TENANT_LABELS.find((name) => labels.has(name));
  const running = gaugeOf(page, /(running|in_?flight|active|processing)/i);
  const waiting = gaugeOf(page, /(waiting|queued?|pending|deferred)/i);
  return {
    endpoint,
    family: tenant === undefined ? "engine" : "gateway",
    ...(model === undefined ? {} : { modelLabel: model }),
    ...(tenant === undefined ? {} : { tenantLabel: tenant }),
    tokens,
    ...(running === undefined ? {} : { running: [{ metric: running }] }),
    ...(waiting === undefined ? {} : { waiting: [{ metric: waiting }] }),
  };
}

function gaugeOf(page: MetricPage, state: RegExp): string | undefined {
  return [...page.samples.keys()].find(
    (name) =>
      /req(uest)?s?(_|$)/i.test(name) &&
      state.test(name) &&
      !/(_sum|_count|_bucket|seconds|duration|ratio)$/.test(name),
  );
}

/** One family, or one per value of the label that tells its kinds apart. */
function kindsOf(metric: string, samples: readonly MetricSample[]): TokenFamily[] {
  const labels = Object.keys(samples[0]?.labels ?? {}).filter(
    (name) => !/^(otel_scope|quantile$|le$)/.test(name),
  );
  const sum = (parts: readonly MetricSample[]): number =>
    parts.reduce((total, { value }) => total + value, 0);
  const kind = labels.find(
    (name) => KIND_LABEL.test(name) && samples.some((each) => guessOf(each.labels[name] ?? "")),
  );
  const named = guessOf(metric);
  if (named !== undefined || kind === undefined) {
    return [{ metric, guess: isSum(metric) ? undefined : named, labels, value: sum(samples) }];
  }
  const values = new Map<string, MetricSample[]>();
  for (const sample of samples) {
    const value = sample.labels[kind] ?? "";
    values.set(value, [...(values.get(value) ?? []), sample]);
  }
  return [...values].map(([value, parts]) => ({
    metric,
    where: { [kind]: value },
    guess: isSum(value) ? undefined : guessOf(value),
    labels: labels.filter((name) => name !== kind),
    value: sum(parts),
  }));
}

/** A total of other kinds is no kind of its own. */
function isSum(text: string): boolean {
  return /(^|_)total(_tokens?|$)/i.test(text.replace(/_total$/i, "")) || /^total$/i.test(text);
}

function guessOf(text: string): TokenGuess | undefined {
  if (/reason|think/i.test(text)) return "reasoning";
  if (/uncached|cache_?(creation|write|miss)/i.test(text)) return undefined;
  if (/cache|hit/i.test(text)) return "cached";
  if (/prompt|input|prefill|context|request_tokens/i.test(text)) return "input";
  return /completion|generat|output|decode|predicted|response/i.test(text) ? "output" : undefined;
}

/** `# TYPE` lines by filed name, with the name as on the page. */
function typesOf(bytes: Uint8Array): Map<string, { readonly name: string; readonly type: string }> {
  const types = new Map<string, { readonly name: string; readonly type: string }>();
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
  for (const [, name = "", type = ""] of text.matchAll(/^# TYPE (\S+) (\S+)/gm)) {
    types.set(name.replaceAll(/[:.]/g, "_").replace(/_total$/, ""), { name, type });
  }
  return types;
}
