// Quotas as a table for people.
import { nameOf } from "../../meter/names.ts";
import { matchKeys } from "../../policy/config.ts";
import type { LimitCompared } from "../../policy/gateway-limits.ts";
import type { LimiterShown } from "../../policy/limiters/shown.ts";
import type { QuotaReading } from "../../policy/states.ts";
import { formatTable } from "../common/table.ts";

/** A line a counter: what is not known is a dash, a count that began inside its window has a plus. */
export function quotaTable(readings: readonly QuotaReading[]): string {
  const head = ["quota", "of", "mode", "state", "used", "limit", "%", "resets"];
  const rows = readings.map((reading) => {
    const { isComplete, quota, state, used, window } = reading;
    return [
      quota.name,
      keyText(reading),
      quota.mode,
      state,
      used === undefined ? "-" : `${amountText(used, quota.scale)}${isComplete ? "" : "+"}`,
      amountText(quota.hostLimit, quota.scale),
      used === undefined ? "-" : ((Number(used) / Number(quota.hostLimit)) * 100).toFixed(1),
      new Date(window.to).toISOString(),
    ];
  });
  return rows.length === 0 ? "no quota" : formatTable([head, ...rows], { rightFrom: 4 });
}

/** A line for each budget of a gateway's own: what it says, the quota of ours beside it, and in what they differ. */
export function limitTable(limits: readonly LimitCompared[]): string {
  const head = ["gateway", "of", "limit", "left", "resets", "quota", "differs"];
  const rows = limits.map(({ currency, differs, gateway, limit, quota, remaining, resetsMillis, tenant }) => [
    gateway,
    nameOf(tenant),
    `${limit} ${currency}`,
    remaining === undefined ? "-" : `${remaining} ${currency}`,
    resetsMillis === undefined ? "-" : new Date(resetsMillis).toISOString(),
    quota ?? "-",
    differs === undefined ? "-" : differs.join(", ") || "no",
  ]);
  return formatTable([head, ...rows], { rightFrom: 7 });
}

/** A line for each limit of a rate limiter, and for a limiter that has decided nothing: what it decided since when. */
export function limiterTable(limiters: readonly LimiterShown[]): string {
  const head = ["limiter", "limit", "counted", "allowed", "limited", "would limit", "since"];
  const rows = limiters.flatMap(({ failure, name, sinceMillis, totals }) => {
    const since = sinceMillis === undefined ? "never read" : new Date(sinceMillis).toISOString();
    const state = failure === undefined ? since : `${since}: ${failure}`;
    const limits = new Map<string, [limit: string, counted: string, ...amounts: string[]]>();
    for (const { amount, counted, decided, limit } of totals) {
      const key = JSON.stringify([limit, counted]);
      const row = limits.get(key) ?? [nameOf(limit), counted, "0", "0", "0"];
      row[2 + decisions.indexOf(decided)] = String(amount);
      limits.set(key, row);
    }
    const found = limits.size === 0 ? [["-", "-", "-", "-", "-"]] : [...limits.values()];
    return found.map((row) => [name, ...row, state]);
  });
  return formatTable([head, ...rows], { rightFrom: 7 });
}

const decisions = ["allow", "limit", "would_limit"];

/** Whose counter it is: `acme`, `acme m`, `all`. */
export function keyText({ quota, values }: Pick<QuotaReading, "quota" | "values">): string {
  const parts = matchKeys.flatMap((key) => {
    const value = values[key] ?? quota.match[key];
    return value === undefined ? [] : [value === "*" ? "*" : nameOf(value)];
  });
  return parts.length === 0 ? "all" : parts.join(" ");
}

/** An amount in the quota's own unit. */
export function amountText(fine: bigint, scale: number): string {
  const amount = Number(fine) / scale;
  return Number.isInteger(amount) ? String(amount) : amount.toFixed(scale === 1000 ? 3 : 6);
}
