// Policies and series for tests of quotas.
import type { Dimensions } from "../../agent/model.ts";
import type { Policy } from "../../agent/policy/config.ts";
import { policyFile, policyOf } from "../../agent/policy/config.ts";
import type { QuotaFeed } from "../../agent/policy/states.ts";

/** Feeds that are read, and that are not there. */
export const [fed, unfed]: readonly [QuotaFeed, QuotaFeed] = [
  { isFed: true, failingSince: undefined },
  { isFed: false, failingSince: undefined },
];

/** A policy of these quotas; what a quota leaves out has the file's defaults. */
export function policyWith(quotas: readonly Readonly<Record<string, unknown>>[], more = {}): Policy {
  const filled = quotas.map((one, index) => ({
    name: `q${index}`,
    count: "tokens",
    limit: 1000,
    per: "hour",
    ...one,
  }));
  return policyOf(policyFile.parse({ version: "1", ...more, quotas: filled }), "text");
}

/** The attributes of a gateway's series of tokens. */
export function gatewaySeries(
  tenant: string,
  {
    endpoint = "unknown",
    kind = "output",
    model = "m",
    outcome = "ok",
    ...more
  }: Record<string, string> = {},
): Dimensions {
  return {
    "tokenwatt.gateway.id": "g",
    "tokenwatt.tenant": tenant,
    "tokenwatt.endpoint": endpoint,
    "gen_ai.request.model": model,
    "tokenwatt.token.kind": kind,
    "tokenwatt.outcome": outcome,
    ...more,
  };
}
