// POSIX ustar archives, written so that the same files give the same bytes: sorted by name, one time, owner 0:0, folders
// included. Read for npm packages and Debian's: GNU long names are understood, pax records only as far as `path`.
import { posix } from "node:path";
import type { File } from "./files.ts";
import { foldersOf } from "./files.ts";

const BLOCK = 512;

/** What all entries of an archive share. */
export interface TarOptions {
  /** Seconds since 1970, of every entry. */
  readonly time: number;
  /** Put before every name: "./" as Debian's tools expect, or "". */
  readonly prefix?: string;
}

/** The archive of these files and of the folders they lie in. */
export function tar(files: readonly File[], options: TarOptions): Buffer {
  const { prefix = "", time } = options;
  const seen = new Set<string>();
  const parts: Uint8Array[] = prefix === "./" ? [header({ path: "./", type: "5", mode: 0o755, time })] : [];
  const special = new Set(files.flatMap((entry) => ("owner" in entry ? [entry.path] : [])));
  const plain = foldersOf(files).filter((path) => !special.has(path));
  const entries = [...plain.map((path) => ({ path, mode: 0o755, owner: 0 })), ...files].sort((a, b) =>
    a.path < b.path ? -1 : 1,
  );
  for (const entry of entries) {
    if (seen.has(entry.path)) throw new Error(`Cannot write an archive: it would hold ${entry.path} twice`);
    seen.add(entry.path);
    const path = prefix + entry.path;
    if ("owner" in entry) parts.push(header({ ...entry, path: `${path}/`, type: "5", time }));
    else if ("link" in entry) parts.push(header({ path, type: "2", mode: 0o777, time, link: entry.link }));
    else {
      const { bytes, mode } = entry;
      parts.push(header({ path, type: "0", mode, size: bytes.length, time }), bytes);
      parts.push(Buffer.alloc(-bytes.length & (BLOCK - 1)));
    }
  }
  parts.push(Buffer.alloc(2 * BLOCK));
  return Buffer.concat(parts);
}

interface Header {
  readonly path: string;
  /** 0 file, 2 symbolic link, 5 folder. */
  readonly type: string;
  readonly mode: number;
  readonly time: number;
  readonly size?: number;
  readonly owner?: number;
  readonly link?: string;
}

function header({ link = "", mode, owner = 0, path, size = 0, time, type }: Header): Buffer {
  const block = Buffer.alloc(BLOCK);
  const [folder, name] = split(path);
  const octal = (value: number, offset: number, length: number): void => {
    block.write(`${value.toString(8).padStart(length - 1, "0")}\0`, offset, "latin1");
  };
  if (Buffer.byteLength(link) > 100) throw new Error(`Cannot write an archive: the link ${link} is too long`);
  block.write(name, 0);
  octal(mode, 100, 8);
  octal(owner, 108, 8);
  octal(owner, 116, 8);
  octal(size, 124, 12);
  octal(time, 136, 12);
  block.write("        ", 148);
  block.write(type, 156);
  block.write(link, 157);
  block.write("ustar\x0000", 257, "latin1");
  if (owner === 0) {
    block.write("root", 265);
    block.write("root", 297);
  }
  block.write(folder, 345);
  const sum = block.reduce((a, b) => a + b, 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return block;
}

/** A name of at most 100 bytes and a folder of at most 155, as ustar stores them. */
function split(path: string): readonly [string, string] {
  if (Buffer.byteLength(path) <= 100) return ["", path];
  for (let cut = path.indexOf("/"); cut > 0; cut = path.indexOf("/", cut + 1)) {
    const [folder, name] = [path.slice(0, cut), path.slice(cut + 1)];
    if (name !== "" && Buffer.byteLength(name) <= 100 && Buffer.byteLength(folder) <= 155)
      return [folder, name];
  }
  throw new Error(`Cannot write an archive: the name ${path} is too long for ustar`);
}

/** The files and links of an archive that `wanted` holds for, their paths without a leading "./". */
export function untar(archive: Uint8Array, wanted: (path: string) => boolean = () => true): File[] {
  const found: File[] = [];
  let longName: string | undefined;
  for (let at = 0; at + BLOCK <= archive.length && archive[at] !== 0; ) {
    const head = Buffer.from(archive.buffer, archive.byteOffset + at, BLOCK);
    const text = (offset: number, length: number): string =>
      head.toString("utf8", offset, offset + length).replace(/\0.*$/s, "");
    const size = Number.parseInt(text(124, 12).trim() || "0", 8);
    const content = archive.subarray(at + BLOCK, at + BLOCK + size);
    if (content.length !== size) throw new Error("Cannot read an archive: it ends in the middle of a file");
    at += BLOCK + Math.ceil(size / BLOCK) * BLOCK;
    const type = text(156, 1) || "0";
    if (type === "L") longName = Buffer.from(content).toString("utf8").replace(/\0.*$/s, "");
    else if (type === "x") longName = /^\d+ path=(.*)$/m.exec(Buffer.from(content).toString("utf8"))?.[1];
    else {
      const folder = text(345, 155);
      const path = posix.normalize(longName ?? (folder === "" ? text(0, 100) : `${folder}/${text(0, 100)}`));
      longName = undefined;
      if (type === "2" && wanted(path)) found.push({ path, link: text(157, 100) });
      if (type === "0" && wanted(path)) {
        found.push({ path, mode: Number.parseInt(text(100, 8).trim(), 8), bytes: content });
      }
    }
  }
  return found;
}
