// tokenwatt.v1 WatchRequest and WatchResponse from bytes.
// Facts: proto/tokenwatt/v1/token_counters.proto (protocol version 1). Unknown fields and enum values are skipped;
// counts that no number can hold exactly are dropped and counted. Every list is bounded.
import type { Histogram, LatencyKey, LatencyName, Outcome } from "../../model.ts";
import { tagOf, WireReader } from "../../platform/protobuf-reader.ts";
import type { CounterSet, DecodedWatch, ServerSnapshot, WatchQuery } from "./messages.ts";
import { families, kinds, labelSetsMax, latencies, movements, outcomes, roles } from "./messages.ts";

const BUCKETS_MAX = 500;
/** One more than is accepted: the list is refused as a whole. */
const TOO_MANY = BUCKETS_MAX + 1;
const NAMES_MAX = 64;

/** A WatchRequest; throws WireError when the bytes are none. */
export function decodeWatchRequest(bytes: Uint8Array): WatchQuery {
  const reader = new WireReader(bytes);
  const serverIds: string[] = [];
  let version = 0;
  let intervalMs = 0;
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === tagOf(1, "varint")) version = reader.uint();
    else if (tag === tagOf(2, "varint")) intervalMs = reader.uint();
    else if (tag === tagOf(3, "bytes") && serverIds.length < labelSetsMax) serverIds.push(reader.text());
    else reader.skip(tag);
  }
  return { protocolVersion: version, intervalMs, serverIds };
}

/** A WatchResponse; throws WireError when the bytes are none. */
export function decodeWatchResponse(bytes: Uint8Array): DecodedWatch {
  const reader = new WireReader(bytes);
  const decoding: Decoding = { reader, ignored: 0, labelSets: 0 };
  const servers: ServerSnapshot[] = [];
  let version = 0;
  let time = 0n;
  let uptime = 0;
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === tagOf(1, "varint")) version = reader.uint();
    else if (tag === tagOf(2, "varint")) time = reader.bigUint();
    else if (tag === tagOf(3, "varint")) uptime = reader.uint();
    else if (tag === tagOf(4, "bytes") && servers.length < labelSetsMax) servers.push(readServer(decoding));
    else reader.skip(tag);
  }
  const over = decoding.labelSets - labelSetsMax;
  return {
    protocolVersion: version,
    serverTimeUnixNanos: time,
    uptimeNanos: uptime,
    servers,
    ignored: decoding.ignored + Math.max(0, over),
    errors: over > 0 ? [`${over} label sets above the limit of ${labelSetsMax} were dropped`] : [],
  };
}

interface Decoding {
  readonly reader: WireReader;
  ignored: number;
  labelSets: number;
}

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };

function readServer(decoding: Decoding): ServerSnapshot {
  const { reader } = decoding;
  const counters: CounterSet[] = [];
  const gpus: string[] = [];
  const pids: number[] = [];
  const server: Mutable<ServerSnapshot> = { epochId: "", counters };
  const outer = reader.enter();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === tagOf(1, "bytes")) server.serverId = reader.text();
    else if (tag === tagOf(2, "bytes")) server.epochId = reader.text();
    else if (tag === tagOf(3, "varint")) server.epochUptimeNanos = reader.uint();
    else if (tag === tagOf(4, "varint")) setNamed(server, "role", roles[reader.uint()]);
    else if (tag === tagOf(5, "varint")) setNamed(server, "family", families[reader.uint()]);
    else if (tag === tagOf(6, "varint")) setNamed(server, "movement", movements[reader.uint()]);
    else if (tag === tagOf(7, "bytes")) server.version = reader.text();
    else if (tag === tagOf(8, "bytes") && gpus.length < NAMES_MAX) gpus.push(reader.text());
    else if (tag === tagOf(9, "varint")) pushUpTo(NAMES_MAX, pids, reader.uint());
    else if (tag === tagOf(9, "bytes")) readPacked(reader, () => pushUpTo(NAMES_MAX, pids, reader.uint()));
    else if (tag === tagOf(10, "varint")) setNamed(server, "activeNanos", kept(decoding, reader.uint()));
    else if (tag === tagOf(11, "bytes")) readInFlight(decoding, server);
    else if (tag === tagOf(12, "bytes") && decoding.labelSets++ < labelSetsMax)
      counters.push(readCounters(decoding));
    else reader.skip(tag);
  }
  reader.leave(outer);
  if (gpus.length > 0) server.gpus = gpus;
  if (pids.length > 0) server.pids = pids;
  return server;
}

function readCounters(decoding: Decoding): CounterSet {
  const { reader } = decoding;
  const tokens: CounterSet["tokens"][number][] = [];
  const requests: Partial<Record<Outcome, number>> = {};
  const measured: Partial<Record<LatencyKey, Histogram>> = {};
  const set: Mutable<CounterSet> = { tokens, requests, latencies: measured };
  const outer = reader.enter();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === tagOf(1, "bytes")) set.model = reader.text();
    else if (tag === tagOf(2, "bytes")) set.tenant = reader.text();
    else if (tag === tagOf(3, "bytes")) set.endpoint = reader.text();
    else if (tag === tagOf(4, "bytes")) readTokens(decoding, tokens);
    else if (tag === tagOf(5, "bytes")) readRequests(decoding, requests);
    else if (tag === tagOf(6, "varint")) setNamed(set, "reasoningTokens", kept(decoding, reader.uint()));
    else if (tag === tagOf(7, "bytes")) readInFlight(decoding, set);
    else if (tag === tagOf(8, "fixed64"))
      setNamed(set, "kvCacheUtilization", ratio(decoding, reader.double()));
    else if (tag === tagOf(9, "bytes")) readLatency(decoding, measured);
    else reader.skip(tag);
  }
  reader.leave(outer);
  return set;
}

