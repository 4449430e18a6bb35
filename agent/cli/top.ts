// `tokenwatt top`: a running agent, or several, on a terminal. A process of its own: an agent pays for a snapshot a second
// while somebody looks, and nothing else.
import type { Command } from "commander";
import { addConfigOptions } from "./common/config-options.ts";
import { parseDurationMs } from "./common/durations.ts";
import type { Io } from "./common/io.ts";
import type { TopOptions } from "./top/run.ts";

/** Adds `tokenwatt top`. */
export function register(program: Command, io: Io): void {
  const command = addConfigOptions(program.command("top"));
  command
    .description("show running agents: GPUs, servers, tenants, and what is wrong")
    .option(
      "--url <url>",
      "where an agent serves its endpoints (default: export.prometheus.listen of the configuration)",
    )
    .option("--host <names>", "several hosts, by name or name:port, separated by commas")
    .option("--once", "print one frame and end; also what is done where there is no terminal")
    .option("--json", "print what each host says as JSON, one line and host, and end")
    .addOption(
      command
        .createOption("--wait <duration>", "how long --once and --json wait for every host")
        .argParser(parseDurationMs)
        .default(5000, "5s"),
    )
    .addHelpText(
      "after",
      `
Keys: 1-7 views, s sort, r reverse, / filter, p pause, h help, q quit.

Examples:
  tokenwatt top
  tokenwatt top --host gpu-1,gpu-2:9465
  tokenwatt top --once | head -n 20
  tokenwatt top --json | jq .view.whole`,
    )
    .action(async (options: TopOptions) => {
      const { runTop } = await import("./top/run.ts");
      await runTop(options, io);
    });
}
