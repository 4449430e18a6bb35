// Quotas beside the lines of a report: of each line the quotas that name every key it is grouped by, as they stood at the end of
// its period, in the window of that instant, limits of this host's part. What was told late is in it. Minutes are left out: the
// ledger keeps quarters of an hour; and windows whose edge lies in a day of which only the sum is kept.
import type { Group, ReportSource } from "../../meter/figures/report-plan.ts";
import { bucketMillis } from "../../meter/ledger/grid.ts";
import type { MatchKey, Policy, Quota } from "../../policy/config.ts";
import { matchKeys } from "../../policy/config.ts";
import type { QuotaState } from "../../policy/counter.ts";
import { stateOf } from "../../policy/states.ts";
import { attributeOfKey, countedMetrics, factorOf } from "../../policy/usage.ts";
import type { Window } from "../../policy/windows.ts";
import { windowAt } from "../../policy/windows.ts";
import type { StoredSeries } from "../../store/ledger/reader.ts";
import { exactJson, exactText, iso, windowName } from "../policy/past-rows.ts";
import type { ReportEntry } from "./groups.ts";
import { groupName } from "./groups.ts";
import type { LedgerView } from "./repriced.ts";

/** A counter of a quota at the end of a line's period. */
export interface LineQuota {
  readonly quota: Quota;
  readonly window: Window;
  /** Fine units. */
  readonly used: bigint;
  readonly share: number;
  readonly state: QuotaState;
  readonly isComplete: boolean;
}

/** A line with its quotas, the fullest first. */
export interface QuotaEntry extends ReportEntry {
  readonly quotas: readonly LineQuota[];
}

const dayMillis = 86_400_000;

/** Whether lines of these groups are such that a quota may be of them. */
export function mayHaveQuotas(groups: readonly Group[]): boolean {
  return groups.length > 0 && groups.every((group) => (matchKeys as readonly string[]).includes(group));
}

/** The lines with their quotas. `groups` are keys that a quota may match by. */
export function withQuotas(
  entries: readonly ReportEntry[],
  reader: LedgerView,
  {
    groups,
    policy,
    source,
  }: { readonly groups: readonly Group[]; readonly policy: Policy; readonly source: ReportSource },
): readonly QuotaEntry[] {
  const keys = groups as readonly MatchKey[];
  const quotas = policy.quotas.filter(
    ({ match, per, source: counted }) =>
      per !== "minute" && counted === source && keys.every((key) => match[key] !== undefined),
  );
  const usage = new UsageAt(reader, quotas);
  return entries.map((entry) => {
    const found = usage
      .at(entry.period.to)
      .filter(({ names }) => keys.every((key, index) => names[key] === entry.values[index]));
    return { ...entry, quotas: found.toSorted((one, other) => other.share - one.share) };
  });
}

/** The columns a quota is shown in, as values of a report. */
export function quotaObject({
  isComplete,
  quota,
  share,
  state,
  used,
  window,
}: LineQuota): Readonly<Record<string, unknown>> {
  return {
    name: quota.name,
    count: quota.count,
    unit: quotaUnit(quota),
    per: quota.per,
    window: { name: windowName({ quota, window }), from: iso(window.from), to: iso(window.to) },
    used: exactJson(used, quota),
    limit: exactJson(quota.hostLimit, quota),
    share,
    state,
    whole_window: isComplete,
  };
}

/** An amount of a quota as a cell: an integer, or its exact decimal. */
export function quotaValue(fine: bigint, quota: Quota): bigint | string {
  return quota.scale === 1 ? fine : exactText(fine, quota);
}

/** What a quota counts, as one word: `tokens`, `requests`, `weighted`, or a currency. */
export function quotaUnit({ count, currency }: Quota): string {
  return count === "cost" ? (currency ?? "cost") : count;
}

interface Counted extends LineQuota {
  readonly names: Readonly<Partial<Record<MatchKey, string>>>;
}

