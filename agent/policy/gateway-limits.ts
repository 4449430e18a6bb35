// What gateways enforce by themselves, set beside our quotas: never taken over, and compared only where both mean the same:
// money of one currency and tenant, in windows that end together. A gateway speaks of all it serves, so our own usage is
// compared where this host counts all of it, or what all hosts used is known.
import type { QuotaReading } from "./states.ts";

/** A budget as a gateway says it. */
export interface LimitSeen {
  readonly gateway: string;
  /** As an attribute value. */
  readonly tenant: string;
  readonly currency: string;
  readonly limit: number;
  readonly remaining: number | undefined;
  readonly resetsMillis: number | undefined;
}

/** A budget beside ours. */
export interface LimitCompared extends LimitSeen {
  /** The quota it can be compared with. */
  readonly quota: string | undefined;
  /** In what the two differ; undefined where there is nothing to compare. */
  readonly differs: readonly ("limit" | "used")[] | undefined;
  /** What the gateway says is used, less what we counted. */
  readonly drift: number | undefined;
}

/** Key of the row of the stored state that keeps them, as JSON, for who reads the ledger. */
export const gatewayLimitsKey = '["gateway-limits"]';
/** Windows end together when their ends are this close: a gateway tells its own in hours, and not at each moment. */
const END_MILLIS = 3_600_000;
const LIMIT_SHARE = 1e-9;
const USED_SHARE = 0.02;

/** Each budget with the quota that means the same, and in what they differ. */
export function compareLimits(
  seen: readonly LimitSeen[],
  readings: readonly QuotaReading[],
): readonly LimitCompared[] {
  const byCustomer = new Map<string, QuotaReading[]>();
  for (const reading of readings) {
    const { count, currency, match } = reading.quota;
    const tenant = reading.values.tenant ?? match.tenant;
    if (count !== "cost" || tenant === undefined || match.model !== undefined || match.endpoint !== undefined)
      continue;
    const key = customerKey(tenant, currency ?? "");
    byCustomer.set(key, [...(byCustomer.get(key) ?? []), reading]);
  }
  return seen.map((one) => {
    const ours = byCustomer
      .get(customerKey(one.tenant, one.currency))
      ?.find((each) => endTogether(one, each));
    return ours === undefined
      ? { ...one, quota: undefined, differs: undefined, drift: undefined }
      : compared(one, ours);
  });
}

function customerKey(tenant: string, currency: string): string {
  return JSON.stringify([tenant, currency]);
}

function endTogether({ resetsMillis }: LimitSeen, { window }: QuotaReading): boolean {
  const near = Math.min(END_MILLIS, (window.to - window.from) / 10);
  return resetsMillis !== undefined && Math.abs(resetsMillis - window.to) <= near;
}

function compared(one: LimitSeen, { fleet, isComplete, quota, used }: QuotaReading): LimitCompared {
  const ofAll = fleet?.isFresh === true ? fleet.used : quota.hostShare === 1 ? used : undefined;
  const isKnown = one.remaining !== undefined && ofAll !== undefined && isComplete;
  const drift = isKnown ? one.limit - (one.remaining ?? 0) - Number(ofAll) / quota.scale : undefined;
  const differs: ("limit" | "used")[] = [];
  if (Math.abs(one.limit - quota.limit) > LIMIT_SHARE * quota.limit) differs.push("limit");
  if (drift !== undefined && Math.abs(drift) > USED_SHARE * quota.limit) differs.push("used");
  return { ...one, quota: quota.name, differs, drift };
}

/** Budgets as `/-/policy` and `policy show --json` give them. */
export function limitsPage(limits: readonly LimitCompared[]): readonly Readonly<Record<string, unknown>>[] {
  return limits.map(
    ({ currency, differs, drift, gateway, limit, quota, remaining, resetsMillis, tenant }) => ({
      gateway,
      tenant,
      currency,
      limit,
      remaining: remaining ?? null,
      resets: resetsMillis === undefined ? null : new Date(resetsMillis).toISOString(),
      quota: quota ?? null,
      differs: differs ?? null,
      drift: drift ?? null,
    }),
  );
}
