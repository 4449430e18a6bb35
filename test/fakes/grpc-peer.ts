// A gRPC server over a real socket whose methods answer prepared bytes, for services we only read.
import type { Metadata } from "../../agent/platform/grpc.ts";
import { Server, ServerCredentials } from "../../agent/platform/grpc.ts";

/** Answers of one method: bytes, or a function of the request; undefined = never answer. */
export type Answer = Buffer | ((request: Buffer) => Buffer | undefined);

export interface FakePeer {
  readonly address: string;
  /** Methods called so far, in order, and the token each call came with. */
  readonly calls: readonly string[];
  readonly authorizations: readonly string[];
  close(): void;
}

/** Where a fake listens and what it shows; default a free port of loopback, in the clear. */
export interface FakePlace {
  readonly listen?: string;
  readonly credentials?: ServerCredentials;
}

/** Serves unary `methods` (full paths), and reflection (v1alpha) for `services` if given, or with what they return. */
export async function fakePeer(
  methods: Readonly<Record<string, Answer>>,
  services?: readonly string[] | (() => Buffer),
  place: FakePlace = {},
): Promise<FakePeer> {
  const server = new Server();
  const calls: string[] = [];
  const authorizations: string[] = [];
  const bytes = (value: Buffer): Buffer => value;
  for (const [path, answer] of Object.entries(methods)) {
    server.register(
      path,
      (
        call: { request: Buffer; metadata: Metadata },
        callback: (error: object | null, value?: Buffer) => void,
      ) => {
        calls.push(path);
        authorizations.push(String(call.metadata.get("authorization")[0] ?? ""));
        const value = typeof answer === "function" ? answer(call.request) : answer;
        if (value !== undefined) callback(null, value);
      },
      bytes,
      bytes,
      "unary",
    );
  }
  if (services !== undefined) {
    server.register(
      "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
      (call: { on(event: "data", run: () => void): void; write(value: Buffer): void; end(): void }) => {
        call.on("data", () => {
          call.write(typeof services === "function" ? services() : reflectionOf(services));
          call.end();
        });
      },
      bytes,
      bytes,
      "bidi",
    );
  }
  const { listen = "127.0.0.1:0", credentials = ServerCredentials.createInsecure() } = place;
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync(listen, credentials, (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    ),
  );
  const address = listen.startsWith("unix:") ? listen : listen.replace(/:\d+$/, `:${port}`);
  return { address, calls, authorizations, close: () => server.forceShutdown() };
}

/** A ServerReflectionResponse that lists `services`. */
export function reflectionOf(services: readonly string[]): Buffer {
  return field(6, Buffer.concat(services.map((name) => field(1, field(1, name)))));
}

/** A protobuf field by number: integers as varints, `{ double }` as doubles, text and bytes with their length. */
export function field(number: number, value: number | string | Buffer | { double: number }): Buffer {
  if (typeof value === "number") return Buffer.concat([varint(number * 8), varint(value)]);
  if (typeof value === "object" && "double" in value) {
    const bytes = Buffer.alloc(8);
    bytes.writeDoubleLE(value.double);
    return Buffer.concat([varint(number * 8 + 1), bytes]);
  }
  const bytes = Buffer.from(value as string);
  return Buffer.concat([varint(number * 8 + 2), varint(bytes.length), bytes]);
}

/** A message of fields. */
export const message = (...fields: Buffer[]): Buffer => Buffer.concat(fields);

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = BigInt(value);
  for (; rest > 127n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  bytes.push(Number(rest));
  return Buffer.from(bytes);
}
