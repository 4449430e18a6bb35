// What listens at a port of this host: a metric page or a gRPC service this program can read, or nothing.
// The caller says which ports to look at: those GPU processes listen on, on loopback, or one a pod of this node names, at
// the pod's address; no other is ever asked. Order: /metrics, /v1/metrics (NIM), /prometheus/metrics (trtllm-serve), then gRPC
// by reflection, then the next port, where SGLang's gRPC mode and Triton keep their page: a page says more than a gRPC
// statistic, so it wins. JSON at /metrics is TensorRT-LLM's queue, which reading drains: one request. A llama.cpp router
// answers /metrics without a model by an error and wakes none; it is never asked for one.
import { createPageFetcher } from "../page/fetch.ts";
import { parsePage } from "../page/parse.ts";
import { portOf } from "../platform/address.ts";
import { openChannel } from "../platform/grpc.ts";
import { reflectServices } from "../servers/call/call.ts";
import { mergedBy } from "../servers/page/merged.ts";
import { serverTypes } from "../servers/registry.ts";
import type { ServerType, SourceContext } from "../source.ts";
import { SourceError } from "../source.ts";
import type { Recognised } from "./explain.ts";
import { explainUnknown, recognise } from "./explain.ts";

const TIMEOUT_MS = 2000;
const PATHS = ["/metrics", "/v1/metrics", "/prometheus/metrics"];

/** gRPC services by the type that reads them. */
const SERVICES: Readonly<Record<string, string>> = {
  "tokenwatt.v1.TokenCounters": "token-counters",
  "inference.GRPCInferenceService": "triton-grpc",
  "sglang.grpc.scheduler.SglangScheduler": "get-loads",
  "vllm.grpc.engine.VllmEngine": "get-loads",
  "tokenspeed.grpc.scheduler.TokenSpeedScheduler": "get-loads",
};
const PORT_LAST = 65_535;
const ESTIMATES: readonly string[] = ["triton-grpc", "get-loads"];

/** A server found, as an entry of the configuration would name it. */
export interface Discovered {
  readonly type: string;
  readonly endpoint: string;
  readonly why: string;
}

/** What was asked and what came of it, for `/-/status` and `doctor`. */
export interface Discovery {
  readonly found: Discovered | undefined;
  readonly tried: readonly string[];
  /** Somebody accepted a connection, or a packet was lost: asking again costs them something. */
  readonly listens: boolean;
}

/** Looks at one port of this host, or of a pod on it by its address. Never throws. */
export async function discoverServer(
  port: number,
  context: SourceContext,
  host = "127.0.0.1",
): Promise<Discovery> {
  return discoverAmong([port], context, host, true);
}

/**
 * Looks at several ports of one server and takes one answer: the first page, else the first gRPC service. `beside`: the
 * port after each may be asked, too. Never throws.
 */
export async function discoverAmong(
  ports: readonly number[],
  context: SourceContext,
  host: string,
  beside: boolean,
): Promise<Discovery> {
  const tried: string[] = [];
  let listens = false;
  let estimate: Discovered | undefined;
  for (const port of ports) {
    const page = await discoverPage(`${host}:${port}`, context, tried);
    if (typeof page === "object") return { found: page, tried, listens: true };
    if (page === "silent") continue;
    listens = true;
    const service = await discoverGrpc(`${host}:${port}`, context, tried);
    if (service !== undefined && !isEstimate(service.type)) return { found: service, tried, listens };
    const next =
      beside && port < PORT_LAST ? await discoverPage(`${host}:${port + 1}`, context, tried) : undefined;
    if (typeof next === "object") return { found: next, tried, listens };
    estimate ??= service;
  }
  return { found: estimate, tried, listens };
}

/** The page's server, or whether anybody listens there. */
async function discoverPage(
  address: string,
  context: SourceContext,
  tried: string[],
): Promise<Discovered | "silent" | "no page"> {
  for (const path of PATHS) {
    const url = `http://${address}${path}`;
    const fetcher = createPageFetcher({ url, timeoutMs: TIMEOUT_MS }, context);
    try {
      const found = await fetcher.fetch(({ body }) => {
        const page = parsePage(body);
        return recognise(page) ?? mergedBy(page) ?? explainUnknown(body, page);
      }, context.signal);
      if (typeof found === "object" && found.page.merges !== true)
        return { type: found.type, endpoint: url, why: found.why };
      tried.push(`${url}: ${notTaken(found)}`);
    } catch (error) {
      tried.push(error instanceof Error ? error.message : String(error));
      if (!(error instanceof SourceError)) continue;
      if (error.peer === "nobody") return "silent";
      // Nothing that speaks HTTP: the other paths would say the same.
      if (error.peer === "foreign" || error.peer === "late") break;
    } finally {
      fetcher.close();
    }
  }
  return "no page";
}

/** Why a page is not taken: no type knows it, or its engines are found by themselves and would count twice. */
function notTaken(found: Recognised | string | undefined): string {
  if (typeof found === "object")
    return `${found.type}, whose engines are read themselves; name it under servers.${found.type} to read it instead`;
  return `a metric page of no known server${found === undefined ? "" : `; ${found}`}`;
}

async function discoverGrpc(
  endpoint: string,
  context: SourceContext,
  tried: string[],
): Promise<Discovered | undefined> {
  const target = { target: endpoint };
  const channel = openChannel(target, { "grpc.use_local_subchannel_pool": 1 });
  try {
    const services = await reflectServices({ channel, target, timeoutMs: TIMEOUT_MS, clock: context.clock });
    for (const service of services ?? []) {
      const type = SERVICES[service];
      if (type !== undefined) return { type, endpoint, why: `${service} is reflected` };
    }
    tried.push(
      `grpc://${endpoint}: ${services === undefined ? "no reflection" : `serves ${services.join(", ")}`}`,
    );
  } catch (error) {
    tried.push(`grpc://${endpoint}: ${(error as { details?: string }).details ?? String(error)}`);
  } finally {
    channel.close();
  }
  return undefined;
}

/** Whether servers of this type estimate what a page of the same server counts. */
export function isEstimate(type: string): boolean {
  return ESTIMATES.includes(type);
}

/** The type a discovered server is opened with. */
export function typeOf(found: Discovered): ServerType | undefined {
  return serverTypes.find((type) => type.name === found.type);
}

/** The type of this name where a server of it can be asked: no receiver, and nothing that needs a mapping. */
export function askedType(name: string): ServerType | undefined {
  const asked = serverTypes.filter(
    (type) => type.page !== undefined || Object.values(SERVICES).includes(type.name),
  );
  return asked.find((type) => type.name === name);
}

/** Ports engines listen on where no port is named, as their types know them. */
export function usualPorts(): readonly number[] {
  const endpoints = serverTypes
    .filter(({ family, name, page }) => {
      return family === "engine" && askedType(name) !== undefined && page?.merges !== true;
    })
    .map(({ example }) => String(example["endpoint"] ?? ""));
  const ports = endpoints.flatMap((endpoint) => portOf(endpoint) ?? []);
  return [...new Set(ports)];
}

/** The type that reads what a gRPC peer reflects, if one does. */
export function typeOfServices(services: readonly string[]): string | undefined {
  return services.map((service) => SERVICES[service]).find((type) => type !== undefined);
}
