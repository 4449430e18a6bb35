// `tokenwatt probe`: what the agent makes of one metric page or one gRPC target (METERING.md 9).
// Reads once, recognises the server by its labels (or takes --as), prints the readings and every problem met. Of a page no
// type knows it lists what looks like tokens and prints a mapping, or with --draft a server file, to start from.
import type { Command } from "commander";
import type { Io } from "./common/io.ts";
import { exitCodes, printLine } from "./common/io.ts";
import { formatTable } from "./common/table.ts";
import type { ProbeResult } from "./probe/result.ts";

interface ProbeOptions {
  readonly as?: string;
  readonly map?: string;
  readonly draft?: boolean;
  readonly json?: boolean;
}

/** Adds `tokenwatt probe`. */
export function register(program: Command, io: Io): void {
  program
    .command("probe")
    .description("show what the agent makes of a metric page or a gRPC target")
    .argument("<target>", "a file, host:port, http(s)://host:port[/path], unix:/socket or grpc://host:port")
    .option("--as <server>", "read it as this kind of server, for example vllm")
    .option("--map <file>", "read it by a mapping, as prometheus-generic")
    .option("--draft", "print the skeleton of a server file for this page")
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      `
Examples:
  tokenwatt probe localhost:8000
  tokenwatt probe page.prom --as vllm --json | jq .readings
  tokenwatt probe localhost:9000 --map mapping.yaml
  tokenwatt probe localhost:9000 --draft > agent/servers/my-server.ts
  tokenwatt probe grpc://localhost:9465`,
    )
    .action(async (target: string, options: ProbeOptions) => {
      const { probe, suggest } = await import("./probe-target.ts");
      if (options.draft === true) {
        const { draftOf } = await import("./probe/draft.ts");
        return printLine(io, draftOf(await suggest(target)).trimEnd());
      }
      const result = await probe(target, options);
      printLine(io, options.json === true ? JSON.stringify(result) : await toText(result));
      if (result.server === null) io.setExit(exitCodes.crashed);
    });
}

async function toText(result: ProbeResult): Promise<string> {
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
  return [
    `${result.server ?? "unknown"}: ${result.why}`,
    ...(rows.length === 0 ? [] : [formatTable([columns, ...rows])]),
    ...(result.ignored_samples > 0 ? [`${result.ignored_samples} samples ignored`] : []),
    ...result.errors,
    ...(await suggestion(result)),
  ].join("\n");
}

/** What to do about a page no type knows. */
async function suggestion({ mapping, token_families: families }: ProbeResult): Promise<string[]> {
  if (mapping === undefined || families === undefined) return [];
  const { familiesText, mappingText } = await import("./probe/mapping.ts");
  return [
    "",
    "These families look like tokens:",
    familiesText(families),
    "",
    "A mapping to start from. Check it against the server's documentation: does input include cache hits, is a",
    "family the sum of others, when do the counters move (volume: step or finish)? Then probe with --map FILE.",
    mappingText(mapping),
  ];
}
