// The pages for people that an artefact carries: README.md and systemd/README.md, and whatever their relative links lead to,
// page by page, each at its own path, so that no link inside an artefact is broken.
// Of a linked folder come pages, configuration and dashboards; code stays where it is built from.
import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import type { File } from "./files.ts";
import { file } from "./files.ts";

const FIRST = ["README.md", "systemd/README.md"];
const WANTED = /\.(md|ya?ml|json|proto|sql)$/;

/** Every document, by path. Throws where a link leads nowhere. */
export function documentFiles(root: string): readonly File[] {
  const found = new Set<string>();
  const visit = (path: string): void => {
    if (found.has(path)) return;
    const full = join(root, path);
    if (statSync(full).isDirectory()) {
      for (const name of readdirSync(full)) {
        const below = `${path}/${name}`;
        if (WANTED.test(name) || statSync(join(root, below)).isDirectory()) visit(below);
      }
      return;
    }
    found.add(path);
    if (path.endsWith(".md")) for (const link of linksOf(path, readFileSync(full, "utf8"))) visit(link);
  };
  for (const path of FIRST) visit(path);
  return [...found].sort().map((path) => file(path, readFileSync(join(root, path))));
}

/** What a page's relative links lead to, as paths from the root; those inside the page are left out. */
export function linksOf(page: string, text: string): readonly string[] {
  const prose = text.replaceAll(/```.*?```/gs, "").replaceAll(/`[^`\n]*`/g, "");
  const targets = [...prose.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target = ""]) =>
    target.replace(/#.*$/, ""),
  );
  return targets
    .filter((target) => target !== "" && !/^[a-z]+:/.test(target))
    .map((target) => normalize(join(dirname(page), target)).replace(/\/$/, ""));
}
