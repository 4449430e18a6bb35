// The metrics of quotas (METERING.md 5): what was charged as running totals of the ledger, used, limit, reset and state as
// gauges. Attribute sets are made once a counter, so that the ledger finds their series without a key.
import type { Ledger } from "../meter/ledger/ledger.ts";
import type { AnyPosting, Dimensions, Nanos, UnixNanos } from "../model.ts";
import type { PolicyBeat, PolicyBook } from "../policy/book.ts";
import type { Policy, Quota } from "../policy/config.ts";
import { matchKeys, unitWord } from "../policy/config.ts";
import type { KeyValues } from "../policy/counter.ts";
import { quotaStates } from "../policy/counter.ts";
import type { QuotaReading } from "../policy/states.ts";
import { attributeOfKey } from "../policy/usage.ts";

/** When a beat is. */
interface BeatTimes {
  readonly time: UnixNanos;
  readonly at: Nanos;
  /** The file as it stands was refused. */
  readonly refused: boolean;
  /** Of the fleet's usage; undefined where nobody is asked for it. */
  readonly fleetAgeSeconds: number | undefined;
}

/** Attribute sets of one counter. */
interface Sets {
  readonly base: Dimensions;
  readonly byMethod: Readonly<Record<"ledger" | "rls", Dimensions>>;
  readonly byScope: Readonly<Record<"host" | "fleet", Dimensions>>;
  readonly byState: readonly Dimensions[];
}

/** Writes the series of one policy. */
export class QuotaSeries {
  readonly #policy: Policy;
  readonly #everyMs: number;
  readonly #sets = new Map<string, Sets>();
  /** What another policy left is to end with the first beat. */
  #isFirst = true;

  constructor(policy: Policy, everyMs: number) {
    this.#policy = policy;
    this.#everyMs = everyMs;
  }

  /** Posts what was charged and observes the rest. */
  post(ledger: Ledger, book: PolicyBook, beat: PolicyBeat, times: BeatTimes): void {
    if (this.#isFirst) endQuotaSeries(ledger, this.#policy);
    this.#isFirst = false;
    const postings: AnyPosting[] = [];
    for (const usage of book.usages) {
      const { quota } = usage;
      const unit = chargedUnit(quota);
      for (const counter of usage.counters) {
        const ledgerAmount = counter.takeCharged(unit, "ledger");
        const rlsAmount = counter.takeCharged(unit, "rls");
        const sets = this.#setsOf(quota, counter.values);
        const metric = `tokenwatt.quota.charged_${unitWord(quota.count)}`;
        if (ledgerAmount > 0) postings.push(exported(metric, sets.byMethod.ledger, ledgerAmount));
        // Only what calls charged in the ledger's place: elsewhere they are its second view.
        if (rlsAmount > 0) postings.push(exported(metric, sets.byMethod.rls, rlsAmount));
      }
    }
    for (const { from, reading } of beat.transitions) {
      const dimensions = {
        "tokenwatt.quota.name": reading.quota.name,
        "tokenwatt.policy.from": from,
        "tokenwatt.policy.to": reading.state,
      };
      postings.push(exported("tokenwatt.policy.transitions", dimensions, 1));
    }
    const folded = book.takeFolded();
    if (folded > 0)
      postings.push(exported("tokenwatt.series.folded", { "tokenwatt.reason": "quota_keys" }, folded));
    ledger.postUntil(postings, times.time);
    for (const reading of beat.readings) this.#observe(ledger, reading, times.at);
    this.#observeSilence(ledger, beat, times.at);
    this.#observePolicy(ledger, times);
    this.#endDropped(ledger, beat);
  }

  #observe(ledger: Ledger, reading: QuotaReading, at: Nanos): void {
    const { drift, fleet, quota, state, used, values, window } = reading;
    const sets = this.#setsOf(quota, values);
    const tenant = sets.base["tokenwatt.tenant"];
    // Two tenants in one series of `other` would overwrite each other: their totals are there, their levels are not.
    if (tenant !== undefined && !ledger.admits(tenant)) return;
    const word = unitWord(quota.count);
    const everyMs = this.#everyMs;
    const show = (metric: string, dimensions: Dimensions, value: number): void =>
      ledger.observe({ metric, dimensions, value, at, everyMs });
    show(`tokenwatt.quota.limit_${word}`, sets.byScope.host, Number(quota.hostLimit) / quota.scale);
    show(`tokenwatt.quota.limit_${word}`, sets.byScope.fleet, quota.limit);
    if (used !== undefined) {
      show(`tokenwatt.quota.used_${word}`, sets.byScope.host, Number(used) / quota.scale);
      if (drift !== undefined) show("tokenwatt.policy.drift", sets.base, Number(drift) / quota.scale);
    }
    if (fleet?.isFresh === true)
      show(`tokenwatt.quota.used_${word}`, sets.byScope.fleet, Number(fleet.used) / quota.scale);
    show("tokenwatt.quota.reset_time", sets.base, window.to / 1000);
    for (const [index, name] of quotaStates.entries()) {
      const dimensions = sets.byState[index];
      if (dimensions !== undefined) show("tokenwatt.quota.state", dimensions, name === state ? 1 : 0);
    }
  }

