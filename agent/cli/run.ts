// `tokenwatt run`: the daemon. SIGTERM drains and flushes within 10 s, SIGHUP takes over a valid configuration and
// keeps the old one otherwise, SIGUSR2 releases every GPU handle and, a second time, takes them back.
import type { Command } from "commander";
import { addConfigOptions } from "./common/config-options.ts";
import { parseDurationMs } from "./common/durations.ts";
import type { Io } from "./common/io.ts";
import type { RunOptions } from "./run-agent.ts";

/** Adds `tokenwatt run`. */
export function register(program: Command, io: Io): void {
  const command = addConfigOptions(program.command("run"));
  addRunOptions(command)
    .description("meter this host until stopped")
    .addHelpText(
      "after",
      `
Examples:
  tokenwatt run
  tokenwatt run --config /etc/tokenwatt/config.yaml
  tokenwatt run --duration 60s --json

Signals: SIGTERM stops (again: at once), SIGHUP reloads the configuration, SIGUSR2 releases or takes back the GPUs.`,
    )
    .action(async (options: RunOptions) => {
      const { runAgent } = await import("./run-agent.ts");
      await runAgent(options, io);
    });
}

/** The options of a metering run beside those of its configuration. */
export function addRunOptions(command: Command): Command {
  return command
    .addOption(
      command.createOption("--duration <duration>", "stop after this much time").argParser(parseDurationMs),
    )
    .option("--json", "print a JSON line a second on stdout")
    .option("--no-screen", "leave a terminal to the log instead of showing what `tokenwatt top` shows")
    .option("--strict", "end when an accounting law is broken instead of booking it as unattributed");
}
