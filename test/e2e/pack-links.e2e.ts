// Every relative link of every page in the artefacts as they are built leads to a file that is in the same artefact.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { linksOf } from "../../deploy/pack/documents.ts";
import { pack, whyNoPacking } from "../tools/packed.ts";

const folder = mkdtempSync(join(tmpdir(), "pack-links-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** How each kind is unpacked, and where its pages lie. */
const KINDS = {
  tarball: { ending: ".tar.xz", unpack: 'tar --strip-components=1 -xf "$1"', pages: "" },
  deb: { ending: ".deb", unpack: 'dpkg-deb --extract "$1" .', pages: "usr/share/doc/tokenwatt" },
  rpm: {
    ending: ".rpm",
    unpack: 'rpm2cpio "$1" | cpio --quiet --no-absolute-filenames -id',
    pages: "usr/share/doc/tokenwatt",
  },
  npm: { ending: ".tgz", unpack: 'tar --strip-components=1 -xf "$1"', pages: "" },
} as const;

const why = whyNoPacking("tarball", "deb", "rpm");
if (why !== undefined) console.warn(`SKIPPED: links inside the artefacts: ${why}`);

describe.skipIf(why !== undefined)("links inside the artefacts", () => {
  beforeAll(() => {
    pack(folder, { kinds: ["tarball", "deb", "rpm", "npm"], architectures: "x64", preset: 0 });
  }, 300_000);

  test.each(Object.entries(KINDS))("%s", (kind, { ending, pages, unpack }) => {
    const into = join(folder, kind);
    mkdirSync(into);
    const archive = join(folder, readdirSync(folder).find((name) => name.endsWith(ending)) ?? "");
    execFileSync("sh", ["-c", unpack, "sh", archive], { cwd: into, stdio: "ignore" });
    const top = join(into, pages);
    const found = readdirSync(top, { recursive: true, encoding: "utf8" }).filter((name) =>
      name.endsWith(".md"),
    );
    expect(found.length).toBeGreaterThan(30);
    const broken = found
      .filter((page) => !page.startsWith("licenses/"))
      .flatMap((page) =>
        linksOf(page, readFileSync(join(top, page), "utf8"))
          .filter((link) => !existsSync(join(top, link)))
          .map((link) => `${page}: ${link}`),
      );
    expect(broken).toEqual([]);
  });
});
