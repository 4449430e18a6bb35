// Quotas as a table for people.
import { nameOf } from "../../meter/names.ts";
import { matchKeys } from "../../policy/config.ts";
import type { LimitCompared } from "../../policy/gateway-limits.ts";
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
