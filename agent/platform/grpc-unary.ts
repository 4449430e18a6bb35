// One unary gRPC method over node:http2, for calls that must be answered within a millisecond or two
// (gRPC over HTTP/2: github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md). Of each finished call node keeps the stream
// until the next full collection, and with grpc-js all that its server hung to it: twice the garbage of old age, and with it
// twice the collections that stand before calls. Compression, streaming and metadata are left out.
import type { IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
import { createServer } from "node:http2";
import type { Socket } from "node:net";
import { status } from "./grpc.ts";

/** What a server answers, and what it accepts. */
export interface UnaryMethod {
  /** `/package.Service/Method`. */
  readonly path: string;
  /** Answers at once; what it throws ends the call as INVALID_ARGUMENT. */
  readonly answer: (message: Buffer) => Buffer;
  readonly messageBytesMax: number;
  /** Calls of one connection at a time. */
  readonly streamsMax: number;
}

/** A server of connections that are handed to it. */
export interface UnaryServer {
  accept(socket: Socket): void;
  close(): void;
}

const PREFIX_BYTES = 5;
/** A message comes in one frame or a few; thousands of frames of a byte are no caller's habit. */
const FRAMES_MAX = 256;
/** A connection that is silent for so long is asked by TCP whether it lives. */
const SILENT_MS = 60_000;
const ANSWER_HEADERS = { ":status": 200, "content-type": "application/grpc" } as const;
const WITH_TRAILERS = { waitForTrailers: true };
const DONE = { "grpc-status": String(status.OK) } as const;

/** Makes a server of one method. What is not that method's, or no gRPC, ends in the status the protocol has for it. */
export function unaryServer(method: UnaryMethod): UnaryServer {
  const server = createServer({ settings: { maxConcurrentStreams: method.streamsMax } });
  server.on("stream", (stream, headers) => receive(stream, headers, method));
  server.on("session", (session) => session.on("error", () => {}));
  server.on("sessionError", () => {});
  return {
    accept: (socket) => {
      socket.setKeepAlive(true, SILENT_MS);
      server.emit("connection", socket);
    },
    close: () => server.close(),
  };
}

function receive(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, method: UnaryMethod): void {
  stream.on("error", ignore);
  const refused = refusalOf(headers, method);
  if (refused !== undefined) {
    refuse(stream, ...refused);
    return;
  }
  const chunks: Buffer[] = [];
  let [bytes, isRefused] = [0, false];
  stream.on("data", (chunk: Buffer) => {
    if (isRefused) return;
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes <= PREFIX_BYTES + method.messageBytesMax && chunks.length <= FRAMES_MAX) return;
    chunks.length = 0;
    isRefused = true;
    refuse(stream, status.RESOURCE_EXHAUSTED, `a message of ${bytes} bytes or more is too long`);
  });
  stream.once("end", () => {
    const [first] = chunks;
    if (stream.destroyed || isRefused) return;
    reply(stream, first === undefined || chunks.length > 1 ? Buffer.concat(chunks) : first, method);
    chunks.length = 0;
  });
}

function refusalOf(
  headers: IncomingHttpHeaders,
  { path }: UnaryMethod,
): readonly [code: number, why: string] | undefined {
  if (headers[":path"] !== path) return [status.UNIMPLEMENTED, `no method ${headers[":path"]} here`];
  if (headers["content-type"]?.startsWith("application/grpc") !== true)
    return [status.UNKNOWN, `content-type is ${headers["content-type"]}, wanted application/grpc`];
  const encoding = headers["grpc-encoding"];
  if (encoding === undefined || encoding === "identity") return undefined;
  return [status.UNIMPLEMENTED, `messages of encoding ${encoding} cannot be read, wanted identity`];
}

/** Answers one whole message, or says what is wrong with it. */
function reply(stream: ServerHttp2Stream, received: Buffer, method: UnaryMethod): void {
  const bytes = received.length >= PREFIX_BYTES ? received.readUInt32BE(1) : -1;
  if (received.length !== PREFIX_BYTES + bytes || received[0] !== 0) {
    refuse(stream, status.INTERNAL, "the call does not hold one uncompressed message");
    return;
  }
  let answer: Buffer;
  try {
    answer = method.answer(received.subarray(PREFIX_BYTES));
  } catch (error) {
    refuse(stream, status.INVALID_ARGUMENT, (error as Error).message);
    return;
  }
  const framed = Buffer.allocUnsafe(PREFIX_BYTES + answer.length);
  framed[0] = 0;
  framed.writeUInt32BE(answer.length, 1);
  answer.copy(framed, PREFIX_BYTES);
  stream.once("wantTrailers", sendTrailers);
  stream.respond(ANSWER_HEADERS, WITH_TRAILERS);
  stream.end(framed);
}

function sendTrailers(this: ServerHttp2Stream): void {
  this.sendTrailers(DONE);
}

/** Ends a call with a status and no message. The text is percent-encoded, as the protocol wants it. */
function refuse(stream: ServerHttp2Stream, code: number, why: string): void {
  if (stream.destroyed) return;
  const text = encodeURI(why.slice(0, 500).toWellFormed());
  stream.respond(
    { ...ANSWER_HEADERS, "grpc-status": String(code), "grpc-message": text },
    { endStream: true },
  );
  stream.resume();
}

function ignore(): void {}
