// Gateways' own limits inside of the agent: from the last readings of their pages as gauges, beside our quotas, and on record
// when they begin or cease to differ. A reading that is older than three polls says nothing.
import { attributeOf } from "../meter/names.ts";
import type { Gauge, Nanos, ServerInfo, StateRow, TokenSample } from "../model.ts";
import type { Clock } from "../platform/clock.ts";
import type { LimitCompared, LimitSeen } from "../policy/gateway-limits.ts";
import { compareLimits, gatewayLimitsKey } from "../policy/gateway-limits.ts";
import type { QuotaReading } from "../policy/states.ts";

const POLLS_MAX = 3;
const POLL_MS_MIN = 1000;
const MINUTE_MILLIS = 60_000;

/** The gateways and their last readings. */
interface Gateways {
  readonly servers: ReadonlyMap<string, ServerInfo>;
  readonly lastTokenSamples: ReadonlyMap<string, TokenSample>;
}

/** What is on record of one budget: each way to differ once a window, for a gateway may say now this and now that. */
interface Told {
  readonly resetsMillis: number;
  readonly seen: Set<string>;
  readonly last: string;
}

/** What gateways say they enforce. */
export class GatewayLimits {
  readonly #clock: Clock;
  #shown: readonly LimitCompared[] = [];
  #stored: string | undefined;
  readonly #told = new Map<string, Told>();

  constructor({ clock }: { readonly clock: Clock }) {
    this.#clock = clock;
  }

  /** As of the last look. */
  get shown(): readonly LimitCompared[] {
    return this.#shown;
  }

  /** Looks at the last readings; returns what is to be on record: what differs now and did not, or the other way round. */
  look(
    gateways: Gateways | undefined,
    readings: readonly QuotaReading[],
  ): readonly Readonly<Record<string, unknown>>[] {
    this.#shown = compareLimits(gateways === undefined ? [] : this.#seen(gateways), readings);
    const now = new Map<string, LimitCompared>();
    for (const one of this.#shown) {
      if (one.differs !== undefined && one.quota !== undefined)
        now.set(JSON.stringify([one.gateway, one.tenant, one.quota]), one);
    }
    const bodies: Readonly<Record<string, unknown>>[] = [];
    for (const [key, { differs = [], drift, gateway, limit, quota, resetsMillis = 0, tenant }] of now) {
      const before = this.#told.get(key);
      const text = differs.join();
      const seen = before?.resetsMillis === resetsMillis ? before.seen : new Set<string>();
      this.#told.set(key, { resetsMillis, seen, last: text });
      if (text === (before?.last ?? "") || seen.has(text)) continue;
      seen.add(text);
      bodies.push({ quota, tenant, gateway, differs, limit, drift: drift ?? null });
    }
    // A page that is not read for a while does not begin the window again.
    for (const [key, { resetsMillis }] of this.#told) {
      if (!now.has(key) && resetsMillis < this.#millis(this.#clock.now())) this.#told.delete(key);
    }
    return bodies;
  }

  /** Gauges of what was looked at; `admits`: whether a tenant has series of its own. */
  gauges(at: Nanos, everyMs: number, admits: (tenant: string) => boolean): readonly Gauge[] {
    return this.#shown.flatMap((one) => {
      if (!admits(one.tenant)) return [];
      const dimensions = {
        "tokenwatt.gateway.id": one.gateway,
        "tokenwatt.tenant": one.tenant,
        "tokenwatt.currency": one.currency,
      };
      const named = { ...dimensions, "tokenwatt.quota.name": one.quota ?? "" };
      const gauge = (
        name: string,
        value: number | undefined,
        of: Gauge["dimensions"] = dimensions,
      ): Gauge[] =>
        value === undefined
          ? []
          : [{ metric: `tokenwatt.gateway.quota.${name}`, dimensions: of, value, at, everyMs }];
      return [
        ...gauge("limit_cost", one.limit),
        ...gauge("remaining_cost", one.remaining),
        ...gauge("reset_time", one.resetsMillis === undefined ? undefined : one.resetsMillis / 1000),
        ...gauge("drift_cost", one.drift, named),
      ];
    });
  }

  /** The row to be stored, where it changed. */
  takeRow(): readonly StateRow[] {
    const value = JSON.stringify(this.#shown);
    if (value === this.#stored) return [];
    this.#stored = value;
    return [{ key: gatewayLimitsKey, value: value === "[]" ? "" : value }];
  }

  #seen({ lastTokenSamples, servers }: Gateways): readonly LimitSeen[] {
    const seen: LimitSeen[] = [];
    for (const { limits, received, server } of lastTokenSamples.values()) {
      const info = servers.get(server);
      if (limits === undefined || info === undefined) continue;
      const oldest = this.#clock.now() - POLLS_MAX * Math.max(info.pollMs, POLL_MS_MIN) * 1e6;
      if (received < oldest) continue;
      for (const { currency, limit, remaining, resetsAt, tenant } of limits) {
        const resetsMillis = resetsAt === undefined ? undefined : this.#minute(resetsAt);
        const gateway = info.gateway?.id ?? info.id;
        seen.push({ gateway, tenant: attributeOf(tenant), currency, limit, remaining, resetsMillis });
      }
    }
    return seen;
  }

  /** To the minute: told as hours from the moment of a page, an end would be another one in each. */
  #minute(at: Nanos): number {
    return Math.round(this.#millis(at) / MINUTE_MILLIS) * MINUTE_MILLIS;
  }

  #millis(at: Nanos): number {
    return Number(this.#clock.unixNanos(at) / 1_000_000n);
  }
}
