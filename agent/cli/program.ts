// The command line as a whole, and the one door to commander.
// Help and version load no command, a named command loads only its own file: `--version` must not pay for gRPC.
import { Command, CommanderError } from "commander";
import { priorities, stderrIsJournal, withPriority } from "../platform/journal.ts";
import { programVersion } from "../platform/version.ts";
import { commands } from "./commands.ts";
import { describeFailure } from "./common/errors.ts";
import type { ExitCode, Io } from "./common/io.ts";
import { exitCodes, tell } from "./common/io.ts";

const DEFAULT_COMMAND = "start";
const OWN_FLAGS = new Set(["-h", "--help", "-V", "--version"]);

/** Runs one command line (without node and script) and returns the exit code. Never throws. */
export async function runProgram(argv: readonly string[], io: Omit<Io, "setExit">): Promise<ExitCode> {
  let exitCode: ExitCode = exitCodes.ok;
  const full: Io = { ...io, setExit: (code) => (exitCode = code) };
  try {
    const words = withDefaultCommand(argv);
    const program = await buildProgram(full, words);
    await program.parseAsync(words, { from: "user" });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) {
      return error.exitCode === 0 ? exitCode : exitCodes.misconfigured;
    }
    const failure = describeFailure(error);
    tell(full, stderrIsJournal(full.env) ? withPriority(failure.text, priorities.error) : failure.text);
    return failure.exitCode;
  }
}

/** The whole command tree, or only the branch that `words` name: for help texts, completions and man pages. */
async function buildProgram(io: Io, words: readonly string[] = []): Promise<Command> {
  const program = emptyProgram(io);
  const named = commands.filter((command) => command.name === words[0]);
  const versionOnly = words[0] === "-V" || words[0] === "--version";
  for (const command of versionOnly ? [] : named.length > 0 ? named : commands) {
    (await command.load()).register(program, io, () => buildProgram(io));
  }
  return program;
}

function emptyProgram(io: Io): Command {
  return new Command("tokenwatt")
    .description(
      "Meters a host's GPUs: tokens per GPU-hour, token-active utilisation, tokens per joule, cost.",
    )
    .version(programVersion(), "-V, --version", "print the version")
    .helpOption("-h, --help", "print help")
    .helpCommand("help [command]", "print help on a command")
    .exitOverride()
    .configureOutput({
      writeOut: (text) => io.stdout.write(text),
      writeErr: (text) => io.stderr.write(text),
      getOutHelpWidth: () => io.stdout.columns ?? 100,
      getErrHelpWidth: () => io.stderr.columns ?? 100,
    })
    .showSuggestionAfterError()
    .addHelpText(
      "after",
      "\nWithout a command tokenwatt meters this host, or runs the demo where there is no NVIDIA GPU.\n" +
        "Exit codes: 0 ok; 1 crashed, or doctor found warnings; 2 misconfigured, or doctor found failures;\n" +
        "75 only a restart helps. Data goes to stdout, talk to stderr.",
    );
}

function withDefaultCommand(argv: readonly string[]): readonly string[] {
  const first = argv[0];
  const named = first !== undefined && (!first.startsWith("-") || OWN_FLAGS.has(first));
  if (named || !commands.some((command) => command.name === DEFAULT_COMMAND)) return argv;
  return [DEFAULT_COMMAND, ...argv];
}
