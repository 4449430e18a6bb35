// A counter's windows of the past together, and both as tables: how often it would have been warned of and over, and what
// came beyond its limits.

import { decimalOf } from "../../meter/money/split.ts";
import { matchKeys } from "../../policy/config.ts";
import type { PastWindow } from "../../policy/past.ts";
import type { Beyond } from "../../policy/past-targets.ts";
import { beyondNothing } from "../../policy/past-targets.ts";
import { formatTable } from "../common/table.ts";
import { grouped, moneyText } from "../report/decimal-text.ts";
import {
  beyondObject,
  exactJson,
  exactText,
  excessOf,
  iso,
  overSince,
  pastObject,
  shareOf,
  warnedSince,
  windowName,
} from "./past-rows.ts";
import { keyText } from "./table.ts";

/** One counter over a range. */
export interface CounterSum {
  /** One of its windows: whose it is. */
  readonly one: PastWindow;
  readonly windows: number;
  /** Those that came to a share of `warnAt`, to the limit, and those of which that is not known. */
  readonly warned: number;
  readonly over: number;
  readonly unknown: number;
  readonly mostShare: number | undefined;
  readonly excess: bigint;
  readonly after: Beyond;
  readonly firstOver: number | undefined;
}

/** Sums windows as they come, by counter. */
export class CounterSums {
  readonly #sums = new Map<string, CounterSum>();
  /** Keys by quota and window. */
  readonly #keys = new Map<string, number>();

  add(past: PastWindow): void {
    const { quota, values, window } = past;
    const key = JSON.stringify([quota.name, ...matchKeys.map((one) => values[one] ?? null)]);
    const known = this.#sums.get(key);
    this.#sums.set(key, known === undefined ? sumOf(past) : joined(known, sumOf(past)));
    if (quota.wild.length === 0) return;
    const place = `${quota.name} ${window.from}`;
    this.#keys.set(place, (this.#keys.get(place) ?? 0) + 1);
  }

