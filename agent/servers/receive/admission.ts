// Who may call a receiver, how often, and how much of what callers send is held at a time. Decided when a call begins,
// before a byte of its messages is read: by token, by calls at a time, by rate. Messages of unary calls are read a few
// at a time, the others wait in their connections, so that memory is bounded whatever the number of callers.
// A stream is not answered before it ends, so its messages are held back where a call would be refused; they come as they
// are, since grpc-js 1.14 inflates all messages of a frame at once, a thousandfold, for as many streams as there are.
import type { AccessCounts } from "../../platform/access-counts.ts";
import type { Metadata, ServerInterceptor } from "../../platform/grpc.ts";
import { ServerInterceptingCall, ServerListenerBuilder, status } from "../../platform/grpc.ts";
import type { SourceContext } from "../../source.ts";
import type { Status } from "./caller-name.ts";
import { CountedCall, checkBearer } from "./caller-name.ts";
import type { Callers } from "./callers.ts";
import { addressScope } from "./callers.ts";
import { PeerRates, peerOf } from "./peer-rates.ts";
import { retryLater } from "./recorder.ts";
import type { Peer } from "./shares.ts";
import { Calls, Turns } from "./shares.ts";

/** Bytes of messages being read at a time, where one message is not larger. */
const READ_BYTES_MAX = 16 * 1024 * 1024;
/** How long a caller may take to send the message it began. */
const MESSAGE_MS = 10_000;

type ServerCall = Parameters<ServerInterceptor>[1];

const compressedStream: Status = {
  code: status.UNIMPLEMENTED,
  details: "streams are taken without compression",
};

/** The bounds of an entry that admission keeps. */
export interface AdmissionBounds {
  readonly bearerFile?: string | undefined;
  readonly streamsMax: number;
  readonly messageBytesMax: number;
  readonly messagesPerSecondMax: number;
}

/** What admission of one receiver decides by. */
interface Gate {
  readonly bounds: AdmissionBounds;
  readonly context: SourceContext;
  readonly access: Pick<AccessCounts, "count">;
  readonly rates: PeerRates;
  readonly turns: Turns;
  readonly calls: Calls;
}

/** Lets calls of one receiver in, or answers them. */
export function createAdmission(
  bounds: AdmissionBounds,
  context: SourceContext,
  callers: Pick<Callers, "scopeOf">,
  access: Pick<AccessCounts, "count">,
): ServerInterceptor {
  const gate: Gate = {
    bounds,
    context,
    access,
    rates: new PeerRates(bounds.messagesPerSecondMax, context.clock),
    turns: new Turns(Math.max(1, Math.floor(READ_BYTES_MAX / bounds.messageBytesMax))),
    calls: new Calls(bounds.streamsMax),
  };
  return (method, call) => {
    const scope = callers.scopeOf(call.getPeer());
    return new AdmittedCall(gate, call, scope, method.requestStream).intercept();
  };
}

/** One call between its first byte and its answer. */
class AdmittedCall {
  readonly #gate: Gate;
  readonly #call: ServerCall;
  readonly #isStream: boolean;
  readonly #peer: Peer;
  readonly #counted: CountedCall;
  /** What it holds while its message is read. */
  readonly #held: (() => void)[] = [];
  #leave = (): void => {};

  constructor(gate: Gate, call: ServerCall, scope: string, isStream: boolean) {
    const connection = call.getPeer();
    this.#gate = gate;
    this.#call = call;
    this.#isStream = isStream;
    this.#peer = {
      connection: peerOf(connection),
      caller: scope === addressScope ? peerOf(connection) : scope,
    };
    this.#counted = new CountedCall(gate.access, connection, scope);
  }

  intercept(): ServerInterceptingCall {
    const listener = new ServerListenerBuilder()
      .withOnReceiveMetadata((metadata, next) => this.#begin(metadata, () => next(metadata)))
      .withOnReceiveMessage((message, next) => {
        if (this.#isStream) return this.#readInTime(() => next(message));
        this.#release();
        next(message);
      })
      .withOnCancel(() => {
        this.#counted.count("broken");
        this.#end();
      })
      .build();
    return new ServerInterceptingCall(this.#call, {
      start: (next) => next(listener),
      sendStatus: (result, next) => {
        this.#counted.answered(result.code);
        this.#end();
        next(result);
      },
    });
  }

  #begin(metadata: Metadata, read: () => void): void {
    const { bounds, calls, context } = this.#gate;
    const token = checkBearer(bounds.bearerFile, metadata, context);
    if (token?.refused === undefined) this.#counted.named(token?.name);
    const refused = token?.refused ?? this.#refusal();
    if (refused !== undefined) {
      this.#refuse(refused);
      return;
    }
    this.#leave = calls.begin(this.#peer);
    // A stream may last for weeks: it counts when it is let in.
    if (this.#isStream) this.#counted.count("ok");
    if (this.#isStream) read();
    else this.#readInTurn(read);
  }

  #refusal(): Status | undefined {
    const { bounds, calls, rates } = this.#gate;
    if (this.#isStream && isCompressed(this.#call)) return compressedStream;
    const full = calls.fullFor(this.#peer);
    if (full !== undefined) return retryLater(full);
    if (this.#isStream || rates.take(this.#peer.connection, this.#peer.caller) === 0) return undefined;
    return retryLater(`more than ${bounds.messagesPerSecondMax} messages per second`);
  }

  #refuse(refused: Status): void {
    this.#counted.answered(refused.code);
    this.#call.sendStatus(refused);
  }

  #readInTurn(read: () => void): void {
    const { clock } = this.#gate.context;
    const late = { code: status.DEADLINE_EXCEEDED, details: `no message within ${MESSAGE_MS} ms` };
    const turn = this.#gate.turns.take(this.#peer, () => {
      this.#held.push(
        clock.at(clock.now() + MESSAGE_MS * 1e6, () => {
          this.#release();
          this.#refuse(late);
        }),
      );
      read();
    });
    this.#held.push(turn);
  }

  #readInTime(read: () => void): void {
    const { context, rates } = this.#gate;
    const waitNanos = rates.take(this.#peer.connection, this.#peer.caller);
    if (waitNanos === 0) read();
    else this.#held.push(context.clock.at(context.clock.now() + waitNanos, () => this.#readInTime(read)));
  }

  #release(): void {
    for (const give of this.#held.splice(0)) give();
  }

  #end(): void {
    this.#release();
    const leave = this.#leave;
    this.#leave = () => {};
    leave();
  }
}

/** Whether a call's messages may be compressed. grpc-js takes the header away, so its own note of it is read. */
function isCompressed(call: unknown): boolean {
  return (call as { readonly incomingEncoding?: string }).incomingEncoding !== "identity";
}
