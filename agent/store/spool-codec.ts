// Requests as spool records and back: zstd at its fastest level, unless that makes them larger.
import { promisify } from "node:util";
import { constants, zstdCompress, zstdDecompress } from "node:zlib";
import type { RecordHeader } from "./record-format.ts";
import { encodeRecord, PAYLOAD_BYTES_MAX } from "./record-format.ts";
import type { Entry } from "./segment.ts";
import type { SpoolEntry } from "./spool.ts";

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);
const ZSTD = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };

/** A record on its way in. */
export interface PackedRecord {
  readonly entry: Omit<Entry, "offset" | "length">;
  /** As it is written to a segment. */
  readonly bytes: Buffer;
  /** As it was put in. */
  readonly raw: Uint8Array;
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
  return { entry, bytes: encodeRecord(header, smaller ? packed : bytes), raw: bytes };
}

/** The request of a record whose checksum is right. Rejects when it is not what the header announces all the same. */
export async function unpackRecord(header: RecordHeader, payload: Buffer): Promise<Uint8Array> {
  if (header.codec === "raw") return payload;
  const bytes = await decompress(payload, { maxOutputLength: header.rawLength + 1 });
  if (bytes.length !== header.rawLength)
    throw new Error(`got ${bytes.length} bytes, wanted ${header.rawLength}`);
  return bytes;
}
