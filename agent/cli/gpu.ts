// `tokenwatt gpu release | resume`: closes every /dev/nvidia* handle of the daemon, so that the driver can be unloaded,
// and takes the GPUs back. Tokens are counted meanwhile, GPU time is unobserved.
import type { Command } from "commander";
import type { Config } from "../config/load.ts";
import type { ConfigOptions } from "./common/config-options.ts";
import { addConfigOptions, loadConfigFor } from "./common/config-options.ts";
import { UsageError } from "./common/errors.ts";
import type { Io } from "./common/io.ts";
import { exitCodes, tell } from "./common/io.ts";

const STATUS_MS = 2000;
const WAIT_STEP_MS = 250;
const WAIT_STEPS = 40;

/** Adds `tokenwatt gpu`. */
export function register(program: Command, io: Io): void {
  const gpu = program
    .command("gpu")
    .description("release the GPUs for driver work, and take them back")
    .addHelpText(
      "after",
      `
Examples:
  tokenwatt gpu release && rmmod nvidia_uvm nvidia && modprobe nvidia && tokenwatt gpu resume`,
    );
  addConfigOptions(gpu.command("release"))
    .description("close every GPU handle of the running daemon and wait until it has")
    .action((options: ConfigOptions) => change(options, io, true));
  addConfigOptions(gpu.command("resume"))
    .description("let the running daemon read the GPUs again")
    .action((options: ConfigOptions) => change(options, io, false));
}

async function change(options: ConfigOptions, io: Io, release: boolean): Promise<void> {
  const { findDaemon } = await import("./common/daemon-process.ts");
  const { sendSignal } = await import("./signal.ts");
  const { config } = await loadConfigFor(options, io);
  const found = findDaemon(config, io.env);
  if ("missing" in found) {
    throw new UsageError(
      `Cannot find the running daemon: ${found.missing}`,
      "give the daemon's own --config, so that stateDir is the same",
    );
  }
  const before = await isReleased(config);
  const done = release ? "released" : "in use again";
  if (before === release) {
    tell(io, `the GPUs are ${done} already`);
    return;
  }
  // SIGUSR2 toggles: without knowing the state one may toggle the wrong way.
  if (before === undefined) {
    throw new UsageError(
      `Cannot ask process ${found.pid} at ${config.export.prometheus.listen || "its endpoint, which is off"}`,
      "SIGUSR2 releases and takes back in turns: send it by hand, or switch export.prometheus.listen on",
    );
  }
  sendSignal(found.pid, "SIGUSR2");
  if (await reaches(config, release)) tell(io, `the GPUs are ${done}`);
  else {
    tell(
      io,
      `Cannot confirm that the GPUs are ${done}: the daemon has not done so within 10 s; its log says why`,
    );
    io.setExit(exitCodes.crashed);
  }
}

async function reaches(config: Config, released: boolean): Promise<boolean> {
  const { systemClock } = await import("../platform/clock.ts");
  const clock = systemClock();
  for (let step = 0; step < WAIT_STEPS; step++) {
    if ((await isReleased(config)) === released) return true;
    await clock.sleep(WAIT_STEP_MS);
  }
  return false;
}

async function isReleased(config: Config): Promise<boolean | undefined> {
  const { readStatus } = await import("./common/daemon-process.ts");
  const backend = (await readStatus(config.export.prometheus, STATUS_MS))?.["gpu_backend"];
  const released = (backend as { released?: unknown } | undefined)?.released;
  return typeof released === "boolean" ? released : undefined;
}
