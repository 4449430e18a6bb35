// `tokenwatt policy show --history`: the last windows of each quota under the policy as it is, and beside them what the agent
// put on record while they ran: the state it came to, when, and the limit then where that was another.
import type { Family } from "../../model.ts";
import type { Policy } from "../../policy/config.ts";
import { matchKeys } from "../../policy/config.ts";
import type { PastWindow } from "../../policy/past.ts";
import { windowAt } from "../../policy/windows.ts";
import { AuditReader } from "../../store/ledger/audit.ts";
import type { LedgerReader } from "../../store/ledger/reader.ts";
import { formatTable } from "../common/table.ts";
import { readPast } from "./past.ts";
import { exactText, iso, orderOf, pastObject, shareOf, windowName } from "./past-rows.ts";
import { amountCell, percentText } from "./past-sums.ts";
import { keyText } from "./table.ts";

/** A window, and the worst state that was put on record in it. */
export interface HistoryRow {
  readonly past: PastWindow;
  readonly recorded: Recorded | undefined;
}

/** A state as the agent put it on record. */
export interface Recorded {
  readonly state: "warn" | "over";
  readonly at: number;
  readonly limit: number;
  /** Whose usage it followed: this host's, or that of all. */
  readonly basis: "host" | "fleet";
}

/** What is asked. */
export interface HistoryQuestion {
  readonly policy: Policy;
  readonly count: number;
  /** The ledger's file, for its record. */
  readonly ledger: string;
  /** What is read today. */
  readonly families: ReadonlySet<Family>;
}

/** The last `count` windows of each quota that the ledger can tell apart, the running one last. */
export function readHistory(
  reader: LedgerReader,
  { count, families, ledger, policy }: HistoryQuestion,
): readonly HistoryRow[] {
  const now = Number((reader.time ?? 0n) / 1_000_000n);
  const recorded = recordedStates(ledger);
  const byQuota = policy.quotas.map((quota): PastWindow[] => {
    const windows: PastWindow[] = [];
    if (quota.per === "minute") return windows;
    let { from } = windowAt(now - 1, quota.per, quota.zone);
    for (let more = 1; more < count; more++) ({ from } = windowAt(from - 1, quota.per, quota.zone));
    readPast(reader, { quotas: [quota], families, from, to: now, onWindow: (one) => windows.push(one) });
    return windows;
  });
  return byQuota
    .flat()
    .toSorted(orderOf(policy.quotas))
    .map((past) => ({ past, recorded: recorded.get(keyOf(past)) }));
}

/** The worst state on record by quota, key and window. */
function recordedStates(ledger: string): ReadonlyMap<string, Recorded> {
  const reader = new AuditReader(ledger);
  const found = new Map<string, Recorded>();
  try {
    for (const entry of reader.read()) {
      if ("message" in entry) break;
      if (entry.kind !== "quota_state") continue;
      const { basis, key, limit, quota, to, window } = entry.body;
      if (to !== "warn" && to !== "over") continue;
      const place = placeOf(String(quota), Date.parse(String(window)), key as Record<string, string>);
      if (found.get(place)?.state === "over") continue;
      if (found.get(place)?.state === to) continue;
      found.set(place, {
        state: to,
        at: Number(entry.at / 1_000_000n),
        limit: Number(limit),
        basis: basis === "fleet" ? basis : "host",
      });
    }
    return found;
  } finally {
    reader.close();
  }
}

function keyOf({ quota, values, window }: PastWindow): string {
  return placeOf(quota.name, window.from, values);
}

function placeOf(quota: string, from: number, values: Readonly<Record<string, string | undefined>>): string {
  return JSON.stringify([quota, from, ...matchKeys.map((key) => values[key] ?? null)]);
}

/** A row as JSON. */
export function historyObject({ past, recorded }: HistoryRow): Readonly<Record<string, unknown>> {
  const { after, meanwhile, ...rest } = pastObject(past);
  void after;
  void meanwhile;
  const onRecord = recorded === undefined ? null : { ...recorded, at: new Date(recorded.at).toISOString() };
  return { ...rest, on_record: onRecord };
}

/** Rows as a table. */
export function historyTable(rows: readonly HistoryRow[]): string {
  const head = ["quota", "of", "window", "state", "used", "limit", "%", "late", "on record"];
  const cells = rows.map(({ past, recorded }) => [
    ...[past.quota.name, keyText(past), `${windowName(past)}${past.ended ? "" : " so far"}`, past.state],
    past.used === undefined ? "-" : `${amountCell(past.used, past)}${past.isComplete ? "" : "+"}`,
    ...[amountCell(past.quota.hostLimit, past), percentText(shareOf(past))],
    past.late === 0n ? "-" : amountCell(past.late, past),
    recordedText(past, recorded),
  ]);
  return rows.length === 0 ? "no window is known" : formatTable([head, ...cells], { rightFrom: 4 });
}

function recordedText({ quota }: PastWindow, recorded: Recorded | undefined): string {
  if (recorded === undefined) return "-";
  if (recorded.basis === "fleet")
    return `${recorded.state} ${iso(Math.floor(recorded.at / 1000) * 1000)} by all hosts`;
  const then =
    recorded.limit === Number(exactText(quota.hostLimit, quota)) ? "" : `, limit then ${recorded.limit}`;
  return `${recorded.state} ${iso(Math.floor(recorded.at / 1000) * 1000)}${then}`;
}
