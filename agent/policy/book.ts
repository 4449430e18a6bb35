// All quotas of one policy: usage in as the ledger books it, and with every beat readings, postings, changes for the store
// and records of what changed its state. Restored from rows that were stored with the ledger's own totals, in one
// transaction, so that what was used is exact after a kill at any moment; a new quota reads its window from the ledger.
import type { AuditEntry, Dimensions, StateRow } from "../model.ts";
import type { MatchKey, Policy, Quota } from "./config.ts";
import type { Counter, KeyValues, QuotaState } from "./counter.ts";
import type { FleetReading, QuotaFeed, QuotaReading } from "./states.ts";
import { readCounter } from "./states.ts";
import { countedMetrics, factorOf, QuotaUsage } from "./usage.ts";
import type { Window } from "./windows.ts";

/** What a beat hands out. */
export interface PolicyBeat {
  readonly readings: readonly QuotaReading[];
  readonly rows: readonly StateRow[];
  readonly transitions: readonly Transition[];
  /** Keys whose counters were given up: their series end. */
  readonly dropped: readonly { readonly quota: string; readonly values: KeyValues }[];
}

/** A counter that came from one state into another. */
export interface Transition {
  readonly reading: QuotaReading;
  readonly from: QuotaState;
  /** The first time it is in this state in this window: for the record. */
  readonly isFirst: boolean;
}

/** A movement of a series, as the ledger booked it. */
export interface Movement {
  readonly metric: string;
  readonly dimensions: Dimensions;
  readonly amount: number;
  readonly atMillis: number;
  /** The instant is the usage's own, not its interval's end. */
  readonly own: boolean;
}

/** What a quota needs of the ledger to know its window. */
export interface Seed {
  readonly usage: QuotaUsage;
  readonly fromMillis: number;
}

const rowKind = "quota";
/** Key of the row that names the beat the quotas' rows were stored with: rows of an earlier one lack what was used since. */
export const quotaBeatKey = '["quotas"]';

/** The counters of a policy. */
export class PolicyBook {
  readonly policy: Policy;
  readonly usages: readonly QuotaUsage[];
  /** Bookings whose key found no room, since the last call of `takeFolded`. */
  #folded = 0;
  #places = 0;
  #targets = new WeakMap<Dimensions, readonly (readonly [QuotaUsage, bigint])[]>();
  /** Stored keys that no quota has any more. */
  #stale: string[] = [];
  /** The ledger may lack what was used before: nothing is whole until its window ends. */
  readonly #isTrusted: boolean;

  constructor(policy: Policy, atMillis: number, restored: readonly StateRow[] = [], isTrusted = true) {
    this.policy = policy;
    this.#isTrusted = isTrusted;
    const room = {
      take: () => this.#places < policy.keysMax && this.#places++ >= 0,
      give: () => {
        this.#places--;
      },
    };
    this.usages = policy.quotas.map((quota) => new QuotaUsage(quota, atMillis, room));
    this.#restore(restored);
    for (const usage of this.usages) usage.roll(atMillis);
  }

  /** Counts what the ledger booked. */
  book({ amount, atMillis, dimensions, metric, own }: Movement): void {
    if (!countedMetrics.has(metric)) return;
    let targets = this.#targets.get(dimensions);
    if (targets === undefined) {
      targets = this.usages.flatMap((usage) => {
        const factor = factorOf(usage.quota, metric, dimensions);
        return factor === undefined ? [] : [[usage, factor] as const];
      });
      this.#targets.set(dimensions, targets);
    }
    for (const [usage, factor] of targets) {
      if (usage.book(dimensions, BigInt(amount) * factor, atMillis, own)) this.#folded++;
    }
  }

  /** How full the fullest quota of mode `local` is; undefined where there is none. */
  fullestLocal(): number | undefined {
    let fullest: number | undefined;
    for (const { counters, quota, window } of this.usages) {
      if (quota.mode !== "local") continue;
      for (const counter of counters) {
        const [ledger, rls] = [counter.usedIn(window, window), counter.rlsIn(window) ?? 0n];
        const share = Number(rls > ledger ? rls : ledger) / Number(quota.hostLimit);
        fullest = Math.max(fullest ?? 0, share);
      }
    }
    return fullest;
  }

