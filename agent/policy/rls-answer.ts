// What a rate-limit call is answered, and what it charges: over where a quota of mode `local` is above its limit with the
// call's own hits, as envoyproxy/ratelimit has it; mirror and shadow are never over. Hits above 0 are charged whatever the
// state. A plain call (no hits given) is one request and counts in quotas of requests alone. Nothing here waits or touches
// the disk, and none of it is booked to the ledger: a call's charge is set beside what the ledger booked.
import { attributeOf } from "../meter/names.ts";
import type { PolicyBook } from "./book.ts";
import type { MatchKey, Quota, RlsConfig } from "./config.ts";
import { matchKeys } from "./config.ts";
import type { Counter, KeyValues } from "./counter.ts";
import type { Descriptor, DescriptorStatus, RlsRequest } from "./rls-wire.ts";
import type { QuotaUsage } from "./usage.ts";
import type { Window } from "./windows.ts";

/** What a call was decided to be, per quota that it met. */
export type Decision = "allow" | "limit" | "would_limit" | "unmatched" | "error";

/** Who counts decisions; `quota` is absent where none matched. */
export type CountDecision = (decision: Decision, quota: Quota | undefined) => void;

/** What calls are answered by. */
export interface RlsParts {
  readonly book: PolicyBook;
  readonly config: RlsConfig;
  /** Model name as asked for to model as served. */
  readonly aliases: Readonly<Record<string, string>>;
  readonly count: CountDecision;
}

/** One quota that a descriptor met. */
interface Met {
  readonly usage: QuotaUsage;
  readonly window: Window;
  /** Left in the window, in fine units, once this call is counted; below 0 where it is above the limit. */
  readonly left: bigint;
  readonly isOver: boolean;
}

/** Answers one call at an instant, in unix milliseconds. One status a descriptor, in order. */
export function answerCall(
  request: RlsRequest,
  nowMillis: number,
  parts: RlsParts,
): readonly DescriptorStatus[] {
  if (!parts.config.domains.includes(request.domain)) {
    parts.count("unmatched", undefined);
    return request.descriptors.map(() => ({ isOver: false }));
  }
  return request.descriptors.map((descriptor) => {
    if (descriptor.overrides) parts.count("error", undefined);
    const given = descriptor.hits ?? (request.hits > 0 ? request.hits : undefined);
    return answerDescriptor(descriptor, given, nowMillis, parts);
  });
}

function answerDescriptor(
  descriptor: Descriptor,
  hits: number | undefined,
  nowMillis: number,
  parts: RlsParts,
): DescriptorStatus {
  const caller = callerOf(descriptor, parts);
  const met: Met[] = [];
  for (const usage of parts.book.usages) {
    const values = matched(usage.quota, caller);
    if (values !== undefined) met.push(meet(usage, values, hits, nowMillis, parts.count));
  }
  if (met.length === 0) parts.count("unmatched", undefined);
  return statusOf(met, nowMillis);
}

/** Who calls, by the descriptor's entries: for each key the first name that is there. */
function callerOf({ entries }: Descriptor, { aliases, config }: RlsParts): KeyValues {
  const caller: Partial<Record<MatchKey, string>> = {};
  for (const key of matchKeys) {
    const named = config.keys[key].find((name) => entries.has(name));
    if (named === undefined) continue;
    const value = entries.get(named) ?? "";
    caller[key] = attributeOf(key === "model" ? (aliases[value] ?? value) : value);
  }
  return caller;
}

/** The values of the quota's wild keys; undefined where it names a key that the caller has not, or another value. */
function matched({ match, wild }: Quota, caller: KeyValues): KeyValues | undefined {
  for (const key of matchKeys) {
    const wanted = match[key];
    if (wanted === undefined) continue;
    if (caller[key] === undefined || (wanted !== "*" && wanted !== caller[key])) return undefined;
  }
  return Object.fromEntries(wild.map((key) => [key, caller[key] ?? ""]));
}

function meet(
  usage: QuotaUsage,
  values: KeyValues,
  hits: number | undefined,
  nowMillis: number,
  count: CountDecision,
): Met {
  const { quota } = usage;
  const window = usage.windowAt(nowMillis);
  const charged = chargeOf(quota, hits);
  const needsCounter = charged > 0n || quota.reserve !== undefined;
  const found = needsCounter ? usage.counterOf(values) : { counter: usage.find(values), folded: false };
  const { counter } = found;
  const used = counter === undefined ? 0n : usedIn(usage, counter, window);
  const held = counter === undefined ? 0n : counter.heldAt(nowMillis);
  const left = quota.hostLimit - used - held - charged;
  const isCheck = hits === undefined || hits === 0;
  // A request that is to be held needs room for something; without holds one more passes at the limit itself.
  const isFull =
    !found.folded && (left < 0n || (left === 0n && charged === 0n && quota.reserve !== undefined));
  const isOver = isFull && quota.mode === "local";
  // A charge is answered too, but who asks whether to let a request in is counted: the answer to a charge comes too late.
  if (isCheck) count(isOver ? "limit" : isFull ? "would_limit" : "allow", quota);
  if (counter !== undefined && charged > 0n) {
    counter.releaseHold(nowMillis);
    counter.addRls(window.from, charged, nowMillis);
  } else if (counter !== undefined && isCheck && !isFull) hold(quota, counter, nowMillis);
  return { usage, window, left, isOver };
}

/** The larger of what the ledger booked and what calls charged, as everywhere. */
function usedIn(usage: QuotaUsage, counter: Counter, window: Window): bigint {
  const ledger = counter.usedIn(window, usage.window);
  const rls = counter.rlsIn(window) ?? 0n;
  return rls > ledger ? rls : ledger;
}

/** What a call counts in a quota, in fine units: given hits are tokens, a plain call is one request. */
function chargeOf(quota: Quota, hits: number | undefined): bigint {
  if (quota.count === "requests") return hits === undefined ? 1n : 0n;
  if (hits === undefined || quota.count === "cost") return 0n;
  return BigInt(hits) * BigInt(quota.scale);
}

/** Holds what a request is expected to use until its charge comes; all together at most half of the limit. */
function hold(quota: Quota, counter: Counter, nowMillis: number): void {
  if (quota.reserve === undefined) return;
  const tokens = BigInt(quota.reserve.tokens) * BigInt(quota.scale);
  if ((counter.heldAt(nowMillis) + tokens) * 2n > quota.hostLimit) return;
  counter.hold(tokens, nowMillis + quota.reserve.seconds * 1000);
}

/** The quota that limits, else the one with the least left of its limit's own unit. */
function statusOf(met: readonly Met[], nowMillis: number): DescriptorStatus {
  const over = met.filter(({ isOver }) => isOver);
  let least: Met | undefined;
  for (const one of over.length > 0 ? over : met) {
    if (least === undefined || inUnits(one) < inUnits(least)) least = one;
  }
  if (least === undefined) return { isOver: false };
  const { quota } = least.usage;
  return {
    isOver: over.length > 0,
    limit: { name: quota.name, amount: Number(quota.hostLimit) / quota.scale, per: quota.per },
    remaining: Math.max(0, inUnits(least)),
    resetMillis: Math.max(0, least.window.to - nowMillis),
  };
}

function inUnits({ left, usage }: Met): number {
  return Number(left) / usage.quota.scale;
}
