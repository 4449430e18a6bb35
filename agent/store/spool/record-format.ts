// The bytes of a spool segment: a header, then records, then zeros up to the preallocated end.
// A record's header has a checksum of its own, so that damage to a payload still leaves known what was lost.
// Little-endian throughout. Format 1; a segment of another format is quarantined, not read.
import { crc32 } from "node:zlib";
import type { UnixNanos } from "../../model.ts";

const SEGMENT_MAGIC = 0x31535754;
const RECORD_MAGIC = 0x31525754;

/** Bytes before the first record of a segment file. */
export const SEGMENT_HEADER_BYTES = 32;
/** Bytes of a record before its payload. */
export const RECORD_HEADER_BYTES = 56;
/** No payload is larger: OTLP requests stay under 4 MiB, and compressed they shrink. */
export const PAYLOAD_BYTES_MAX = 16 * 1024 * 1024;

/** How a payload is stored. */
export type Codec = "raw" | "zstd";

/** What a record's header says. */
export interface RecordHeader {
  readonly sequence: number;
  readonly time: UnixNanos;
  readonly points: number;
  readonly layout: number;
  readonly codec: Codec;
  /** Bytes on disk after the header. */
  readonly length: number;
  readonly rawLength: number;
  readonly payloadCrc: number;
  /** How many sequences before it were left out on purpose. */
  readonly skipped: number;
}

/** The header of a segment whose first record gets this sequence. */
export function segmentHeader(first: number): Buffer {
  const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES);
  bytes.writeUInt32LE(SEGMENT_MAGIC, 0);
  bytes.writeBigUInt64LE(BigInt(first), 8);
  bytes.writeUInt32LE(crc32(bytes.subarray(8)), 4);
  return bytes;
}

/** The first sequence a segment announces; undefined when these bytes are no segment header. */
export function readSegmentHeader(bytes: Buffer): number | undefined {
  if (bytes.length < SEGMENT_HEADER_BYTES || bytes.readUInt32LE(0) !== SEGMENT_MAGIC) return undefined;
  if (bytes.readUInt32LE(4) !== crc32(bytes.subarray(8, SEGMENT_HEADER_BYTES))) return undefined;
  return Number(bytes.readBigUInt64LE(8));
}

/** A whole record: header and payload. */
export function encodeRecord(
  header: Omit<RecordHeader, "length" | "payloadCrc" | "skipped">,
  payload: Uint8Array,
): Buffer {
  const bytes = Buffer.allocUnsafe(RECORD_HEADER_BYTES + payload.length);
  bytes.writeUInt32LE(RECORD_MAGIC, 0);
  bytes.writeUInt32LE(crc32(payload), 8);
  bytes.writeUInt32LE(payload.length, 12);
  bytes.writeUInt32LE(header.rawLength, 16);
  bytes.writeUInt32LE(header.points, 20);
  bytes.writeUInt32LE(header.codec === "zstd" ? 1 : 0, 24);
  bytes.writeUInt32LE(0, 28);
  bytes.writeBigUInt64LE(BigInt(header.sequence), 32);
  bytes.writeBigInt64LE(header.time, 40);
  bytes.writeDoubleLE(header.layout, 48);
  bytes.writeUInt32LE(crc32(bytes.subarray(8, RECORD_HEADER_BYTES)), 4);
  bytes.set(payload, RECORD_HEADER_BYTES);
  return bytes;
}

/** Writes into a record's header how many sequences before it were left out. */
export function setSkipped(record: Buffer, skipped: number): void {
  record.writeUInt32LE(skipped, 28);
  record.writeUInt32LE(crc32(record.subarray(8, RECORD_HEADER_BYTES)), 4);
}

/** What the header at `offset` says; undefined when there is none, it is damaged or it cannot be true. */
export function readRecordHeader(bytes: Buffer, offset = 0): RecordHeader | undefined {
  if (bytes.length - offset < RECORD_HEADER_BYTES || bytes.readUInt32LE(offset) !== RECORD_MAGIC)
    return undefined;
  const checked = bytes.subarray(offset + 8, offset + RECORD_HEADER_BYTES);
  if (bytes.readUInt32LE(offset + 4) !== crc32(checked)) return undefined;
  const codec = bytes.readUInt32LE(offset + 24);
  const length = bytes.readUInt32LE(offset + 12);
  const rawLength = bytes.readUInt32LE(offset + 16);
  if (codec > 1 || length > PAYLOAD_BYTES_MAX || rawLength > PAYLOAD_BYTES_MAX) return undefined;
  return {
    sequence: Number(bytes.readBigUInt64LE(offset + 32)),
    time: bytes.readBigInt64LE(offset + 40),
    points: bytes.readUInt32LE(offset + 20),
    layout: bytes.readDoubleLE(offset + 48),
    codec: codec === 1 ? "zstd" : "raw",
    length,
    rawLength,
    payloadCrc: bytes.readUInt32LE(offset + 8),
    skipped: bytes.readUInt32LE(offset + 28),
  };
}

/** Whether a payload is the one its header was written with. */
export function payloadMatches(header: RecordHeader, payload: Uint8Array): boolean {
  return payload.length === header.length && crc32(payload) === header.payloadCrc;
}

/** Offset of the next intact record header at or after `from`, -1 when there is none. */
export function findRecord(bytes: Buffer, from: number): number {
  const magic = Buffer.alloc(4);
  magic.writeUInt32LE(RECORD_MAGIC);
  for (let at = bytes.indexOf(magic, from); at !== -1; at = bytes.indexOf(magic, at + 1)) {
    if (readRecordHeader(bytes, at) !== undefined) return at;
  }
  return -1;
}
