// The options every command with a configuration shares: `--config FILE` and `--set KEY=VALUE`.
import type { Command } from "commander";
import type { LoadedConfig } from "../../config/load.ts";
import type { NamedDocuments } from "../../config/usable.ts";
import type { Io } from "./io.ts";

/** What `addConfigOptions` parses. */
export interface ConfigOptions {
  readonly config?: string;
  readonly set?: readonly string[];
}

/** Adds `--config` and `--set` to a command. */
export function addConfigOptions(command: Command): Command {
  return command
    .option(
      "-c, --config <file>",
      "configuration file (default: $TOKENWATT_CONFIG, then /etc/tokenwatt/config.yaml)",
    )
    .option(
      "--set <key=value>",
      "set one key, over file and environment; may be repeated",
      (setting: string, before: readonly string[] | undefined) => [...(before ?? []), setting],
    );
}

/** The configuration these options and the environment ask for. Throws ConfigError with every problem. */
export async function loadConfigFor(options: ConfigOptions, io: Io): Promise<LoadedConfig> {
  const { loadConfig } = await import("../../config/load.ts");
  return loadConfig({ env: io.env, file: options.config, settings: options.set });
}

/** The same with every file it names, as the agent needs it. Throws ConfigError as `config check` would show it. */
export async function loadUsableConfigFor(
  options: ConfigOptions,
  io: Io,
): Promise<LoadedConfig & NamedDocuments> {
  const { readNamedFiles, withFileProblems } = await import("../../config/usable.ts");
  const loaded = await loadConfigFor(options, io).catch((error: unknown) => {
    throw withFileProblems(error);
  });
  return { ...loaded, ...readNamedFiles(loaded) };
}
