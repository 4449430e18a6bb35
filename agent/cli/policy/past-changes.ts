// What one policy makes of a past and another does not: the windows that would have been another, side by side.
import { matchKeys } from "../../policy/config.ts";
import type { PastWindow } from "../../policy/past.ts";
import { formatTable } from "../common/table.ts";
import {
  excessOf,
  iso,
  overSince,
  pastCells,
  pastColumns,
  pastObject,
  shareOf,
  warnedSince,
  windowName,
} from "./past-rows.ts";
import { amountCell, percentText } from "./past-sums.ts";
import { keyText } from "./table.ts";

/** A window under two policies; undefined where one of them has none such. */
export interface Change {
  readonly before: PastWindow | undefined;
  readonly after: PastWindow | undefined;
}

/**
 * The windows that would have been another: in their state, in when a share of the limit is reached, or in how much is above
 * it. `all`: also those of which only the limit or the use is another.
 */
export function changesOf(
  before: readonly PastWindow[],
  after: readonly PastWindow[],
  all: boolean,
): readonly Change[] {
  const olds = new Map(before.map((one) => [keyOf(one), one]));
  const news = new Map(after.map((one) => [keyOf(one), one]));
  const text = all ? cellText : outcomeText;
  const changes: Change[] = [];
  for (const [key, one] of news) {
    const old = olds.get(key);
    const isChange = old === undefined ? isWorthALine(one) : text(old) !== text(one);
    if (isChange) changes.push({ before: old, after: one });
  }
  for (const [key, one] of olds) {
    if (!news.has(key) && isWorthALine(one)) changes.push({ before: one, after: undefined });
  }
  return changes;
}

/** A quota that one policy has alone is of interest where it comes to anything. */
function isWorthALine({ reached }: PastWindow): boolean {
  return reached.length > 0;
}

function cellText(past: PastWindow): string {
  return pastCells(past).join("\n");
}

function outcomeText(past: PastWindow): string {
  return [past.state, warnedSince(past), overSince(past), excessOf(past)].join(" ");
}

function keyOf({ quota, values, window }: PastWindow): string {
  return JSON.stringify([
    quota.name,
    window.from,
    ...matchKeys.map((key) => values[key] ?? quota.match[key] ?? null),
  ]);
}

/** A change as JSON: both windows whole. */
export function changeObject({ after, before }: Change): Readonly<Record<string, unknown>> {
  const whole = (one: PastWindow | undefined): unknown => (one === undefined ? null : pastObject(one));
  return { before: whole(before), after: whole(after) };
}

const changed = ["used", "limit", "state", "warn_from", "over_from", "over"] as const;

/** The columns of a change's row: whose window it is, then what differs under both. */
export const changeColumns: readonly string[] = [
  ...pastColumns.slice(0, pastColumns.indexOf("ended")),
  ...changed.flatMap((name) => [`${name}_before`, name]),
];

/** A change's row. */
export function changeCells({ after, before }: Change): readonly string[] {
  const [old, now] = [before, after].map((one) => (one === undefined ? undefined : pastCells(one)));
  const names = (now ?? old ?? []).slice(0, pastColumns.indexOf("ended"));
  return [
    ...names,
    ...changed.flatMap((name) => [
      old?.[pastColumns.indexOf(name)] ?? "",
      now?.[pastColumns.indexOf(name)] ?? "",
    ]),
  ];
}

/** Changes as a table: `a -> b` where the two differ. */
export function changeTable(changes: readonly Change[]): string {
  const head = ["quota", "of", "window", "used", "limit", "%", "state", "over from", "over by"];
  const rows = changes.flatMap(({ after, before }) => {
    const one = after ?? before;
    if (one === undefined) return [];
    const both = (cell: (past: PastWindow) => string): string => {
      const [old, now] = [before, after].map((past) => (past === undefined ? "none" : cell(past)));
      return old === now ? (now ?? "") : `${old} -> ${now}`;
    };
    return [
      [
        ...[one.quota.name, keyText(one), windowName(one)],
        both((past) => (past.used === undefined ? "-" : amountCell(past.used, past))),
        both((past) => amountCell(past.quota.hostLimit, past)),
        both((past) => percentText(shareOf(past))),
        both(({ state }) => state),
        both((past) => instantOr(overSince(past))),
        both((past) => (excessOf(past) === 0n ? "-" : amountCell(excessOf(past), past))),
      ],
    ];
  });
  return formatTable([head, ...rows], { rightFrom: 3 });
}

function instantOr(millis: number | undefined): string {
  return millis === undefined ? "-" : iso(millis);
}
