// One GET over a kept connection, and whatever ends it before its answer is whole: its deadline, or a stop. Only then is
// anything aborted and an error made; in the normal way a timer is cleared and a listener taken away.
// A kept connection that the peer let go while it was idle (uvicorn does after 5 s, which is how often its page is read) is
// found out by asking: the page is then asked for once more, over a new one.
import type { Agent, IncomingMessage, RequestOptions } from "node:http";
import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import type { Cancel, Clock } from "../platform/clock.ts";
import { NANOS_PER_MS } from "../platform/clock.ts";

/** What can be ended: a request, or the stream of its answer. */
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

/** What a connection's requests have in common. */
export interface Connection {
  readonly agent: Agent;
  readonly options: RequestOptions;
  readonly secure: boolean;
}

/** What a peer that has ended a kept connection makes of the next request over it. */
const GONE: ReadonlySet<string | undefined> = new Set(["ECONNRESET", "EPIPE"]);
/** Said to whoever asks nothing for too long; the connection ends with it. */
const REQUEST_TIMEOUT = 408;

/** The beginning of the answer. Rejects with what went wrong on the way, or with what ended the exchange. */
export function ask(
  connection: Connection,
  path: string,
  exchange: Exchange,
  turn: "first" | "last" = "first",
): Promise<IncomingMessage> {
  const { agent, options, secure } = connection;
  return new Promise((resolve, reject) => {
    exchange.holds({ destroy: reject });
    if (exchange.endedBy !== undefined) return;
    const request = (secure ? httpsRequest : httpRequest)({ ...options, path, agent });
    exchange.holds(request);
    let answered = false;
    const wasLetGo = (): boolean =>
      turn === "first" && !answered && request.reusedSocket && exchange.endedBy === undefined;
    const askAgain = (): void => resolve(ask(connection, path, exchange, "last"));
    request.once("response", (response) => {
      const again = response.statusCode === REQUEST_TIMEOUT && wasLetGo();
      answered = true;
      if (!again) return resolve(response);
      request.destroy();
      askAgain();
    });
    request.on("error", (error: NodeJS.ErrnoException) => {
      if (GONE.has(error.code) && wasLetGo()) askAgain();
      else reject(error);
    });
    request.end();
  });
}
