// A file tree as data: what the artefacts are made from. Written to a folder for the tools that archive it.
import {
  chmodSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  symlinkSync,
  writeSync,
} from "node:fs";
import { dirname, join } from "node:path";

/** One entry of a tree; `path` is relative, without a leading "./". */
export type File =
  | { readonly path: string; readonly mode: number; readonly bytes: Uint8Array }
  | { readonly path: string; readonly link: string }
  /** A folder that is not plain 0755 of root; `owner` is user and group. */
  | { readonly path: string; readonly mode: number; readonly owner: number };

/** A plain file, 0644 unless said otherwise. */
export function file(path: string, content: string | Uint8Array, mode = 0o644): File {
  return { path, mode, bytes: typeof content === "string" ? Buffer.from(content) : content };
}

/** The same files below another folder; links stay as they are. */
export function below(folder: string, files: readonly File[]): File[] {
  return files.map((entry) => ({ ...entry, path: `${folder}/${entry.path}` }));
}

/**
 * Bytes written at a time. Linux keeps what is written at once as large pieces of its page cache, too, and a program that
 * touches one page of such a piece is charged with all of it: 22 MB of Node's code that never runs. An archiver, a package
 * manager and a first start after a boot make small pieces.
 */
const PIECE_BYTES = 16_384;

/** Writes files below a folder; folders get the mode of the umask, owners are for the archiver. */
export function writeTree(folder: string, files: readonly File[]): void {
  for (const entry of files) {
    const path = join(folder, entry.path);
    mkdirSync("owner" in entry ? path : dirname(path), { recursive: true });
    if ("link" in entry) symlinkSync(entry.link, path);
    else {
      if ("bytes" in entry) writeInPieces(path, entry.bytes);
      chmodSync(path, entry.mode);
    }
  }
}

function writeInPieces(path: string, bytes: Uint8Array): void {
  const file = openSync(path, "w");
  try {
    for (let at = 0; at < bytes.length; )
      at += writeSync(file, bytes, at, Math.min(PIECE_BYTES, bytes.length - at));
  } finally {
    closeSync(file);
  }
}

/** Lends a new folder in the project's cache, and removes it afterwards. */
export async function inWorkFolder<T>(root: string, use: (folder: string) => T | Promise<T>): Promise<T> {
  const cache = join(root, "node_modules/.cache/tokenwatt");
  mkdirSync(cache, { recursive: true });
  const folder = mkdtempSync(join(cache, "pack-"));
  try {
    return await use(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
