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
  let calls = 0;
  const refusal = (peer: string, metadata: Metadata, stream: boolean, call: unknown): Status | undefined => {
    const unauthorized = checkBearer(bounds.bearerFile, metadata, context);
    if (unauthorized !== undefined) return unauthorized;
    if (stream && isCompressed(call))
      return { code: status.UNIMPLEMENTED, details: "streams are taken without compression" };
    if (calls >= bounds.streamsMax) return retryLater(`more than ${bounds.streamsMax} calls at a time`);
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
      const turn = turns.take(() => {
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
        calls++;
        ending.push(() => calls--);
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

/** Places for a number of messages at a time; others wait in the order they came. */
class Turns {
  #free: number;
  readonly #waiting = new Set<() => void>();

  constructor(places: number) {
    this.#free = places;
  }

  /** Calls `run` when there is a place. What it returns gives the place back, or stops waiting for it. */
  take(run: () => void): () => void {
    let state: "waiting" | "running" | "done" = "waiting";
    const start = (): void => {
      state = "running";
      this.#free--;
      run();
    };
    if (this.#free > 0) start();
    else this.#waiting.add(start);
    return () => {
      if (state === "running") {
        this.#free++;
        for (const next of this.#waiting) {
          this.#waiting.delete(next);
          next();
          break;
        }
      } else this.#waiting.delete(start);
      state = "done";
    };
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
