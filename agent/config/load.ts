// From file, environment and flags to one typed configuration. Later layers win: defaults, the file, OTEL_*,
// TOKENWATT_*, `--set`. Everything that is wrong is reported at once, each with its path.
import { existsSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join, resolve } from "node:path";
import type { z } from "zod";
import { gpuBackends } from "../gpu/registry.ts";
import { serverTypes } from "../servers/registry.ts";
import type { GpuBackend, ServerType } from "../source.ts";
import type { Overrides } from "./environment.ts";
import { readEnvironment, readSettings } from "./environment.ts";
import type { ConfigFile } from "./file.ts";
import { readConfigFile } from "./file.ts";
import type { JsonSchema } from "./key-tree.ts";
import { allPaths, jsonSchemaOf, knownKeys } from "./key-tree.ts";
import { readOtelEnvironment } from "./otel-environment.ts";
import type { ConfigPath } from "./paths.ts";
import { formatPath, leaves, valueAt, withValue } from "./paths.ts";
import type { NamedFiles, Problem } from "./problems.ts";
import { ConfigError, problemsOf } from "./problems.ts";
import { crossProblems } from "./rules.ts";
import type { Config, Sources } from "./schema.ts";
import { configSchema } from "./schema.ts";
import { masked } from "./secrets.ts";

export { ConfigError } from "./problems.ts";
/** The typed configuration, as schema.ts makes it. */
export type { Config, Sources } from "./schema.ts";

/** Where the package looks when nothing names a file. */
const DEFAULT_CONFIG_FILE = "/etc/tokenwatt/config.yaml";
const SYSTEM_STATE_DIR = "/var/lib/tokenwatt";

type Environment = Readonly<Record<string, string | undefined>>;

/** What a configuration is made from. */
export interface ConfigInput {
  readonly env: Environment;
  /** `--config`; absent = TOKENWATT_CONFIG, then the default file if there is one; false = no file. */
  readonly file?: string | false | undefined;
  /** `--set key=value`. */
  readonly settings?: readonly string[] | undefined;
  /** Replaces the registries, for tests. */
  readonly sources?: Sources | undefined;
}

/** A configuration and where each of its values came from. */
export interface LoadedConfig extends NamedFiles {
  readonly config: Config;
  /** The file read; absent where no file was read. */
  readonly file?: string;
}

/** Reads the configuration. Throws ConfigError with every problem found. */
export function loadConfig(input: ConfigInput): LoadedConfig {
  const sources = input.sources ?? registeredSources;
  const schema = configSchema(sources, defaultStateDir(input.env));
  const keys = (): JsonSchema => keysOf(sources, schema);

  const name = configFileName(input);
  const file = name === undefined ? undefined : readConfigFile(name);
  if (file !== undefined && file.problems.length > 0) throw new ConfigError(file.problems);

  const layers = [
    readOtelEnvironment(input.env),
    readEnvironment(input.env, keys),
    readSettings(input.settings ?? [], keys),
  ];
  const root = overlay(file?.value ?? {}, layers);
  const origin = originOf(file, layers, input.env);
  const locate = (path: ConfigPath): string | undefined => overridden(path, layers) ?? file?.locate(path);

  const parsed = schema.safeParse(root);
  const problems: Problem[] = layers.flatMap((layer) => layer.problems);
  if (!parsed.success) {
    const context = {
      whole: "the configuration",
      root,
      locate,
      knownKeys: (path: ConfigPath) => knownKeys(keys(), path),
      allPaths: () => allPaths(keys()),
    };
    problems.push(...problemsOf(parsed.error.issues, context));
  }
  problems.push(...crossProblems(parsed.success ? parsed.data : root, root, sources, locate));
  const value = parsed.success ? parsed.data : root;
  const files = namedFiles(value, keys()).filter((path) => origin(path) !== "default");
  const inFile = files.filter((path) => overridden(path, layers) === undefined);
  const config = file === undefined ? value : resolveFiles(value, inFile, dirname(file.name));
  if (!parsed.success || problems.length > 0) throw new ConfigError(problems, { config, files, origin });
  return { config: config as Config, origin, files, ...(name === undefined ? {} : { file: name }) };
}

const registeredSources: Sources = { gpuBackends, serverTypes };

/** JSON Schemas by sources. Held weakly: to make one takes longer than all else here, and a daemon needs it only as it starts. */
const made = new WeakMap<Sources, WeakRef<JsonSchema>>();

/** The JSON Schema of these sources' keys. Its default of the state folder may be that of another environment. */
function keysOf(sources: Sources, schema: z.ZodType): JsonSchema {
  const before = made.get(sources)?.deref();
  if (before !== undefined) return before;
  const keys = jsonSchemaOf(schema);
  made.set(sources, new WeakRef(keys));
  return keys;
}

/** The JSON Schema (2020-12) of the configuration file. */
export function configJsonSchema(sources: Sources = registeredSources): JsonSchema {
  return jsonSchemaOf(configSchema(sources, "/var/lib/tokenwatt"));
}

