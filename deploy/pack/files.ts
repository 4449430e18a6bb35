// A file tree as data: what tar, deb and image layers are written from.

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

/** All folders that hold the files, parents before children. */
export function foldersOf(files: readonly File[]): string[] {
  const folders = new Set<string>();
  for (const { path } of files) {
    const parts = path.split("/");
    for (let end = 1; end < parts.length; end++) folders.add(parts.slice(0, end).join("/"));
  }
  return [...folders].sort();
}
