// Why a caller stands where it stands: every quota, whether it matches and why not, the rows its usage is the sum of, and
// what that makes of it.
import { attributeOf, nameOf } from "../../meter/names.ts";
import { readingPage } from "../../policy/api.ts";
import type { MatchKey, Policy, Quota } from "../../policy/config.ts";
import { matchKeys } from "../../policy/config.ts";
import type { QuotaReading } from "../../policy/states.ts";
import { attributeOfKey, factorOf } from "../../policy/usage.ts";
import type { LedgerView } from "./ledger-view.ts";
import { amountText, keyText } from "./table.ts";

/** Who calls. */
export type Caller = Readonly<Partial<Record<MatchKey, string | undefined>>>;

interface Row {
  readonly metric: string;
  readonly series: Readonly<Record<string, string>>;
  readonly amount: number;
  /** In the quota's own unit. */
  readonly counts: number;
}

/** One quota's part of the answer. */
export interface Explained {
  readonly quota: string;
  readonly matches: boolean;
  readonly why: string;
  readonly reading?: ReturnType<typeof readingPage>;
  readonly rows?: readonly Row[] | undefined;
  readonly text: readonly string[];
}

/** Every quota of a policy, as it is for one caller. */
export function explainCaller(policy: Policy, view: LedgerView, caller: Caller): readonly Explained[] {
  return policy.quotas.map((quota) => {
    const miss = missOf(quota, caller);
    if (miss !== undefined) return { quota: quota.name, matches: false, why: miss, text: [] };
    const reading = view.readings.find((one) => one.quota.name === quota.name && isOf(one, caller));
    const why = Object.keys(quota.match).length === 0 ? "it counts everybody together" : "every key matches";
    if (reading === undefined) {
      const text = ["nothing was counted for it in this window"];
      return { quota: quota.name, matches: true, why, text };
    }
    const rows = rowsOf(quota, view, reading);
    const text = textOf(reading, rows);
    return { quota: quota.name, matches: true, why, reading: readingPage(reading), rows, text };
  });
}

/** The answer for people. */
export function explanationText(all: readonly Explained[]): string {
  return all
    .map(({ matches, quota, text, why }) =>
      [
        `${quota}: ${matches ? "matches" : "does not match"}, ${why}`,
        ...text.map((line) => `  ${line}`),
      ].join("\n"),
    )
    .join("\n");
}

function missOf(quota: Quota, caller: Caller): string | undefined {
  for (const key of matchKeys) {
    const wanted = quota.match[key];
    if (wanted === undefined) continue;
    if (caller[key] === undefined) return `it matches by ${key} and none is given`;
    if (wanted !== "*" && wanted !== attributeOf(caller[key])) return `its ${key} is ${nameOf(wanted)}`;
  }
  return undefined;
}

function isOf({ quota, values }: QuotaReading, caller: Caller): boolean {
  return quota.wild.every((key) => values[key] === attributeOf(caller[key]));
}

/** The ledger's series behind a counter; of a window of a minute the 15-minute rows say nothing. */
function rowsOf(
  quota: Quota,
  view: LedgerView,
  { values, window }: QuotaReading,
): readonly Row[] | undefined {
  if (quota.per === "minute") return undefined;
  return view.rowsSince(window.from).flatMap(([metric, series, amount]) => {
    const factor = factorOf(quota, metric, series);
    const isOwn = quota.wild.every((key) => series[attributeOfKey[key]] === values[key]);
    if (factor === undefined || !isOwn) return [];
    return [{ metric, series, amount: Number(amount), counts: Number(amount * factor) / quota.scale }];
  });
}

function textOf(reading: QuotaReading, rows: readonly Row[] | undefined): readonly string[] {
  const { isComplete, method, quota, state, used, window } = reading;
  const limit = amountText(quota.hostLimit, quota.scale);
  const share = quota.hostShare === 1 ? "" : ` (${quota.hostShare} of ${quota.limit})`;
  const usedText = used === undefined ? "not known" : amountText(used, quota.scale);
  const since = new Date(window.from).toISOString();
  const lines = [
    `${keyText(reading)}: used ${usedText} of ${limit}${share} ${quota.count} since ${since}, by ${method}: ${state}`,
  ];
  if (!isComplete) lines.push("the count began inside this window: what was used before is not known");
  for (const { counts, metric, series } of rows ?? []) {
    const names = Object.entries(series).map(([key, value]) => `${key}=${value}`);
    lines.push(`${counts} from ${metric} {${names.join(", ")}}`);
  }
  if (rows === undefined)
    lines.push("a minute lies inside of the ledger's 15-minute rows: counted as they came");
  return lines;
}
