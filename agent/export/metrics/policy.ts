// Metrics of quotas: what was charged, used, allowed, and how full each is (METERING.md 5; agent/policy/POLICY.md).
import { genai } from "./conventions.ts";
import type { Metric } from "./metric.ts";
import { count, gauge, info, level, money } from "./rows.ts";

const NAME = "tokenwatt.quota.name";
const QUOTA = [
  NAME,
  "tokenwatt.quota.window",
  "tokenwatt.tenant",
  "tokenwatt.endpoint",
  genai.requestModel,
] as const;
const MONEY = [...QUOTA, "tokenwatt.currency"] as const;
const GATEWAY = ["tokenwatt.gateway.id", "tokenwatt.tenant", "tokenwatt.currency"];
const LIMITER = ["tokenwatt.limiter.name", "tokenwatt.limiter.limit", "tokenwatt.policy.decision"];
const SCOPE = "tokenwatt.quota.scope";
const METHOD = "tokenwatt.method";

const CHARGED = "that counted against the quota; its sum over hosts is the fleet's";
const LIMIT = "What the quota allows in a window: this host's part (host) or all of it (fleet)";
const USED =
  "Used in the current window, by this host or by all that report to one place; quotas overlap, so do not add quotas together";

/** Rows of the policy side of METERING.md 5. */
export const policyMetrics: readonly Metric[] = [
  count("tokenwatt.quota.charged_tokens", "{token}", [...QUOTA, METHOD], `Tokens ${CHARGED}`),
  count("tokenwatt.quota.charged_requests", "{request}", [...QUOTA, METHOD], `Requests ${CHARGED}`),
  money("tokenwatt.quota.charged_cost", [...MONEY, METHOD], `Money at list prices ${CHARGED}`),
  gauge("tokenwatt.quota.limit_tokens", "{token}", [...QUOTA, SCOPE], LIMIT),
  gauge("tokenwatt.quota.limit_requests", "{request}", [...QUOTA, SCOPE], LIMIT),
  gauge("tokenwatt.quota.limit_cost", "{currency}", [...MONEY, SCOPE], LIMIT),
  gauge("tokenwatt.quota.used_tokens", "{token}", [...QUOTA, SCOPE], USED),
  gauge("tokenwatt.quota.used_requests", "{request}", [...QUOTA, SCOPE], USED),
  gauge("tokenwatt.quota.used_cost", "{currency}", [...MONEY, SCOPE], USED),
  gauge("tokenwatt.quota.reset_time", "s", MONEY, "Unix time at which the quota's window ends"),
  level(
    "tokenwatt.quota.state",
    "1",
    [...MONEY, "tokenwatt.quota.state"],
    "1 for the state the quota is in (ok, warn, over, unknown), 0 for the others",
  ),
  count(
    "tokenwatt.policy.decisions",
    "{decision}",
    [NAME, "tokenwatt.quota.window", "tokenwatt.policy.mode", "tokenwatt.policy.decision"],
    "Checks by rate-limit calls, per quota they met: allow, limit, would_limit; unmatched and error name no quota",
  ),
  count(
    "tokenwatt.policy.transitions",
    "{transition}",
    [NAME, "tokenwatt.policy.from", "tokenwatt.policy.to"],
    "Quotas that came from one state into another",
  ),
  gauge(
    "tokenwatt.policy.drift",
    "{token}",
    MONEY,
    "What rate-limit calls charged in the current window, less what the ledger booked; in the quota's own unit",
  ),
  gauge(
    "tokenwatt.policy.silent_keys",
    "{key}",
    [NAME, "tokenwatt.quota.window"],
    "Keys of the quota whose feed has been silent for 5 minutes: rate-limit calls count in its place, or nothing does",
    { number: "int" },
  ),
  gauge(
    "tokenwatt.policy.fleet_age",
    "s",
    [],
    "Age of what is known of the fleet's usage; before anything was, the time since it is asked for",
  ),
  gauge(
    "tokenwatt.gateway.quota.limit_cost",
    "{currency}",
    GATEWAY,
    "What a gateway says it lets a tenant spend",
  ),
  gauge(
    "tokenwatt.gateway.quota.remaining_cost",
    "{currency}",
    GATEWAY,
    "What a gateway says is left of that; below 0 where it is overspent",
  ),
  gauge(
    "tokenwatt.gateway.quota.reset_time",
    "s",
    GATEWAY,
    "Unix time at which the gateway says it begins again",
  ),
  gauge(
    "tokenwatt.gateway.quota.drift_cost",
    "{currency}",
    [...GATEWAY, NAME],
    "What a gateway says is used, less what the quota of the same tenant, money and window counted",
  ),
  count(
    "tokenwatt.limiter.calls",
    "{call}",
    LIMITER,
    "Calls that a rate limiter counted by itself, by how it decided: allow, limit",
  ),
  count(
    "tokenwatt.limiter.hits",
    "{hit}",
    LIMITER,
    "Hits of calls (requests, or tokens where it is told them) that a rate limiter counted by itself: allow, limit, would_limit",
  ),
  info(
    "tokenwatt.policy.info",
    ["tokenwatt.policy.version", "tokenwatt.policy.digest"],
    "1 for the policy in force",
  ),
  gauge(
    "tokenwatt.policy.refused",
    "{policy}",
    [],
    "1 while the policy file as it stands is refused, else 0",
    {
      number: "int",
    },
  ),
];
