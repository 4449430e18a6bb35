// `tokenwatt verify`: proves the ledger, or says which record, bucket or row does not fit.
// `--against FILE`: heads of the audit chain that left the host earlier (lines of JSON with `length` and `hash`, as
// `verify --json` and the agent's export give them); finds a history that was rewritten as a whole.
import type { Command } from "commander";
import type { ChainHead, Verdict } from "../store/ledger-verify.ts";
import type { ConfigOptions } from "./config-options.ts";
import { addConfigOptions } from "./config-options.ts";
import { UsageError } from "./errors.ts";
import type { Io } from "./io.ts";
import { exitCodes, printLine, tell } from "./io.ts";
import { ledgerFile } from "./report.ts";

interface VerifyOptions extends ConfigOptions {
  readonly against?: string;
  readonly json?: boolean;
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
    .addHelpText(
      "after",
      `
Examples:
  tokenwatt verify
  tokenwatt verify --against heads.jsonl`,
    )
    .action((options: VerifyOptions) => verify(options, io));
}

async function verify(options: VerifyOptions, io: Io): Promise<void> {
  const { existsSync } = await import("node:fs");
  const { NoLedger } = await import("../store/ledger-reader.ts");
  const { verifyLedger } = await import("../store/ledger-verify.ts");
  const path = await ledgerFile(options, io);
  if (!existsSync(path)) throw new NoLedger(path);
  const heads = options.against === undefined ? [] : await readHeads(options.against);
  const verdict = verifyLedger(path, heads);
  if (options.json === true)
    printLine(io, JSON.stringify({ file: path, sound: verdict.problems.length === 0, ...verdict }));
  else tellVerdict(verdict, heads.length, io);
  if (verdict.problems.length > 0) io.setExit(exitCodes.crashed);
}

function tellVerdict(verdict: Verdict, heads: number, io: Io): void {
  const { buckets, days, head, problems, records, rows, series } = verdict;
  for (const { message, where } of problems) printLine(io, `${where}: ${message}`);
  const read = `${records} audit records, ${buckets} closed buckets, ${rows} rows, ${days} daily rollups, ${series} series`;
  if (problems.length > 0) tell(io, `${problems.length} problems in ${read}`);
  else {
    printLine(io, `sound: ${read}`);
    printLine(io, `head: ${head.length} ${head.hash}`);
    if (heads > 0) tell(io, `the chain holds all ${heads} heads it was compared with`);
  }
}

async function readHeads(file: string): Promise<readonly ChainHead[]> {
  const { readFileSync } = await import("node:fs");
  const heads: ChainHead[] = [];
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw new UsageError(`Cannot read --against ${file}: ${(error as Error).message}`);
  }
  for (const [index, line] of text.split("\n").entries()) {
    if (line.trim() === "") continue;
    const head = headOf(line);
    if (head === undefined) {
      throw new UsageError(
        `Cannot read ${file}:${index + 1}: wanted JSON with length and hash`,
        "keep what `tokenwatt verify --json` prints, one line each time",
      );
    }
    heads.push(head);
  }
  if (heads.length === 0) throw new UsageError(`Cannot compare with ${file}: it holds no head`);
  return heads;
}

function headOf(line: string): ChainHead | undefined {
  try {
    const value = JSON.parse(line) as { length?: unknown; hash?: unknown; head?: ChainHead };
    const { hash, length } = value.head ?? value;
    return typeof length === "number" && typeof hash === "string" ? { length, hash } : undefined;
  } catch {
    return undefined;
  }
}
