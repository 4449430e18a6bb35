// What a command may touch of the process: its streams, its environment, its exit code.
// Commands get it as an argument, so that tests run them without a process; only main.ts builds the real one.

/**
 * ok: done. crashed: failed, or doctor found warnings. misconfigured: the configuration or the command line is wrong,
 * or doctor found failures. restart: only a restart of the agent helps (METERING.md 9).
 */
export const exitCodes = { ok: 0, crashed: 1, misconfigured: 2, restart: 75 } as const;

/** One of them. */
export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

/** Where text goes; `process.stdout` is one. */
export interface Output {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

/** Environment variables by name. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** What every command is given. */
export interface Io {
  /** Data: what a program reads. */
  readonly stdout: Output;
  /** Talk: what a person reads. */
  readonly stderr: Output;
  readonly env: Environment;
  /** The code the process ends with when the command is done; an error thrown later wins. */
  setExit(code: ExitCode): void;
}

/** Writes one line of data. */
export function printLine(io: Io, line: string): void {
  io.stdout.write(`${line}\n`);
}

/** Writes one line of talk. */
export function tell(io: Io, line: string): void {
  io.stderr.write(`${line}\n`);
}
