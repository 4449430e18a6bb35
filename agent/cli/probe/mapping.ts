// The mapping of a page that no server type knows: read from the file of `--map`, or suggested as text to start one.
// A file holds either one entry of `servers.prometheus-generic`, or a configuration with such entries.
import { readConfigFile } from "../../config/file.ts";
import { allPaths, jsonSchemaOf, knownKeys } from "../../config/key-tree.ts";
import { ConfigError } from "../../config/load.ts";
import { valueAt } from "../../config/paths.ts";
import { problemsOf } from "../../config/problems.ts";
import type { Mapping, TokenFamily } from "../../servers/page/token-families.ts";
import type { GenericEntry } from "../../servers/prometheus-generic.ts";
import { prometheusGeneric } from "../../servers/prometheus-generic.ts";
import { UsageError } from "../common/errors.ts";
import { formatTable } from "../common/table.ts";

const TYPE = "prometheus-generic";
const NO_ENDPOINT = "localhost:9000";

/** The mapping in a file; of several, the one of this endpoint. Throws ConfigError with every problem found. */
export function readMapping(name: string, endpoint: string): GenericEntry {
  const file = readConfigFile(name, { what: "mapping" });
  if (file.problems.length > 0) throw new ConfigError(file.problems);
  const path = mappingPath(file.value, name, endpoint);
  const written = valueAt(file.value, path);
  const entry = isObject(written) ? { endpoint: NO_ENDPOINT, ...written } : written;
  const parsed = prometheusGeneric.config.safeParse(entry);
  if (parsed.success) return parsed.data;
  const schema = jsonSchemaOf(prometheusGeneric.config);
  throw new ConfigError(
    problemsOf(parsed.error.issues, {
      whole: "the mapping",
      root: entry,
      locate: (below) => file.locate([...path, ...below]),
      knownKeys: (below) => knownKeys(schema, below),
      allPaths: () => allPaths(schema),
    }),
  );
}

/** Where the mapping stands in the file. */
function mappingPath(value: unknown, name: string, endpoint: string): readonly (string | number)[] {
  if (!isObject(value) || !("servers" in value)) return [];
  const path = ["servers", TYPE];
  const entries = valueAt(value, path);
  if (!Array.isArray(entries) || entries.length === 0) {
    throw new UsageError(
      `Cannot read a mapping from ${name}: it has no entry under servers.${TYPE}`,
      "`tokenwatt probe` of an unknown page prints a mapping to start from",
    );
  }
  const index = entries.findIndex((each) => isObject(each) && each["endpoint"] === endpoint);
  if (index < 0 && entries.length > 1) {
    const named = entries.map((each) => (isObject(each) ? String(each["endpoint"]) : "?")).join(", ");
    throw new UsageError(
      `Cannot choose a mapping from ${name}: it has ${entries.length} entries (${named}), none for ${endpoint}`,
      "probe the endpoint of one of them, or give a file with one entry",
    );
  }
  return [...path, Math.max(0, index)];
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Families that look like tokens, as a table. */
export function familiesText(families: readonly TokenFamily[]): string {
  const rows = families.map(({ guess, labels, metric, value, where }) => [
    metric + (where === undefined ? "" : JSON.stringify(where)),
    guess ?? "?",
    String(value),
    labels.join(",") || "-",
  ]);
  return formatTable([["family", "looks like", "sum", "labels"], ...rows]);
}

/** A mapping as a piece of configuration, on few lines. */
export function mappingText(mapping: Mapping): string {
  const lines = ["servers:", `  ${TYPE}:`];
  const entry = Object.entries(mapping).flatMap(([key, value]) =>
    key === "tokens"
      ? ["tokens:", ...Object.entries(value ?? {}).map(([kind, from]) => `  ${kind}: ${flow(from)}`)]
      : [`${key}: ${flow(value)}`],
  );
  return [...lines, ...entry.map((line, index) => `    ${index === 0 ? "- " : "  "}${line}`)].join("\n");
}

/** JSON is YAML on one line. */
function flow(value: unknown): string {
  return typeof value === "string" && /^[\w./-][\w./:-]*$/.test(value) ? value : JSON.stringify(value);
}
