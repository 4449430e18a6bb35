// `tokenwatt demo`: a real H100's recorded run, metered live on a machine without a GPU.
// The same sources, rooms and exporters as production: a token server in a process of its own streams counters over
// gRPC, the replay backend feeds GPU readings, an OTLP/gRPC receiver in a process of its own counts what arrives.
import type { Command } from "commander";
import { parseDurationMs } from "./common/durations.ts";
import { ArgumentError } from "./common/errors.ts";
import type { Io } from "./common/io.ts";

/** What `demo` is given. */
export interface DemoOptions {
  readonly json?: boolean;
  readonly speed: number;
  readonly duration?: number;
  readonly from: number;
  readonly log: "debug" | "info" | "warn" | "error";
}

/** Adds `tokenwatt demo`. */
export function register(program: Command, io: Io): void {
  const command = program.command("demo");
  addDemoOptions(command)
    .description("meter a recorded H100 run live; needs no GPU")
    .addHelpText(
      "after",
      `
Examples:
  tokenwatt demo
  tokenwatt demo --speed 10 --duration 12s
  OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4317 tokenwatt demo`,
    )
    .action(async (options: DemoOptions) => {
      await demo(options, io);
    });
}

/** Starts the helpers, loads the agent meanwhile, and runs the demo. */
export async function demo(options: DemoOptions, io: Io): Promise<void> {
  const elsewhere = io.env["OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"] ?? io.env["OTEL_EXPORTER_OTLP_ENDPOINT"];
  const { startHelpers } = await import("./demo/helpers.ts");
  const helpers = startHelpers(options.speed, elsewhere === undefined);
  const { runDemo } = await import("./demo/run.ts");
  await runDemo(options, io, helpers);
}

/** The options `demo` and the bare `tokenwatt` share. */
export function addDemoOptions(command: Command): Command {
  return command
    .option("--json", "print a JSON line a second, also on a terminal")
    .addOption(
      command
        .createOption("--speed <factor>", "how much faster than recorded")
        .argParser(parseSpeed)
        .default(1),
    )
    .addOption(
      command
        .createOption("--duration <duration>", "stop after this much wall time")
        .argParser(parseDurationMs),
    )
    .addOption(
      command
        .createOption("--from <duration>", "where in the recording to begin")
        .argParser(parseDurationMs)
        .default(16_000, "16s, while it serves"),
    )
    .addOption(
      command
        .createOption("--log <level>", "which log lines to print on stderr")
        .choices(["debug", "info", "warn", "error"])
        .default("warn"),
    );
}

function parseSpeed(text: string): number {
  const speed = Number(text);
  if (!(speed >= 0.1 && speed <= 100))
    throw new ArgumentError("Wanted a factor from 0.1 to 100, such as 10 for ten times as fast.");
  return speed;
}
