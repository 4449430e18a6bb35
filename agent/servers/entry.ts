// What every entry under `servers.<type>` may say, whatever the type: name, placement, labels, transport security.
// Addresses are checked here so that a typo is refused at start with its path, not found at the first poll. And what an
// HTTP status says of a request, for the gateways that publish one.
import { z } from "zod";
import type { Family, GatewayScope, Outcome, ServerInfo } from "../model.ts";
import type { Parsed } from "../platform/address.ts";
import {
  addressText,
  parseHostPort,
  parseUnixSocket,
  portOf,
  serverName,
  shownAddress,
  withoutResolver,
} from "../platform/address.ts";
import type { GrpcTarget } from "../platform/grpc.ts";
import { headerTexts } from "../platform/headers.ts";
import { callTls } from "../platform/tls.ts";
import { SourceError } from "../source.ts";

/** Keys of an entry that counts for customers: a gateway is one, and many hosts could read it (METERING.md 3). */
const gatewayFields = {
  /** Its name in `tokenwatt.gateway.id`, the same on every host that reads it; default its address. */
  gatewayId: z.string().min(1).max(200).optional(),
  /** The one host that reads it, by its `host.name` or `k8s.node.name`; the others leave it alone. */
  owner: z.string().min(1).optional(),
  /** Counts only what these upstreams answered, as address or address:port: those of this host. */
  upstreams: z.array(z.string().min(1)).min(1).optional(),
};

/** An index would not do: after a restart of the host it may be another GPU's. */
const GPU_UUID = "the UUID of a GPU; `nvidia-smi -L` prints them";

/** Keys of every entry: its name, where it runs (rung 1 of METERING.md 4), what its labels mean. */
export const commonFields = {
  /** Name in every metric; default `vllm:8000` on this host, `vllm@gpu7:8000` elsewhere. */
  id: z.string().min(1).max(200).optional(),
  gpus: z.array(z.string({ error: GPU_UUID }).regex(/^(GPU|MIG)-[\w/-]+$/i, { error: GPU_UUID })).optional(),
  pids: z.array(z.int().positive()).optional(),
  unit: z.string().min(1).optional(),
  cgroup: z.string().min(1).optional(),
  /** The Kubernetes pod it runs in; found by discovery where the kubelet knows it. */
  pod: z
    .strictObject({
      namespace: z.string().min(1),
      name: z.string().min(1),
      uid: z.string().min(1).optional(),
    })
    .optional(),
  /** The product endpoint a customer calls, where the server does not say. */
  productEndpoint: z.string().min(1).optional(),
  ...gatewayFields,
  /** Name in the server's labels -> served model. */
  modelAliases: z.record(z.string(), z.string().min(1)).optional(),
};

/** TLS as in `tls: true` or `tls: {caFile, certFile, keyFile}`. */
export const tlsField = z.union([z.literal(true), callTls]);

/** Keys of every entry that is reached over gRPC. */
export const grpcFields = {
  ...commonFields,
  endpoint: addressText(parseGrpcAddress),
  tls: tlsField.optional(),
  bearerFile: z.string().min(1).optional(),
  headers: headerTexts.optional(),
  /** A file of further metadata, a `name: value` per line, read again for each call. */
  headersFile: z.string().min(1).optional(),
  receiveBytesMax: z
    .int()
    .positive()
    .max(256 * 1024 * 1024)
    .optional(),
};

/** What the fields of every entry come to. */
export interface CommonEntry {
  readonly id?: string | undefined;
  readonly endpoint: string;
  readonly gpus?: readonly string[] | undefined;
  readonly pids?: readonly number[] | undefined;
  readonly unit?: string | undefined;
  readonly cgroup?: string | undefined;
  readonly pod?:
    | { readonly namespace: string; readonly name: string; readonly uid?: string | undefined }
    | undefined;
  readonly productEndpoint?: string | undefined;
  readonly gatewayId?: string | undefined;
  readonly owner?: string | undefined;
  readonly upstreams?: readonly string[] | undefined;
  readonly modelAliases?: Readonly<Record<string, string>> | undefined;
}

/** What the fields of a gRPC entry come to. */
export interface GrpcEntry extends CommonEntry {
  readonly tls?: z.output<typeof tlsField> | undefined;
  readonly bearerFile?: string | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly headersFile?: string | undefined;
  readonly receiveBytesMax?: number | undefined;
}

