// Entries of the audit record as OTLP logs (opentelemetry-proto 1.x, logs.proto): an event `tokenwatt.audit.<kind>` at the
// entry's own time. The body is the text that was chained, and sequence and hash stand beside it: whoever has all of them
// can prove the chain, without this host. A request has the same outer fields as one of metrics.
import type { ChainedAudit } from "../../model.ts";
import type { WireWriter } from "../../platform/protobuf-writer.ts";
import { fieldSize } from "../../platform/protobuf-writer.ts";
import type { Attributes, RequestHead } from "./attributes.ts";
import { attributesSize, writeAttributes } from "./attributes.ts";

/** Tags of a LogRecord's fields, and of the one that holds records in their scope. */
const TAGS = {
  time: 0x09,
  severity: 0x10,
  body: 0x2a,
  attributes: 0x32,
  observed: 0x59,
  event: 0x62,
} as const;
const RECORD = 0x12;
const STRING_VALUE = 0x0a;
const SEVERITY_INFO = 9;

/** The bytes of one request with these entries. */
export function encodeAudit(head: RequestHead, entries: readonly ChainedAudit[], now: bigint): Uint8Array {
  const sizes = entries.map(recordSize);
  const writer = head.begin(sizes.reduce((sum, size) => sum + fieldSize(size), 0));
  for (const [index, entry] of entries.entries()) {
    writer.head(RECORD, sizes[index] ?? 0);
    writeRecord(writer, entry, now);
  }
  return writer.bytes;
}

function recordSize(entry: ChainedAudit): number {
  const body = fieldSize(Buffer.byteLength(entry.body));
  const event = Buffer.byteLength(eventOf(entry));
  return 9 + 2 + fieldSize(body) + attributesSize(attributesOf(entry)) + 9 + fieldSize(event);
}

function writeRecord(writer: WireWriter, entry: ChainedAudit, now: bigint): void {
  const size = Buffer.byteLength(entry.body);
  const event = eventOf(entry);
  writer.instant(TAGS.time, BigInt(entry.at));
  writer.head(TAGS.severity, SEVERITY_INFO);
  writer.head(TAGS.body, fieldSize(size));
  writer.text(STRING_VALUE, entry.body, size);
  writeAttributes(writer, TAGS.attributes, attributesOf(entry));
  writer.instant(TAGS.observed, now);
  writer.text(TAGS.event, event, Buffer.byteLength(event));
}

function eventOf({ kind }: ChainedAudit): string {
  return `tokenwatt.audit.${kind}`;
}

function attributesOf({ hash, sequence }: ChainedAudit): Attributes {
  return { "tokenwatt.audit.sequence": sequence, "tokenwatt.audit.hash": hash };
}
