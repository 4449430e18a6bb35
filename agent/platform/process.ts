// The one door to other programs: each runs in a process group of its own, is bounded in time and output, and is killed
// with its whole group. A program stuck in the kernel survives SIGKILL, so callers run one of a kind at a time and ask
// `gone` before they start the next.

import type { ChildProcess } from "node:child_process";
import { fork, spawn } from "node:child_process";
import type { Cancel, Clock } from "./clock.ts";
import { NANOS_PER_MS } from "./clock.ts";

/** What to run. */
export interface Command {
  readonly program: string;
  readonly arguments: readonly string[];
  /** Added to what `childEnvironment` leaves of the agent's. */
  readonly environment?: Readonly<Record<string, string>>;
}

/** How a program ended. */
export interface Ended {
  /** Exit code; absent when it was killed by a signal or could not be started. */
  readonly code?: number;
  readonly stdout: string;
  readonly stderr: string;
  /** Why there is no usable end: it timed out, printed too much, or could not be started. */
  readonly problem?: string;
  /** The error code of a program that could not be started, e.g. ENOENT. */
  readonly cause?: string;
}

/** Keeps programs of one kind from running side by side, a killed one that is stuck in the kernel included. */
export interface Slot {
  busy: boolean;
}

/** Runs a program to its end or to `timeoutMs`, keeping at most `bytesMax` of each stream. Never rejects. */
export function run(
  clock: Clock,
  command: Command,
  limits: { readonly timeoutMs: number; readonly bytesMax: number },
  slot: Slot = { busy: false },
): Promise<Ended> {
  if (slot.busy)
    return Promise.resolve({ stdout: "", stderr: "", problem: "the one before it has not ended" });
  return new Promise((resolve) => {
    slot.busy = true;
    const child = start(command);
    child.once("exit", () => {
      slot.busy = false;
    });
    const streams = { stdout: "", stderr: "" };
    let problem: string | undefined;
    let cancel: Cancel = () => {};
    const stop = (why: string): void => {
      problem ??= why;
      killGroup(child);
      // Stuck in the kernel it may never end: what is known now is the answer.
      finish();
    };
    let finished = false;
    const finish = (code?: number, cause?: string): void => {
      if (finished) return;
      finished = true;
      cancel();
      resolve({
        ...streams,
        ...(code === undefined ? {} : { code }),
        ...(problem === undefined ? {} : { problem }),
        ...(cause === undefined ? {} : { cause }),
      });
    };
    for (const name of ["stdout", "stderr"] as const) {
      child[name]?.setEncoding("utf8");
      child[name]?.on("data", (text: string) => {
        if (streams[name].length + text.length > limits.bytesMax)
          stop(`printed over ${limits.bytesMax} bytes`);
        else streams[name] += text;
      });
    }
    child.once("error", (error: NodeJS.ErrnoException) => {
      if (child.pid === undefined) slot.busy = false;
      problem ??= error.message;
      finish(undefined, error.code);
    });
    child.once("close", (code) => finish(code ?? undefined));
    cancel = clock.at(clock.now() + limits.timeoutMs * NANOS_PER_MS, () =>
      stop(`did not end within ${limits.timeoutMs} ms`),
    );
  });
}

/** A program that keeps printing lines. */
export interface Resident {
  /** Whether the process has left the kernel's table: only then may the next of its kind be started. */
  readonly gone: boolean;
  readonly pid: number | undefined;
  /** Kills the process group; `onEnd` is not called any more. */
  stop(): void;
}

/** What a resident program's owner is told. */
export interface ResidentEvents {
  /** A complete line of stdout, without its end. Longer than `lineMax` characters: cut there. */
  onLine(line: string): void;
  /** It ended by itself or could not be started: the last output of both streams says why. */
  onEnd(why: { readonly code: number | undefined; readonly output: string; readonly cause?: string }): void;
}

const TAIL_CHARACTERS = 4000;

/** Starts a program that prints lines until it is stopped. */
export function startResident(command: Command, events: ResidentEvents, lineMax = 65_536): Resident {
  const child = start(command);
  const state = { gone: false, stopped: false, partial: "", tail: "" };
  const remember = (text: string): void => {
    state.tail = (state.tail + text).slice(-TAIL_CHARACTERS);
  };
  child.stdout?.setEncoding("utf8");
  child.stdout?.on("data", (text: string) => {
    if (state.stopped) return;
    remember(text);
    const lines = (state.partial + text).split("\n");
    state.partial = (lines.pop() ?? "").slice(0, lineMax);
    for (const line of lines) events.onLine(line.replace(/\r$/, "").slice(0, lineMax));
  });
  child.stderr?.setEncoding("utf8");
  child.stderr?.on("data", remember);
  const end = (code: number | undefined, cause?: string): void => {
    if (state.gone) return;
    state.gone = true;
    if (state.stopped) return;
    state.stopped = true;
    events.onEnd({ code, output: state.tail.trim(), ...(cause === undefined ? {} : { cause }) });
  };
  child.once("error", (error: NodeJS.ErrnoException) => {
    remember(error.message);
    end(undefined, error.code);
  });
  child.once("close", (code) => end(code ?? undefined));
  return {
    get gone() {
      return state.gone;
    },
    pid: child.pid,
    stop: () => {
      state.stopped = true;
      killGroup(child);
    },
  };
}

/**
 * Runs a module of ours in a process of its own and resolves with the one message it sends; undefined when it failed,
 * sent nothing or did not answer within `timeoutMs`. Its group, with every program it started, is killed afterwards.
 */
export function askModule(
  clock: Clock,
  module: string,
  timeoutMs: number,
  environment: Readonly<Record<string, string>> = {},
): Promise<unknown> {
  return new Promise((resolve) => {
    const child = fork(module, [], {
      detached: true,
      serialization: "advanced",
      execArgv: [],
      stdio: ["ignore", "ignore", "ignore", "ipc"],
      env: { ...childEnvironment(), ...environment },
    });
    let cancel: Cancel = () => {};
    const finish = (answer: unknown): void => {
      cancel();
      killGroup(child);
      resolve(answer);
    };
    child.once("message", finish);
    child.once("error", () => finish(undefined));
    child.once("exit", () => finish(undefined));
    cancel = clock.at(clock.now() + timeoutMs * NANOS_PER_MS, () => finish(undefined));
  });
}

/** Variables that other programs may need; the agent's configuration, tokens and proxies are not among them. */
const INHERITED =
  /^(PATH|HOME|USER|LOGNAME|LANG|TZ|TMPDIR|XDG_RUNTIME_DIR|LD_[A-Z_]+|MALLOC_[A-Z_]+|NODE_COMPILE_CACHE|QEMU_[A-Z_]+|NVIDIA_[A-Z_]+|CUDA_[A-Z_]+|DCGM_[A-Z_]+)$/;

/** What a child process inherits of the agent's environment: an allow list, so that no secret is in a child's. */
export function childEnvironment(
  own: Readonly<Record<string, string | undefined>> = process.env,
): Record<string, string> {
  const passed = Object.entries(own).flatMap(([name, value]) =>
    value !== undefined && INHERITED.test(name) ? [[name, value] as const] : [],
  );
  // Numbers with decimal points, whatever the host speaks.
  return { ...Object.fromEntries(passed), LC_ALL: "C" };
}

function start(command: Command): ChildProcess {
  return spawn(command.program, command.arguments, {
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...childEnvironment(), ...command.environment },
  });
}

function killGroup(child: ChildProcess): void {
  try {
    if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
  } catch {
    // The group is gone already.
  }
}
