// An Io that remembers what a command wrote and how it wanted to exit.
import type { Environment, ExitCode, Io } from "../../agent/cli/common/io.ts";
import { runProgram } from "../../agent/cli/program.ts";

export interface Captured {
  readonly stdout: string;
  readonly stderr: string;
  readonly exitCode: ExitCode;
}

/** Runs a command line in this process. */
export async function runCommand(argv: readonly string[], env: Environment = {}): Promise<Captured> {
  let [stdout, stderr] = ["", ""];
  const io: Omit<Io, "setExit"> = {
    stdout: { write: (text) => (stdout += text), columns: 200 },
    stderr: { write: (text) => (stderr += text), columns: 200 },
    env,
  };
  const exitCode = await runProgram(argv, io);
  return { stdout, stderr, exitCode };
}
