// Bytes of tokenwatt.v1 WatchRequest and WatchResponse.
// Facts: proto/tokenwatt/v1/token_counters.proto (protocol version 1). Absent values are left out, zeros are written.
import type { LatencyName, Outcome } from "../../model.ts";
import { MessageWriter } from "../../platform/protobuf-writer.ts";
import type { CounterSet, ServerSnapshot, WatchQuery, WatchSnapshot } from "./messages.ts";
import { families, kinds, latencies, movements, outcomes, roles } from "./messages.ts";

/** Bytes of a WatchRequest. */
export function encodeWatchRequest(query: WatchQuery): Buffer {
  const writer = new MessageWriter();
  writer.uint(1, query.protocolVersion);
  writer.uint(2, query.intervalMs);
  for (const id of query.serverIds) writer.text(3, id);
  return writer.finish();
}

/** Bytes of a WatchResponse. Throws WireError when a count is negative, fractional or above 2^53. */
export function encodeWatchResponse(snapshot: WatchSnapshot): Buffer {
  const writer = new MessageWriter();
  writer.uint(1, snapshot.protocolVersion);
  writer.uint(2, snapshot.serverTimeUnixNanos);
  writer.uint(3, snapshot.uptimeNanos);
  for (const server of snapshot.servers) writer.message(4, (nested) => writeServer(nested, server));
  return writer.finish();
}

function writeServer(writer: MessageWriter, server: ServerSnapshot): void {
  writer.text(1, server.serverId);
  writer.text(2, server.epochId);
  writer.uint(3, server.epochUptimeNanos);
  writer.uint(4, number(roles, server.role));
  writer.uint(5, number(families, server.family));
  writer.uint(6, number(movements, server.movement));
  writer.text(7, server.version);
  for (const gpu of server.gpus ?? []) writer.text(8, gpu);
  for (const pid of server.pids ?? []) writer.uint(9, pid);
  writer.uint(10, server.activeNanos);
  writeInFlight(writer, 11, server);
  for (const set of server.counters) writer.message(12, (nested) => writeCounters(nested, set));
}

function writeCounters(writer: MessageWriter, set: CounterSet): void {
  writer.text(1, set.model);
  writer.text(2, set.tenant);
  writer.text(3, set.endpoint);
  for (const count of set.tokens) {
    writer.message(4, (nested) => {
      nested.uint(1, number(kinds, count.kind));
      nested.uint(2, number(outcomes, count.outcome));
      nested.uint(3, count.tokens);
    });
  }
  for (const [outcome, requests] of Object.entries(set.requests ?? {})) {
    writer.message(5, (nested) => {
      nested.uint(1, number(outcomes, outcome as Outcome));
      nested.uint(2, requests);
    });
  }
  writer.uint(6, set.reasoningTokens);
  writeInFlight(writer, 7, set);
  writer.double(8, set.kvCacheUtilization);
  for (const [key, histogram] of Object.entries(set.latencies ?? {})) {
    const [name, outcome] = key.split(" ");
    writer.message(9, (nested) => {
      nested.uint(1, number(latencies, name as LatencyName));
      for (const bound of histogram.bounds) nested.double(2, bound);
      for (const count of histogram.counts) nested.uint(3, count);
      nested.double(4, histogram.sum);
      nested.uint(5, number(outcomes, outcome as Outcome | undefined));
    });
  }
}

function writeInFlight(
  writer: MessageWriter,
  field: number,
  from: { readonly running?: number; readonly waiting?: number },
): void {
  if (from.running === undefined && from.waiting === undefined) return;
  writer.message(field, (nested) => {
    nested.uint(1, from.running);
    nested.uint(2, from.waiting);
  });
}

function number<Name>(names: readonly Name[], name: Name | undefined): number | undefined {
  const index = name === undefined ? -1 : names.indexOf(name);
  return index > 0 ? index : undefined;
}
