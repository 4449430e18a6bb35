// Rate-limit calls as Envoy makes them, and what is answered, read back field by field.
import type { Client } from "../../agent/platform/grpc.ts";
import { Metadata } from "../../agent/platform/grpc.ts";
import { tagOf, WireReader } from "../../agent/platform/protobuf-reader.ts";
import { MessageWriter } from "../../agent/platform/protobuf-writer.ts";

/** One call. `hits` of a descriptor: 0 is sent as an empty message, as Envoy does. */
export interface Call {
  readonly domain?: string;
  readonly hits?: number;
  readonly descriptors: readonly {
    readonly entries: Readonly<Record<string, string>>;
    readonly hits?: number;
    readonly limit?: number;
  }[];
}

/** One answer. */
export interface Answered {
  readonly code: number;
  readonly statuses: readonly {
    code: number;
    name?: string;
    limit?: number;
    unit?: number;
    remaining?: number;
    resetSeconds?: number;
  }[];
  readonly headers: Readonly<Record<string, string>>;
}

/** The bytes of a call. */
export function encodeCall({ descriptors, domain = "tokenwatt", hits }: Call): Buffer {
  const writer = new MessageWriter();
  writer.text(1, domain);
  for (const one of descriptors) {
    writer.message(2, (descriptor) => {
      for (const [key, value] of Object.entries(one.entries)) {
        descriptor.message(1, (entry) => {
          entry.text(1, key);
          entry.text(2, value);
        });
      }
      if (one.limit !== undefined) descriptor.message(2, (limit) => limit.uint(1, one.limit));
      const own = one.hits;
      if (own !== undefined)
        descriptor.message(3, (wrapped) => (own === 0 ? undefined : wrapped.uint(1, own)));
    });
  }
  writer.uint(3, hits);
  return writer.finish();
}

/** The fields of an answer. */
export function decodeAnswer(bytes: Uint8Array): Answered {
  const reader = new WireReader(bytes);
  const statuses: Answered["statuses"][number][] = [];
  const headers: Record<string, string> = {};
  let code = 0;
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === tagOf(1, "varint")) code = reader.uint();
    else if (tag === tagOf(2, "bytes")) statuses.push(decodeStatus(reader));
    else if (tag === tagOf(3, "bytes")) {
      const [key, value] = texts(reader, 2);
      headers[key ?? ""] = value ?? "";
    } else throw new Error(`an unknown field: ${tag >> 3}`);
  }
  return { code, statuses, headers };
}

function decodeStatus(reader: WireReader): Answered["statuses"][number] {
  const status: Answered["statuses"][number] = { code: 0 };
  const outer = reader.enter();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === tagOf(1, "varint")) status.code = reader.uint();
    else if (tag === tagOf(2, "bytes")) decodeLimit(reader, status);
    else if (tag === tagOf(3, "varint")) status.remaining = reader.uint();
    else if (tag === tagOf(4, "bytes")) status.resetSeconds = decodeDuration(reader);
    else throw new Error(`an unknown field: ${tag >> 3}`);
  }
  reader.leave(outer);
  return status;
}

function decodeLimit(reader: WireReader, into: Answered["statuses"][number]): void {
  const outer = reader.enter();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === tagOf(1, "varint")) into.limit = reader.uint();
    else if (tag === tagOf(2, "varint")) into.unit = reader.uint();
    else if (tag === tagOf(3, "bytes")) into.name = reader.text();
  }
  reader.leave(outer);
}

function decodeDuration(reader: WireReader): number {
  let [seconds, nanos] = [0, 0];
  const outer = reader.enter();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === tagOf(1, "varint")) seconds = reader.uint();
    else nanos = reader.uint();
  }
  reader.leave(outer);
  return seconds + nanos / 1e9;
}

function texts(reader: WireReader, count: number): string[] {
  const found: string[] = [];
  const outer = reader.enter();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) found.push(reader.text());
  reader.leave(outer);
  return found.slice(0, count);
}

/** Makes a call over a channel, with `headers` beside it. */
export function shouldRateLimit(
  client: Client,
  call: Call,
  headers: Readonly<Record<string, string>> = {},
): Promise<Answered> {
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
  return new Promise((resolve, reject) =>
    client.makeUnaryRequest(
      "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
      (bytes: Buffer) => bytes,
      (bytes: Buffer) => bytes,
      encodeCall(call),
      metadata,
      (error, answer) =>
        error === null && answer !== undefined ? resolve(decodeAnswer(answer)) : reject(error),
    ),
  );
}
