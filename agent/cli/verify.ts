// `tokenwatt verify`: proves the ledger, or says which record, bucket or row does not fit.
// `--against FILE`: heads of the audit chain that left the host earlier (lines of JSON with `length` and `hash`, as
// `verify --json`, `verify --print-head` and `/-/status` give them), or with a number as `head`, which the agent exports
// beside the length every beat; finds a history that was rewritten as a whole.
import type { Command } from "commander";
import type { Verdict } from "../store/ledger/verify.ts";
import { readHeads } from "./common/chain-heads.ts";
import type { ConfigOptions } from "./common/config-options.ts";
import { addConfigOptions } from "./common/config-options.ts";
import type { Io } from "./common/io.ts";
import { exitCodes, printLine, tell } from "./common/io.ts";
import { ledgerFile } from "./report.ts";

interface VerifyOptions extends ConfigOptions {
  readonly against?: string;
  readonly json?: boolean;
  readonly printHead?: boolean;
  readonly stateDir?: string;
}

/** Adds `tokenwatt verify`. */
export function register(program: Command, io: Io): void {
  addConfigOptions(
    program.command("verify").description("prove the ledger: chain, seals, rollups and totals"),
  )
    .option("--against <file>", "heads of the chain that left the host earlier")
    .option("--state-dir <folder>", "where the ledger lies (default: stateDir of the configuration)")
    .option("--json", "print one JSON object")
    .option(
      "--print-head",
      "print length and last hash of the chain, to be kept elsewhere, and prove nothing",
    )
    .addHelpText(
      "after",
      `
Examples:
  tokenwatt verify
  tokenwatt verify --print-head | ssh archive 'cat >> heads.jsonl'
  tokenwatt verify --against heads.jsonl

Heads leave the host with every export too: the gauges tokenwatt.agent.ledger_records and
tokenwatt.agent.ledger_head at one instant make the line {"length": RECORDS, "head": HEAD}.`,
    )
    .action((options: VerifyOptions) => verify(options, io));
}

async function verify(options: VerifyOptions, io: Io): Promise<void> {
  const { existsSync } = await import("node:fs");
  const { NoLedger } = await import("../store/ledger/reader.ts");
  const { verifyLedger } = await import("../store/ledger/verify.ts");
  const path = await ledgerFile(options, io);
  if (!existsSync(path)) throw new NoLedger(path);
  if (options.printHead === true) {
    const { LedgerReader } = await import("../store/ledger/reader.ts");
    const reader = new LedgerReader(path);
    printLine(io, JSON.stringify(reader.head));
    reader.close();
    return;
  }
  const heads = options.against === undefined ? [] : await readHeads("--against", options.against);
  const { startProgress } = await import("./common/progress.ts");
  const { systemClock } = await import("../platform/clock.ts");
  const progress = startProgress({ ...io, clock: systemClock() });
  const verdict = verifyLedger(path, heads, progress.at);
  progress.end();
  if (options.json === true)
    printLine(io, JSON.stringify({ file: path, sound: verdict.problems.length === 0, ...verdict }));
  else tellVerdict(verdict, heads.length, io);
  if (verdict.problems.length > 0) io.setExit(exitCodes.crashed);
}

function tellVerdict(verdict: Verdict, heads: number, io: Io): void {
  const { buckets, days, head, notes, problems, records, rows, series } = verdict;
  for (const { message, where } of problems) printLine(io, `${where}: ${message}`);
  for (const note of notes) printLine(io, `note: ${note}`);
  const read = `${records} audit records, ${buckets} closed buckets, ${rows} rows, ${days} daily rollups, ${series} series`;
  if (problems.length > 0) tell(io, `${problems.length} problems in ${read}`);
  else {
    printLine(io, `sound: ${read}`);
    printLine(io, `head: ${head.length} ${head.hash}`);
    if (heads > 0) tell(io, `the chain holds all ${heads} heads it was compared with`);
  }
}