  #observeSilence(ledger: Ledger, { readings }: PolicyBeat, at: Nanos): void {
    const silent = new Map(this.#policy.quotas.map((quota) => [quota, 0]));
    for (const { quota, silentSince } of readings) {
      if (silentSince !== undefined) silent.set(quota, (silent.get(quota) ?? 0) + 1);
    }
    for (const [{ name, per }, value] of silent) {
      const dimensions = { "tokenwatt.quota.name": name, "tokenwatt.quota.window": per };
      ledger.observe({
        metric: "tokenwatt.policy.silent_keys",
        dimensions,
        value,
        at,
        everyMs: this.#everyMs,
      });
    }
  }

  #observePolicy(ledger: Ledger, { at, fleetAgeSeconds, refused }: BeatTimes): void {
    const { digest, version } = this.#policy;
    const info = { "tokenwatt.policy.version": version, "tokenwatt.policy.digest": digest };
    const everyMs = this.#everyMs;
    ledger.observe({ metric: "tokenwatt.policy.info", dimensions: info, value: 1, at, everyMs });
    const value = refused ? 1 : 0;
    ledger.observe({ metric: "tokenwatt.policy.refused", dimensions: {}, value, at, everyMs });
    if (fleetAgeSeconds === undefined) return;
    const age = { metric: "tokenwatt.policy.fleet_age", dimensions: {}, value: fleetAgeSeconds };
    ledger.observe({ ...age, at, everyMs });
  }

  /** Counters that were given up: their gauges go stale by themselves, their totals end here. */
  #endDropped(ledger: Ledger, { dropped }: PolicyBeat): void {
    if (dropped.length === 0) return;
    const gone = new Set(
      dropped.flatMap(({ quota: name, values }) => {
        const quota = this.#policy.quotas.find((one) => one.name === name);
        if (quota === undefined) return [];
        const key = setsKey(quota, values);
        this.#sets.delete(key);
        return [textOf(baseOf(quota, values))];
      }),
    );
    ledger.endWhere(
      (dimensions, metric) => isQuotaMetric(metric) && gone.has(textOf(withoutOwn(dimensions))),
    );
  }

  #setsOf(quota: Quota, values: KeyValues): Sets {
    const key = setsKey(quota, values);
    const known = this.#sets.get(key);
    if (known !== undefined) return known;
    const base = baseOf(quota, values);
    const made: Sets = {
      base,
      byMethod: {
        ledger: { ...base, "tokenwatt.method": "ledger" },
        rls: { ...base, "tokenwatt.method": "rls" },
      },
      byScope: {
        host: { ...base, "tokenwatt.quota.scope": "host" },
        fleet: { ...base, "tokenwatt.quota.scope": "fleet" },
      },
      byState: quotaStates.map((state) => ({ ...base, "tokenwatt.quota.state": state })),
    };
    this.#sets.set(key, made);
    return made;
  }
}

/** Ends what series are left of quotas that a policy does not have, or matches by other keys; without one, of all. */
export function endQuotaSeries(ledger: Ledger, policy: Policy | undefined): void {
  const shapes = new Map(policy?.quotas.map((quota) => [quota.name, shapeOf(baseOf(quota, quota.match))]));
  ledger.endWhere((dimensions, metric) => {
    if (metric === "tokenwatt.policy.info") return dimensions["tokenwatt.policy.digest"] !== policy?.digest;
    if (metric === "tokenwatt.policy.transitions")
      return !shapes.has(dimensions["tokenwatt.quota.name"] ?? "");
    if (!isQuotaMetric(metric)) return false;
    return shapes.get(dimensions["tokenwatt.quota.name"] ?? "") !== shapeOf(withoutOwn(dimensions));
  });
}

/** The attributes a counter has and its window's length: the same in every counter of a quota. */
function shapeOf(dimensions: Dimensions): string {
  const { "tokenwatt.quota.window": window, "tokenwatt.currency": currency } = dimensions;
  return JSON.stringify([window, currency ?? "", Object.keys(dimensions).sort()]);
}

/** Exported alone: the ledger's rows have what was used under the tenant's own series. */
function exported(metric: string, dimensions: Dimensions, amount: number): AnyPosting {
  return { metric, dimensions, kept: false, amount };
}

/** Fine units in one unit of the ledger's: money is booked in 1e-9 of a currency. */
function chargedUnit({ count, scale }: Quota): bigint {
  return count === "cost" ? BigInt(scale / 1e9) : BigInt(scale);
}

/** The attributes of a counter: the quota, its window's length, and the match keys that are set. */
function baseOf(quota: Quota, values: KeyValues): Dimensions {
  const keys = matchKeys.flatMap((key) => {
    const value = values[key] ?? (quota.match[key] === "*" ? undefined : quota.match[key]);
    return value === undefined ? [] : [[attributeOfKey[key], value] as const];
  });
  return {
    "tokenwatt.quota.name": quota.name,
    "tokenwatt.quota.window": quota.per,
    ...Object.fromEntries(keys),
    ...(quota.currency === undefined ? {} : { "tokenwatt.currency": quota.currency }),
  };
}

function isQuotaMetric(metric: string): boolean {
  return metric.startsWith("tokenwatt.quota.") || metric === "tokenwatt.policy.drift";
}

const OWN = ["tokenwatt.method", "tokenwatt.quota.scope", "tokenwatt.quota.state"];

function withoutOwn(dimensions: Dimensions): Dimensions {
  return Object.fromEntries(Object.entries(dimensions).filter(([key]) => !OWN.includes(key)));
}

function textOf(dimensions: Dimensions): string {
  return JSON.stringify(Object.entries(dimensions).sort());
}

function setsKey(quota: Quota, values: KeyValues): string {
  return JSON.stringify([quota.name, ...matchKeys.map((key) => values[key] ?? null)]);
}
