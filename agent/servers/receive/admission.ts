// Who may call a receiver, how often, and how much of what callers send is held at a time. Decided when a call begins,
// before a byte of its messages is read: by token, by calls at a time, by rate. Messages of unary calls are read a few
// at a time, the others wait in their connections, so that memory is bounded whatever the number of callers.
// A stream is not answered before it ends, so its messages are held back where a call would be refused; they come as they
// are, since grpc-js 1.14 inflates all messages of a frame at once, a thousandfold, for as many streams as there are.
import { createHash, timingSafeEqual } from "node:crypto";
import { readTextOf } from "../../platform/files.ts";
import type { Metadata, ServerInterceptor, ServiceError } from "../../platform/grpc.ts";
import { ServerInterceptingCall, ServerListenerBuilder, status } from "../../platform/grpc.ts";
import type { SourceContext } from "../../source.ts";
import { PeerRates, peerOf } from "./peer-rates.ts";
import { retryLater } from "./recorder.ts";

/** Bytes of messages being read at a time, where one message is not larger. */
const READ_BYTES_MAX = 16 * 1024 * 1024;
/** How long a caller may take to send the message it began. */
const MESSAGE_MS = 10_000;

type Status = Partial<ServiceError> & { readonly code: number; readonly details: string };

/** The bounds of an entry that admission keeps. */
export interface AdmissionBounds {
  readonly bearerFile?: string | undefined;
  readonly streamsMax: number;
  readonly messageBytesMax: number;
  readonly messagesPerSecondMax: number;
}

/** Lets calls of one receiver in, or answers them. */
export function createAdmission(bounds: AdmissionBounds, context: SourceContext): ServerInterceptor {
  const { clock } = context;
  const rates = new PeerRates(bounds.messagesPerSecondMax, clock);
  const turns = new Turns(Math.max(1, Math.floor(READ_BYTES_MAX / bounds.messageBytesMax)));
  const calls = new Calls(bounds.streamsMax);
  const refusal = (peer: string, metadata: Metadata, stream: boolean, call: unknown): Status | undefined => {
    const unauthorized = checkBearer(bounds.bearerFile, metadata, context);
    if (unauthorized !== undefined) return unauthorized;
    if (stream && isCompressed(call))
      return { code: status.UNIMPLEMENTED, details: "streams are taken without compression" };
    const full = calls.fullFor(peer);
    if (full !== undefined) return retryLater(full);
    if (stream || rates.take(peer) === 0) return undefined;
    return retryLater(`more than ${bounds.messagesPerSecondMax} messages per second`);
  };
  return (method, call) => {
    const peer = peerOf(call.getPeer());
    const held: (() => void)[] = [];
    const release = (): void => {
      for (const give of held.splice(0)) give();
    };
    const readInTurn = (read: () => void): void => {
      const turn = turns.take(peer, () => {
        held.push(
          clock.at(clock.now() + MESSAGE_MS * 1e6, () => {
            release();
            call.sendStatus({
              code: status.DEADLINE_EXCEEDED,
              details: `no message within ${MESSAGE_MS} ms`,
            });
          }),
        );
        read();
      });
      held.push(turn);
    };
    const readInTime = (read: () => void): void => {
      const waitNanos = rates.take(peer);
      if (waitNanos === 0) read();
      else held.push(clock.at(clock.now() + waitNanos, () => readInTime(read)));
    };
    const listener = new ServerListenerBuilder()
      .withOnReceiveMetadata((metadata, next) => {
        const refused = refusal(peer, metadata, method.requestStream, call);
        if (refused !== undefined) return call.sendStatus(refused);
        ending.push(calls.begin(peer));
        if (method.requestStream) next(metadata);
        else readInTurn(() => next(metadata));
      })
      .withOnReceiveMessage((message, next) => {
        if (method.requestStream) return readInTime(() => next(message));
        release();
        next(message);
      })
      .withOnCancel(() => end())
      .build();
    const ending: (() => void)[] = [];
    const end = (): void => {
      release();
      for (const run of ending.splice(0)) run();
    };
    return new ServerInterceptingCall(call, {
      start: (next) => next(listener),
      sendStatus: (result, next) => {
        end();
        next(result);
      },
    });
  };
}

