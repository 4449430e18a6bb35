// What this host is called in what it exports: how an entry's `owner` is matched, and what a gateway's id begins with
// where its address means another server on every host.
import type { Config } from "../config/load.ts";
import { agentResource } from "../export/otlp/resource.ts";
import { hostIdentity } from "../host/inventory.ts";

/** `host.name`, and `k8s.node.name` where it is another, as the resource of the exports has them. */
export function hostNames(
  config: Pick<Config, "resource">,
  env: Readonly<Record<string, string | undefined>>,
): readonly string[] {
  const facts = { hostName: hostIdentity().hostName, instanceId: "none" };
  const resource = agentResource({ env, facts, configured: config.resource });
  const names = [resource["host.name"], resource["k8s.node.name"]];
  return [...new Set(names.filter((name): name is string => typeof name === "string"))];
}
