// GPUs whose driver calls hang before their UUID is known: the next reader leaves their index out, so that the others
// are read, and a probe in a process of its own tries it again with backoff. Its hang delays no reading.

import type { Nanos } from "../../model.ts";
import type { Clock } from "../../platform/clock.ts";
import { Backoff } from "../backoff.ts";
import type { OpenOptions } from "./protocol.ts";
import { indexOf } from "./protocol.ts";
import { ReaderProcess } from "./reader-process.ts";

const RETRY_MOST_MS = 600_000;
/** Remembers which indexes hang. */
export class StuckIndexes {
  readonly #clock: Clock;
  readonly #options: Omit<OpenOptions, "skip">;
  readonly #limits: { readonly retryMs: number; readonly timeoutMs: number };
  readonly #stuck = new Map<number, Backoff>();
  #probing: ReaderProcess | undefined;
  #freed = false;

  constructor(
    clock: Clock,
    options: Omit<OpenOptions, "skip">,
    limits: { readonly retryMs: number; readonly timeoutMs: number },
  ) {
    this.#clock = clock;
    this.#options = options;
    this.#limits = limits;
  }

  get skip(): readonly number[] {
    return [...this.#stuck.keys()];
  }

  /** Books that a reader hung at this name; true when it is an index, which the next reader will leave out. */
  markHung(name: string | undefined): boolean {
    const index = indexOf(name);
    if (index === undefined) return false;
    const backoff = this.#stuck.get(index) ?? new Backoff(this.#limits.retryMs, RETRY_MOST_MS);
    backoff.doubleWait(this.#clock.now());
    this.#stuck.set(index, backoff);
    return true;
  }

  /** Whether an index answered since this was asked last: a new reader will have it. */
  takeFreed(): boolean {
    const freed = this.#freed;
    this.#freed = false;
    return freed;
  }

  /** Probes one index that is due. One probe at a time, one that is stuck in the kernel included. */
  probe(now: Nanos): void {
    if (this.#probing !== undefined) return;
    const due = [...this.#stuck].find(([, backoff]) => now >= backoff.due);
    if (due === undefined) return;
    const [index, backoff] = due;
    const probing = new ReaderProcess(this.#clock);
    this.#probing = probing;
    void probing.exited.then(() => {
      this.#probing = undefined;
    });
    probing
      .ask({ ask: "open", options: { ...this.#options, events: false, only: index } }, this.#limits.timeoutMs)
      .then(
        () => {
          this.#stuck.delete(index);
          this.#freed = true;
        },
        () => backoff.doubleWait(this.#clock.now()),
      )
      .finally(() => probing.kill());
  }

  close(): void {
    this.#probing?.kill();
  }
}
