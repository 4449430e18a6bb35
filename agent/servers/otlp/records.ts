// Spans and log records with GenAI usage, one request each (ExportTraceServiceRequest, ExportLogsServiceRequest;
// opentelemetry-proto v1.9). Spans: vLLM, SGLang, TGI and LiteLLM; log records: Envoy AI Gateway's access log.
// Spans of agents and tools carry the sums of the model calls inside them and are left out. LiteLLM (recorded from 1.89.7)
// names its own call types as operation; a call that failed has no usage and counts as request. A record whose span was
// counted before (redelivery) is left out too: the last 100,000 of two days are remembered, over restarts.
import type { Outcome } from "../../model.ts";
import { tagOf, WireReader } from "../../platform/protobuf-reader.ts";
import { outcomeOfStatus } from "../entry.ts";
import { ReceiverMemory } from "../receive/memory.ts";
import { SeenIds } from "../receive/seen-ids.ts";
import type { Usage, UsageTotals } from "../receive/usage-totals.ts";
import { readAttribute } from "./byte-keys.ts";
import type { AttributeNames } from "./meaning.ts";
import { identityOf, said } from "./meaning.ts";
import type { Claim } from "./metrics.ts";

const REMEMBERED = { idsMax: 100_000, seconds: 2 * 86_400 };
/** Of one request: 4 MiB of real spans or records hold fewer. */
const RECORDS_MAX = 20_000;

/** Operations that are one call of a model. */
const MODEL_CALLS = new Set([
  "",
  "chat",
  "text_completion",
  "completion",
  "generate_content",
  "embeddings",
  "responses",
  "acompletion",
  "atext_completion",
  "aembedding",
  "aresponses",
  "anthropic_messages",
]);

/** Field numbers of a span or a log record. */
interface Shape {
  readonly attributes: number;
  readonly traceId: number;
  readonly spanId: number;
  readonly start: number;
  readonly end: number;
  readonly status: number | undefined;
}

const SPAN: Shape = { attributes: 9, traceId: 1, spanId: 2, start: 7, end: 8, status: 15 };
const LOG: Shape = { attributes: 6, traceId: 9, spanId: 10, start: 0, end: 1, status: undefined };

/** Reads trace or log requests into totals. */
export class RecordsReader {
  readonly #shape: Shape;
  readonly #names: AttributeNames;
  readonly #seen: SeenIds;
  readonly #unixSeconds: () => number;

  constructor(
    signal: "traces" | "logs",
    names: AttributeNames,
    unixSeconds: () => number = () => 0,
    memory: ReceiverMemory = new ReceiverMemory(""),
  ) {
    this.#seen = new SeenIds(memory, signal, REMEMBERED);
    this.#unixSeconds = unixSeconds;
    this.#shape = signal === "traces" ? SPAN : LOG;
    this.#names = names;
  }

