// How an error becomes text and an exit code, for every command alike.
// Errors with a `kind` (SourceError, ConfigError, UsageError) are somebody's to fix and read as message and hint; any
// other error is our bug and keeps its stack.
import type { ExitCode } from "./io.ts";
import { exitCodes } from "./io.ts";

/** The command line is right in form but cannot be carried out; ends with exit code 2. */
export class UsageError extends Error {
  readonly kind = "misconfigured";
  readonly hint: string | undefined;

  constructor(message: string, hint?: string) {
    super(message);
    this.name = "UsageError";
    this.hint = hint;
  }
}

/** An option's value that cannot be read. Commander knows the code, adds the option's name and ends with 2. */
export class ArgumentError extends Error {
  readonly code = "commander.invalidArgument";
}

/** What to tell and how to exit. */
export interface Failure {
  readonly text: string;
  readonly exitCode: ExitCode;
}

const EXIT_OF_KIND: Readonly<Record<string, ExitCode>> = {
  misconfigured: exitCodes.misconfigured,
  absent: exitCodes.misconfigured,
  transient: exitCodes.crashed,
  ended: exitCodes.crashed,
  restart: exitCodes.restart,
};

/** Text and exit code of anything thrown. Never throws. */
export function describeFailure(error: unknown): Failure {
  if (!(error instanceof Error)) return { text: String(error), exitCode: exitCodes.crashed };
  const { kind, hint } = error as { kind?: unknown; hint?: unknown };
  const exitCode = typeof kind === "string" ? EXIT_OF_KIND[kind] : undefined;
  if (exitCode !== undefined) {
    return { text: typeof hint === "string" ? `${error.message}\nhint: ${hint}` : error.message, exitCode };
  }
  if ("code" in error && typeof error.code === "string" && /^E[A-Z]+$/.test(error.code)) {
    return { text: error.message, exitCode: exitCodes.crashed };
  }
  const causes = error.cause === undefined ? "" : `\ncaused by: ${String(error.cause)}`;
  return {
    text: `tokenwatt crashed, this is a bug: ${error.stack ?? error.message}${causes}`,
    exitCode: exitCodes.crashed,
  };
}
