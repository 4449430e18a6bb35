// `/-/policy` and `tokenwatt policy show`: every quota as of the last committed beat, as JSON. Keys are snake_case.
// Tenants are shown only where /metrics may show them; how many entries that left out is said.
import type { Policy } from "./config.ts";
import type { LimitCompared } from "./gateway-limits.ts";
import { limitsPage } from "./gateway-limits.ts";
import type { LimiterShown } from "./limiters/shown.ts";
import { limitersPage } from "./limiters/shown.ts";
import type { QuotaReading } from "./states.ts";

/** What the page is made from. */
export interface PolicyShown {
  readonly policy: Policy;
  /** When this policy came into force, unix milliseconds. */
  readonly loadedMillis: number;
  readonly readings: readonly QuotaReading[];
  /** What gateways say they enforce by themselves. */
  readonly limits?: readonly LimitCompared[];
  /** What rate limiters decided. */
  readonly limiters?: readonly LimiterShown[];
}

/** The page as an object. */
export function policyPage(
  { limiters = [], limits = [], loadedMillis, policy, readings }: PolicyShown,
  withTenants: boolean,
): Readonly<Record<string, unknown>> {
  const shown = readings.filter(({ quota }) => withTenants || quota.match.tenant === undefined);
  return {
    version: policy.version,
    digest: policy.digest,
    time_zone: policy.zone,
    loaded: new Date(loadedMillis).toISOString(),
    quotas: shown.map(readingPage),
    hidden: readings.length - shown.length,
    gateways: limitsPage(limits),
    limiters: limitersPage(limiters, withTenants),
  };
}

/** One quota's counter as an object. */
export function readingPage(reading: QuotaReading): Readonly<Record<string, unknown>> {
  const { basis, drift, fleet, isComplete, method, quota, silentSince, since, state, used, values, window } =
    reading;
  const amount = (fine: bigint | undefined): number | null =>
    fine === undefined ? null : Number(fine) / quota.scale;
  return {
    name: quota.name,
    mode: quota.mode,
    count: quota.count,
    currency: quota.currency ?? null,
    per: quota.per,
    window: { from: iso(window.from), to: iso(window.to) },
    key: { ...quota.match, ...values },
    used: amount(used),
    method,
    limit: amount(quota.hostLimit),
    scope: "host",
    limit_fleet: quota.limit,
    // What all hosts used, where a Prometheus is asked; not fresh: too old for the state to follow it.
    fleet:
      fleet === undefined
        ? null
        : {
            used: amount(fleet.used),
            limit: quota.limit,
            hosts: fleet.hosts,
            age_seconds: Math.round(fleet.ageSeconds),
            fresh: fleet.isFresh,
          },
    state,
    basis,
    since: since === 0 ? null : iso(since),
    drift: amount(drift),
    // Longer than a feed is silent by itself: what the ledger lacks meanwhile is not known, or by calls alone.
    feed_silent_since: silentSince === undefined ? null : iso(silentSince),
    // False: the count began inside the window, or what feeds it is silent: `used` is what is known of it.
    whole_window: isComplete,
  };
}

function iso(millis: number): string {
  return new Date(millis).toISOString();
}
