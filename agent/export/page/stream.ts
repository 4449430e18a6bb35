// Snapshots as server-sent events (HTML Living Standard, 9.2) to a bounded number of lookers. A looker that does not take
// what it is sent misses beats, and is let go when it took nothing for long: nothing is queued for anybody.
import type { IncomingMessage, ServerResponse } from "node:http";
import { callerOf } from "../connections.ts";
import type { Feed } from "./feed.ts";

/** Streams at once, and of one address. */
const STREAMS_MAX = 24;
const PER_ADDRESS_MAX = 12;
/** Beats in a row that a looker may miss. */
const MISSED_MAX = 20;
const RETRY_SECONDS = 10;

/** The open streams of one endpoint. */
export class Streams {
  readonly #feed: Feed;
  readonly #open = new Map<ServerResponse, string>();

  constructor(feed: Feed) {
    this.#feed = feed;
  }

  /** Whether a request wants a stream and not one snapshot. */
  static isAsked({ headers, method }: IncomingMessage): boolean {
    return method === "GET" && /(^|[\s,])text\/event-stream\b/i.test(headers.accept ?? "");
  }

  /** Answers with a stream until the looker goes; false where there are too many, and nothing was answered. */
  serve(request: IncomingMessage, response: ServerResponse): boolean {
    const address = callerOf(request.socket);
    const own = [...this.#open.values()].filter((one) => one === address).length;
    if (this.#open.size >= STREAMS_MAX || own >= PER_ADDRESS_MAX) return false;
    this.#open.set(response, address);
    response.writeHead(200, {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-store",
      // A proxy in front must not collect what it is sent.
      "x-accel-buffering": "no",
    });
    response.write(`retry: ${RETRY_SECONDS * 1000}\n\n`);
    let missed = 0;
    const cancel = this.#feed.watch((message) => {
      if (response.writableNeedDrain) {
        if (++missed > MISSED_MAX) response.destroy();
        return;
      }
      missed = 0;
      response.write(message);
    });
    response.once("close", () => {
      cancel();
      this.#open.delete(response);
    });
    return true;
  }

  /** What is said where there are too many. */
  static readonly full = {
    retrySeconds: RETRY_SECONDS,
    text: `${STREAMS_MAX} streams are served at once, ${PER_ADDRESS_MAX} to one address: close one, or ask for /-/view without text/event-stream\n`,
  };
}
