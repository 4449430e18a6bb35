// The licence texts of everything inside the artefact, taken from the packages themselves. A package that declares a
// licence but ships no text is listed with what it declares; one that declares nothing stops the build.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { File } from "./files.ts";
import { file } from "./files.ts";

/** A package inside the artefact. */
export interface Packaged {
  /** Its folder in the lockfile, such as `node_modules/zod`. */
  readonly folder: string;
  readonly name: string;
  readonly version: string;
  /** SPDX expression. */
  readonly licence: string;
  readonly author?: string;
  /** The folder of the package whose licence texts are its own too; its own folder without. */
  readonly textsIn?: string;
}

const LICENCE_FILE = /^(licen[cs]e|copying|notice|copyright|third[-_]party)/i;

/** What the package in a folder says of itself. */
export function readPackage(root: string, folder: string): Packaged {
  const facts = JSON.parse(readFileSync(join(root, folder, "package.json"), "utf8")) as Record<
    string,
    unknown
  >;
  const { author, license, licenses, name, version } = facts as {
    name: string;
    version: string;
    license?: string | { type: string };
    licenses?: readonly { type: string }[];
    author?: string | { name: string };
  };
  const declared =
    typeof license === "object" ? license.type : (license ?? licenses?.map((one) => one.type).join(" OR "));
  if (declared === undefined || declared === "") {
    throw new Error(`Cannot pack ${name}@${version}: its package.json declares no licence`);
  }
  const by = typeof author === "object" ? author.name : author;
  return { folder, name, version, licence: declared, ...(by === undefined ? {} : { author: by }) };
}

/** licenses/: an index, and each package's own texts. */
export function licenceFiles(root: string, packages: readonly Packaged[]): File[] {
  const files: File[] = [];
  const lines = packages.map((one) => {
    const folder = join(root, one.textsIn ?? one.folder);
    const texts = readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isFile() && LICENCE_FILE.test(entry.name))
      .map((entry) => entry.name)
      .sort();
    for (const text of texts) {
      files.push(file(`licenses/${one.name}/${text}`, readFileSync(join(folder, text))));
    }
    const where =
      texts.length > 0
        ? texts.join(", ")
        : `no text in the package${one.author === undefined ? "" : `; by ${one.author}`}`;
    return `${one.name} ${one.version}: ${one.licence} (${where})`;
  });
  return [file("licenses/INDEX.txt", `${lines.join("\n")}\n`), ...files];
}
