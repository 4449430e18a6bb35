// A tool that keeps printing readings, kept alive: started when asked, restarted with backoff after it ended, never two
// at once. A tool stuck in the kernel cannot be killed; then no other is started and its owner reports gaps.

import type { Nanos } from "../model.ts";
import type { Cancel } from "../platform/clock.ts";
import { NANOS_PER_MS } from "../platform/clock.ts";
import type { Command, Resident } from "../platform/process.ts";
import { startResident } from "../platform/process.ts";
import type { SourceContext, SourceError } from "../source.ts";
import { Backoff } from "./backoff.ts";

const RESTART_FIRST_MS = 1000;
const RESTART_MOST_MS = 60_000;

/** What the owner of a tool says about it. */
export interface ToolRules {
  readonly command: () => Command;
  /** Takes a line at the instant it arrived; true when it held a reading. */
  readonly onLine: (line: string, at: Nanos) => boolean;
  /** The error its last output means. Returning undefined = the owner changed the command, start again at once. */
  readonly explain: (output: string, cause: string | undefined) => SourceError | undefined;
}

/** Keeps one tool running from `ensure` to `stop`. */
export class ResidentTool {
  readonly #context: SourceContext;
  readonly #rules: ToolRules;
  readonly #restart = new Backoff(RESTART_FIRST_MS, RESTART_MOST_MS);
  #resident: Resident | undefined;
  #stopped: Resident | undefined;
  #first: { readonly done: () => void; readonly enough: () => boolean } | undefined;
  starts = 0;
  /** Why there is nothing to read; cleared by the next reading. */
  failure: SourceError | undefined;

  constructor(context: SourceContext, rules: ToolRules) {
    this.#context = context;
    this.#rules = rules;
  }

  get pid(): number | undefined {
    return this.#resident?.pid;
  }

  /** Starts the tool if it does not run and its wait is over. */
  ensure(now: Nanos): void {
    if (this.#resident === undefined && now >= this.#restart.due) this.#start();
  }

  /** Starts the tool and waits for as many readings as are `enough`, for its end, or for `waitMs`. */
  async begin(waitMs: number, enough: () => boolean = () => true): Promise<void> {
    const { clock } = this.#context;
    let cancel: Cancel = () => {};
    await new Promise<void>((resolve) => {
      this.#first = { done: resolve, enough };
      cancel = clock.at(clock.now() + waitMs * NANOS_PER_MS, resolve);
      this.ensure(clock.now());
    });
    cancel();
    this.#first = undefined;
  }

  stop(): void {
    this.#resident?.stop();
    this.#stopped = this.#resident ?? this.#stopped;
    this.#resident = undefined;
  }

  /** Forgets earlier failures: the next `ensure` starts at once. */
  forget(): void {
    this.#restart.forgetFailures();
  }

  #start(): void {
    if (this.#stopped !== undefined && !this.#stopped.gone) return;
    this.starts++;
    this.#resident = startResident(this.#rules.command(), {
      onLine: (line) => this.#line(line),
      onEnd: ({ output, cause }) => this.#ended(output, cause),
    });
  }

  #line(line: string): void {
    if (!this.#rules.onLine(line, this.#context.clock.now())) return;
    this.failure = undefined;
    this.#restart.forgetFailures();
    if (this.#first?.enough()) this.#first.done();
  }

  #ended(output: string, cause: string | undefined): void {
    this.#resident = undefined;
    const failure = this.#rules.explain(output, cause);
    if (failure === undefined) {
      this.#start();
      return;
    }
    this.failure = failure;
    this.#restart.doubleWait(this.#context.clock.now());
    this.#context.log.warn("GPU tool ended", { source: "gpu", cause: failure.message });
    this.#first?.done();
  }
}