  /** Adds a request to the totals; returns how many records were refused. Throws WireError before anything is added. */
  take(bytes: Uint8Array, totals: UsageTotals, claim: Claim, caller = ""): number {
    const reader = new WireReader(bytes);
    const found: { readonly id: string; readonly usage: Usage }[] = [];
    let refused = 0;
    for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
      if (tag !== 10) {
        reader.skip(tag);
        continue;
      }
      refused += this.#resource(reader, found, claim);
    }
    const now = this.#unixSeconds();
    const whose = caller === "" ? "" : `${caller.length} ${caller} `;
    for (const { id, usage } of found) {
      // What was counted before callers were told apart is everyone's.
      if (id !== "" && whose !== "" && this.#seen.has(id)) continue;
      if (id === "" || this.#seen.remember(`${whose}${id}`, now)) totals.addUsage(usage, caller);
    }
    return refused;
  }

  /** ResourceSpans and ResourceLogs: resource 1, scopes 2, whose records are 2. */
  #resource(reader: WireReader, found: { id: string; usage: Usage }[], claim: Claim): number {
    const resource = new Map<string, string>();
    let refused = 0;
    const outer = reader.enter();
    for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
      if (tag !== 10 && tag !== 18) {
        reader.skip(tag);
        continue;
      }
      const inner = reader.enter();
      for (let field = reader.tag(); field !== 0; field = reader.tag()) {
        if (tag === 10 && field === 10) readAttribute(reader, resource);
        else if (tag === 18 && field === 18) refused += this.#record(reader, resource, found, claim);
        else reader.skip(field);
      }
      reader.leave(inner);
    }
    reader.leave(outer);
    return refused;
  }

  #record(
    reader: WireReader,
    resource: ReadonlyMap<string, string>,
    found: { id: string; usage: Usage }[],
    claim: Claim,
  ): number {
    const shape = this.#shape;
    const attributes = new Map<string, string>();
    const [attributesTag, traceTag, spanTag] = [shape.attributes, shape.traceId, shape.spanId].map((field) =>
      tagOf(field, "bytes"),
    );
    let [trace, span] = ["", ""];
    let [start, end] = [0, 0];
    let failed = false;
    const outer = reader.enter();
    for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
      if (tag === attributesTag) readAttribute(reader, attributes);
      else if (tag === traceTag) trace = Buffer.from(reader.slice()).toString("hex");
      else if (tag === spanTag) span = Buffer.from(reader.slice()).toString("hex");
      else if (tag === tagOf(shape.start, "fixed64")) start = reader.fixed64();
      else if (tag === tagOf(shape.end, "fixed64")) end = reader.fixed64();
      else if (shape.status !== undefined && tag === tagOf(shape.status, "bytes"))
        failed = readFailed(reader);
      else reader.skip(tag);
    }
    reader.leave(outer);
    const outcome = outcomeOf(attributes, failed);
    const usage = usageOf(attributes) ?? failedCall(attributes, outcome);
    if (usage === undefined) return 0;
    const service = `${resource.get("service.name") ?? ""} ${resource.get("service.instance.id") ?? ""}`;
    // Without a token it says nothing of which signal counts for its service, and takes the choice from no other.
    const counts = Object.values(usage.tokens ?? {}).some((amount) => amount > 0);
    if (found.length >= RECORDS_MAX || !claim(service, counts)) return 1;
    const duration = start > 0 && end > start ? (end - start) / 1e9 : undefined;
    found.push({
      id: span === "" ? "" : `${trace}${span}`,
      usage: {
        ...identityOf(attributes, resource, this.#names),
        ...usage,
        outcome,
        requests: 1,
        ...(duration === undefined ? {} : { seconds: { request_duration: duration } }),
      },
    });
    return 0;
  }
}

/** Status: code 3, of which 2 is an error. */
function readFailed(reader: WireReader): boolean {
  let failed = false;
  const outer = reader.enter();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === tagOf(3, "varint")) failed = reader.uint() === 2;
    else reader.skip(tag);
  }
  reader.leave(outer);
  return failed;
}

/** By the HTTP status where one is given, for that tells a refusal from an error. */
function outcomeOf(attributes: ReadonlyMap<string, string>, failed: boolean): Outcome {
  const [status] = /^\d+$/.exec(attributes.get("http.response.status_code") ?? "") ?? [];
  const outcome = status === "0" ? "aborted" : outcomeOfStatus(status);
  if (outcome !== "ok") return outcome;
  return failed || (attributes.get("error.type") ?? "") !== "" ? "error" : "ok";
}

/**
 * A failed call of a model, which used nothing known; undefined for any other record. Without a status it is not known
 * whether it has ended: Envoy can log requests that still run.
 */
function failedCall(
  attributes: ReadonlyMap<string, string>,
  outcome: Outcome,
): Pick<Usage, "tokens"> | undefined {
  if (outcome === "ok" || outcome === "aborted") return undefined;
  const operation = attributes.get("gen_ai.operation.name") ?? "";
  const named = operation !== "" || said(attributes.get("gen_ai.request.model")) !== undefined;
  return named && MODEL_CALLS.has(operation) ? {} : undefined;
}

/** Tokens in the attributes of one model call, old and new names; undefined where there are none. */
function usageOf(
  attributes: ReadonlyMap<string, string>,
): Pick<Usage, "tokens" | "reasoningTokens"> | undefined {
  if (!MODEL_CALLS.has(attributes.get("gen_ai.operation.name") ?? "")) return undefined;
  const input = count(attributes, "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens");
  const output = count(attributes, "gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens");
  if (input === undefined && output === undefined) return undefined;
  const cached = count(
    attributes,
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cached_input_tokens",
  );
  const hits = Math.min(cached ?? 0, input ?? 0);
  const split =
    cached === undefined
      ? { input_unsplit: input }
      : { input_cached: hits, input_uncached: (input ?? 0) - hits };
  return {
    tokens: {
      ...(input === undefined ? {} : (split as object)),
      ...(output === undefined ? {} : { output }),
    },
    reasoningTokens: count(
      attributes,
      "gen_ai.usage.reasoning.output_tokens",
      "gen_ai.usage.reasoning_tokens",
    ),
  };
}

function count(attributes: ReadonlyMap<string, string>, ...names: readonly string[]): number | undefined {
  for (const name of names) {
    const value = attributes.get(name);
    const number = value === undefined || value === "" ? Number.NaN : Number(value);
    if (Number.isSafeInteger(number) && number >= 0) return number;
  }
  return undefined;
}