  /** Bookings folded into `other` since the last call. */
  takeFolded(): number {
    const folded = this.#folded;
    this.#folded = 0;
    return folded;
  }

  /**
   * Closes the beat at the end of the last settled interval. `feedOf` says how the sources of a family are read. What it
   * returns may be shown once its rows are stored. `fleetOf` says what all hosts used, where that is known.
   */
  commit(
    atMillis: number,
    feedOf: (source: "gateway" | "engine") => QuotaFeed,
    fleetOf: (quota: Quota, values: KeyValues, window: Window) => FleetReading | undefined = () => undefined,
  ): PolicyBeat {
    const readings: QuotaReading[] = [];
    const rows: StateRow[] = this.#stale.map((key) => ({ key, value: "" }));
    const transitions: Transition[] = [];
    const dropped: PolicyBeat["dropped"][number][] = [];
    this.#stale = [];
    for (const usage of this.usages) {
      usage.roll(atMillis);
      const feed = feedOf(usage.quota.source);
      for (const counter of usage.counters) {
        const fleet = fleetOf(usage.quota, counter.values, usage.window);
        const read = readCounter(usage, counter, usage.window, feed, atMillis, fleet);
        if (!read.isBooked || read.silentSince !== undefined) counter.openBridge();
        counter.bridge.beat();
        const transition = moveState(counter, read.state, atMillis);
        const reading = { ...read, since: counter.since };
        readings.push(reading);
        if (transition !== undefined) transitions.push({ reading, ...transition });
      }
      const isBare =
        !feed.isFed && usage.quota.wild.length > 0 && !readings.some(({ quota }) => quota === usage.quota);
      if (isBare) readings.push(unfed(usage));
      for (const key of usage.takeDropped()) {
        rows.push({ key: rowKey(usage.quota.name, key), value: "" });
        dropped.push({ quota: usage.quota.name, values: valuesOf(usage.quota.wild, key) });
      }
      if (usage.needsSeed) usage.markBeat();
    }
    return { readings, rows, transitions, dropped };
  }

  /** Rows that changed, once what was charged is taken out of the counters: to be stored with the beat. */
  takeRows(all = false): readonly StateRow[] {
    const rows: StateRow[] = [];
    for (const usage of this.usages) {
      const { name, wild } = usage.quota;
      if (usage.changed || all) {
        const { isComplete, needsSeed, quota, window } = usage;
        const value = { definition: quota.definition, from: window.from, isComplete, needsSeed };
        rows.push({ key: rowKey(name), value: JSON.stringify(value) });
        usage.changed = false;
      }
      for (const counter of usage.counters) {
        if (!counter.changed && !all) continue;
        const key = JSON.stringify(wild.map((one) => counter.values[one] ?? "unknown"));
        rows.push({ key: rowKey(name, key), value: counter.stored() });
        counter.changed = false;
      }
    }
    return rows;
  }

  /** The quotas whose window began before their count, and from when the ledger is to be read for them. */
  seeds(): readonly Seed[] {
    return this.usages
      .filter((usage) => usage.needsSeed)
      .map((usage) => ({ usage, fromMillis: usage.window.from }));
  }

