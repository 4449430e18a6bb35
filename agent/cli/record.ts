// `tokenwatt record DIR`: writes what the sources say, driver rings included, as a format 2 recording that `replay` meters
// again with the same totals. Nothing is metered or exported meanwhile; identifiers are masked unless --no-mask.
import type { Command } from "commander";
import type { ConfigOptions } from "./common/config-options.ts";
import { addConfigOptions } from "./common/config-options.ts";
import { parseDurationMs } from "./common/durations.ts";
import type { Io } from "./common/io.ts";
import { tell } from "./common/io.ts";

interface RecordOptions extends ConfigOptions {
  readonly duration?: number;
  readonly mask: boolean;
}

/** Adds `tokenwatt record`. */
export function register(program: Command, io: Io): void {
  const command = addConfigOptions(program.command("record"));
  command
    .argument("<dir>", "folder to create")
    .description("record this host's GPUs and servers for replay, tests and bug reports")
    .addOption(
      command.createOption("--duration <duration>", "stop after this much time").argParser(parseDurationMs),
    )
    .option("--no-mask", "keep UUIDs, tenants, endpoints and models as they are")
    .addHelpText(
      "after",
      `
Examples:
  tokenwatt record incident --duration 60s
  tokenwatt replay incident`,
    )
    .action(async (folder: string, options: RecordOptions) => {
      const { loadConfigFor } = await import("./common/config-options.ts");
      const { record } = await import("./record-run.ts");
      const { config } = await loadConfigFor(options, io);
      const done = await record(folder, config, {
        mask: options.mask,
        ...(options.duration === undefined ? {} : { durationMs: options.duration }),
      });
      tell(io, `${done.gpus} GPUs, ${done.servers} servers, ${done.lines} lines in ${folder}`);
    });
}
