// tarTree(): an archive depends on nothing but the tree, and has the owners that the tree names.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import type { File } from "../../deploy/pack/files.ts";
import { file } from "../../deploy/pack/files.ts";
import { tarTree } from "../../deploy/pack/tar.ts";

const folder = mkdtempSync(join(tmpdir(), "tokenwatt-tar-"));
afterAll(() => rmSync(folder, { recursive: true }));

const long = `${"folder/".repeat(15)}${"n".repeat(90)}`;
const tree: readonly File[] = [
  file("bin/run", "#!/bin/sh\n", 0o755),
  file(long, "x"),
  { path: "bin/link", link: "run" },
  { path: "tmp", mode: 0o1777, owner: 0 },
  { path: "var/state", mode: 0o700, owner: 65_534 },
];
const pack = (files: readonly File[]): Buffer =>
  tarTree(mkdtempSync(join(folder, "work-")), files, 1_790_000_000);

test("tarTree() keeps owners, modes, links and names over 100 bytes, each once", () => {
  const { status, stdout } = spawnSync("tar", ["-tv"], {
    input: pack(tree),
    encoding: "utf8",
    env: { TZ: "UTC", PATH: process.env["PATH"] },
  });
  expect(status).toBe(0);
  expect(stdout).toMatch(/^-rwxr-xr-x root\/root +10 2026-09-21 .* bin\/run$/m);
  expect(stdout).toMatch(/^lrwxrwxrwx root\/root .* bin\/link -> run$/m);
  expect(stdout).toMatch(/^drwxrwxrwt root\/root .* tmp\/$/m);
  expect(stdout).toMatch(/^drwx------ 65534\/65534 .* var\/state\/$/m);
  expect(stdout).toContain(` ${long}\n`);
  const names = stdout
    .trim()
    .split("\n")
    .map((line) => line.split(" ").at(-1));
  expect(new Set(names).size).toBe(names.length);
});

test("tarTree() does not depend on the order of its files", () => {
  expect(pack(tree).equals(pack([...tree].reverse()))).toBe(true);
});