/** What a series counts in a quota. */
interface Part {
  readonly series: number;
  readonly factor: bigint;
  readonly key: string;
}

/** Used of quotas at instants that rise: what one instant has is the start for the next in the same window. */
class UsageAt {
  readonly #reader: LedgerView;
  readonly #series: ReadonlyMap<number, StoredSeries>;
  readonly #quotas: readonly (readonly [Quota, readonly Part[]])[];
  readonly #running = new Map<string, { window: Window; to: number; sums: Map<number, bigint> }>();
  #last: { readonly end: number; readonly counted: readonly Counted[] } | undefined;

  constructor(reader: LedgerView, quotas: readonly Quota[]) {
    this.#reader = reader;
    this.#series = reader.series(countedMetrics);
    this.#quotas = quotas.map((quota) => [quota, partsOf(quota, this.#series)]);
  }

  at(instant: number): readonly Counted[] {
    const held = (this.#reader.held?.to ?? 0) * bucketMillis;
    const end = Math.min(instant, held);
    if (this.#last?.end === end) return this.#last.counted;
    const counted = this.#quotas.flatMap(([quota, parts]) => this.#countersOf(quota, parts, end));
    this.#last = { end, counted };
    return counted;
  }

  #countersOf(quota: Quota, parts: readonly Part[], end: number): readonly Counted[] {
    const window = windowAt(end - 1, quota.per, quota.zone);
    const kept = this.#reader.rowsFrom * bucketMillis;
    if ([window.from, end].some((edge) => edge < kept && edge % dayMillis !== 0)) return [];
    const sums = this.#sumsUntil(quota, window, end);
    const byKey = new Map<string, bigint>();
    if (quota.wild.length === 0) byKey.set("[]", 0n);
    for (const { factor, key, series } of parts) {
      const moved = sums.get(series);
      if (moved !== undefined) byKey.set(key, (byKey.get(key) ?? 0n) + moved * factor);
    }
    const since = this.#reader.heldSince;
    const isComplete = since !== undefined && since <= window.from;
    return [...byKey].map(([key, sum]) => {
      const used = sum > 0n ? sum : 0n;
      const state = stateOf(quota, used, quota.hostLimit, isComplete);
      const share = Number(used) / Number(quota.hostLimit);
      return { quota, window, used, share, state, isComplete, names: namesOf(quota, key) };
    });
  }

  #sumsUntil({ per, zone }: Quota, window: Window, end: number): ReadonlyMap<number, bigint> {
    const place = `${per} ${zone}`;
    const before = this.#running.get(place);
    const goesOn = before !== undefined && before.window.from === window.from && before.to <= end;
    const running = goesOn ? before : { window, to: window.from, sums: new Map<number, bigint>() };
    const moved = this.#reader.sums(running.to / bucketMillis, end / bucketMillis, this.#series);
    for (const [id, amount] of moved) {
      if (typeof amount === "bigint") running.sums.set(id, (running.sums.get(id) ?? 0n) + amount);
    }
    running.to = end;
    this.#running.set(place, running);
    return running.sums;
  }
}

function partsOf(quota: Quota, series: ReadonlyMap<number, StoredSeries>): readonly Part[] {
  return [...series].flatMap(([id, { dimensions, metric }]) => {
    const factor = factorOf(quota, metric, dimensions);
    if (factor === undefined) return [];
    const values = quota.wild.map((key) => dimensions[attributeOfKey[key]] ?? "unknown");
    return [{ series: id, factor, key: JSON.stringify(values) }];
  });
}

function namesOf(quota: Quota, key: string): Counted["names"] {
  const wild = JSON.parse(key) as string[];
  return Object.fromEntries(
    matchKeys.flatMap((one) => {
      const value = quota.match[one] === "*" ? wild[quota.wild.indexOf(one)] : quota.match[one];
      return value === undefined ? [] : [[one, groupName(one, value)]];
    }),
  );
}
