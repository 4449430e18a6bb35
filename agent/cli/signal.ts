// `tokenwatt signal reload`: asks the running daemon to read its configuration again, after checking it here.
// Exists because minimal hosts have no /bin/kill: the systemd unit's ExecReload calls it.
import type { Command } from "commander";
import type { ConfigOptions } from "./common/config-options.ts";
import { addConfigOptions, loadConfigFor } from "./common/config-options.ts";
import { UsageError } from "./common/errors.ts";
import type { Io } from "./common/io.ts";
import { tell } from "./common/io.ts";

/** Adds `tokenwatt signal`. */
export function register(program: Command, io: Io): void {
  const signal = program
    .command("signal")
    .description("talk to the running daemon")
    .addHelpText(
      "after",
      `
Examples:
  tokenwatt signal reload`,
    );
  addConfigOptions(signal.command("reload"))
    .description("make the running daemon read its configuration again; a bad one is refused here and there")
    .addHelpText(
      "after",
      `
Examples:
  tokenwatt signal reload
  tokenwatt signal reload -c /etc/tokenwatt/config.yaml`,
    )
    .action((options: ConfigOptions) => reload(options, io));
}

async function reload(options: ConfigOptions, io: Io): Promise<void> {
  const { findDaemon } = await import("./common/daemon-process.ts");
  const { config } = await loadConfigFor(options, io);
  const found = findDaemon(config, io.env);
  if ("missing" in found) {
    throw new UsageError(
      `Cannot find the running daemon: ${found.missing}`,
      "give the daemon's own --config, so that stateDir is the same; `systemctl status tokenwatt` shows it",
    );
  }
  sendSignal(found.pid, "SIGHUP");
  tell(io, `asked process ${found.pid} to reload; its log says what changed`);
}

/** Sends a signal. Throws UsageError when this user may not. */
export function sendSignal(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? "error";
    const hint = code === "EPERM" ? "run it as root or as the daemon's user" : "it has just ended";
    throw new UsageError(`Cannot send ${signal} to process ${pid}: ${code}`, hint);
  }
}