/** Calls at a time: half of them are for others, whatever one caller begins and does not end. */
class Calls {
  readonly #max: number;
  readonly #perPeer: number;
  readonly #of = new Map<string, number>();
  #all = 0;

  constructor(max: number) {
    this.#max = max;
    this.#perPeer = Math.max(1, Math.ceil(max / 2));
  }

  /** Why a caller may begin no more calls now; undefined while it may. */
  fullFor(peer: string): string | undefined {
    if (this.#all >= this.#max) return `more than ${this.#max} calls at a time`;
    return (this.#of.get(peer) ?? 0) < this.#perPeer
      ? undefined
      : `more than ${this.#perPeer} calls of one caller`;
  }

  /** Counts a call in; what it returns counts it out. */
  begin(peer: string): () => void {
    this.#all++;
    this.#of.set(peer, (this.#of.get(peer) ?? 0) + 1);
    return () => {
      this.#all--;
      const left = (this.#of.get(peer) ?? 1) - 1;
      if (left > 0) this.#of.set(peer, left);
      else this.#of.delete(peer);
    };
  }
}

/** Places for a number of messages at a time. Who has fewest places is next, then who waits longest; one is kept for others. */
class Turns {
  readonly #places: number;
  readonly #running = new Map<string, number>();
  readonly #waiting = new Set<{ readonly peer: string; readonly start: () => void }>();
  #free: number;

  constructor(places: number) {
    this.#places = places;
    this.#free = places;
  }

  /** Calls `run` when there is a place. What it returns gives the place back, or stops waiting for it. */
  take(peer: string, run: () => void): () => void {
    let isRunning = false;
    const one = {
      peer,
      start: () => {
        isRunning = true;
        this.#free--;
        this.#running.set(peer, this.#held(peer) + 1);
        run();
      },
    };
    this.#waiting.add(one);
    this.#next();
    return () => {
      this.#waiting.delete(one);
      if (!isRunning) return;
      isRunning = false;
      this.#free++;
      const left = this.#held(peer) - 1;
      if (left > 0) this.#running.set(peer, left);
      else this.#running.delete(peer);
      this.#next();
    };
  }

  #next(): void {
    while (this.#free > 0) {
      let next: { readonly peer: string; readonly start: () => void } | undefined;
      for (const one of this.#waiting) {
        if (this.#places > 1 && this.#held(one.peer) >= this.#places - 1) continue;
        if (next === undefined || this.#held(one.peer) < this.#held(next.peer)) next = one;
      }
      if (next === undefined) return;
      this.#waiting.delete(next);
      next.start();
    }
  }

  #held(peer: string): number {
    return this.#running.get(peer) ?? 0;
  }
}

/** Whether a call's messages may be compressed. grpc-js takes the header away, so its own note of it is read. */
function isCompressed(call: unknown): boolean {
  return (call as { readonly incomingEncoding?: string }).incomingEncoding !== "identity";
}

function checkBearer(
  file: string | undefined,
  metadata: Metadata,
  { log }: SourceContext,
): Status | undefined {
  if (file === undefined) return undefined;
  const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
  try {
    const token = readTextOf(file).trim();
    const seen = digest(String(metadata.get("authorization")[0] ?? ""));
    if (token !== "" && timingSafeEqual(digest(`Bearer ${token}`), seen)) return undefined;
  } catch (error) {
    log.error("callers cannot be checked", {
      cause: (error as Error).message,
      hint: "bearerFile must be readable",
    });
    return retryLater("tokens cannot be checked now");
  }
  return { code: status.UNAUTHENTICATED, details: "a bearer token is wanted" };
}
