// `tokenwatt probe`: what the agent makes of one metric page or one gRPC target (METERING.md 9).
// Reads once, recognises the server by its labels (or takes --as), prints the readings and every problem met.
import type { Command } from "commander";
import type { Io } from "./common/io.ts";
import { exitCodes, printLine } from "./common/io.ts";
import { formatTable } from "./common/table.ts";
import type { ProbeResult } from "./probe-target.ts";

interface ProbeOptions {
  readonly as?: string;
  readonly json?: boolean;
}

/** Adds `tokenwatt probe`. */
export function register(program: Command, io: Io): void {
  program
    .command("probe")
    .description("show what the agent makes of a metric page or a gRPC target")
    .argument("<target>", "a file, http(s)://host:port[/path], unix:/socket or grpc://host:port")
    .option("--as <server>", "read it as this kind of server, for example vllm")
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      `
Examples:
  tokenwatt probe http://localhost:8000/metrics
  tokenwatt probe page.prom --as vllm --json | jq .readings
  tokenwatt probe grpc://localhost:9465`,
    )
    .action(async (target: string, options: ProbeOptions) => {
      const { probe } = await import("./probe-target.ts");
      const result = await probe(target, options.as);
      printLine(io, options.json === true ? JSON.stringify(result) : toTable(result));
      if (result.server === null) io.setExit(exitCodes.crashed);
    });
}

function toTable(result: ProbeResult): string {
  const columns = [
    "model",
    "tenant",
    "endpoint",
    "input_uncached",
    "input_cached",
    "input_unsplit",
    "output",
    "running",
  ];
  const rows = result.readings.map((reading) => columns.map((column) => String(reading[column] ?? "-")));
  const notes = [
    result.ignored_samples > 0 ? `${result.ignored_samples} samples ignored` : undefined,
    ...result.errors,
  ].filter((note) => note !== undefined);
  return [`${result.server ?? "unknown"}: ${result.why}`, formatTable([columns, ...rows]), ...notes].join(
    "\n",
  );
}
