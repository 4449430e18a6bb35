// `tokenwatt config check | print | schema | init`: everything about the configuration without starting anything.
import type { Command } from "commander";
import type { ConfigOptions } from "./common/config-options.ts";
import { addConfigOptions, loadConfigFor, loadUsableConfigFor } from "./common/config-options.ts";
import { UsageError } from "./common/errors.ts";
import type { Io } from "./common/io.ts";
import { exitCodes, printLine, tell } from "./common/io.ts";

/** Adds `tokenwatt config` and its four verbs. */
export function register(program: Command, io: Io): void {
  const config = program.command("config").description("check, print or start a configuration");
  config.addHelpText(
    "after",
    `
Examples:
  tokenwatt config init > tokenwatt.yaml        a small commented file to start from
  tokenwatt config init vllm litellm            the same with these servers in it
  tokenwatt config check -c tokenwatt.yaml      every problem at once, with its line
  tokenwatt config print                        what is in force, and where each value came from
  tokenwatt config schema > config.schema.json  for editors: JSON Schema 2020-12`,
  );
  addConfigOptions(config.command("check"))
    .description("report every problem of the configuration; exit 2 when there is one")
    .option("-q, --quiet", "say nothing when it is fine")
    .option("--json", "print one JSON object")
    .action((options: CheckOptions) => check(options, io));
  addConfigOptions(config.command("print"))
    .description("print the configuration in force, secrets masked")
    .option("--json", "print values and origins as one JSON object")
    .option("--env", "print the environment variable of every key instead")
    .action((options: PrintOptions) => print(options, io));
  config
    .command("schema")
    .description("print the JSON Schema of the configuration file")
    .action(() => schema(io));
  config
    .command("init")
    .argument("[types...]", "server types to put in; without any, all stand there as comments")
    .description("print a small commented configuration file")
    .action((types: readonly string[]) => init(types, io));
}

interface CheckOptions extends ConfigOptions {
  readonly quiet?: boolean;
  readonly json?: boolean;
}

async function check(options: CheckOptions, io: Io): Promise<void> {
  const { ConfigError, configuredServers } = await import("../config/load.ts");
  try {
    const { catalogue, config, file, policy } = await loadUsableConfigFor(options, io);
    const { policyWarnings } = await import("../config/quota-feeds.ts");
    const warnings = policy === undefined ? [] : policyWarnings(policy.policy, config, catalogue);
    const servers = configuredServers(config).length;
    if (options.json === true) {
      printLine(io, JSON.stringify({ valid: true, file: file ?? null, servers, warnings, problems: [] }));
    } else if (options.quiet !== true) {
      for (const warning of warnings) tell(io, `warning: ${policy?.path}: ${warning}`);
      const count = servers === 1 ? "1 server" : `${servers} servers`;
      tell(io, `${file ?? "no configuration file, defaults"}: fine, ${count} configured`);
    }
  } catch (error) {
    if (!(error instanceof ConfigError) || options.json !== true) throw error;
    printLine(io, JSON.stringify({ valid: false, file: options.config ?? null, problems: error.problems }));
    io.setExit(exitCodes.misconfigured);
  }
}

interface PrintOptions extends ConfigOptions {
  readonly json?: boolean;
  readonly env?: boolean;
}

async function print(options: PrintOptions, io: Io): Promise<void> {
  const { configJsonSchema } = await import("../config/load.ts");
  const { formatYaml } = await import("../config/file.ts");
  const { formatPath, leaves } = await import("../config/paths.ts");
  const { masked } = await import("../config/secrets.ts");
  if (options.env === true) return printVariables(configJsonSchema(), io);
  const { config, file, origin } = await loadConfigFor(options, io);
  const shown = masked([], config);
  if (options.json === true) {
    const origins = Object.fromEntries(leaves(config).map(([path]) => [formatPath(path), origin(path)]));
    printLine(io, JSON.stringify({ file: file ?? null, config: shown, origins }, undefined, 2));
    return;
  }
  tell(io, `# ${file ?? "no configuration file"}; a value without a comment is the default`);
  const comment = (path: Parameters<typeof origin>[0]): string | undefined => {
    const text = origin(path);
    return text === "default" ? undefined : text;
  };
  io.stdout.write(formatYaml(shown, comment));
}

async function printVariables(
  schema: ReturnType<typeof import("../config/load.ts").configJsonSchema>,
  io: Io,
): Promise<void> {
  const { allPaths } = await import("../config/key-tree.ts");
  const { environmentName } = await import("../config/environment.ts");
  const { parsePath } = await import("../config/paths.ts");
  const { formatTable } = await import("./common/table.ts");
  const rows = allPaths(schema).map((path) => [environmentName(parsePath(path) ?? []), path]);
  printLine(io, formatTable(rows));
}

async function schema(io: Io): Promise<void> {
  const { configJsonSchema } = await import("../config/load.ts");
  const title = { title: "tokenwatt configuration", $schema: "https://json-schema.org/draft/2020-12/schema" };
  printLine(io, JSON.stringify({ ...title, ...configJsonSchema() }, undefined, 2));
}

async function init(types: readonly string[], io: Io): Promise<void> {
  const { initialConfig } = await import("../config/initial.ts");
  const { nearest } = await import("../config/nearest.ts");
  const { serverTypes } = await import("../servers/registry.ts");
  const known = serverTypes.map((type) => type.name);
  const unknown = types.find((type) => !known.includes(type));
  if (unknown !== undefined) {
    const near = nearest(unknown, known);
    const hint = near === undefined ? `server types: ${known.join(", ")}` : `did you mean ${near}?`;
    throw new UsageError(`Cannot find server type ${JSON.stringify(unknown)}`, hint);
  }
  io.stdout.write(initialConfig(serverTypes, types));
}
