// A window of the past as people, CSV and JSON have it. Amounts are exact: counts are integers, weighted tokens have three
// decimals, money all it has. Null, and an empty cell, mean that it is not known.

import { periods } from "../../meter/figures/calendar.ts";
import { decimalOf } from "../../meter/money/split.ts";
import { nameOf } from "../../meter/names.ts";
import type { MatchKey, Quota } from "../../policy/config.ts";
import { matchKeys } from "../../policy/config.ts";
import type { PastWindow } from "../../policy/past.ts";
import type { Beyond } from "../../policy/past-targets.ts";

/** Decimals of a quota's fine unit. */
const decimalsOf: Readonly<Record<number, number>> = { 1: 0, 1000: 3, 1e15: 15 };

/** An amount in the quota's own unit, exactly. */
export function exactText(fine: bigint, { scale }: Pick<Quota, "scale">): string {
  return decimalOf(fine, decimalsOf[scale] ?? 0);
}

/** The same for JSON: a number where a double holds it, else its decimal text, as in reports. Money is always text. */
export function exactJson(fine: bigint | undefined, quota: Pick<Quota, "scale">): number | string | null {
  if (fine === undefined) return null;
  const isSafe = fine <= BigInt(Number.MAX_SAFE_INTEGER) && fine >= -BigInt(Number.MAX_SAFE_INTEGER);
  return quota.scale <= 1000 && isSafe ? Number(fine) / quota.scale : exactText(fine, quota);
}

/** What a window is called in its zone: `2026-11`, `2026-W45`, `2026-11-01`, `2026-11-01T07:00Z`. */
export function windowName({ quota, window }: Pick<PastWindow, "quota" | "window">): string {
  const { per, zone } = quota;
  if (per === "minute") return iso(window.from);
  return periods(window.from, window.to, per, per === "hour" ? "UTC" : zone)[0]?.name ?? iso(window.from);
}

/** How much of it is above the limit; none where nothing is. */
export function excessOf({ quota, used }: Pick<PastWindow, "quota" | "used">): bigint {
  return used !== undefined && used > quota.hostLimit ? used - quota.hostLimit : 0n;
}

/** Used over limit; undefined where it is not known. */
export function shareOf({ quota, used }: Pick<PastWindow, "quota" | "used">): number | undefined {
  return used === undefined ? undefined : Number(used) / Number(quota.hostLimit);
}

/** When the limit was reached: the start of the stretch. */
export function overSince({ reached }: PastWindow): number | undefined {
  return reached.find(({ share }) => share === 1)?.from;
}

/** When the first share of `warnAt` was. */
export function warnedSince({ reached }: PastWindow): number | undefined {
  return reached.find(({ share }) => share < 1)?.from;
}

/** A window as JSON; keys are snake_case. */
export function pastObject(past: PastWindow): Readonly<Record<string, unknown>> {
  const { after, ended, isComplete, late, meanwhile, quota, reached, state, used, window } = past;
  return {
    quota: quota.name,
    key: namedKey(past),
    count: quota.count,
    ...(quota.currency === undefined ? {} : { currency: quota.currency }),
    per: quota.per,
    window: { name: windowName(past), from: iso(window.from), to: iso(window.to) },
    ended,
    whole_window: isComplete,
    used: exactJson(used, quota),
    late: exactJson(late, quota),
    limit: exactJson(quota.hostLimit, quota),
    share: shareOf(past) ?? null,
    state,
    reached: reached.map(({ from, share, to }) => ({ share, from: iso(from), to: iso(to) })),
    over: exactJson(excessOf(past), quota),
    meanwhile: beyondObject(meanwhile),
    after: beyondObject(after),
  };
}

/** Usage beyond a limit as JSON. */
export function beyondObject({ requests, revenue, tokens }: Beyond): Readonly<Record<string, unknown>> {
  return {
    requests: exactJson(requests, { scale: 1 }),
    tokens: exactJson(tokens, { scale: 1 }),
    revenue: Object.fromEntries(
      Object.entries(revenue).map(([currency, amount]) => [currency, decimalOf(amount, 15)]),
    ),
  };
}

/** The columns of a window's row, in order. */
export const pastColumns = [
  ...["quota", "tenant", "endpoint", "model", "count", "currency", "per", "window", "from", "to", "ended"],
  ...["whole_window", "used", "late", "limit", "share", "state", "warn_from", "over_from", "over"],
  ...["requests_after", "tokens_after", "revenue_after", "requests_meanwhile", "tokens_meanwhile"],
] as const;

/** A window's row. */
export function pastCells(past: PastWindow): readonly string[] {
  const { after, ended, isComplete, late, meanwhile, quota, state, used, window } = past;
  const key = namedKey(past);
  const share = shareOf(past);
  return [
    quota.name,
    ...matchKeys.map((one) => key[one] ?? ""),
    ...[quota.count, quota.currency ?? "", quota.per, windowName(past), iso(window.from), iso(window.to)],
    ...[String(ended), String(isComplete)],
    ...[used === undefined ? "" : exactText(used, quota), exactText(late, quota)],
    ...[exactText(quota.hostLimit, quota), share === undefined ? "" : String(Number(share.toPrecision(12)))],
    ...[state, isoOr(warnedSince(past)), isoOr(overSince(past)), exactText(excessOf(past), quota)],
    ...[String(after.requests), String(after.tokens), revenueText(after)],
    ...[String(meanwhile.requests), String(meanwhile.tokens)],
  ];
}

/** `EUR 12.5`; several currencies beside each other, nothing where nothing was earned. */
function revenueText({ revenue }: Beyond): string {
  return Object.entries(revenue)
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .map(([currency, amount]) => `${currency} ${decimalOf(amount, 15)}`)
    .join("; ");
}

/** Whose counter it is, by names as they were given. */
function namedKey({ quota, values }: PastWindow): Readonly<Partial<Record<MatchKey, string>>> {
  const all = { ...quota.match, ...values };
  return Object.fromEntries(
    matchKeys.flatMap((key) => (all[key] === undefined ? [] : [[key, nameOf(all[key])]])),
  );
}

/** An instant without what is 0 in all of them. */
export function iso(millis: number): string {
  return new Date(millis).toISOString().replace(":00.000Z", "Z");
}

function isoOr(millis: number | undefined): string {
  return millis === undefined ? "" : iso(millis);
}

/** Compares windows: by quota as the file has them, key and window. */
export function orderOf(quotas: readonly Quota[]): (one: PastWindow, other: PastWindow) => number {
  const places = new Map(quotas.map((quota, index) => [quota, index]));
  const keys = new WeakMap<object, string>();
  const keyOf = ({ values }: PastWindow): string => {
    const key = keys.get(values) ?? JSON.stringify(values);
    keys.set(values, key);
    return key;
  };
  return (one, other) => {
    const order = (places.get(one.quota) ?? 0) - (places.get(other.quota) ?? 0);
    if (order !== 0) return order;
    if (keyOf(one) !== keyOf(other)) return keyOf(one) < keyOf(other) ? -1 : 1;
    return one.window.from - other.window.from;
  };
}
