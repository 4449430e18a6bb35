// What one logged request used, under the metadata keys of the configuration.
import type { Outcome } from "../../model.ts";
import { outcomeOfStatus } from "../entry.ts";
import type { Usage } from "../receive/usage-totals.ts";
import type { AccessLogEntry } from "./decode.ts";

/** Where the numbers are, as the configuration says. */
export interface UsageKeys {
  readonly metadata: {
    readonly namespace: string;
    readonly input: string;
    readonly cachedInput: string;
    readonly output: string;
    readonly reasoning: string;
    readonly model: readonly string[];
    readonly timeToFirstTokenMs: string;
    readonly interTokenMs: string;
  };
  readonly tenantHeader?: string | undefined;
  readonly tenantMetadata?: string | undefined;
  readonly modelAliases?: Readonly<Record<string, string>> | undefined;
}

/** The usage of a logged request; undefined where it is no model call. */
export function toUsage(entry: AccessLogEntry, keys: UsageKeys): Usage | undefined {
  const values = entry.metadata.get(keys.metadata.namespace);
  if (values === undefined) return undefined;
  const number = (key: string): number | undefined => {
    const value = Number(values.get(key) ?? Number.NaN);
    return Number.isSafeInteger(value) && value >= 0 ? value : undefined;
  };
  const text = (key: string | undefined): string | undefined => {
    const value = key === undefined ? undefined : values.get(key);
    return value === undefined || value === "" ? undefined : String(value);
  };
  const input = number(keys.metadata.input);
  const cached = number(keys.metadata.cachedInput);
  const output = number(keys.metadata.output);
  const model = keys.metadata.model.map(text).find((name) => name !== undefined);
  const header = keys.tenantHeader === undefined ? undefined : entry.headers.get(keys.tenantHeader);
  return {
    model: model === undefined ? undefined : (keys.modelAliases?.[model] ?? model),
    tenant: text(keys.tenantMetadata) ?? (header || undefined),
    endpoint: entry.route || undefined,
    upstream: entry.upstream,
    outcome: outcomeOf(entry),
    tokens: { ...inputs(input, cached), ...(output === undefined ? {} : { output }) },
    reasoningTokens: number(keys.metadata.reasoning),
    requests: 1,
    seconds: latencies(values, keys, entry.durationSeconds),
  };
}

/** The status was sent before the answer broke off, so what cut it says more. */
function outcomeOf({ status, cutBy }: AccessLogEntry): Outcome {
  if (status === undefined || status === 0) return "aborted";
  const outcome = outcomeOfStatus(String(status));
  if (outcome !== "ok" || cutBy === undefined) return outcome;
  return cutBy === "client" ? "aborted" : "error";
}

function inputs(input: number | undefined, cached: number | undefined): NonNullable<Usage["tokens"]> {
  if (input === undefined) return {};
  if (cached === undefined) return { input_unsplit: input };
  const hits = Math.min(cached, input);
  return { input_cached: hits, input_uncached: input - hits };
}

function latencies(
  values: ReadonlyMap<string, string | number>,
  keys: UsageKeys,
  durationSeconds: number | undefined,
): NonNullable<Usage["seconds"]> {
  const seconds = (key: string): number | undefined => {
    const value = Number(values.get(key) ?? Number.NaN);
    return value > 0 && Number.isFinite(value) ? value / 1000 : undefined;
  };
  const first = seconds(keys.metadata.timeToFirstTokenMs);
  const inter = seconds(keys.metadata.interTokenMs);
  return {
    ...(first === undefined ? {} : { time_to_first_token: first }),
    ...(inter === undefined ? {} : { time_per_output_token: inter }),
    ...(durationSeconds === undefined ? {} : { request_duration: durationSeconds }),
  };
}