  /** What the ledger holds since a window began; `isWhole`: it was kept all that time. A window that is over by now is left. */
  seed(
    { fromMillis, usage }: Seed,
    rows: Iterable<readonly [string, Dimensions, bigint]>,
    isWhole: boolean,
  ): void {
    if (!usage.needsSeed || usage.window.from !== fromMillis) return;
    const sums: (readonly [Dimensions, bigint])[] = [];
    for (const [metric, dimensions, amount] of rows) {
      const factor = factorOf(usage.quota, metric, dimensions);
      if (factor !== undefined) sums.push([dimensions, amount * factor]);
    }
    usage.seed(sums, isWhole && this.#isTrusted);
  }

  #restore(rows: readonly StateRow[]): void {
    const windows = new Map<string, string>();
    for (const { key, value } of rows) {
      const parsed = parsedKey(key);
      if (parsed?.length === 1 && value !== "") windows.set(parsed[0] ?? "", value);
    }
    const kept = new Map<string, QuotaUsage>();
    for (const usage of this.usages) {
      const text = windows.get(usage.quota.name);
      if (text !== undefined && restoreWindow(usage, text, this.#isTrusted))
        kept.set(usage.quota.name, usage);
    }
    for (const { key, value } of rows) {
      const [name = "", counter] = parsedKey(key) ?? [];
      if (name === "" || value === "") continue;
      const usage = kept.get(name);
      if (usage === undefined) this.#stale.push(key);
      else if (counter !== undefined) usage.restore(valuesOf(usage.quota.wild, counter), value);
    }
    // A quota of a name that is counted anew stores its rows again under the same keys.
    const own = new Set(this.usages.map(({ quota }) => rowKey(quota.name)));
    this.#stale = this.#stale.filter((key) => !own.has(key));
  }
}

/** Whether a row of the stored state is one of a quota's. */
export function isQuotaRow({ key }: StateRow): boolean {
  return key.startsWith(`["${rowKind}",`);
}

function restoreWindow(usage: QuotaUsage, text: string, isTrusted: boolean): boolean {
  const stored = JSON.parse(text) as {
    definition: string;
    from: number;
    isComplete: boolean;
    needsSeed: boolean;
  };
  if (stored.definition !== usage.quota.definition) return false;
  // Of an earlier window only what its roll keeps is of use; of a later one (the clock was behind) all is.
  usage.restoreWindow(stored.from, stored.isComplete && isTrusted, stored.needsSeed && isTrusted);
  return true;
}

/** A quota whose keys are not known because nothing feeds it: it says so under its own name. */
function unfed({ quota, window }: QuotaUsage): QuotaReading {
  const unknown = { used: undefined, drift: undefined, silentSince: undefined, fleet: undefined };
  return {
    ...{ quota, values: {}, window, since: 0, isBooked: false, isComplete: false },
    ...{ ...unknown, method: "none", state: "unknown", basis: "host" },
  };
}

function moveState(
  counter: Counter,
  state: QuotaState,
  atMillis: number,
): Omit<Transition, "reading"> | undefined {
  const isFirst = !counter.seen.includes(state);
  // A window that is as full in its first beat as the one before was in its last came there from nothing used.
  const isRefilled = isFirst && counter.state === state && (state === "warn" || state === "over");
  const from = isRefilled ? "ok" : counter.state;
  if (isFirst) {
    counter.seen.push(state);
    counter.changed = true;
  }
  if (from === state && counter.since !== 0) return undefined;
  const isNew = counter.since === 0;
  counter.state = state;
  counter.since = atMillis;
  counter.changed = true;
  return isNew && state === "unknown" ? undefined : { from, isFirst };
}

function rowKey(name: string, counter?: string): string {
  return JSON.stringify(counter === undefined ? [rowKind, name] : [rowKind, name, counter]);
}

/** The parts of a row's key after its kind. */
function parsedKey(key: string): readonly string[] | undefined {
  if (!key.startsWith(`["${rowKind}",`)) return undefined;
  return (JSON.parse(key) as string[]).slice(1);
}

function valuesOf(wild: readonly MatchKey[], key: string): KeyValues {
  const parts = JSON.parse(key) as string[];
  return Object.fromEntries(wild.map((one, index) => [one, parts[index] ?? "unknown"]));
}

/** Records of what changed its state, at most once per counter, window and state. */
export function auditBodies(transitions: readonly Transition[]): readonly AuditEntry["body"][] {
  return transitions
    .filter(({ isFirst, reading, from }) => isFirst && !(reading.state === "ok" && from !== "unknown"))
    .map(({ from, reading }) => {
      const { basis, quota, state, values, window } = reading;
      const used = basis === "fleet" ? reading.fleet?.used : reading.used;
      const limit = basis === "fleet" ? quota.fleetLimit : quota.hostLimit;
      return {
        quota: quota.name,
        key: values,
        window: new Date(window.from).toISOString(),
        from,
        to: state,
        used: used === undefined ? null : Number(used) / quota.scale,
        limit: Number(limit) / quota.scale,
        basis,
      };
    });
}
