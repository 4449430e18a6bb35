// `tokenwatt deadletters list | resend | drop`: what a destination refused for good, for the person on call.
// Works on the state directory, whether the daemon runs or not: a letter is one file, and each side copes with one that
// the other removed. What is sent again carries its original times and totals, so nothing is counted twice.
import type { Command } from "commander";
import type { DeadLetter } from "../store/dead-letters.ts";
import { addConfigOptions } from "./common/config-options.ts";
import { UsageError } from "./common/errors.ts";
import type { Io } from "./common/io.ts";
import { printLine, tell } from "./common/io.ts";
import type { LetterOptions } from "./dead-letters/chosen.ts";
import { chosenLetters } from "./dead-letters/chosen.ts";

interface DropOptions extends LetterOptions {
  readonly all?: boolean;
}

interface ResendOptions extends LetterOptions {
  readonly outOfOrder?: boolean;
}

/** Adds `tokenwatt deadletters`. */
export function register(program: Command, io: Io): void {
  const group = program
    .command("deadletters")
    .description("see, send again or drop what a destination refused for good")
    .addHelpText(
      "after",
      `
Examples:
  tokenwatt deadletters list
  tokenwatt deadletters resend --destination main
  tokenwatt deadletters drop --all`,
    );
  addOptions(group.command("list"))
    .description("list refused requests, oldest first")
    .addHelpText(
      "after",
      `
Examples:
  tokenwatt deadletters list
  tokenwatt deadletters list --json | jq -r '.[] | select(.why == "UNAUTHENTICATED") | .id'`,
    )
    .action((options: LetterOptions) => list(options, io));
  addOptions(group.command("resend [id...]"))
    .description("send refused requests again, oldest first; one that is taken is removed, any other stays")
    .option(
      "--out-of-order",
      "also to a destination with backlog strict or skip: it takes points older than its newest",
    )
    .addHelpText(
      "after",
      `
A letter holds points older than what was sent since, so only a destination that takes points out of order
should get it: one with \`backlog: parallel\`, or with --out-of-order. Exit code 1 when a letter is left.

Examples:
  tokenwatt deadletters resend
  tokenwatt deadletters resend 179349120000000001 --out-of-order`,
    )
    .action(async (ids: string[], options: ResendOptions) => {
      const { resend } = await import("./dead-letters/resend.ts");
      await resend(ids, options, io);
    });
  addOptions(group.command("drop [id...]"))
    .description("remove refused requests for good")
    .option("--all", "every one, or every one of --destination")
    .addHelpText(
      "after",
      `
Examples:
  tokenwatt deadletters drop 179349120000000001
  tokenwatt deadletters drop --all --destination archive`,
    )
    .action((ids: string[], options: DropOptions) => drop(ids, options, io));
}

function addOptions(command: Command): Command {
  return addConfigOptions(command)
    .option("--destination <name>", "only those of one destination")
    .option("--state-dir <folder>", "where dead letters lie (default: stateDir of the configuration)")
    .option("--json", "print JSON");
}

async function list(options: LetterOptions, io: Io): Promise<void> {
  const { chosen, folder } = await chosenLetters([], options, io);
  if (options.json === true) {
    printLine(io, JSON.stringify(chosen.map(shown), undefined, 2));
    return;
  }
  if (chosen.length === 0) return tell(io, `no dead letters in ${folder}`);
  const { formatTable } = await import("./common/table.ts");
  const rows = chosen
    .map(shown)
    .map((one) => [
      one.id,
      one.refused,
      one.destination,
      one.why,
      one.newest_point ?? "",
      String(one.points ?? ""),
    ]);
  const heads = ["id", "refused", "destination", "why", "newest point", "points"];
  printLine(io, formatTable([heads, ...rows], { rightFrom: heads.length - 1 }));
}

function shown({ dataSeconds, destination, file, id, points, unixMs, why }: DeadLetter) {
  return {
    id,
    refused: new Date(unixMs).toISOString(),
    destination,
    why,
    points: points ?? null,
    newest_point: dataSeconds === undefined ? null : new Date(dataSeconds * 1000).toISOString(),
    file,
  };
}

async function drop(ids: readonly string[], options: DropOptions, io: Io): Promise<void> {
  if (ids.length === 0 && options.all !== true) {
    throw new UsageError(
      "Cannot drop: got neither ids nor --all",
      "`tokenwatt deadletters list` shows the ids",
    );
  }
  const { chosen, letters } = await chosenLetters(ids, options, io);
  const dropped: string[] = [];
  for (const letter of chosen) if (await letters.remove(letter)) dropped.push(letter.id);
  if (options.json === true) printLine(io, JSON.stringify({ dropped }));
  else for (const id of dropped) printLine(io, id);
  tell(io, `dropped ${dropped.length}`);
}
