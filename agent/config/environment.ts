// Environment variables and `--set` as a layer over the configuration file.
// The name is mechanical: TOKENWATT_ and the path, words split at capitals and dashes, joined with `_`, list positions
// as numbers: servers.token-counters[0].endpoint is TOKENWATT_SERVERS_TOKEN_COUNTERS_0_ENDPOINT. The value is YAML on
// one line, or plain text where the key wants text; lists may be comma-separated. OTEL_* names are in otel-environment.ts.
import { parseYamlValue } from "./file.ts";
import type { JsonSchema } from "./key-tree.ts";
import { allPaths, branches, schemasAt } from "./key-tree.ts";
import { nearest } from "./nearest.ts";
import type { ConfigPath } from "./paths.ts";
import { formatPath, parsePath } from "./paths.ts";
import type { Problem } from "./problems.ts";

/** One value that overrides the file, and where it came from. */
export interface Override {
  readonly path: ConfigPath;
  readonly value: unknown;
  /** Shown as the value's origin: `TOKENWATT_LOG_LEVEL`, `--set`. */
  readonly origin: string;
}

/** What a layer over the file sets, and what is wrong with it. */
export interface Overrides {
  readonly overrides: readonly Override[];
  readonly problems: readonly Problem[];
}

const PREFIX = "TOKENWATT_";
/** Read elsewhere, no keys of the configuration. */
const OTHER_USES = new Set(["TOKENWATT_CONFIG"]);
/** What Kubernetes adds to every pod beside a Service called `tokenwatt`. */
const SERVICE_LINK =
  /^TOKENWATT_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$/;

/** The environment name of a key: `export.prometheus.listen` is TOKENWATT_EXPORT_PROMETHEUS_LISTEN. */
export function environmentName(path: ConfigPath): string {
  return PREFIX + path.map((step) => words(step).join("_")).join("_");
}

function words(step: string | number): string[] {
  return String(step)
    .replaceAll(/([a-z0-9])([A-Z])/g, "$1_$2")
    .toUpperCase()
    .split(/[^A-Z0-9]+/);
}

/** The overrides in TOKENWATT_* variables. Unknown names are problems. */
export function readEnvironment(
  env: Readonly<Record<string, string | undefined>>,
  schema: () => JsonSchema,
): Overrides {
  const overrides: Override[] = [];
  const problems: Problem[] = [];
  for (const [name, text] of Object.entries(env)) {
    if (!name.startsWith(PREFIX) || text === undefined) continue;
    if (OTHER_USES.has(name) || SERVICE_LINK.test(name)) continue;
    const path = resolve(schema(), name.slice(PREFIX.length).split("_"));
    if (path === undefined) problems.push(unknownVariable(name, schema()));
    else add(overrides, problems, { path, text, origin: name, schema: schema() });
  }
  return { overrides, problems };
}

/** The overrides in `--set key=value` arguments. */
export function readSettings(settings: readonly string[], schema: () => JsonSchema): Overrides {
  const overrides: Override[] = [];
  const problems: Problem[] = [];
  for (const setting of settings) {
    const split = setting.indexOf("=");
    const path = split < 1 ? undefined : parsePath(setting.slice(0, split).trim());
    if (path === undefined) {
      problems.push({
        path: "",
        message: `Cannot read --set as key=value: got ${JSON.stringify(split < 1 ? setting : setting.slice(0, split))}`,
        hint: "for example --set rates.gpuMs=500, or --set 'servers.vllm=[{id: a, endpoint: http://localhost:8000}]'",
      });
    } else
      add(overrides, problems, { path, text: setting.slice(split + 1), origin: "--set", schema: schema() });
  }
  return { overrides, problems };
}

interface Assignment {
  readonly path: ConfigPath;
  readonly text: string;
  readonly origin: string;
  readonly schema: JsonSchema;
}

function add(overrides: Override[], problems: Problem[], assignment: Assignment): void {
  const { path, text, origin, schema } = assignment;
  const types = new Set(schemasAt(schema, path).map((found) => found.type ?? (found.properties && "object")));
  if (types.size === 1 && types.has("string")) {
    overrides.push({ path, value: text, origin });
    return;
  }
  try {
    let value = parseYamlValue(text);
    if (types.has("array") && typeof value === "string") value = value.split(",").map((item) => item.trim());
    // An empty variable means "not set", as in OpenTelemetry's specification.
    if (value !== null) overrides.push({ path, value, origin });
  } catch {
    const message = `Cannot read ${origin} as YAML for ${formatPath(path)}`;
    problems.push({
      path: formatPath(path),
      message,
      at: origin,
      hint: "lists are [a, b], sections {key: value}",
    });
  }
}

function resolve(schema: JsonSchema, parts: readonly string[]): ConfigPath | undefined {
  if (parts.length === 0) return [];
  for (const branch of branches(schema)) {
    for (const [key, inner] of Object.entries(branch.properties ?? {})) {
      const name = words(key);
      if (name.every((word, index) => parts[index] === word)) {
        const rest = resolve(inner, parts.slice(name.length));
        if (rest !== undefined) return [key, ...rest];
      }
    }
    const [first = "", ...others] = parts;
    if (branch.items !== undefined && /^\d{1,4}$/.test(first)) {
      const rest = resolve(branch.items, others);
      if (rest !== undefined) return [Number(first), ...rest];
    }
    if (typeof branch.additionalProperties === "object") return [parts.join("_").toLowerCase()];
  }
  return undefined;
}

function unknownVariable(name: string, schema: JsonSchema): Problem {
  const names = allPaths(schema).map((path) => environmentName(parsePath(path) ?? []));
  const near = nearest(name, names);
  return {
    path: "",
    message: `Cannot use environment variable ${name}: no key of the configuration has this name`,
    at: name,
    hint: near === undefined ? "`tokenwatt config print --env` lists all names" : `did you mean ${near}?`,
  };
}
