// The tree of an artefact as it is written to a folder.
import { mkdtempSync, readFileSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { file, writeTree } from "../../deploy/pack/files.ts";

test.each([0, 1, 16_384, 16_385, 100_000])(
  "writeTree() writes all of %d bytes, with their mode",
  (length) => {
    const bytes = Uint8Array.from({ length }, (_, place) => (place * 31 + (place >> 8)) & 255);
    const folder = mkdtempSync(join(tmpdir(), "tokenwatt-tree-"));
    writeTree(folder, [file("bin/program", bytes, 0o755), file("text", "words")]);
    expect(readFileSync(join(folder, "bin/program")).equals(bytes)).toBe(true);
    expect(statSync(join(folder, "bin/program")).mode & 0o777).toBe(0o755);
    expect(readFileSync(join(folder, "text"), "utf8")).toBe("words");
  },
);
