// Triton's cumulative statistics over gRPC (common protobuf/grpc_service.proto, 83adf7c; seen with 2.51): requests,
// failures, responses; no tokens. Where a decoupled model's back end reports its responses, each streamed chunk is one, so
// they are an estimate of output tokens (volume `estimate`); python models, vLLM's among them, report none. A request that
// was given up is among the failed ones, a python model's error answer among the good ones. Input is not known. All starts
// from zero with the server, which says no start time: a fall is the restart. KServe's copy of this service lacks
// ModelStatistics and answers UNIMPLEMENTED.
import type { TokenReading } from "../model.ts";
import { tagOf, WireReader } from "../platform/protobuf-reader.ts";
import { callUnary } from "./call/call.ts";
import { grpcServer } from "./call/server.ts";
import { defined } from "./entry.ts";

const SERVICE = "inference.GRPCInferenceService";
const MODELS_MAX = 1000;

/** Triton Inference Server's gRPC port. */
export const tritonGrpc = grpcServer({
  name: "triton-grpc",
  service: SERVICE,
  port: 8001,
  connect: (peer) => {
    let version: string | undefined;
    return async () => {
      version ??= await callUnary(peer, `/${SERVICE}/ServerMetadata`, Buffer.alloc(0), decodeVersion);
      // RepositoryIndex with ready = true: models that are gone keep statistics in some versions.
      const ready = await callUnary(
        peer,
        `/${SERVICE}/RepositoryIndex`,
        Buffer.from([0x10, 1]),
        decodeIndex,
      ).catch(() => undefined);
      const statistics = await callUnary(
        peer,
        `/${SERVICE}/ModelStatistics`,
        Buffer.alloc(0),
        decodeModelStatistics,
      );
      const models = statistics.models.filter(
        (model) => ready === undefined || ready.size === 0 || ready.has(model.name),
      );
      return { readings: models.map(toReading), version, ignoredSamples: statistics.ignored };
    };
  },
});

/** What one model version counted since the server started. */
export interface ModelStatistics {
  readonly name: string;
  readonly version: string;
  readonly succeeded: number;
  readonly failed: number;
  /** Responses sent; undefined where the back end reports none. */
  readonly responses: number | undefined;
}

function toReading(model: ModelStatistics): TokenReading {
  return {
    model: model.name,
    role: "combined",
    tokens: defined({ output: model.responses }),
    requests: { ok: model.succeeded, error: model.failed },
    volume: "estimate",
  };
}

/**
 * A ModelStatisticsResponse: versions of one model are summed; counts no number can hold are dropped.
 * Exported for its test: broken messages.
 */
export function decodeModelStatistics(bytes: Uint8Array): { models: ModelStatistics[]; ignored: number } {
  const reader = new WireReader(bytes);
  const models = new Map<string, ModelStatistics>();
  let ignored = 0;
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag !== tagOf(1, "bytes")) {
      reader.skip(tag);
      continue;
    }
    const model = readModel(reader);
    const known = models.get(model.name);
    const sum = known === undefined ? model : add(known, model);
    const counts = [sum.succeeded, sum.failed, sum.responses ?? 0];
    if (!counts.every(Number.isSafeInteger) || (known === undefined && models.size >= MODELS_MAX)) ignored++;
    else models.set(model.name, sum);
  }
  return { models: [...models.values()], ignored };
}

function readModel(reader: WireReader): ModelStatistics {
  let name = "";
  let version = "";
  let [succeeded, failed] = [0, 0];
  let responses: number | undefined;
  const outer = reader.enter();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === tagOf(1, "bytes")) name = reader.text();
    else if (tag === tagOf(2, "bytes")) version = reader.text();
    else if (tag === tagOf(6, "bytes")) [succeeded = 0, failed = 0] = readCounts(reader, [1, 2]);
    else if (tag === tagOf(9, "bytes")) {
      responses = (responses ?? 0) + readResponseEntry(reader);
    } else reader.skip(tag);
  }
  reader.leave(outer);
  return { name, version, succeeded, failed, responses };
}

/** One entry of the response_stats map: its value's success (3) count. The end of a stream is counted apart (5). */
function readResponseEntry(reader: WireReader): number {
  let sent = 0;
  const outer = reader.enter();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === tagOf(2, "bytes")) [sent = 0] = readCounts(reader, [3]);
    else reader.skip(tag);
  }
  reader.leave(outer);
  return sent;
}

/** The `count`s (1) of the StatisticDurations in the fields named. */
function readCounts(reader: WireReader, fields: readonly number[]): number[] {
  const counts = fields.map(() => 0);
  const outer = reader.enter();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    const index = tag % 8 === 2 ? fields.indexOf(Math.floor(tag / 8)) : -1;
    if (index === -1) {
      reader.skip(tag);
      continue;
    }
    const inner = reader.enter();
    for (let field = reader.tag(); field !== 0; field = reader.tag()) {
      if (field === tagOf(1, "varint")) counts[index] = reader.uint();
      else reader.skip(field);
    }
    reader.leave(inner);
  }
  reader.leave(outer);
  return counts;
}

function add(a: ModelStatistics, b: ModelStatistics): ModelStatistics {
  const responses =
    a.responses === undefined && b.responses === undefined
      ? undefined
      : (a.responses ?? 0) + (b.responses ?? 0);
  return {
    ...a,
    succeeded: a.succeeded + b.succeeded,
    failed: a.failed + b.failed,
    responses,
  };
}

function decodeVersion(bytes: Uint8Array): string {
  const reader = new WireReader(bytes);
  let version = "";
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === tagOf(2, "bytes")) version = reader.text();
    else reader.skip(tag);
  }
  return version;
}

/** Names of the models in a RepositoryIndexResponse. */
function decodeIndex(bytes: Uint8Array): Set<string> {
  const reader = new WireReader(bytes);
  const names = new Set<string>();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag !== tagOf(1, "bytes") || names.size >= MODELS_MAX) {
      reader.skip(tag);
      continue;
    }
    const outer = reader.enter();
    for (let field = reader.tag(); field !== 0; field = reader.tag()) {
      if (field === tagOf(1, "bytes")) names.add(reader.text());
      else reader.skip(field);
    }
    reader.leave(outer);
  }
  return names;
}
