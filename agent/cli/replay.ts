// `tokenwatt replay DIR`: a recording through the real pipeline as fast as it can, on a virtual clock.
// Interval k = [t0 + k x interval, +interval), t0 = first GPU line, the last one cut at the last GPU line; polls at
// t0 + k x poll and once at the end (METERING.md 9). Measured latencies and phases in the recording are never looked at.
import type { Command } from "commander";
import { formatDurationMs, parseDurationMs } from "./common/durations.ts";
import type { Io } from "./common/io.ts";
import { printLine, tell } from "./common/io.ts";

interface ReplayOptions {
  readonly json?: boolean;
  readonly strict?: boolean;
  readonly tokenPoll: number;
  readonly gpuPoll: number;
  readonly interval: number;
  readonly config?: string;
}

/** Adds `tokenwatt replay`. */
export function register(program: Command, io: Io): void {
  const command = program.command("replay");
  const duration = (flags: string, description: string, value: number): void => {
    command.addOption(
      command
        .createOption(flags, description)
        .argParser(parseDurationMs)
        .default(value, formatDurationMs(value)),
    );
  };
  command.argument("<dir>", "folder with gpu.jsonl and tokens*.jsonl").description("meter a recording");
  command.option("--json", "print a line per GPU, server and interval, and the totals, as JSON");
  duration("--token-poll <duration>", "how often the token counters are read", 1000);
  duration("--gpu-poll <duration>", "how often the GPUs are read", 200);
  duration("--interval <duration>", "length of a metered interval", 1000);
  command.option(
    "--strict",
    "end with 1 when an accounting law is broken instead of booking it as unattributed",
  );
  command.option("--config <file>", "configuration whose correlate section is used");
  command
    .addHelpText(
      "after",
      `
Examples:
  tokenwatt replay recordings/h100 --json | tail -n 1
  tokenwatt replay recordings/h100 --token-poll 5s`,
    )
    .action((folder: string, options: ReplayOptions) => replay(folder, options, io));
}

async function replay(folder: string, options: ReplayOptions, io: Io): Promise<void> {
  const { openRecording } = await import("./replay/run.ts");
  const { intervalLines, ReplayTotals } = await import("./replay/lines.ts");
  const { systemClock } = await import("../platform/clock.ts");
  const wall = systemClock();
  const { startProgress } = await import("./common/progress.ts");
  const progress = startProgress({ ...io, clock: wall });
  const totals = new ReplayTotals();
  const lines: string[] = [];
  const recording = await openRecording({
    folder,
    gpuPollMs: options.gpuPoll,
    tokenPollMs: options.tokenPoll,
    intervalMs: options.interval,
    ...(options.config === undefined ? {} : { configFile: options.config }),
    strict: options.strict === true,
    warn: (text) => tell(io, text),
    onInterval: (interval) => {
      totals.addInterval(interval);
      const seconds = interval.to / 1e9;
      progress.at(seconds / recording.durationSeconds, `${Math.round(seconds)} s of the recording`);
      if (!options.json) return;
      for (const line of intervalLines(interval, recording.seconds)) lines.push(JSON.stringify(line));
      if (lines.length > 1000) printLine(io, lines.splice(0).join("\n"));
    },
  });
  totals.know(recording.gpus, recording.servers);
  await recording.run();
  progress.end();
  const line = totals.line();
  if (options.json) {
    lines.push(JSON.stringify(line));
    printLine(io, lines.join("\n"));
    return;
  }
  const { summaryText } = await import("./replay/summary.ts");
  printLine(io, summaryText(line, recording.durationSeconds, wall.now() / 1e9));
}
