// What ends a GET before its answer is whole: its deadline, or a stop. Only then is anything aborted and an error made; in
// the normal way a timer is cleared.
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
  readonly #underWay: Set<Exchange> | undefined;
  readonly #cancel: Cancel;

  constructor(clock: Clock, timeoutMs: number, stop: AbortSignal | undefined) {
    this.#cancel = clock.at(clock.now() + timeoutMs * NANOS_PER_MS, () => this.#end("deadline"));
    if (stop?.aborted === true) this.endedBy = "stop";
    else if (stop !== undefined) {
      this.#underWay = underWay(stop);
      this.#underWay.add(this);
    }
  }

  /** Ends those of a stop that are under way. */
  static stop(all: Iterable<Exchange>): void {
    for (const exchange of all) exchange.#end("stop");
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
    this.#underWay?.delete(this);
  }

  #end(by: "deadline" | "stop"): void {
    this.endedBy ??= by;
    const error = new Error(by === "stop" ? "stopped meanwhile" : "its time was over");
    for (const part of this.#parts) part.destroy(error);
  }
}

const all = new WeakMap<AbortSignal, Set<Exchange>>();

/** The exchanges that a stop is to end: all pages have one, and a listener for each poll would cost as much as a small page. */
function underWay(stop: AbortSignal): Set<Exchange> {
  const known = all.get(stop);
  if (known !== undefined) return known;
  const made = new Set<Exchange>();
  all.set(stop, made);
  stop.addEventListener("abort", () => Exchange.stop([...made]), { once: true });
  return made;
}
