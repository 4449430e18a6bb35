// Nothing is exported that nothing else of the program imports: what only tests import is not there for the program, and
// what nothing imports is dead. A type may be exported to name a part of an exported signature. A function that is tested
// by itself, because no fake can bring its input about, says so in its doc comment: "Exported for its test".
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));

interface Exported {
  readonly file: string;
  readonly name: string;
  readonly isType: boolean;
  readonly doc: string;
}

/** What each file takes from others: `<file> <name>`, or `<file> *` where it takes a module whole. */
function importedBy(file: string, text: string): readonly string[] {
  const taken: string[] = [];
  const take = (module: string, names: readonly string[]): void => {
    const target = normalize(join(dirname(file), module));
    for (const name of names) taken.push(`${target} ${name}`);
  };
  const listed = (names: string): string[] =>
    names.split(",").flatMap((part) => /^(?:type\s+)?(\w+)/.exec(part.trim())?.[1] ?? []);
  for (const [, names = "", module = ""] of text.matchAll(
    /\b(?:import|export)\s+(?:type\s+)?\{([^}]*)\}\s*from\s*"(\.[^"]+)"/g,
  )) {
    take(module, listed(names));
  }
  for (const [, module = ""] of text.matchAll(/\*\s*as\s+\w+\s+from\s*"(\.[^"]+)"/g)) take(module, ["*"]);
  let rest = text;
  for (const pattern of [
    /\{([^{}]*)\}\s*=\s*await\s+import\(\s*"(\.[^"]+)"\s*\)/g,
    /import\(\s*"(\.[^"]+)"\s*\)\s*\.then\(\s*\(\{([^}]*)\}\)/g,
    /\bimport\(\s*"(\.[^"]+)"\s*\)\.(\w+)/g,
  ]) {
    for (const [whole, one = "", other = ""] of rest.matchAll(pattern)) {
      const [module, names] = one.startsWith(".") ? [one, other] : [other, one];
      take(module, listed(names));
      rest = rest.replace(whole, "");
    }
  }
  // Whatever else is done with a module that is loaded late.
  for (const [, module = ""] of rest.matchAll(/\bimport\(\s*"(\.[^"]+)"\s*\)/g)) take(module, ["*"]);
  return taken;
}

function exportsOf(file: string, text: string): readonly Exported[] {
  const found = text.matchAll(
    /^(?:\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\n)?export\s+(?:async\s+)?(function\*?|class|const|let|interface|type)\s+(\w+)/gm,
  );
  return [...found].map(([, doc = "", kind = "", name = ""]) => {
    return { file, name, doc, isType: kind === "interface" || kind === "type" };
  });
}

function withoutComments(text: string): string {
  return text.replaceAll(/(^|[\s(])\/\*[\s\S]*?\*\//g, "$1").replaceAll(/(^|[^:"'`/])\/\/.*$/gm, "$1");
}

/** Exports of the program that nothing of it takes from their file. */
function unused(texts: ReadonlyMap<string, string>): readonly string[] {
  const taken = new Map<string, Set<string>>();
  for (const [file, text] of texts) {
    for (const one of importedBy(file, withoutComments(text))) {
      taken.set(one, (taken.get(one) ?? new Set()).add(file));
    }
  }
  const isTaken = ({ file, name }: Exported, byTests: boolean): boolean =>
    [`${file} ${name}`, `${file} *`].some((one) =>
      [...(taken.get(one) ?? [])].some((from) => from.startsWith("test/") === byTests),
    );
  return [...texts].flatMap(([file, text]) => {
    if (!file.startsWith("agent/")) return [];
    return exportsOf(file, text).flatMap((one) => {
      if (isTaken(one, false)) return [];
      const isNamedHere = [...text.matchAll(new RegExp(`\\b${one.name}\\b`, "g"))].length > 1;
      if (one.isType && isNamedHere) return [];
      if (isTaken(one, true) && isNamedHere && one.doc.includes("Exported for its test")) return [];
      return [`${file}: ${one.name}${isTaken(one, true) ? ", which only tests import" : ""}`];
    });
  });
}

const files = ["agent", "deploy", "test"].flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts") && !name.startsWith("gen/"))
    .map((name) => join(folder, name)),
);

test("everything exported is imported by another file of the program", () => {
  const texts = new Map(files.map((file) => [file, readFileSync(join(root, file), "utf8")]));
  expect(unused(texts)).toEqual([]);
});

test("what is exported for nothing is found, in whatever form it is imported elsewhere", () => {
  const texts = new Map([
    [
      "agent/a.ts",
      [
        ...["one", "two", "three", "four", "dead", "tested"].map((name) => `export const ${name} = 1;`),
        "/** Exported for its test: nothing else can say it. */\nexport function excused() {}\nexcused();",
        "export interface Named {}\nexport const five: Named = {};",
        "export type Lonely = 1;",
      ].join("\n"),
    ],
    ["agent/b.ts", 'import { one as other } from "./a.ts";\nexport type { Two } from "./c.ts";'],
    [
      "agent/c.ts",
      'const { two } = await import("./a.ts");\nexport type Two = 2;\nuse((await import("./d.ts")));',
    ],
    ["agent/d.ts", 'import("./a.ts").then(({ three }) => three);\nexport const late = 1;'],
    ["deploy/e.ts", 'import { four, five } from "../agent/a.ts";'],
    ["test/f.ts", 'import { tested, excused } from "../agent/a.ts";'],
  ]);
  expect(unused(texts)).toEqual([
    "agent/a.ts: dead",
    "agent/a.ts: tested, which only tests import",
    "agent/a.ts: Lonely",
  ]);
});
