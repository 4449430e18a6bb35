// envoy.service.ratelimit.v3 as bytes: what of a request decides, and the answer. Field numbers and enums are Envoy's
// (data-plane-api rls.proto and common/ratelimit/v3/ratelimit.proto, as Envoy 1.40 sends them).
// A descriptor's own limit is read to be counted and ignored: a caller may not set its own.
import { tagOf, WireError, WireReader } from "../platform/protobuf-reader.ts";
import { MessageWriter } from "../platform/protobuf-writer.ts";
import type { WindowUnit } from "./windows.ts";

/** One descriptor of a call. */
export interface Descriptor {
  readonly entries: ReadonlyMap<string, string>;
  /** Its own hits; 0 where the message is there and empty: Envoy sends 0 so. Undefined = those of the call. */
  readonly hits: number | undefined;
  /** It names a limit of its own. */
  readonly overrides: boolean;
}

/** A call. */
export interface RlsRequest {
  readonly domain: string;
  readonly descriptors: readonly Descriptor[];
  /** Hits of descriptors that have none; 0 = not given. */
  readonly hits: number;
}

/** What one descriptor is answered. */
export interface DescriptorStatus {
  readonly isOver: boolean;
  /** The quota with the least left; undefined = none matched. */
  readonly limit?: { readonly name: string; readonly amount: number; readonly per: WindowUnit };
  readonly remaining?: number;
  readonly resetMillis?: number;
}

const UINT32_MAX = 4_294_967_295;
const DESCRIPTORS_MAX = 64;
const ENTRIES_MAX = 64;
/** RateLimitResponse.RateLimit.Unit */
const units: Readonly<Record<WindowUnit, number>> = { minute: 2, hour: 3, day: 4, month: 5, week: 7 };
const codes = { ok: 1, over: 2 } as const;

/** Reads a RateLimitRequest. Throws WireError on what is none. */
export function decodeRequest(bytes: Uint8Array): RlsRequest {
  const reader = new WireReader(bytes);
  const descriptors: Descriptor[] = [];
  let [domain, hits] = ["", 0];
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === tagOf(1, "bytes")) domain = reader.text();
    else if (tag === tagOf(2, "bytes")) descriptors.push(decodeDescriptor(reader));
    else if (tag === tagOf(3, "varint")) hits = reader.uint();
    else reader.skip(tag);
    if (descriptors.length > DESCRIPTORS_MAX)
      throw new WireError(`Cannot take more than ${DESCRIPTORS_MAX} descriptors at once`);
  }
  return { domain, descriptors, hits };
}

function decodeDescriptor(reader: WireReader): Descriptor {
  const entries = new Map<string, string>();
  let hits: number | undefined;
  let overrides = false;
  const outer = reader.enter();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === tagOf(1, "bytes")) decodeEntry(reader, entries);
    else if (tag === tagOf(2, "bytes")) {
      overrides = true;
      reader.skip(tag);
    } else if (tag === tagOf(3, "bytes")) hits = decodeWrapped(reader);
    else reader.skip(tag);
    if (entries.size > ENTRIES_MAX) throw new WireError(`Cannot take more than ${ENTRIES_MAX} entries`);
  }
  reader.leave(outer);
  return { entries, hits, overrides };
}

/** The first entry of a key counts: a later one cannot replace it. */
function decodeEntry(reader: WireReader, into: Map<string, string>): void {
  let [key, value] = ["", ""];
  const outer = reader.enter();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === tagOf(1, "bytes")) key = reader.text();
    else if (tag === tagOf(2, "bytes")) value = reader.text();
    else reader.skip(tag);
  }
  reader.leave(outer);
  if (!into.has(key)) into.set(key, value);
}

/** A UInt64Value: 0 where it is empty. */
function decodeWrapped(reader: WireReader): number {
  let value = 0;
  const outer = reader.enter();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === tagOf(1, "varint")) value = reader.uint();
    else reader.skip(tag);
  }
  reader.leave(outer);
  return value;
}

/** Writes a RateLimitResponse: over where any descriptor is, with `retry-after` then. */
export function encodeResponse(statuses: readonly DescriptorStatus[]): Buffer {
  const writer = new MessageWriter();
  const over = statuses.filter(({ isOver }) => isOver);
  writer.uint(1, over.length > 0 ? codes.over : codes.ok);
  for (const status of statuses) {
    writer.message(2, (nested) => {
      nested.uint(1, status.isOver ? codes.over : codes.ok);
      const { limit } = status;
      if (limit === undefined) return;
      nested.message(2, (of) => {
        of.uint(1, saturated(limit.amount));
        of.uint(2, units[limit.per]);
        of.text(3, limit.name);
      });
      nested.uint(3, saturated(status.remaining ?? 0));
      nested.message(4, (duration) => {
        const millis = status.resetMillis ?? 0;
        duration.uint(1, Math.floor(millis / 1000));
        duration.uint(2, (millis % 1000) * 1_000_000);
      });
    });
  }
  if (over.length > 0) {
    const millis = Math.max(...over.map(({ resetMillis }) => resetMillis ?? 0));
    writer.message(3, (header) => {
      header.text(1, "retry-after");
      header.text(2, String(Math.ceil(millis / 1000)));
    });
  }
  return writer.finish();
}

/** X-RateLimit headers are 32 bits wide. */
function saturated(amount: number): number {
  return Math.min(UINT32_MAX, Math.max(0, Math.floor(amount)));
}
