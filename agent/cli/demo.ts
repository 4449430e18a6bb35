// `tokenwatt demo`: recorded H100s, metered live on a machine without a GPU: a host of eight boards, or one alone.
// The same sources, rooms and exporters as production: token servers in a process of their own stream counters over
// gRPC, recorded GPU readings go the way of a driver's, an OTLP/gRPC receiver in a process of its own counts what arrives.
import type { Command } from "commander";
import { parseDurationMs } from "./common/durations.ts";
import { ArgumentError } from "./common/errors.ts";
import type { Io } from "./common/io.ts";
import type { DemoOptions, SceneName } from "./demo/options.ts";

/** Adds `tokenwatt demo`. */
export function register(program: Command, io: Io): void {
  const command = program.command("demo");
  addDemoOptions(command)
    .description("meter a host of recorded H100s live; needs no GPU")
    .addHelpText(
      "after",
      `
Examples:
  tokenwatt demo
  tokenwatt demo --scene incident
  tokenwatt demo --scene solo --speed 10 --duration 12s
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
  const { begin, speed } = paceOf(options, elsewhere !== undefined);
  const helpers = startHelpers(options.scene, speed, elsewhere === undefined);
  const { runDemo } = await import("./demo/run.ts");
  await runDemo({ ...options, speed, from: begin }, io, helpers);
}

/** The options `demo` and the bare `tokenwatt` share. */
export function addDemoOptions(command: Command): Command {
  return command
    .option("--json", "print a JSON line a second, also on a terminal")
    .addOption(
      command
        .createOption(
          "--scene <name>",
          "host: eight boards; incident: the same, before one is lost; solo: one board",
        )
        .choices(["host", "incident", "solo"])
        .default("host"),
    )
    .addOption(
      command
        .createOption(
          "--speed <factor>",
          "how much faster than recorded (default: 8 on a host of its own, else 1: other receivers take no future)",
        )
        .argParser(parseSpeed),
    )
    .addOption(
      command
        .createOption("--duration <duration>", "stop after this much wall time")
        .argParser(parseDurationMs),
    )
    .addOption(
      command
        .createOption("--from <duration>", "where in the scene to begin (default: while it serves)")
        .argParser(parseDurationMs),
    )
    .addOption(
      command
        .createOption("--log <level>", "which log lines to print on stderr")
        .choices(["debug", "info", "warn", "error"])
        .default("warn"),
    );
}

/** Where each scene begins, in milliseconds. */
const BEGIN: Readonly<Record<SceneName, number>> = { host: 0, incident: 45_000, solo: 16_000 };
const HOST_SPEED = 8;

/** A host is played fast, so that an hour's page fills in minutes; elsewhere its times must be those of the wall clock. */
function paceOf(
  { from, scene, speed }: DemoOptions,
  isElsewhere: boolean,
): { readonly begin: number; readonly speed: number } {
  const usual = scene === "solo" || isElsewhere ? 1 : HOST_SPEED;
  return { begin: from ?? BEGIN[scene], speed: speed ?? usual };
}

function parseSpeed(text: string): number {
  const speed = Number(text);
  if (!(speed >= 0.1 && speed <= 100))
    throw new ArgumentError("Wanted a factor from 0.1 to 100, such as 10 for ten times as fast.");
  return speed;
}
