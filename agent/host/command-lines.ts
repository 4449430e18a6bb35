// What processes were started with: the ports they name, and what reading them would do. Kernel threads have no command line,
// and on a large host most processes are kernel threads, thousands of them: each is looked at rarely.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** Looks between two at which processes without a command line are looked at again: numbers are used again. */
const LOOKS = 10;

/** The command lines of all processes, look by look. */
export class CommandLines {
  readonly #proc: string;
  /** Processes that had none, since all were looked at. */
  readonly #without = new Set<string>();
  #looks = 0;

  constructor(proc: string) {
    this.#proc = proc;
  }

  /** Processes whose command line names one of `ports` as `--port`. */
  startedWith(ports: ReadonlySet<number>): number[] {
    if (ports.size === 0) return [];
    if (this.#looks++ % LOOKS === 0) this.#without.clear();
    return this.#processes()
      .filter((pid) => {
        if (this.#without.has(pid)) return false;
        const commandLine = this.#read(pid);
        if (commandLine === "") this.#without.add(pid);
        const port = portOfCommand(commandLine ?? "");
        return port !== undefined && ports.has(port);
      })
      .map(Number);
  }

  #processes(): string[] {
    try {
      return readdirSync(this.#proc).filter((name) => /^\d+$/.test(name));
    } catch {
      return [];
    }
  }

  #read(pid: string): string | undefined {
    try {
      return readFileSync(join(this.#proc, pid, "cmdline"), "utf8");
    } catch {
      return undefined;
    }
  }
}

/**
 * `--port 8000` or `--port=8000` in a command line whose arguments end in NUL.
 * Exported for its test: command lines of every engine.
 */
export function portOfCommand(commandLine: string): number | undefined {
  const match = /(?:^|\0)--port(?:=|\0)(\d{1,5})(?:\0|$)/.exec(commandLine);
  return match === null ? undefined : Number(match[1]);
}

/**
 * Ports of `--port`, `--http-port`, `--grpc-port`, `--metrics-port`, `--server-port`: those of masters and links are not.
 * Exported for its test: command lines of every engine.
 */
export function servingPortsOf(commandLine: string): number[] {
  const matches = commandLine.matchAll(
    /(?:^|\0)--(?:(?:http|grpc|metrics|server)[-_])?port(?:=|\0)(\d{1,5})(?=\0|$)/g,
  );
  return [...new Set([...matches].map((match) => Number(match[1])))];
}

/** Whether a llama-server with these arguments unloads its idle model: each read of its page counts as use (P11). */
export function keepsAwake(words: readonly string[]): boolean {
  return words.some((word, index) => {
    const value = /^--sleep-idle-seconds(?:=(.*))?$/.exec(word);
    return value !== null && Number(value[1] ?? words[index + 1]) > 0;
  });
}

/** The name that a program gave itself by setproctitle, of the kind engines use: `VLLM::EngineCore_DP1`. */
export function titleOf(commandLine: string): string | undefined {
  return /^[\w.-]+::[\w.:-]{1,100}/.exec(commandLine)?.[0];
}
