// Requests as spool records and back: zstd at its fastest level, unless that makes them larger.
import { promisify } from "node:util";
import { constants, zstdCompress, zstdDecompress } from "node:zlib";
import type { RecordHeader } from "./record-format.ts";
import { encodeRecord, PAYLOAD_BYTES_MAX, RECORD_HEADER_BYTES, readRecordHeader } from "./record-format.ts";
import type { Entry } from "./segment.ts";
import type { SpoolEntry } from "./spool.ts";

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);
const ZSTD = { params: { [constants.ZSTD_c_compressionLevel]: 1 }, chunkSize: 256 * 1024 };
/** Least that zlib accepts. */
const CHUNK_BYTES_MIN = 64;

/** A record on its way in. */
export interface PackedRecord {
  readonly entry: Omit<Entry, "offset" | "length">;
  /** As it is written to a segment. */
  readonly bytes: Buffer;
}

/** A request as a record. Throws when it is larger than any request we make. */
export async function packRecord(
  { bytes, points, time, layout }: SpoolEntry,
  sequence: number,
): Promise<PackedRecord> {
  if (bytes.length > PAYLOAD_BYTES_MAX) throw new Error(`Cannot spool a request of ${bytes.length} bytes`);
  const packed = await compress(bytes, ZSTD);
  const smaller = packed.length < bytes.length;
  const entry = { sequence, points, time, layout };
  const header = { ...entry, codec: smaller ? "zstd" : "raw", rawLength: bytes.length } as const;
  return { entry, bytes: encodeRecord(header, smaller ? packed : bytes) };
}

/** The request of a record whose checksum is right. Rejects when it is not what the header announces all the same. */
export async function unpackRecord(header: RecordHeader, payload: Buffer): Promise<Uint8Array> {
  if (header.codec === "raw") return payload;
  // One chunk of the announced size: nothing is grown or joined. A checksum vouches for the size, bounds for the rest.
  const chunkSize = Math.max(CHUNK_BYTES_MIN, header.rawLength + 1);
  const bytes = await decompress(payload, { maxOutputLength: header.rawLength + 1, chunkSize });
  if (bytes.length !== header.rawLength)
    throw new Error(`got ${bytes.length} bytes, wanted ${header.rawLength}`);
  return bytes;
}

/** The request of a record that was just packed. */
export async function requestOf(record: PackedRecord): Promise<Uint8Array> {
  const header = readRecordHeader(record.bytes);
  if (header === undefined) throw new Error("a record in memory is not what was packed");
  return unpackRecord(header, record.bytes.subarray(RECORD_HEADER_BYTES));
}
