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
import type { Callers } from "./callers.ts";
import { addressScope } from "./callers.ts";
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
export function createAdmission(
  bounds: AdmissionBounds,
  context: SourceContext,
  callers: Pick<Callers, "scopeOf">,
): ServerInterceptor {
  const { clock } = context;
  const rates = new PeerRates(bounds.messagesPerSecondMax, clock);
  const turns = new Turns(Math.max(1, Math.floor(READ_BYTES_MAX / bounds.messageBytesMax)));
  const calls = new Calls(bounds.streamsMax);
  const refusal = (peer: Peer, metadata: Metadata, stream: boolean, call: unknown): Status | undefined => {
    const unauthorized = checkBearer(bounds.bearerFile, metadata, context);
    if (unauthorized !== undefined) return unauthorized;
    if (stream && isCompressed(call))
      return { code: status.UNIMPLEMENTED, details: "streams are taken without compression" };
    const full = calls.fullFor(peer);
    if (full !== undefined) return retryLater(full);
    if (stream || rates.take(peer.connection, peer.caller) === 0) return undefined;
    return retryLater(`more than ${bounds.messagesPerSecondMax} messages per second`);
  };
  return (method, call) => {
    const connection = call.getPeer();
    const scope = callers.scopeOf(connection);
    const peer = {
      connection: peerOf(connection),
      caller: scope === addressScope ? peerOf(connection) : scope,
    };
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
      const waitNanos = rates.take(peer.connection, peer.caller);
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

/** Whose a call is: a connection, and the caller whose connections may be many. */
interface Peer {
  readonly connection: string;
  readonly caller: string;
}

/** How many of something each holds. */
class Held {
  readonly #of = new Map<string, number>();

  of(key: string): number {
    return this.#of.get(key) ?? 0;
  }

  add(key: string, change: number): void {
    const now = this.of(key) + change;
    if (now > 0) this.#of.set(key, now);
    else this.#of.delete(key);
  }
}

/** Calls at a time: a connection has half of them and a caller three quarters, whatever they begin and do not end. */
class Calls {
  readonly #max: number;
  readonly #perConnection: number;
  readonly #perCaller: number;
  readonly #connections = new Held();
  readonly #callers = new Held();
  #all = 0;

  constructor(max: number) {
    this.#max = max;
    this.#perConnection = Math.max(1, Math.ceil(max / 2));
    this.#perCaller = Math.max(1, Math.ceil((max * 3) / 4));
  }

  /** Why a caller may begin no more calls now; undefined while it may. */
  fullFor({ caller, connection }: Peer): string | undefined {
    if (this.#all >= this.#max) return `more than ${this.#max} calls at a time`;
    if (this.#connections.of(connection) >= this.#perConnection)
      return `more than ${this.#perConnection} calls of one connection`;
    return this.#callers.of(caller) < this.#perCaller
      ? undefined
      : `more than ${this.#perCaller} calls of one caller`;
  }

  /** Counts a call in; what it returns counts it out. */
  begin({ caller, connection }: Peer): () => void {
    const change = (by: number): void => {
      this.#all += by;
      this.#connections.add(connection, by);
      this.#callers.add(caller, by);
    };
    change(1);
    return () => change(-1);
  }
}

/**
 * Places for a number of messages at a time. The caller who has fewest places is next, of its connections the one with
 * fewest, then who waits longest; one place is kept for other callers, and one for other connections of the same.
 */
class Turns {
  readonly #places: number;
  readonly #callers = new Held();
  readonly #connections = new Held();
  readonly #waiting = new Set<{ readonly peer: Peer; readonly start: () => void }>();
  #free: number;

  constructor(places: number) {
    this.#places = places;
    this.#free = places;
  }

  /** Calls `run` when there is a place. What it returns gives the place back, or stops waiting for it. */
  take(peer: Peer, run: () => void): () => void {
    let isRunning = false;
    const one = {
      peer,
      start: () => {
        isRunning = true;
        this.#change(peer, 1);
        run();
      },
    };
    this.#waiting.add(one);
    this.#next();
    return () => {
      this.#waiting.delete(one);
      if (!isRunning) return;
      isRunning = false;
      this.#change(peer, -1);
      this.#next();
    };
  }

  #change({ caller, connection }: Peer, by: number): void {
    this.#free -= by;
    this.#callers.add(caller, by);
    this.#connections.add(connection, by);
  }

  #next(): void {
    while (this.#free > 0) {
      let next: { readonly peer: Peer; readonly start: () => void } | undefined;
      for (const one of this.#waiting) {
        if (this.#callers.of(one.peer.caller) >= Math.max(1, this.#places - 1)) continue;
        if (this.#connections.of(one.peer.connection) >= Math.max(1, this.#places - 2)) continue;
        if (next === undefined || this.#isBefore(one.peer, next.peer)) next = one;
      }
      if (next === undefined) return;
      this.#waiting.delete(next);
      next.start();
    }
  }

  #isBefore(one: Peer, other: Peer): boolean {
    const callers = this.#callers.of(one.caller) - this.#callers.of(other.caller);
    if (callers !== 0) return callers < 0;
    return this.#connections.of(one.connection) < this.#connections.of(other.connection);
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