/** The server an entry describes. `hostNames`: what this host is called, for what only it can reach. */
export function serverInfo(
  type: string,
  family: Family,
  entry: CommonEntry,
  pollMs: number,
  hostNames: readonly string[] = [],
): ServerInfo {
  return {
    id: entry.id ?? serverName(type, entry.endpoint),
    type,
    family,
    address: shownAddress(entry.endpoint),
    pollMs,
    ...defined({
      port: portOf(entry.endpoint),
      gpus: entry.gpus,
      pids: entry.pids,
      unit: entry.unit,
      cgroup: entry.cgroup,
      pod: entry.pod,
      endpoint: entry.productEndpoint,
    }),
    gateway: gatewayScope(type, entry, hostNames[0]),
  };
}

/**
 * Which gateway an entry reads, and under which rule. Without a name of its own it is its address, with the host's name
 * before one that means another server on every host: loopback, a socket, all addresses.
 */
function gatewayScope(type: string, entry: CommonEntry, hostName: string | undefined): GatewayScope {
  const address = shownAddress(entry.endpoint);
  const host = hostName !== undefined && isOfThisHost(entry.endpoint) ? `${hostName}/` : "";
  const scope = entry.owner !== undefined ? "owner" : entry.upstreams !== undefined ? "upstreams" : "all";
  return { id: entry.gatewayId ?? `${type}@${host}${address}`, scope };
}

/** Whether an address means another server on every host. */
function isOfThisHost(endpoint: string): boolean {
  const place = endpoint.replace(/^[a-z]+:\/\//i, "");
  return /^(unix:|localhost\b|127\.|\[::1?\]|0\.0\.0\.0)/i.test(place) || endpoint.startsWith("unix:");
}

/**
 * Throws SourceError (misconfigured) where an entry asks for what its type cannot do: `owner` or `upstreams` of an engine,
 * which only its own host reads, or `upstreams` where records do not say who answered.
 */
export function checkGatewayScope(
  type: string,
  family: Family,
  entry: CommonEntry,
  upstreams: "told" | "untold",
): void {
  const wanted = (["owner", "upstreams"] as const).filter((key) => entry[key] !== undefined);
  const place = `servers.${type} (${shownAddress(entry.endpoint)})`;
  if (family === "engine" && wanted.length > 0) {
    throw new SourceError(
      "misconfigured",
      `Cannot use ${wanted.join(" and ")} at ${place}: it is an engine`,
      {
        hint: "an engine is read by the agent of its own host; these keys are for gateways",
      },
    );
  }
  if (entry.upstreams === undefined || upstreams === "told") return;
  throw new SourceError("misconfigured", `Cannot use upstreams at ${place}: it does not say who answered`, {
    hint: "name the label or attribute that does (upstreamLabel, upstreamAttribute), or let one host read it: owner",
  });
}

/** Whether one of the wanted upstreams answered: as address, or address:port, with or without http:// before it. */
export function isUpstream(upstream: string | undefined, wanted: readonly string[] | undefined): boolean {
  if (wanted === undefined) return true;
  if (upstream === undefined) return false;
  const place = upstream.replace(/^https?:\/\//, "").replace(/\/.*$/, "");
  const host = place.replace(/:\d+$/, "");
  return wanted.some((each) => each === upstream || each === place || each === host);
}

/** How to reach a gRPC entry. */
export function grpcTarget(entry: GrpcEntry): GrpcTarget {
  const { tls, bearerFile, headers, headersFile, receiveBytesMax } = entry;
  return {
    target: entry.endpoint,
    ...defined({
      tls: tls === undefined || tls === true ? tls : defined(tls),
      bearerFile,
      headers,
      headersFile,
      receiveBytesMax,
    }),
  };
}

/** `host:port`, `[::1]:port`, either behind a resolver's name (`dns:///host:port`), or `unix:/path`. */
export function parseGrpcAddress(text: string): Parsed {
  return parseUnixSocket(text) ?? parseHostPort(withoutResolver(text), { examplePort: 8001 });
}

/** What an HTTP status says of a request. 499 is "client closed the request" (nginx, Envoy). */
export function outcomeOfStatus(status: string | undefined): Outcome {
  if (status === undefined || status.startsWith("2") || status.startsWith("3")) return "ok";
  if (status === "429") return "rejected";
  return status === "499" ? "aborted" : "error";
}

type Defined<T> = { [Key in keyof T]: Exclude<T[Key], undefined> };

/** The object without its undefined members. */
export function defined<T extends object>(object: T): Partial<Defined<T>> {
  const kept: { [Key in keyof T]?: T[Key] } = {};
  for (const key in object) if (object[key] !== undefined) kept[key] = object[key];
  return kept as Partial<Defined<T>>;
}
