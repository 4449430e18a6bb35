// One unary gRPC call as bytes in and out, and what a peer says of itself: reflection (v1, v1alpha).
// Only methods that read can be called (read-methods.ts); nothing here takes a method name from outside.
// Facts: grpc.reflection.v1 and v1alpha share their field numbers.
import type { Cancel, Clock } from "../../platform/clock.ts";
import type { Client, GrpcTarget, ServiceError } from "../../platform/grpc.ts";
import { callMetadata, status } from "../../platform/grpc.ts";
import { tagOf, WireReader } from "../../platform/protobuf-reader.ts";
import { MessageWriter } from "../../platform/protobuf-writer.ts";
import type { ReadMethod } from "./read-methods.ts";

const SERVICES_MAX = 1000;

/** An open channel and how to call on it. */
export interface GrpcPeer {
  readonly channel: Client;
  readonly target: GrpcTarget;
  readonly timeoutMs: number;
  readonly clock: Pick<Clock, "now" | "at">;
}

/** The answer of a unary method, decoded. Rejects with the ServiceError of grpc-js. */
export function callUnary<Answer>(
  peer: GrpcPeer,
  method: ReadMethod,
  request: Buffer,
  decode: (bytes: Buffer) => Answer,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const call = peer.channel.makeUnaryRequest(
      method,
      asBytes,
      decode,
      request,
      callMetadata(peer.target),
      (error, answer) => {
        stop();
        if (error === null) resolve(answer as Answer);
        else reject(late() ?? error);
      },
    );
    const { stop, late } = limit(peer, call);
  });
}

/** Cancels a call when its time is over; the wall clock, which gRPC's own deadlines follow, may step. */
function limit(
  peer: GrpcPeer,
  call: { cancel(): void },
): { stop: Cancel; late(): Partial<ServiceError> | undefined } {
  let over = false;
  const stop = peer.clock.at(peer.clock.now() + peer.timeoutMs * 1e6, () => {
    over = true;
    call.cancel();
  });
  const error = { code: status.DEADLINE_EXCEEDED, details: `no answer within ${peer.timeoutMs} ms` };
  return { stop, late: () => (over ? error : undefined) };
}

/** Full names of the services the peer has, or undefined where it does not reflect. */
export async function reflectServices(peer: GrpcPeer): Promise<readonly string[] | undefined> {
  for (const version of ["v1", "v1alpha"] as const) {
    try {
      return await listServices(peer, `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`);
    } catch (error) {
      if ((error as Partial<ServiceError>).code !== status.UNIMPLEMENTED) throw error;
    }
  }
  return undefined;
}

function listServices(peer: GrpcPeer, method: ReadMethod): Promise<readonly string[]> {
  return new Promise((resolve, reject) => {
    const call = peer.channel.makeBidiStreamRequest(method, asBytes, asBytes, callMetadata(peer.target));
    const { stop, late } = limit(peer, call);
    const fail = (error: unknown): void => {
      stop();
      reject(late() ?? error);
    };
    call.on("data", (answer: Buffer) => {
      try {
        resolve(decodeServices(answer));
        stop();
      } catch (error) {
        fail(error);
      }
      call.cancel();
    });
    call.on("error", fail);
    call.on("end", () => fail(new Error("the reflection stream ended without an answer")));
    const request = new MessageWriter();
    // list_services, content unused but must not be empty for some servers.
    request.text(7, "*");
    call.write(request.finish());
    call.end();
  });
}

/** Names in a ServerReflectionResponse: list_services_response (6), service (1), name (1). */
function decodeServices(bytes: Buffer): readonly string[] {
  const reader = new WireReader(bytes);
  const names: string[] = [];
  eachField(reader, tagOf(6, "bytes"), () => {
    eachField(reader, tagOf(1, "bytes"), () => {
      eachField(reader, tagOf(1, "bytes"), undefined, () => {
        const name = reader.text();
        if (names.length < SERVICES_MAX) names.push(name);
      });
    });
  });
  return names;
}

/** Runs over the fields of the current message: `nested` inside messages of `tag`, or `value` at values of `tag`. */
function eachField(reader: WireReader, tag: number, nested?: () => void, value?: () => void): void {
  for (let seen = reader.tag(); seen !== 0; seen = reader.tag()) {
    if (seen !== tag) reader.skip(seen);
    else if (value !== undefined) value();
    else {
      const outer = reader.enter();
      nested?.();
      reader.leave(outer);
    }
  }
}

/** Bytes as they are. */
const asBytes = (bytes: Buffer): Buffer => bytes;
