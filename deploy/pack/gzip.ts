// Compression for manual pages and image layers, by zlib in Node's threads: equal input gives equal output.
import { promisify } from "node:util";
import { gzip as zlibGzip } from "node:zlib";

const compress = promisify(zlibGzip);

/** gzip without a time or a name in it. */
export async function gzip(bytes: string | Uint8Array, level = 9): Promise<Buffer> {
  const packed = await compress(bytes, { level });
  // The operating system field differs between builds of zlib.
  packed[9] = 255;
  return packed;
}
