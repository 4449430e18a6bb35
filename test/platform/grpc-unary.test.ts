// A unary method over node:http2, asked by grpc-js and by bare HTTP/2: answers, the statuses of everything that is no such
// call, and that neither frames nor garbage change what is answered.
import { connect as connectHttp2 } from "node:http2";
import type { AddressInfo } from "node:net";
import { connect, createServer } from "node:net";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import type { ServiceError } from "../../agent/platform/grpc.ts";
import { openChannel, status } from "../../agent/platform/grpc.ts";
import { unaryServer } from "../../agent/platform/grpc-unary.ts";

const PATH = "/test.Echo/Say";
const open: (() => void)[] = [];
afterEach(() => {
  for (const close of open.splice(0).reverse()) close();
});

/** Answers what it was sent, twice; rejects what begins with "!". */
function serve(): Promise<number> {
  const answer = (message: Buffer): Buffer => {
    if (message.toString().startsWith("!")) throw new Error("das wäre 100 % falsch:\n\u{1f525}");
    return Buffer.concat([message, message]);
  };
  const server = unaryServer({ path: PATH, answer, messageBytesMax: 1000, streamsMax: 100 });
  const listener = createServer((socket) => {
    socket.on("error", () => {});
    server.accept(socket);
  });
  open.push(() => {
    listener.close();
    server.close();
  });
  return new Promise((resolve) =>
    listener.listen(0, "127.0.0.1", () => resolve((listener.address() as AddressInfo).port)),
  );
}

/** A call by grpc-js: the answer, or its status and text. */
function call(port: number, message: string, path = PATH, options = {}): Promise<string | [number, string]> {
  const client = openChannel({ target: `127.0.0.1:${port}` }, options);
  open.push(() => client.close());
  const bytes = (value: Buffer): Buffer => value;
  return new Promise((resolve) =>
    client.makeUnaryRequest(path, bytes, bytes, Buffer.from(message), (error: ServiceError | null, answer) =>
      resolve(error === null ? String(answer) : [error.code, error.details]),
    ),
  );
}

/** Sends these bytes as frames of one stream; what comes back is the body and the gRPC status. */
function send(port: number, frames: readonly Buffer[], headers = {}): Promise<readonly [string, string]> {
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  open.push(() => session.destroy());
  const stream = session.request({
    ":method": "POST",
    ":path": PATH,
    "content-type": "application/grpc",
    ...headers,
  });
  return new Promise((resolve, reject) => {
    let [body, code] = ["", "none"];
    const noteStatus = (received: Readonly<Record<string, unknown>>): void => {
      code = String(received["grpc-status"] ?? code);
    };
    stream.on("response", noteStatus).on("trailers", noteStatus);
    stream.on("data", (chunk: Buffer) => {
      body += chunk.toString("latin1");
    });
    stream.once("error", reject).once("close", () => resolve([body, code]));
    for (const frame of frames) stream.write(frame);
    stream.end();
  });
}

function framed(text: string): Buffer {
  const message = Buffer.from(text);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

describe("unaryServer()", () => {
  test("answers a call, and says why it cannot in the caller's own letters", async () => {
    const port = await serve();
    expect(await call(port, "hej")).toBe("hejhej");
    expect(await call(port, "")).toBe("");
    expect(await call(port, "!")).toEqual([status.INVALID_ARGUMENT, "das wäre 100 % falsch:\n\u{1f525}"]);
  });

  test("ends what is no such call in the status that the protocol has for it", async () => {
    const port = await serve();
    expect(await call(port, "hej", "/test.Echo/Other")).toMatchObject([status.UNIMPLEMENTED, /Other/]);
    expect(await call(port, "a".repeat(1001))).toMatchObject([status.RESOURCE_EXHAUSTED, /too long/]);
    expect(await call(port, "a".repeat(1000))).toHaveLength(2000);
    const gzip = { "grpc.default_compression_algorithm": 2 };
    expect(await call(port, "a".repeat(500), PATH, gzip)).toMatchObject([status.UNIMPLEMENTED, /gzip/]);
    expect(await send(port, [framed("hej")], { "content-type": "text/plain" })).toEqual(["", "2"]);
    for (const bytes of [Buffer.alloc(0), Buffer.alloc(3), framed("hej").subarray(0, 6)]) {
      expect(await send(port, [bytes])).toEqual(["", String(status.INTERNAL)]);
    }
    expect(await send(port, [framed("a"), framed("b")])).toEqual(["", String(status.INTERNAL)]);
  });

  test("reads a message the same however it is cut into frames", async () => {
    const port = await serve();
    const cuts = fc.array(fc.integer({ min: 0, max: 45 }), { maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(cuts, async (places) => {
        const bytes = framed("forty letters that are cut into frames..");
        const edges = [0, ...places.sort((one, other) => one - other), bytes.length];
        const frames = edges.slice(1).map((edge, index) => bytes.subarray(edges[index], edge));
        const [body, code] = await send(port, frames);
        expect([body.slice(5), code]).toEqual([bytes.subarray(5).toString().repeat(2), "0"]);
      }),
      { numRuns: 30 },
    );
  });

  test("goes on after garbage, HTTP/1 and callers that leave in the middle", async () => {
    const port = await serve();
    for (const bytes of [
      "GET / HTTP/1.1\r\n\r\n",
      "\0".repeat(100),
      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff",
    ]) {
      await new Promise<void>((resolve) => {
        const socket = connect(port, "127.0.0.1", () => socket.end(bytes, "latin1"));
        socket.on("error", () => {}).once("close", () => resolve());
        socket.resume();
      });
    }
    const session = connectHttp2(`http://127.0.0.1:${port}`);
    const stream = session.request({ ":method": "POST", ":path": PATH, "content-type": "application/grpc" });
    stream.on("error", () => {}).write(framed("hej").subarray(0, 4));
    await new Promise<void>((resolve) => session.once("connect", () => resolve()));
    session.destroy();
    expect(await call(port, "hej")).toBe("hejhej");
  });
});
