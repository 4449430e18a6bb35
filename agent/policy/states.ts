// How full a quota is, and what it says of itself at one instant: used, limit, state, and by what it knows them.
// Where the count began inside the window it is a lower bound: it may say `over` or `warn`, never `ok`.
import { SILENT_MS } from "./bridge.ts";
import type { Quota } from "./config.ts";
import type { Counter, KeyValues, QuotaState } from "./counter.ts";
import type { QuotaUsage } from "./usage.ts";
import type { Window } from "./windows.ts";

/** By what usage is known: what the ledger booked, what RLS calls charged, or not at all. */
export type UsedMethod = "ledger" | "rls" | "none";

/** What all hosts used together, as last read from where they report to. */
export interface FleetReading {
  /** Fine units. */
  readonly used: bigint;
  readonly hosts: number;
  readonly ageSeconds: number;
  /** Young enough for a state to follow it. */
  readonly isFresh: boolean;
}

/** One counter as it stands. */
export interface QuotaReading {
  readonly quota: Quota;
  readonly values: KeyValues;
  readonly window: Window;
  /** Fine units; undefined where neither feed nor call says anything. */
  readonly used: bigint | undefined;
  readonly method: UsedMethod;
  /** A feed of the ledger counts for it: what calls charge is its second view. */
  readonly isBooked: boolean;
  readonly state: QuotaState;
  /** When it came into this state, unix milliseconds. */
  readonly since: number;
  /** rls - ledger, fine units; undefined where one of the two is absent. */
  readonly drift: bigint | undefined;
  /** Everything used in the window is in `used`. */
  readonly isComplete: boolean;
  /** Since when the ledger's feed says nothing of it, unix milliseconds: longer than passes by itself. */
  readonly silentSince: number | undefined;
  /** Undefined where it is not asked for, or not known. */
  readonly fleet: FleetReading | undefined;
  /** Whose usage the state follows: the fuller of the two. */
  readonly basis: "host" | "fleet";
}

/** What the sources say that a quota counts from. */
export interface QuotaFeed {
  /** There is one. */
  readonly isFed: boolean;
  /** Since when one of them could not be read, unix milliseconds. */
  readonly failingSince: number | undefined;
}

/** What a counter says of a window at an instant. */
export function readCounter(
  usage: QuotaUsage,
  counter: Counter,
  window: Window,
  { failingSince, isFed }: QuotaFeed,
  atMillis: number,
  fleet?: FleetReading,
): Omit<QuotaReading, "state" | "since"> & { readonly state: QuotaState } {
  const ledger = counter.usedIn(window, usage.window);
  const rls = counter.rlsIn(window);
  const isBooked = isFed || ledger > 0n;
  const silentSince = isBooked ? silence([failingSince, counter.bridge.unmetSince], atMillis) : undefined;
  const isLarger = rls !== undefined && (!isBooked || rls > ledger);
  const used = isLarger ? rls : isBooked ? ledger : undefined;
  // In the silence of the ledger's feed calls are what is known, even while they have charged less than it had booked.
  const isCalled = isLarger || (silentSince !== undefined && rls !== undefined);
  const method: UsedMethod = isCalled ? "rls" : isBooked ? "ledger" : "none";
  const isWhole = window.from === usage.window.from ? usage.isComplete : true;
  const isComplete = isWhole && (silentSince === undefined || isLarger);
  const drift = isBooked && rls !== undefined ? rls - ledger : undefined;
  const { quota } = usage;
  return {
    ...{ quota, values: counter.values, window, used, method, isBooked, drift, isComplete },
    ...{ silentSince, fleet, ...judge(quota, used, isComplete, fleet) },
  };
}

/** The first of some instants that is longer ago than a feed may be silent. */
function silence(since: readonly (number | undefined)[], atMillis: number): number | undefined {
  const long = since.filter((one) => one !== undefined && atMillis - one >= SILENT_MS);
  return long.length === 0 ? undefined : Math.min(...(long as number[]));
}

/** The state, by the fuller of this host's part and of all. What all used leaves nothing out, where this host does not. */
function judge(
  quota: Quota,
  used: bigint | undefined,
  isComplete: boolean,
  fleet: FleetReading | undefined,
): Pick<QuotaReading, "state" | "basis"> {
  const { fleetLimit, hostLimit } = quota;
  const isFuller =
    fleet?.isFresh === true && (used === undefined || fleet.used * hostLimit > used * fleetLimit);
  if (!isFuller) return { state: stateOf(quota, used, hostLimit, isComplete), basis: "host" };
  const isKnown = isComplete && used !== undefined;
  return { state: stateOf(quota, fleet.used, fleetLimit, isKnown), basis: "fleet" };
}

/** The state of an amount used. */
export function stateOf(
  quota: Quota,
  used: bigint | undefined,
  limit: bigint,
  isComplete: boolean,
): QuotaState {
  if (used === undefined) return "unknown";
  if (used >= limit) return "over";
  const first = quota.warnAt[0];
  // Compared as integers: a limit of money is far above what a double tells apart.
  if (first !== undefined && used * 1_000_000n >= limit * BigInt(Math.round(first * 1e6))) return "warn";
  return isComplete ? "ok" : "unknown";
}
