// The bare `tokenwatt`, which is `npm start`: meters this host if it has an NVIDIA GPU, else says so and runs the demo.
import type { Command } from "commander";
import { addConfigOptions } from "./common/config-options.ts";
import type { Io } from "./common/io.ts";
import { tell } from "./common/io.ts";
import type { DemoOptions } from "./demo/options.ts";
import { addDemoOptions, demo } from "./demo.ts";
import type { RunOptions } from "./run-agent.ts";

/** Adds the default command; `--help` does not list it. */
export function register(program: Command, io: Io): void {
  const command = addConfigOptions(program.command("start", { hidden: true }));
  command
    .description("meter this host, or run the demo where there is no NVIDIA GPU")
    .option("--strict", "end when an accounting law is broken");
  addDemoOptions(command).action(async (options: StartOptions) => {
    const found = await findGpu(options, io);
    if (found.usable) {
      tell(io, `Metering this host: ${found.reason}`);
      const { runAgent } = await import("./run-agent.ts");
      await runAgent({ ...options, live: true }, io);
      return;
    }
    tell(
      io,
      `No NVIDIA GPU on this host (${found.reason}): running the demo instead, a host of recorded H100s.`,
    );
    await demo(options, io);
  });
}

interface StartOptions extends RunOptions, DemoOptions {}

async function findGpu(
  options: StartOptions,
  io: Io,
): Promise<{ readonly usable: boolean; readonly reason: string }> {
  const { loadConfigFor } = await import("./common/config-options.ts");
  const { detectGpu } = await import("../daemon/sources.ts");
  const { config } = await loadConfigFor(options, io);
  const { systemClock } = await import("../platform/clock.ts");
  const { silentLog } = await import("../platform/log.ts");
  return detectGpu(config, { clock: systemClock(), log: silentLog, signal: new AbortController().signal });
}
