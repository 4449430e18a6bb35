// otlp.accepts: whether each OTLP destination takes an empty export, with our credentials and certificates.
// An empty ExportMetricsServiceRequest is zero bytes long and books nothing anywhere.
import type { Destination } from "../../export/otlp/config.ts";
import { destinations } from "../../export/otlp/config.ts";
import type { Delivery } from "../../export/otlp/transport.ts";
import { grpcTransport } from "../../export/otlp/transport.ts";
import { proxyOf } from "../../platform/grpc.ts";
import type { Check, CheckContext, Finding } from "./check.ts";
import { reasonOf, within } from "./check.ts";

const ID = "otlp.accepts";
const SEND_MS = 5000;

/** Sends an empty request to each destination. */
export const collectorCheck: Check = {
  ids: [ID],
  run: async (context) => {
    if (context.loaded === undefined) return [];
    const targets = destinations(context.loaded.config.export.otlp);
    if (targets.length === 0)
      return [{ id: ID, verdict: "skip", seen: "export.otlp.endpoint is off: nothing is sent" }];
    return Promise.all(targets.map((target) => judge(context, target)));
  },
};

async function judge(context: CheckContext, destination: Destination): Promise<Finding> {
  const base = { id: ID, subject: destination.name };
  const proxy = proxyOf(destination.target.target, context.env);
  const address = `${destination.target.target}${proxy === undefined ? "" : ` through the proxy ${proxy}`}`;
  const transport = grpcTransport(destination.target, { gzip: destination.gzip, clock: context.clock });
  const stop = new AbortController();
  try {
    const sent = transport.send(new Uint8Array(0), stop.signal);
    const delivery = await within(context, SEND_MS, `an empty export to ${address}`, sent);
    if (delivery.kind === "accepted" || delivery.kind === "partial") {
      return { ...base, verdict: "ok", seen: `${address} accepts metrics` };
    }
    return {
      ...base,
      verdict: "fail",
      seen: describe(address, delivery),
      remedy: remedyFor(delivery),
    };
  } catch (error) {
    const remedy = `is a Collector with an OTLP/gRPC receiver listening on ${address}, and may this host reach it?`;
    return { ...base, verdict: "fail", seen: reasonOf(error).seen, remedy };
  } finally {
    stop.abort();
    transport.close();
  }
}

function describe(address: string, delivery: Delivery): string {
  const code = "code" in delivery ? delivery.code : delivery.kind;
  const message = "message" in delivery ? delivery.message.replace(/\s*Resolution note:\s*$/, "") : "";
  if (code === "UNAVAILABLE" && message.includes("ECONNREFUSED")) return `nothing listens at ${address}`;
  return `${address} answers ${message === "" ? code : `${code}: ${message}`}`;
}

function remedyFor(delivery: Delivery): string {
  const code = "code" in delivery ? delivery.code : "";
  return REMEDIES[code] ?? "look at the receiver's log";
}

const REMEDIES: Readonly<Record<string, string>> = {
  UNAVAILABLE:
    "nothing accepts the connection: check address, port 4317, firewall, and http:// against https://",
  DEADLINE_EXCEEDED: "nothing answers: check address, port 4317 and firewall",
  UNAUTHENTICATED: "set export.otlp.bearerFile or export.otlp.headers to what the receiver wants",
  PERMISSION_DENIED:
    "the credentials are known but may not write metrics: check the receiver's tenant and roles",
  UNIMPLEMENTED: "the receiver has no OTLP metrics service at this address: add metrics to its otlp pipeline",
  LOCAL: "a file named under export.otlp cannot be read",
};
