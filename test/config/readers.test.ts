// Every key of the configuration has a reader: what a user may write, something in agent/ looks at.
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import type { JsonSchema } from "../../agent/config/key-tree.ts";
import { allPaths } from "../../agent/config/key-tree.ts";
import { configJsonSchema } from "../../agent/config/load.ts";

const root = fileURLToPath(new URL("../../agent", import.meta.url));
const code = readdirSync(root, { recursive: true, encoding: "utf8" })
  // The schema composes sections and reads none of them.
  .filter((name) => name.endsWith(".ts") && name !== "config/schema.ts")
  .map((name) => readFileSync(`${root}/${name}`, "utf8"))
  .map((text) =>
    text.replaceAll(/(^|[\s(])\/\*[\s\S]*?\*\//g, "$1").replaceAll(/(^|[^:"'`/])\/\/.*$/gm, "$1"),
  )
  .join("\n");

/** Names that are taken out of an object somewhere: `.name`, `["name"]`, or in a pattern `{ name }`. */
const read = new Set<string>([
  ...[...code.matchAll(/\.([A-Za-z]\w*)\b(?!\s*\()/g)].map((match) => match[1] as string),
  ...[...code.matchAll(/\[\s*"([^"]+)"\s*\]/g)].map((match) => match[1] as string),
  ...[...code.matchAll(/(?:const|let|\(|,)\s*\{([^{}]*)\}\s*(?:=[^>]|:|\))/g)].flatMap((match) =>
    (match[1] as string).split(",").map((part) => part.trim().split(/[\s:=]/)[0] as string),
  ),
]);

/** Keys of the schema whose name nothing reads. Names of sources are read by the registry they come from. */
function keysWithoutReader(schema: JsonSchema): readonly string[] {
  return allPaths(schema).filter((path) => {
    if (/^(servers|gpu)\.[^.]+$/.test(path) || path.endsWith("]")) return false;
    return !read.has(path.split(/[.[\]]+/).at(-1) as string);
  });
}

test("every key of the configuration is read somewhere", () => {
  expect(keysWithoutReader(configJsonSchema())).toEqual([]);
});

test("a key that nothing reads is found", () => {
  const { properties } = configJsonSchema();
  const more = { type: "object", properties: { ...properties, keyWithoutReader: { type: "number" } } };
  expect(keysWithoutReader(more)).toEqual(["keyWithoutReader"]);
});
