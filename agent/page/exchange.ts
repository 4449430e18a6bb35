// What ends a GET before its answer is whole: its deadline, or a stop. Only then is anything aborted and an error made; in
// the normal way a timer is cleared and a listener taken away.
import type { Cancel, Clock } from "../platform/clock.ts";
import { NANOS_PER_MS } from "../platform/clock.ts";

/** What can be ended: a connection, or the stream of a page that is inflated. */
interface Endable {
  destroy(error: Error): unknown;
}

/** The life of one exchange, from its first request to the last byte of its answer. */
export class Exchange {
  /** Why it was ended before its time. */
  endedBy: "deadline" | "stop" | undefined;
  readonly #parts: Endable[] = [];
  readonly #stop: AbortSignal | undefined;
  readonly #stopped = (): void => this.#end("stop");
  readonly #cancel: Cancel;

  constructor(clock: Clock, timeoutMs: number, stop: AbortSignal | undefined) {
    this.#cancel = clock.at(clock.now() + timeoutMs * NANOS_PER_MS, () => this.#end("deadline"));
    this.#stop = stop;
    stop?.addEventListener("abort", this.#stopped);
    if (stop?.aborted === true) this.endedBy = "stop";
  }

  /** Ends `part` too when it is ended; at once where it already was. */
  holds(part: Endable): void {
    this.#parts.push(part);
    if (this.endedBy !== undefined) part.destroy(new Error(`ended by ${this.endedBy}`));
  }

  /** Throws where it was ended already. */
  check(): void {
    if (this.endedBy !== undefined) throw new Error(`ended by ${this.endedBy}`);
  }

  /** It is over, however it went. */
  close(): void {
    this.#cancel();
    this.#stop?.removeEventListener("abort", this.#stopped);
  }

  #end(by: "deadline" | "stop"): void {
    this.endedBy ??= by;
    const error = new Error(by === "stop" ? "stopped meanwhile" : "its time was over");
    for (const part of this.#parts) part.destroy(error);
  }
}
