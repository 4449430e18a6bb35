// The agent's end of one NVML reader child: fork, ask with a deadline that every answer renews, kill.
// Also maps the child's clock to the agent's: an ask cannot arrive before it was sent nor an answer come before it left,
// so each exchange narrows the one constant difference between the two clocks.

import type { ChildProcess } from "node:child_process";
import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Nanos } from "../../model.ts";
import type { Clock } from "../../platform/clock.ts";
import { NANOS_PER_MS } from "../../platform/clock.ts";
import { childEnvironment } from "../../platform/process.ts";
import type { Answer, Ask } from "./protocol.ts";

/** The child did not answer in time: `gpu` is the one it was reading. */
export class Hung extends Error {
  readonly gpu: string | undefined;

  constructor(ask: string, gpu: string | undefined, timeoutMs: number) {
    super(
      `the NVML reader did not answer "${ask}" within ${timeoutMs} ms${gpu === undefined ? "" : ` at ${gpu}`}`,
    );
    this.name = "Hung";
    this.gpu = gpu;
  }
}

/** The child is gone: killed, crashed in the driver's library, or unable to start. */
export class Gone extends Error {
  override readonly name = "Gone";
}

type Unnumbered<Kind = Ask> = Kind extends Ask ? Omit<Kind, "id"> : never;

interface Pending {
  readonly id: number;
  readonly ask: string;
  readonly timeoutMs: number;
  readonly onAnswer: (answer: Answer) => void;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: Error) => void;
  cancel: () => void;
  /** When it has waited too long for the next answer. */
  due: Nanos;
  gpu: string | undefined;
}

const FINAL: ReadonlySet<Answer["answer"]> = new Set(["inventory", "done", "failed", "closed"]);

/** One child, from fork to exit. Asks are served one after another. */
export class ReaderProcess {
  readonly #clock: Clock;
  readonly #child: ChildProcess;
  readonly exited: Promise<void>;
  #pending: Pending | undefined;
  #turn: Promise<void> = Promise.resolve();
  #asks = 0;
  #lower = -Infinity;
  #upper = Infinity;
  #gone: string | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#child = fork(fileURLToPath(new URL("./child/main.ts", import.meta.url)), [], {
      serialization: "advanced",
      // No inspector port or test runner's flags: only what makes Node run this file. It works for a few milliseconds a
      // second: optimising compilers and their threads would bring in 10 MB of Node's own file and save nothing.
      execArgv: ["--optimize-for-size", "--heap-growing-percent=30", "--max-opt=1", "--v8-pool-size=0"],
      stdio: ["ignore", "ignore", "inherit", "ipc"],
      env: childEnvironment(),
    });
    this.#child.on("message", (answer: Answer) => this.#answered(answer));
    this.exited = new Promise((resolve) => {
      const end = (why: string): void => {
        this.#gone ??= why;
        this.#fail(new Gone(`the NVML reader process ${why}`));
        resolve();
      };
      this.#child.once("exit", (code, signal) =>
        end(signal === null ? `exited with ${code}` : `died of ${signal}`),
      );
      this.#child.once("error", (error) => end(`cannot run: ${error.message}`));
    });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  get alive(): boolean {
    return this.#gone === undefined;
  }

  /**
   * Sends an ask after those before it; resolves with its last answer, the others go to `onAnswer`. Rejects with Hung
   * or Gone.
   */
  ask(ask: Unnumbered, timeoutMs: number, onAnswer: (answer: Answer) => void = () => {}): Promise<Answer> {
    const turn = this.#turn.then(() => this.#askNow(ask, timeoutMs, onAnswer));
    this.#turn = turn.then(
      () => {},
      () => {},
    );
    return turn;
  }

  #askNow(ask: Unnumbered, timeoutMs: number, onAnswer: (answer: Answer) => void): Promise<Answer> {
    if (this.#gone !== undefined) return Promise.reject(new Gone(`the NVML reader process ${this.#gone}`));
    const id = ++this.#asks;
    return new Promise((resolve, reject) => {
      const pending: Pending = {
        id,
        ask: ask.ask,
        timeoutMs,
        onAnswer,
        resolve,
        reject,
        cancel: () => {},
        due: this.#dueOf(timeoutMs),
        gpu: undefined,
      };
      this.#pending = pending;
      this.#watch(pending);
      this.#sent = this.#clock.now();
      this.#child.send({ ...ask, id }, (error) => {
        if (error) this.#fail(new Gone(`the NVML reader process cannot be asked: ${error.message}`));
      });
    });
  }

  #sent: Nanos = 0;

  /** The agent's instant of an instant of the child's clock. */
  instant(childNanos: number): Nanos {
    return Math.round(childNanos + (this.#lower + this.#upper) / 2);
  }

  /** Ends the child at once. A driver call in progress may keep it in the kernel; `exited` resolves when it is gone. */
  kill(): void {
    this.#gone ??= "was stopped";
    this.#child.kill("SIGKILL");
    this.#fail(new Gone("the NVML reader process was stopped"));
  }

  /** Lets a child that waits for asks leave by itself. */
  leave(): void {
    this.#gone ??= "has left";
    if (this.#child.connected) this.#child.disconnect();
  }

  #answered(answer: Answer): void {
    const pending = this.#pending;
    if (pending === undefined || answer.id !== pending.id) return;
    this.#narrow(answer);
    if (answer.answer === "begin") pending.gpu = answer.gpu;
    if (answer.answer === "reading") pending.gpu = answer.next ?? pending.gpu;
    if (FINAL.has(answer.answer)) {
      pending.cancel();
      this.#pending = undefined;
      pending.resolve(answer);
    } else {
      pending.due = this.#dueOf(pending.timeoutMs);
      pending.onAnswer(answer);
    }
  }

  #dueOf(timeoutMs: number): Nanos {
    return this.#clock.now() + timeoutMs * NANOS_PER_MS;
  }

  /** One timer for all answers of an ask: when it runs and an answer has come since, it is set to the later due time. */
  #watch(pending: Pending): void {
    pending.cancel = this.#clock.at(pending.due, () => {
      if (this.#clock.now() < pending.due) this.#watch(pending);
      else this.#fail(new Hung(pending.ask, pending.gpu, pending.timeoutMs));
    });
  }

  #fail(error: Error): void {
    const pending = this.#pending;
    if (pending === undefined) return;
    pending.cancel();
    this.#pending = undefined;
    pending.reject(error);
  }

  #narrow(answer: Answer): void {
    const lower = this.#sent - answer.arrived;
    const upper = this.#clock.now() - answer.left;
    this.#lower = Math.max(this.#lower, lower);
    this.#upper = Math.min(this.#upper, upper);
    if (this.#lower > this.#upper) [this.#lower, this.#upper] = [lower, upper];
  }
}