  /** Every counter, in the order in which its first window ended. */
  get all(): readonly CounterSum[] {
    return [...this.#sums.values()];
  }

  /** How many counters of wild keys there were at once, at most: each quota at its fullest. */
  get mostAtOnce(): number {
    const most = new Map<string, number>();
    for (const [place, count] of this.#keys) {
      const name = place.slice(0, place.lastIndexOf(" "));
      most.set(name, Math.max(most.get(name) ?? 0, count));
    }
    return [...most.values()].reduce((sum, one) => sum + one, 0);
  }
}

function sumOf(one: PastWindow): CounterSum {
  const [isOver, isWarned] = [overSince(one) !== undefined, one.reached.length > 0];
  return {
    one,
    windows: 1,
    warned: isWarned ? 1 : 0,
    over: isOver ? 1 : 0,
    unknown: one.state === "unknown" ? 1 : 0,
    mostShare: shareOf(one),
    excess: excessOf(one),
    after: one.after,
    firstOver: overSince(one),
  };
}

function joined(a: CounterSum, b: CounterSum): CounterSum {
  const mostShare = a.mostShare === undefined ? b.mostShare : Math.max(a.mostShare, b.mostShare ?? 0);
  return {
    one: a.one,
    windows: a.windows + b.windows,
    warned: a.warned + b.warned,
    over: a.over + b.over,
    unknown: a.unknown + b.unknown,
    mostShare,
    excess: a.excess + b.excess,
    after: joinedBeyond(a.after, b.after),
    firstOver: a.firstOver ?? b.firstOver,
  };
}

function joinedBeyond(a: Beyond, b: Beyond): Beyond {
  if (b === beyondNothing) return a;
  const revenue = { ...a.revenue };
  for (const [currency, amount] of Object.entries(b.revenue))
    revenue[currency] = (revenue[currency] ?? 0n) + amount;
  return { requests: a.requests + b.requests, tokens: a.tokens + b.tokens, revenue };
}

/** A counter as JSON. */
export function sumObject(sum: CounterSum): Readonly<Record<string, unknown>> {
  const { after, excess, firstOver, mostShare, one, over, unknown, warned, windows } = sum;
  const { count, key, limit, per, quota } = pastObject(one);
  return {
    ...{ quota, key, count, per, limit, windows, warned, over, unknown },
    most_share: mostShare ?? null,
    over_by: exactJson(excess, one.quota),
    first_over: firstOver === undefined ? null : iso(firstOver),
    after: beyondObject(after),
  };
}

/** Counters as a table; those that came to no share are counted in its last line unless all are asked for. */
export function sumTable(sums: readonly CounterSum[], all: boolean): string {
  const shown = sums.filter(({ unknown, warned }) => all || warned > 0 || unknown > 0);
  const rest = sums.length - shown.length;
  const restText =
    rest === 0 ? [] : [`${rest} ${rest === 1 ? "counter" : "counters"} reached no share of a limit`];
  const hasUnknown = shown.some(({ unknown }) => unknown > 0);
  const head = [
    ...["quota", "of", "windows", ...(hasUnknown ? ["not known"] : []), "warned", "over"],
    ...["most %", "over by", "first over from"],
  ];
  const rows = shown.map(({ after, excess, firstOver, mostShare, one, over, unknown, warned, windows }) => [
    ...[one.quota.name, keyText(one), String(windows), ...(hasUnknown ? [String(unknown)] : [])],
    ...[String(warned), String(over), percentText(mostShare)],
    ...[excess === 0n ? "-" : amountCell(excess, one), firstOver === undefined ? "-" : iso(firstOver)],
    ...beyondCells(after, over > 0),
  ]);
  const table = formatTable([[...head, ...beyondTitles], ...rows], { rightFrom: 2 });
  return [...(rows.length === 0 ? [] : [table]), ...restText].join("\n") || "no quota counted anything";
}

const rowsMax = 50;

/** Windows as a table. */
export function windowTable(windows: readonly PastWindow[], all: boolean): string {
  const head = [
    "quota",
    "of",
    "window",
    "used",
    "limit",
    "%",
    "state",
    "warned from",
    "over from",
    "over by",
  ];
  const hasLate = windows.some(({ late }) => late !== 0n);
  const shown = all ? windows : windows.slice(0, rowsMax);
  const rows = shown.map((past) => {
    const { after, ended, isComplete, late, quota, state, used } = past;
    const since = overSince(past);
    return [
      ...[quota.name, keyText(past), `${windowName(past)}${ended ? "" : " so far"}`],
      used === undefined ? "-" : `${amountCell(used, past)}${isComplete ? "" : "+"}`,
      ...[amountCell(quota.hostLimit, past), percentText(shareOf(past)), state],
      ...[instantText(warnedSince(past)), instantText(since)],
      excessOf(past) === 0n ? "-" : amountCell(excessOf(past), past),
      ...(hasLate ? [late === 0n ? "-" : amountCell(late, past)] : []),
      ...beyondCells(after, since !== undefined),
    ];
  });
  const table = formatTable([[...head, ...(hasLate ? ["late"] : []), ...beyondTitles], ...rows], {
    rightFrom: 3,
  });
  const more = windows.length - shown.length;
  return more === 0 ? table : `${table}\n${more} more windows: --all, --format csv or --json has them`;
}

const beyondTitles = ["requests after", "tokens after", "revenue after"];

function beyondCells({ requests, revenue, tokens }: Beyond, isOver: boolean): readonly string[] {
  if (!isOver) return ["-", "-", "-"];
  const money = Object.entries(revenue)
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .map(([currency, amount]) => `${currency} ${moneyText(decimalOf(amount, 15), currency)}`);
  return [grouped(String(requests)), grouped(String(tokens)), money.join(", ") || "-"];
}

/** An amount with its thousands apart, money with its currency. */
export function amountCell(fine: bigint, { quota }: Pick<PastWindow, "quota">): string {
  const exact = exactText(fine, quota);
  if (quota.count === "cost") return `${quota.currency ?? ""} ${moneyText(exact, quota.currency)}`;
  const [whole = "0", fraction] = exact.split(".");
  return fraction === undefined ? grouped(whole) : `${grouped(whole)}.${fraction}`;
}

/** A share as per cent. */
export function percentText(share: number | undefined): string {
  return share === undefined ? "-" : (100 * share).toFixed(1);
}

function instantText(millis: number | undefined): string {
  return millis === undefined ? "-" : iso(millis);
}
