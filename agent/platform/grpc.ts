// The one door to gRPC: channels with our keepalive and size rules, and our .proto files as service definitions.
// Keepalive stays at 30 s or more because vLLM's server answers faster pings with GOAWAY (facts: smg servicer, 10 s
// minimum); reconnects are capped at 30 s because grpc-js backs off up to 120 s by default.
import { fileURLToPath } from "node:url";
import type {
  ChannelCredentials,
  ChannelOptions,
  GrpcObject,
  ServiceClientConstructor,
  ServiceDefinition,
} from "@grpc/grpc-js";
import { Client, credentials, loadPackageDefinition, Metadata } from "@grpc/grpc-js";
import { isFault, isLoopbackHost, parseHostPort, withoutResolver } from "./address.ts";
import { readFileOf, readTextOf } from "./files.ts";

/** What the rooms need to name of grpc-js, which no other file may load. */
export type {
  CallOptions,
  ClientReadableStream,
  ClientUnaryCall,
  handleClientStreamingCall,
  handleServerStreamingCall,
  handleUnaryCall,
  ServerInterceptor,
  ServerReadableStream,
  ServerUnaryCall,
  ServerWritableStream,
  ServiceDefinition,
  ServiceError,
  sendUnaryData,
} from "@grpc/grpc-js";
export {
  Client,
  Metadata,
  Server,
  ServerCredentials,
  ServerInterceptingCall,
  ServerListenerBuilder,
  status,
} from "@grpc/grpc-js";

/** Where and how to reach a gRPC peer. Files are read when a channel is opened, so rotation needs a reconnect. */
export interface GrpcTarget {
  /** `host:port`, `dns:///...` or `unix:/path`. */
  readonly target: string;
  /** Absent = plaintext. `true` = TLS with the system's roots. */
  readonly tls?: true | { readonly caFile?: string; readonly certFile?: string; readonly keyFile?: string };
  /** A file whose content is sent as `authorization: Bearer <content>`. */
  readonly bearerFile?: string;
  /** Extra metadata on each call. */
  readonly headers?: Readonly<Record<string, string>>;
  /** A file of further metadata, a `name: value` per line. */
  readonly headersFile?: string;
  /** Largest message accepted, bytes; default 16 MiB. */
  readonly receiveBytesMax?: number;
}

const CHANNEL: ChannelOptions = {
  "grpc.keepalive_time_ms": 30_000,
  "grpc.keepalive_timeout_ms": 10_000,
  "grpc.keepalive_permit_without_calls": 0,
  "grpc.initial_reconnect_backoff_ms": 500,
  "grpc.max_reconnect_backoff_ms": 30_000,
};

/** Opens a channel; it connects at the first call. Throws when a certificate file cannot be read. */
export function openChannel(target: GrpcTarget, options: ChannelOptions = {}): Client {
  return new Client(target.target, channelCredentials(target), {
    ...CHANNEL,
    "grpc.max_receive_message_length": target.receiveBytesMax ?? 16 * 1024 * 1024,
    ...(isLoopback(target.target) ? { "grpc.enable_http_proxy": 0 } : {}),
    ...options,
  });
}

/** Whether a target is this host, each address of it: grpc-js would ask a proxy of the environment for that too. */
function isLoopback(target: string): boolean {
  return withoutResolver(target)
    .replace(/^\/+/, "")
    .split(",")
    .every((address) => {
      const place = parseHostPort(address, { defaultPort: 443 });
      return isLoopbackHost(isFault(place) ? address : place.host);
    });
}

/**
 * The proxy, without credentials, through which grpc-js reaches a target: it honours `grpc_proxy`, `https_proxy` and
 * `http_proxy`, in this order, but for names of `no_grpc_proxy` or `no_proxy`. Undefined where it connects itself.
 */