function readTokens(decoding: Decoding, into: CounterSet["tokens"][number][]): void {
  const [kind, outcome, tokens] = readThree(decoding.reader);
  const named = kinds[kind];
  // Counts of one kind are added up later, whatever their outcome.
  const before = into.reduce((sum, count) => sum + (count.kind === named ? count.tokens : 0), 0);
  const value = kept(decoding, before + tokens) === undefined ? undefined : tokens;
  if (named === undefined) decoding.ignored++;
  if (named === undefined || value === undefined || into.length >= NAMES_MAX) return;
  into.push({ kind: named, outcome: outcomes[outcome] ?? "ok", tokens: value });
}

function readRequests(decoding: Decoding, into: Partial<Record<Outcome, number>>): void {
  const [outcome, requests] = readThree(decoding.reader);
  const named = outcomes[outcome] ?? "ok";
  const sum = kept(decoding, (into[named] ?? 0) + requests);
  if (sum !== undefined) into[named] = sum;
}

/** A nested message of at most three varint fields. */
function readThree(reader: WireReader): [number, number, number] {
  const values: [number, number, number] = [0, 0, 0];
  const outer = reader.enter();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    const field = Math.floor(tag / 8);
    if (tag % 8 === 0 && field >= 1 && field <= 3) values[field - 1] = reader.uint();
    else reader.skip(tag);
  }
  reader.leave(outer);
  return values;
}

function readInFlight(decoding: Decoding, into: { running?: number; waiting?: number }): void {
  const { reader } = decoding;
  const outer = reader.enter();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === tagOf(1, "varint")) setNamed(into, "running", kept(decoding, reader.uint()));
    else if (tag === tagOf(2, "varint")) setNamed(into, "waiting", kept(decoding, reader.uint()));
    else reader.skip(tag);
  }
  reader.leave(outer);
}

function readLatency(decoding: Decoding, into: Partial<Record<LatencyKey, Histogram>>): void {
  const { reader } = decoding;
  const bounds: number[] = [];
  const counts: number[] = [];
  let name: LatencyName | undefined;
  let outcome: Outcome | undefined;
  let sum = 0;
  const outer = reader.enter();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === tagOf(1, "varint")) name = latencies[reader.uint()];
    else if (tag === tagOf(5, "varint")) outcome = outcomes[reader.uint()];
    else if (tag === tagOf(2, "fixed64")) pushUpTo(TOO_MANY, bounds, reader.double());
    else if (tag === tagOf(2, "bytes")) readPacked(reader, () => pushUpTo(TOO_MANY, bounds, reader.double()));
    else if (tag === tagOf(3, "varint")) pushUpTo(TOO_MANY, counts, reader.uint());
    else if (tag === tagOf(3, "bytes")) readPacked(reader, () => pushUpTo(TOO_MANY, counts, reader.uint()));
    else if (tag === tagOf(4, "fixed64")) sum = reader.double();
    else reader.skip(tag);
  }
  reader.leave(outer);
  if (name === undefined) return;
  const rising = bounds.every(
    (bound, index) => Number.isFinite(bound) && (index === 0 || bound > (bounds[index - 1] as number)),
  );
  const fits =
    counts.length === bounds.length + 1 && counts.length <= BUCKETS_MAX && counts.every(Number.isSafeInteger);
  const count = counts.reduce((total, each) => total + each, 0);
  if (!rising || !fits || !(sum >= 0 && sum < Infinity) || !Number.isSafeInteger(count)) decoding.ignored++;
  else {
    const key: LatencyKey = outcome === undefined ? name : `${name} ${outcome}`;
    into[key] = { bounds, counts, sum, count };
  }
}

function readPacked(reader: WireReader, read: () => void): void {
  const outer = reader.enter();
  while (reader.position < reader.end) read();
  reader.leave(outer);
}

function pushUpTo(max: number, list: number[], value: number): void {
  if (list.length < max) list.push(value);
}

/** The count, or undefined (and counted as ignored) where a number cannot hold it exactly. */
function kept(decoding: Decoding, value: number): number | undefined {
  if (Number.isSafeInteger(value)) return value;
  decoding.ignored++;
  return undefined;
}

/** The share, or undefined (and counted as ignored) where it is none. */
function ratio(decoding: Decoding, value: number): number | undefined {
  if (value >= 0 && value <= 1) return value;
  decoding.ignored++;
  return undefined;
}

function setNamed<Target, Key extends keyof Target>(
  into: Target,
  key: Key,
  value: Target[Key] | undefined,
): void {
  if (value !== undefined) into[key] = value;
}