/** A configured server, its type and its entry with every default filled in. */
export interface ConfiguredServer {
  readonly type: ServerType;
  readonly entry: unknown;
  readonly path: string;
}

/** The configured servers in the order of the registry, then of the file. */
export function configuredServers(config: Config, sources: Sources = registeredSources): ConfiguredServer[] {
  return sources.serverTypes.flatMap((type) =>
    (config.servers[type.name] ?? []).map((entry, index) => ({
      type,
      entry,
      path: formatPath(["servers", type.name, index]),
    })),
  );
}

/** The backends to try, first choice first, each with its section. */
export function configuredBackends(
  config: Config,
  sources: Sources = registeredSources,
): { readonly backend: GpuBackend; readonly section: unknown }[] {
  return sources.gpuBackends
    .filter((backend) => config.gpu.backend === "auto" || config.gpu.backend === backend.name)
    .map((backend) => ({ backend, section: config.gpu[backend.name] }));
}

/** Paths and values that differ between two configurations, secrets masked: what a reload changed. */
export function changedValues(before: Config, after: Config): Record<string, { from: unknown; to: unknown }> {
  const paths = [...leaves(before), ...leaves(after)].map(([path]) => path);
  const changes = new Map<string, { from: unknown; to: unknown }>();
  for (const path of paths) {
    const [from, to] = [valueAt(before, path), valueAt(after, path)];
    if (JSON.stringify(from) === JSON.stringify(to)) continue;
    changes.set(formatPath(path), { from: masked(path, from), to: masked(path, to) });
  }
  return Object.fromEntries(changes);
}

function configFileName({ file, env }: ConfigInput): string | undefined {
  if (file === false) return undefined;
  const named = file ?? (env["TOKENWATT_CONFIG"] || undefined);
  return named ?? (existsSync(DEFAULT_CONFIG_FILE) ? DEFAULT_CONFIG_FILE : undefined);
}

/** systemd's StateDirectory; /var/lib/tokenwatt for root and the service's user; anyone else's own state folder. */
function defaultStateDir(env: Environment): string {
  const granted = env["STATE_DIRECTORY"]?.split(":")[0];
  if (granted) return granted;
  // Commands typed by the service's user (`sudo -u tokenwatt tokenwatt doctor`) must mean the daemon's folder.
  const uid = process.getuid?.();
  if (uid === 0 || (uid !== undefined && ownerOf(SYSTEM_STATE_DIR) === uid)) return SYSTEM_STATE_DIR;
  return join(env["XDG_STATE_HOME"] || join(env["HOME"] || homedir(), ".local", "state"), "tokenwatt");
}

function ownerOf(folder: string): number | undefined {
  try {
    return statSync(folder).uid;
  } catch {
    return undefined;
  }
}

function overlay(value: unknown, layers: readonly Overrides[]): unknown {
  let root = value;
  for (const { overrides } of layers) {
    for (const { path, value: given } of overrides)
      if (hasRoom(root, path)) root = withValue(root, path, given);
  }
  return root;
}

/** Where the file has a list or a word in the place of a section, that is refused, not written over. */
function hasRoom(root: unknown, path: ConfigPath): boolean {
  return path.every((step, depth) => {
    const above = valueAt(root, path.slice(0, depth));
    return (
      above === undefined ||
      above === null ||
      (Array.isArray(above) ? typeof step === "number" : typeof above === "object")
    );
  });
}

function overridden(path: ConfigPath, layers: readonly Overrides[]): string | undefined {
  const covers = (outer: ConfigPath): boolean => outer.every((step, index) => path[index] === step);
  return layers
    .flatMap((layer) => layer.overrides)
    .filter((override) => covers(override.path))
    .at(-1)?.origin;
}

function originOf(
  file: ConfigFile | undefined,
  layers: readonly Overrides[],
  env: Environment,
): (path: ConfigPath) => string {
  return (path) => {
    const override = overridden(path, layers);
    if (override !== undefined) return override;
    if (file?.has(path) === true) return file.locate(path);
    return path[0] === "stateDir" && env["STATE_DIRECTORY"] ? "STATE_DIRECTORY" : "default";
  };
}

/** Keys of files that are documents of ours; all others end in `File`. */
const DOCUMENTS: ReadonlySet<string> = new Set(["prices", "policy"]);

/** Where the configuration names a file: certificates, tokens, prices, a policy. */
function namedFiles(config: unknown, schema: JsonSchema): ConfigPath[] {
  const keys = new Set(allPaths(schema).filter((path) => DOCUMENTS.has(path) || path.endsWith("File")));
  const inList = (step: string | number): string | number => (typeof step === "number" ? 0 : step);
  return leaves(config)
    .flatMap(([path, name]) => (typeof name === "string" ? [path] : []))
    .filter((path) => keys.has(formatPath(path.map(inList))));
}

/** Files named in the configuration file are relative to it; all others to the working folder. */
function resolveFiles(config: unknown, files: readonly ConfigPath[], folder: string): unknown {
  return files.reduce(
    (root, path) => withValue(root, path, resolve(folder, String(valueAt(root, path)))),
    config,
  );
}
