// Tenants for people who look: what the committed snapshot holds of each, and how fast it grew over the last minute in which
// somebody looked. Nothing is kept while nobody does, nor where /metrics may not show tenants (export.prometheus.tenants).
import type { ViewTenant } from "../export/page/view.ts";
import type { LedgerSnapshot } from "../model.ts";

const SHOWN_MAX = 50;
const WINDOW_MS = 60_000;
const STEPS_MAX = 12;

interface Sums {
  tokens: number;
  requests: number;
  failed: number;
  nanos: number | undefined;
  millijoules: number | undefined;
  cost: number | undefined;
}

/** What may be shown of tenants; null where nothing may. */
export interface TenantsShown {
  readonly tenants: readonly ViewTenant[] | null;
  readonly leftOut: number;
}

/** Follows the tenants of committed snapshots while it is asked. */
export class TenantWatch {
  readonly #allowed: boolean;
  readonly #snapshot: () => LedgerSnapshot | undefined;
  #steps: {
    readonly unixMs: number;
    readonly askedMs: number;
    readonly tokens: ReadonlyMap<string, number>;
  }[] = [];

  constructor(allowed: boolean, snapshot: () => LedgerSnapshot | undefined) {
    this.#allowed = allowed;
    this.#snapshot = snapshot;
  }

  /** The tenants now, those with most tokens first. */
  take(nowMs: number): TenantsShown {
    if (!this.#allowed) return { tenants: null, leftOut: 0 };
    const snapshot = this.#snapshot();
    if (snapshot === undefined) return { tenants: [], leftOut: 0 };
    const sums = sumsOf(snapshot);
    const unixMs = Number(snapshot.time / 1_000_000n);
    const rates = this.#rates(sums, unixMs, nowMs);
    const sorted = [...sums].sort(([, a], [, b]) => b.tokens - a.tokens);
    return {
      tenants: sorted.slice(0, SHOWN_MAX).map(([tenant, one]) => ({
        tenant,
        tokens: one.tokens,
        tokens_per_second: rates(tenant, one.tokens),
        requests: one.requests,
        error_share: one.requests === 0 ? null : Math.round((1000 * one.failed) / one.requests) / 1000,
        gpu_seconds: one.nanos === undefined ? null : Math.round(one.nanos / 1e8) / 10,
        joules: one.millijoules === undefined ? null : Math.round(one.millijoules / 1e3),
        cost: one.cost === undefined ? null : one.cost / 1e9,
      })),
      leftOut: Math.max(0, sorted.length - SHOWN_MAX),
    };
  }

  #rates(
    sums: ReadonlyMap<string, Sums>,
    unixMs: number,
    nowMs: number,
  ): (tenant: string, tokens: number) => number | null {
    this.#steps = this.#steps.filter(({ askedMs, unixMs: at }) => {
      return nowMs - askedMs <= WINDOW_MS && at <= unixMs && unixMs - at <= WINDOW_MS;
    });
    if (this.#steps.at(-1)?.unixMs !== unixMs) {
      const tokens = new Map([...sums].map(([tenant, one]) => [tenant, one.tokens]));
      this.#steps = [...this.#steps, { unixMs, askedMs: nowMs, tokens }].slice(-STEPS_MAX);
    }
    const first = this.#steps[0];
    const seconds = first === undefined ? 0 : (unixMs - first.unixMs) / 1000;
    return (tenant, tokens) =>
      seconds <= 0 ? null : Math.round((10 * (tokens - (first?.tokens.get(tenant) ?? 0))) / seconds) / 10;
  }
}

function sumsOf({ points }: LedgerSnapshot): Map<string, Sums> {
  const all = new Map<string, Sums>();
  for (const { dimensions, ended, metric, value } of points) {
    const tenant = dimensions["tokenwatt.tenant"];
    if (tenant === undefined || ended || typeof value === "object") continue;
    const one = all.get(tenant) ?? {
      ...{ tokens: 0, requests: 0, failed: 0 },
      ...{ nanos: undefined, millijoules: undefined, cost: undefined },
    };
    all.set(tenant, one);
    const amount = Number(value);
    if (metric === "tokenwatt.gateway.tokens") one.tokens += amount;
    else if (metric === "tokenwatt.gateway.requests") {
      one.requests += amount;
      if (dimensions["tokenwatt.outcome"] !== "ok") one.failed += amount;
    } else if (metric === "tokenwatt.tenant.gpu_time") one.nanos = (one.nanos ?? 0) + amount;
    else if (metric === "tokenwatt.tenant.energy") one.millijoules = (one.millijoules ?? 0) + amount;
    else if (metric === "tokenwatt.tenant.cost") one.cost = (one.cost ?? 0) + amount;
  }
  return all;
}
