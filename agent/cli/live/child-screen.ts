// An agent's own screen on this terminal, as `tokenwatt top` would show it: drawn by a process of its own, which is sent what
// a looker gets over HTTP. The agent loads nothing for it and pays what a looker costs.
import type { ChildProcess } from "node:child_process";
import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Feed } from "../../export/page/feed.ts";
import type { Cancel, Clock } from "../../platform/clock.ts";
import { childEnvironment } from "../../platform/process.ts";
import type { Environment, Io } from "../common/io.ts";
import { isScreen } from "../top/look.ts";
import { HeldLines } from "./held-lines.ts";

/** What the child must know of the terminal. */
const TERMINAL = ["TERM", "COLORTERM", "NO_COLOR", "LC_ALL", "LC_CTYPE", "LANG"] as const;
const END_MS = 2000;

/** The process of a screen. */
export class ChildScreen {
  readonly #process: ChildProcess;
  readonly #ended = Promise.withResolvers<void>();
  readonly #lines: HeldLines | undefined;
  #cancel: Cancel = () => {};
  #isClosing = false;

  /** Starts one where the terminal can show it; nothing is shown before the first snapshot. */
  static open(io: Io, title = ""): ChildScreen | undefined {
    return isScreen(io.env, io.stdout) ? new ChildScreen(io.env, title, io) : undefined;
  }

  private constructor(env: Environment, title: string, { stderr }: Io) {
    // Lines between those of a screen would tear it.
    this.#lines = stderr.isTTY === true ? new HeldLines((line) => stderr.write(line)) : undefined;
    const known = Object.fromEntries(TERMINAL.map((name) => [name, env[name]]));
    this.#process = fork(fileURLToPath(new URL("../top/screen-child.ts", import.meta.url)), [title], {
      stdio: ["inherit", "inherit", "inherit", "ipc"],
      env: { ...childEnvironment(), ...known, NODE_ENV: "production" },
      execArgv: [],
    });
    this.#process.once("exit", () => this.#ended.resolve());
    this.#process.once("error", () => this.#ended.resolve());
  }

  /** Where the log goes while there is a screen; undefined = where it goes anyway. */
  get logLine(): ((line: string) => void) | undefined {
    return this.#lines?.take;
  }

  /** Shows what a feed says; `onEnd` is called when a person ended the screen. */
  show(feed: Feed, onEnd: () => void): void {
    this.#lines?.hold();
    this.#cancel = feed.watch((message) => {
      if (this.#process.connected) this.#process.send(message.toString());
    });
    void this.#ended.promise.then(() => {
      this.#cancel();
      if (!this.#isClosing) onEnd();
    });
  }

  /** Gives the terminal back; resolves when it is as it was. */
  async close(clock: Clock): Promise<void> {
    this.#isClosing = true;
    this.#cancel();
    if (this.#process.connected) this.#process.disconnect();
    const late = new AbortController();
    await Promise.race([this.#ended.promise, clock.sleep(END_MS, late.signal).catch(() => {})]);
    late.abort();
    this.#process.kill("SIGKILL");
    this.#lines?.release();
  }
}
