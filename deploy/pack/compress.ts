// Compression with fixed settings, so that equal input gives equal output: xz of the system in one thread (its output
// depends on the number of blocks), gzip from zlib with the time field zero. xz keeps the tarball a third smaller.
import { spawn, spawnSync } from "node:child_process";
import { buffer } from "node:stream/consumers";
import { gzipSync } from "node:zlib";

/** Whether the system has xz. */
export function haveXz(): boolean {
  return spawnSync("xz", ["--version"]).status === 0;
}

/** xz with a checksum old tools know; `preset` 0 to 9. */
export async function xz(bytes: Uint8Array, preset = 9): Promise<Buffer> {
  const child = spawn("xz", ["-c", "-T1", `-${preset}`, "--check=crc32"], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const [output, status] = await Promise.all([
    buffer(child.stdout),
    new Promise((resolve, reject) => child.once("error", reject).once("close", resolve)),
    new Promise<void>((resolve) => child.stdin.end(bytes, resolve)),
  ]);
  if (status !== 0) throw new Error(`Cannot compress: xz ended with ${status}`);
  return output;
}

/** Unpacks xz. */
export function unxz(bytes: Uint8Array): Buffer {
  const { status, stdout } = spawnSync("xz", ["-dc"], { input: bytes, maxBuffer: 1 << 30 });
  if (status !== 0) throw new Error(`Cannot decompress: xz ended with ${status}`);
  return stdout;
}

/** gzip without a time or a name in it. */
export function gzip(bytes: Uint8Array, level = 9): Buffer {
  const packed = gzipSync(bytes, { level });
  // The operating system field differs between builds of zlib.
  packed[9] = 255;
  return packed;
}
