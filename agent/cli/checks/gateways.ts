// server.gateway: how each configured gateway is kept from being counted by several hosts (METERING.md 3), and whether two
// entries of this configuration read the same one. What other hosts read cannot be known here: the alert GatewayReadTwice
// compares the run each of them shows in tokenwatt.gateway.info.
import { configuredServers } from "../../config/load.ts";
import { ownerElsewhere } from "../../config/open-server.ts";
import type { ServerInfo } from "../../model.ts";
import type { ServerType } from "../../source.ts";
import type { Check, CheckContext, Finding } from "./check.ts";

const ID = "server.gateway";
const SCOPES =
  "`owner` (the host that reads it) or `upstreams` (the servers of this host) in its entry makes every token count once; " +
  "deploy/docs/install.md, One gateway, many hosts";

/** Says for each configured gateway which rule is in force. */
export const gatewaysCheck: Check = {
  ids: [ID],
  run: async (context) => {
    if (context.loaded === undefined) return [];
    const known = new Map<string, string>();
    return configuredServers(context.loaded.config).flatMap(({ type, entry, path }) => {
      const info = infoOf(context, type, entry);
      if (info?.family !== "gateway") return [];
      return [judge(context, { info, entry, path }, known)];
    });
  },
};

interface Gateway {
  readonly info: ServerInfo;
  readonly entry: unknown;
  readonly path: string;
}

function judge(context: CheckContext, { entry, info, path }: Gateway, known: Map<string, string>): Finding {
  const { id, scope } = info.gateway ?? { id: info.id, scope: "all" };
  const base = { id: ID, subject: info.id, facts: { gateway: id, scope } };
  const names = (context.hostNames ?? []).join(", ");
  const twin = scope === "upstreams" ? undefined : known.get(id);
  known.set(id, path);
  if (twin !== undefined) {
    const seen = `${twin} and ${path} both read gateway ${id}: its tokens count twice`;
    return { ...base, verdict: "fail", seen, remedy: "take one of the two entries out" };
  }
  const owner = ownerElsewhere(entry, context.hostNames ?? []);
  if (owner !== undefined)
    return { ...base, verdict: "ok", seen: `read by its owner ${owner}, not by this host (${names})` };
  if (scope === "owner")
    return { ...base, verdict: "ok", seen: `read by this host alone, its owner (${names})` };
  if (scope === "upstreams") {
    const only = (entry as { readonly upstreams: readonly string[] }).upstreams.join(", ");
    return { ...base, verdict: "ok", seen: `counts only what ${only} answered, as part of ${id}` };
  }
  if (id.includes(`@${context.hostNames?.[0] ?? ""}/`))
    return { ...base, verdict: "ok", seen: `reached at an address of this host alone: ${info.address}` };
  const seen = `counts everything of gateway ${id}; each further host with this entry counts it again`;
  return { ...base, verdict: "warn", seen, remedy: SCOPES };
}

/** What an entry would be known as; undefined where it cannot be opened, which server.reachable says. */
function infoOf(context: CheckContext, type: ServerType, entry: unknown): ServerInfo | undefined {
  try {
    const source = type.open(entry, context);
    source.close().catch(() => {});
    return source.info;
  } catch {
    return undefined;
  }
}
