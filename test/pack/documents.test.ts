// No link inside an artefact is broken: the pages an artefact carries name only what lies beside them, in the tarball and
// image at the project's own paths, in packages below /usr/share/doc/tokenwatt.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { documentFiles, linksOf } from "../../deploy/pack/documents.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const documents = documentFiles(root);
const paths = new Set(documents.map(({ path }) => path));
const pages = documents.flatMap((one) =>
  "bytes" in one && one.path.endsWith(".md") ? [[one.path, Buffer.from(one.bytes).toString()] as const] : [],
);
const isThere = (path: string, among: ReadonlySet<string>): boolean =>
  among.has(path) || [...among].some((each) => each.startsWith(`${path}/`));

test("linksOf() finds relative links, not addresses, anchors or code", () => {
  const text = "[a](b.md#x) [c](https://d) [e](#f) `[g](h)` [i](../j/)\n```\n[k](l)\n```\n";
  expect(linksOf("docs/p.md", text)).toEqual(["docs/b.md", "j"]);
});

test.each(pages)("%s names only what the tarball and the image have", (page, text) => {
  expect(linksOf(page, text).filter((link) => !isThere(link, paths))).toEqual([]);
});

test("the pages that people start from are among them", () => {
  for (const path of [
    "README.md",
    "deploy/docs/install.md",
    "deploy/docs/queries.md",
    "deploy/config/prices.example.yaml",
  ])
    expect(paths).toContain(path);
});

test.each(["deb", "rpm"])("the %s has every document below its folder of pages", (packager) => {
  const { contents } = parse(readFileSync(`${root}deploy/pack/nfpm.yaml`, "utf8")) as {
    contents: { src?: string; dst: string; type?: string; packager?: string }[];
  };
  const placed = (path: string): string | undefined => {
    for (const { dst, packager: only, src = "", type } of contents) {
      if ((only !== undefined && only !== packager) || !dst.startsWith("/usr/share/doc/tokenwatt/")) continue;
      if (src === path && type !== "tree") return dst;
      if (type === "tree" && path.startsWith(`${src}/`)) return `${dst}${path.slice(src.length)}`;
    }
    return undefined;
  };
  const wrong = [...paths].filter((path) => placed(path) !== `/usr/share/doc/tokenwatt/${path}`);
  expect(wrong).toEqual([]);
});
