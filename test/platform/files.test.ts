// files.ts: facts of a file as the audit record names it; what cannot be read has none.
import { mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { fileFacts } from "../../agent/platform/files.ts";

test("fileFacts() says whose a file is, when it was written and how its content's digest begins", () => {
  const folder = mkdtempSync(join(tmpdir(), "tokenwatt-files-"));
  const file = join(folder, "config.yaml");
  writeFileSync(file, "abc");
  utimesSync(file, 1_793_491_200, 1_793_491_200);
  // SHA-256 of "abc", FIPS 180-2 appendix B.1.
  const facts = {
    file,
    uid: process.getuid?.(),
    modified: "2026-11-01T00:00:00.000Z",
    digest: "ba7816bf8f01",
  };
  expect(fileFacts(file)).toEqual(facts);
  expect(fileFacts(folder)).toBeUndefined();
  expect(fileFacts(join(folder, "none"))).toBeUndefined();
  rmSync(folder, { recursive: true });
});