export function proxyOf(
  target: string,
  env: Readonly<Record<string, string | undefined>>,
): string | undefined {
  const proxy = env["grpc_proxy"] || env["https_proxy"] || env["http_proxy"];
  if (!proxy || target.startsWith("unix:") || isLoopback(target) || !URL.canParse(proxy)) return undefined;
  const host = /^(?:dns:\/*)?(?:\[(.+)\]|([^:]+))(?::\d+)?$/.exec(target);
  const name = host?.[1] ?? host?.[2] ?? target;
  const direct = (env["no_grpc_proxy"] || env["no_proxy"] || "").split(",");
  if (direct.some((one) => one !== "" && name.endsWith(one))) return undefined;
  return new URL(proxy).host;
}

/** What grpc-js looks for when a channel is made. */
const PROXIES = ["grpc_proxy", "https_proxy", "http_proxy"] as const;

/**
 * Runs what makes a channel that is not ours (the OpenTelemetry SDK's). Where its target is this host it sees no proxy: what
 * it does before it first waits, that is, and a channel is made in that.
 */
export function withoutProxyTo<Result>(
  target: string,
  make: () => Result,
  env: Record<string, string | undefined> = process.env,
): Result {
  const set = PROXIES.flatMap((name) => (env[name] === undefined ? [] : [[name, env[name]] as const]));
  if (set.length === 0 || !isLoopback(target)) return make();
  for (const [name] of set) delete env[name];
  try {
    return make();
  } finally {
    for (const [name, value] of set) env[name] = value;
  }
}

/**
 * The metadata of one call: configured headers, those of files read again, so that they can be rotated. Throws when a file
 * cannot be read or a value cannot be sent, and does not tell the value.
 */
export function callMetadata({ bearerFile, headers, headersFile }: GrpcTarget): Metadata {
  const metadata = new Metadata();
  for (const [key, value] of Object.entries(headers ?? {})) setSecret(metadata, key, value, "headers");
  if (headersFile !== undefined) {
    for (const line of readTextOf(headersFile).split("\n")) {
      const colon = line.indexOf(":");
      if (colon <= 0) continue;
      setSecret(metadata, line.slice(0, colon).trim(), line.slice(colon + 1).trim(), headersFile);
    }
  }
  if (bearerFile !== undefined) {
    setSecret(metadata, "authorization", `Bearer ${readTextOf(bearerFile).trim()}`, bearerFile);
  }
  return metadata;
}

/** The library's own error quotes name and value. */
function setSecret(metadata: Metadata, key: string, value: string, from: string): void {
  try {
    metadata.set(key, value);
  } catch {
    throw new Error(`Cannot send metadata of ${from}: a name or value is not printable ASCII on one line`);
  }
}

/** The folder of our .proto files, beside agent/ in the source tree and beside the bundle when packed. */
const protoFolder = fileURLToPath(new URL("../../proto", import.meta.url));

/**
 * The definition of a service in `proto/<file>`, by full name, for clients and servers. 64-bit integers arrive as
 * strings, absent scalars as their defaults; rejects when the file or the service does not exist. The
 * loader (10 MB) is brought in by the first call only.
 */
export async function serviceDefinition(file: string, service: string): Promise<ServiceDefinition> {
  const { loadSync } = await import("@grpc/proto-loader");
  const loaded = loadPackageDefinition(
    loadSync(file, {
      includeDirs: [protoFolder],
      longs: String,
      enums: String,
      defaults: true,
      oneofs: true,
      arrays: true,
      objects: true,
    }),
  );
  let node: unknown = loaded;
  for (const part of service.split(".")) node = (node as GrpcObject)?.[part];
  if (typeof node !== "function") throw new Error(`Cannot find service ${service} in ${protoFolder}/${file}`);
  return (node as ServiceClientConstructor).service;
}

/** The credentials of a target, for clients that open their own channel. Throws when a file cannot be read. */
export function channelCredentials(target: GrpcTarget): ChannelCredentials {
  if (target.tls === undefined) return credentials.createInsecure();
  if (target.tls === true) return credentials.createSsl();
  const read = (path: string | undefined): Buffer | null => (path === undefined ? null : readFileOf(path));
  return credentials.createSsl(read(target.tls.caFile), read(target.tls.keyFile), read(target.tls.certFile));
}
