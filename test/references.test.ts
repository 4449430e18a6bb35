// What comments and pages point to is there: files they name, sections of the contract, links of Markdown pages.
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));
const tracked = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], {
  cwd: root,
  encoding: "utf8",
})
  .split("\n")
  .filter((name) => name !== "" && !/^test\/(fixtures|gen)\//.test(name) && existsSync(join(root, name)));
const sources = tracked.filter((name) => /^(agent|deploy|test)\/.*\.ts$/.test(name));
const pages = tracked.filter((name) => name.endsWith(".md"));
const textOf = (name: string): string => readFileSync(join(root, name), "utf8");

/** The comment lines of a source, without addresses of other places. */
function commentsOf(name: string): string[] {
  return textOf(name)
    .split("\n")
    .filter((line) => /^\s*(\/\/|\/?\*)/.test(line))
    .map((line) => line.replaceAll(/\b[a-z]+:\/\/\S+/g, ""));
}

/** Whether a name in `file` means a file of the project: beside it or the file it mirrors, or from a top folder. */
function isThere(file: string, name: string): boolean {
  const folder = dirname(file);
  const mirrored = ["agent", "deploy"].map((top) => folder.replace(/^test\b/, top));
  const bases = [folder, dirname(folder), ...mirrored, "test", "agent", "deploy", ""];
  return bases.some((base) => existsSync(join(root, base, name)));
}

/** `check` applied to every comment line of every source, as "file: what is wrong". */
function faults(check: (file: string, line: string) => readonly string[]): string[] {
  return sources.flatMap((file) =>
    commentsOf(file).flatMap((line) => check(file, line).map((what) => `${file}: ${what}`)),
  );
}

describe("references", () => {
  test("in comments name files that are there", () => {
    const path = /(?<![\w./<*-])(?:\.{0,2}\/)?(?:[\w-]+\/)*[\w-]+(?:\.(?:test|e2e))?\.(?:ts|md)\b/g;
    expect(faults((file, line) => (line.match(path) ?? []).filter((name) => !isThere(file, name)))).toEqual(
      [],
    );
  });

  test("to the contract name a section that it has", () => {
    const sections = new Set(
      [...textOf("agent/METERING.md").matchAll(/^## (\d+)\. /gm)].map((heading) => heading[1]),
    );
    expect(sections.size).toBeGreaterThan(5);
    expect(
      faults((_, line) =>
        [...line.matchAll(/METERING\.md (\d+)/g)]
          .filter((found) => !sections.has(found[1]))
          .map((found) => found[0]),
      ),
    ).toEqual([]);
  });

  test("to notes outside the project are none", () => {
    expect(faults((_, line) => line.match(/\bfacts (P\d|\/)|\bseam [a-z]\b|\bfacts\/\w+/g) ?? [])).toEqual(
      [],
    );
  });

  test("of pages to files beside them are there", () => {
    const broken = pages.flatMap((page) =>
      [...textOf(page).matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)]
        .map((link) => link[1] ?? "")
        .filter((link) => !/^[a-z]+:/.test(link) && !existsSync(join(root, dirname(page), link)))
        .map((link) => `${page}: ${link}`),
    );
    expect(broken).toEqual([]);
  });
});
