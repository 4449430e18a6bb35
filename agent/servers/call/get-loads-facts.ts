// Who an engine in gRPC mode is: model, role and version from GetServerInfo and GetModelInfo (smg-grpc-proto 0.4.28).
// server_args of sglang and TokenSpeed is the whole argument list and can hold an API key: only the keys named here are
// ever read.
import type { Role } from "../../model.ts";
import { tagOf, WireReader } from "../../platform/protobuf-reader.ts";
import { defined } from "../entry.ts";
import type { GrpcPeer } from "./call.ts";
import { callUnary } from "./call.ts";
import type { ReadMethod } from "./read-methods.ts";

/** What a server says of itself; absent where it does not. */
export interface ServerFacts {
  readonly model?: string;
  readonly role?: Role;
  readonly version?: string;
}

/** The services that answer GetLoads, by full name. */
export type LoadService =
  | "sglang.grpc.scheduler.SglangScheduler"
  | "vllm.grpc.engine.VllmEngine"
  | "tokenspeed.grpc.scheduler.TokenSpeedScheduler";

const ALLOWED = new Set(["served_model_name", "model_path", "disaggregation_mode"]);
const ROLES: Readonly<Record<string, Role>> = {
  prefill: "prefill",
  decode: "decode",
  kv_producer: "prefill",
  kv_consumer: "decode",
};

/** Facts of the server behind `service`; empty where it does not answer. Never throws. */
export async function readServerFacts(peer: GrpcPeer, service: LoadService): Promise<ServerFacts> {
  const ask = async (method: ReadMethod, decode: (bytes: Uint8Array) => ServerFacts): Promise<ServerFacts> =>
    callUnary(peer, method, Buffer.alloc(0), decode).catch(() => ({}));
  const vllm = service.startsWith("vllm.");
  const info = await ask(`/${service}/GetServerInfo`, vllm ? decodeVllmInfo : decodeServerArgs);
  // served_model_name is field 6, in TokenSpeed 3; model_path is field 1 in all.
  const served = service.startsWith("tokenspeed.") ? 3 : 6;
  const model = await ask(`/${service}/GetModelInfo`, (bytes) =>
    defined({ model: readText(bytes, served) || readText(bytes, 1) || undefined }),
  );
  return { ...info, ...model };
}

/**
 * GetServerInfoResponse of sglang and TokenSpeed: server_args (1, Struct), version (7).
 * Exported for its test: broken messages.
 */
export function decodeServerArgs(bytes: Uint8Array): ServerFacts {
  const reader = new WireReader(bytes);
  const args = new Map<string, string>();
  let version: string | undefined;
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === tagOf(1, "bytes")) readStruct(reader, args);
    else if (tag === tagOf(7, "bytes")) version = reader.text();
    else reader.skip(tag);
  }
  return defined({
    model: args.get("served_model_name") ?? args.get("model_path"),
    role: ROLES[args.get("disaggregation_mode") ?? ""],
    version,
  });
}

/** google.protobuf.Struct: fields (1) as map entries of key (1) and value (2), whose string is field 3. */
function readStruct(reader: WireReader, into: Map<string, string>): void {
  const outer = reader.enter();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === tagOf(1, "bytes")) readEntry(reader, into);
    else reader.skip(tag);
  }
  reader.leave(outer);
}

function readEntry(reader: WireReader, into: Map<string, string>): void {
  let key = "";
  const outer = reader.enter();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === tagOf(1, "bytes")) key = reader.text();
    else if (tag === tagOf(2, "bytes") && ALLOWED.has(key)) {
      const inner = reader.enter();
      for (let field = reader.tag(); field !== 0; field = reader.tag()) {
        if (field === tagOf(3, "bytes")) into.set(key, reader.text());
        else reader.skip(field);
      }
      reader.leave(inner);
    } else reader.skip(tag);
  }
  reader.leave(outer);
}

/** vLLM GetServerInfoResponse: kv_role (7). */
function decodeVllmInfo(bytes: Uint8Array): ServerFacts {
  return defined({ role: ROLES[readText(bytes, 7) ?? ""] });
}

function readText(bytes: Uint8Array, field: number): string | undefined {
  const reader = new WireReader(bytes);
  let text: string | undefined;
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === tagOf(field, "bytes")) text = reader.text();
    else reader.skip(tag);
  }
  return text;
}
