// The keys a configuration may have, read from its JSON Schema: for environment names, hints and completions.
// zod's own structure is not public; its JSON Schema (2020-12) is.
import { z } from "zod";
import type { ConfigPath } from "./paths.ts";
import { formatPath } from "./paths.ts";

/** The part of JSON Schema that zod writes. */
export interface JsonSchema {
  readonly type?: string;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly additionalProperties?: JsonSchema | boolean;
  readonly items?: JsonSchema;
  readonly anyOf?: readonly JsonSchema[];
  readonly oneOf?: readonly JsonSchema[];
  readonly allOf?: readonly JsonSchema[];
  readonly description?: string;
  readonly default?: unknown;
  readonly enum?: readonly unknown[];
  readonly $ref?: string;
}

/** The JSON Schema (2020-12) of what may be written: keys with a default are optional. */
export function jsonSchemaOf(schema: z.ZodType): JsonSchema {
  return z.toJSONSchema(schema, { io: "input", unrepresentable: "any", reused: "inline" }) as JsonSchema;
}

/** The forms a schema allows: itself, or each branch of its union. */
export function branches(schema: JsonSchema): readonly JsonSchema[] {
  const inner = schema.anyOf ?? schema.oneOf ?? schema.allOf;
  return inner === undefined ? [schema] : inner.flatMap(branches);
}

/** The keys a section at `path` may have; empty where there is no section or any key is allowed. */
export function knownKeys(schema: JsonSchema, path: ConfigPath): readonly string[] {
  return schemasAt(schema, path).flatMap((found) => Object.keys(found.properties ?? {}));
}

/** The schemas of the value at `path`, one per branch of a union. */
export function schemasAt(schema: JsonSchema, path: ConfigPath): readonly JsonSchema[] {
  const [step, ...rest] = path;
  if (step === undefined) return branches(schema);
  return branches(schema).flatMap((branch) => {
    const inner = typeof step === "number" ? branch.items : (branch.properties?.[step] ?? extra(branch));
    return inner === undefined ? [] : schemasAt(inner, rest);
  });
}

function extra(schema: JsonSchema): JsonSchema | undefined {
  return typeof schema.additionalProperties === "object" ? schema.additionalProperties : undefined;
}

const paths = new WeakMap<JsonSchema, readonly string[]>();

/** Every key path, list entries as `[0]`, in the order of the schema. */
export function allPaths(schema: JsonSchema): readonly string[] {
  const known = paths.get(schema);
  if (known !== undefined) return known;
  const walk = (node: JsonSchema, path: ConfigPath): string[] =>
    branches(node).flatMap((branch) => [
      ...Object.entries(branch.properties ?? {}).flatMap(([key, inner]) => [
        formatPath([...path, key]),
        ...walk(inner, [...path, key]),
      ]),
      ...(branch.items === undefined ? [] : walk(branch.items, [...path, 0])),
    ]);
  const found = [...new Set(walk(schema, []))];
  paths.set(schema, found);
  return found;
}
