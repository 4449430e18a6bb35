#!/usr/bin/env node
// argv in, exit code out; everything else is in cli/. The only file that ends the process.
import { runProgram } from "./cli/program.ts";

// A reader that has seen enough (`tokenwatt replay ... | head`) is no error.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  process.exit(error.code === "EPIPE" ? 0 : 1);
});

const exitCode = await runProgram(process.argv.slice(2), {
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
});
// What was written to a pipe leaves the process only when the reader takes it: end after that, not before.
process.stdout.write("", () => process.stderr.write("", () => process.exit(exitCode)));
