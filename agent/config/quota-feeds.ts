// Whether what a policy counts can be counted by what a configuration reads: quotas that nothing feeds, tenants that no gateway
// names, kinds of tokens that never come, a currency that no price is in. Said, and no reason to refuse the file: calls may
// charge what no feed counts, and a server may be added later.
import type { Catalogue } from "../meter/money/catalogue.ts";
import type { Family } from "../model.ts";
import type { MatchKey, Policy, Quota } from "../policy/config.ts";
import { tokenFactor } from "../policy/config.ts";
import type { Unsaid } from "../source.ts";
import type { Config } from "./load.ts";
import { configuredServers } from "./load.ts";

/** A server as quotas see it. */
interface QuotaSource {
  /** Where it stands in the configuration: `servers.kong[0]`. */
  readonly place: string;
  readonly family: Family;
  readonly unsaid: readonly Unsaid[];
}

/** The servers of a configuration as quotas see them. */
function quotaSources(config: Config): readonly QuotaSource[] {
  return configuredServers(config).map(({ entry, path, type }) => {
    const own = (entry as { readonly family?: Family }).family;
    return { place: path, family: own ?? type.family ?? "engine", unsaid: type.unsaid?.(entry) ?? [] };
  });
}

/** The families of the servers a configuration names. */
export function configuredFamilies(config: Config): ReadonlySet<Family> {
  return new Set(quotaSources(config).map(({ family }) => family));
}

/** What a policy can never count in this configuration, a sentence each. */
export function policyWarnings(
  { quotas }: Policy,
  config: Config,
  catalogue: Catalogue | undefined,
): readonly string[] {
  const sources = quotaSources(config);
  const isDiscovering = config.discovery.enabled || config.discovery.kubernetes !== "off";
  return quotas.flatMap((quota) => {
    const own = sources.filter(({ family }) => family === quota.source);
    const said =
      own.length === 0
        ? [nothingFeeds(quota, isDiscovering)]
        : // Engines that discovery finds may say more than those that are named.
          quota.source === "engine" && isDiscovering
          ? []
          : [...keysUnsaid(quota, own), ...kindsUnsaid(quota, own)];
    return [...said, ...currencyUnsaid(quota, catalogue)].map((text) => `quota ${quota.name} ${text}`);
  });
}

function nothingFeeds({ source }: Quota, isDiscovering: boolean): string {
  if (source === "gateway")
    return "counts from gateways and none is configured: it can only read what RLS calls charge";
  const found = isDiscovering ? ": it counts those that discovery finds" : ", and discovery is off";
  return `counts from engines and none is configured${found}`;
}

const howToSay: Readonly<Record<"tenant" | "endpoint", string>> = {
  tenant: "tenantLabel (a page), tenantAttribute (OTLP) or tenantHeader (access log)",
  endpoint: "productEndpoint, or endpointLabel of a page",
};

/** Keys that every source leaves out: all usage counts under `unknown`, that of a named tenant never. */
function keysUnsaid({ match }: Quota, own: readonly QuotaSource[]): readonly string[] {
  return (["tenant", "endpoint"] as const).flatMap((key: MatchKey & keyof typeof howToSay) => {
    const wanted = match[key];
    if (wanted === undefined || !own.every(({ unsaid }) => unsaid.includes(key))) return [];
    const effect = wanted === "*" ? "all of it counts as unknown" : "it counts nothing";
    return [`matches by ${key} and ${placesOf(own)} names none: ${effect}; set ${howToSay[key]} there`];
  });
}

/** Kinds of tokens that weigh something and never come, or come and weigh nothing. */
function kindsUnsaid(quota: Quota, own: readonly QuotaSource[]): readonly string[] {
  if (quota.count === "requests") return [];
  if (own.every(({ unsaid }) => unsaid.includes("tokens")))
    return [`counts ${quota.count} and ${placesOf(own)} publishes requests alone: it counts nothing`];
  if (quota.count !== "weighted") return [];
  const unsplit = own.filter(({ unsaid }) => unsaid.includes("cached input"));
  const weighsInput = tokenFactor(quota, "input_uncached") > 0 || tokenFactor(quota, "input_cached") > 0;
  if (unsplit.length === 0 || !weighsInput || tokenFactor(quota, "input_unsplit") > 0) return [];
  return [
    `gives input_unsplit no weight and ${placesOf(unsplit)} never splits its input: all of that counts 0; add a weight for it`,
  ];
}

function currencyUnsaid({ count, currency }: Quota, catalogue: Catalogue | undefined): readonly string[] {
  if (count !== "cost" || catalogue === undefined) return [];
  if (catalogue.tokens.length === 0) return ["counts cost and the price file has no price of a token"];
  if (catalogue.currency === currency) return [];
  return [`counts ${currency} and the price file has ${catalogue.currency}: it counts nothing`];
}

function placesOf(sources: readonly QuotaSource[]): string {
  const names = sources.map(({ place }) => place);
  return names.length <= 3
    ? names.join(" and ")
    : `${names.slice(0, 2).join(", ")} and ${names.length - 2} more`;
}
