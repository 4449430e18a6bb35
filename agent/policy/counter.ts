// What one key of one quota used in the current window, twice: as the ledger booked it and as RLS calls charged it. The
// two are set beside each other and never added. Amounts are fine units of the quota (config.ts), signed inside: a void
// of usage takes back what it had. What lies in a window that has not begun waits for it under that window's start.
import type { StoredBridge } from "./bridge.ts";
import { Bridge } from "./bridge.ts";
import type { MatchKey } from "./config.ts";
import type { Window } from "./windows.ts";

/** How full a quota is. */
export const quotaStates = ["ok", "warn", "over", "unknown"] as const;
/** One of them. */
export type QuotaState = (typeof quotaStates)[number];

/** The values of a quota's wild keys, as attribute values. */
export type KeyValues = Readonly<Partial<Record<MatchKey, string>>>;

/** A counter as it is stored: amounts as decimal text, they outgrow a double. */
interface StoredCounter {
  readonly used: string;
  readonly carry: string;
  readonly ahead?: readonly (readonly [number, string])[];
  readonly rls?: string;
  readonly rlsFrom?: number;
  readonly rlsCarry?: string;
  /** What the bridge holds (bridge.ts). */
  readonly bridge?: StoredBridge;
  readonly state: QuotaState;
  readonly since: number;
  /** States it had in this window, for the record. */
  readonly seen: readonly QuotaState[];
}

/** Windows beyond the current one whose usage is kept apart; later usage counts in the last of them. */
const aheadMax = 8;

/** One counter. Owned by its quota. */
export class Counter {
  readonly values: KeyValues;
  /** By the ledger, in the current window. */
  used = 0n;
  /** The part of it booked since the beat that is being stored, while the rest is still to be read from the ledger. */
  sinceBeat = 0n;
  /** Charged and not yet exported: less than one exported unit once a beat is done. */
  carry = 0n;
  rlsCarry = 0n;
  /** What calls charged and the ledger has yet to bring. */
  readonly bridge = new Bridge();
  /** Charged by RLS calls in the window that began at `rlsFrom`; undefined where none came. */
  rls: bigint | undefined;
  rlsFrom = 0;
  state: QuotaState = "unknown";
  since = 0;
  seen: QuotaState[] = [];
  /** Differs from what was last stored. */
  changed = true;
  readonly #ahead = new Map<number, bigint>();
  /** What calls charged in the window before `rlsFrom`: the ledger's window follows the clock by some seconds. */
  #rlsBefore: { readonly from: number; readonly amount: bigint } | undefined;
  /** What requests in flight are expected to use, first in first out; gone with the agent. */
  #holds: { readonly amount: bigint; readonly untilMillis: number }[] = [];

  constructor(values: KeyValues) {
    this.values = values;
  }

  /** Adds what the ledger booked in the current window; `own`: at a time of the usage's own. */
  addUsed(amount: bigint, own: boolean): void {
    const { charged, used } = this.bridge.settle(amount, own);
    this.used += used;
    this.sinceBeat += used;
    this.#charge(charged);
  }

  /** Adds what lies in the window that begins at `from`, which is still to come. */
  addAhead(from: number, amount: bigint): void {
    const last = [...this.#ahead.keys()].at(-1);
    const at = this.#ahead.has(from) || this.#ahead.size < aheadMax ? from : (last ?? from);
    this.#ahead.set(at, (this.#ahead.get(at) ?? 0n) + amount);
    this.#charge(amount);
  }

  /** Adds what an RLS call charged in the window that begins at `from`; `atMillis` is now. */
  addRls(from: number, amount: bigint, atMillis = from): void {
    if (this.rls === undefined || this.rlsFrom !== from) {
      this.#rlsBefore = this.rls === undefined ? undefined : { from: this.rlsFrom, amount: this.rls };
      this.rls = 0n;
      this.rlsFrom = from;
    }
    this.rls += amount;
    this.rlsCarry += this.bridge.charge(amount, atMillis);
    this.changed = true;
  }

  /** Calls count for the ledger from now on: their charges since it booked last are exported. */
  openBridge(): void {
    this.rlsCarry += this.bridge.open();
  }

  /** Used by the ledger in a window: the current one, or one to come. */
  usedIn(window: Window, current: Window): bigint {
    const used = window.from === current.from ? this.used : (this.#ahead.get(window.from) ?? 0n);
    return used > 0n ? used : 0n;
  }

  /** Charged by RLS calls in a window; undefined where none came in it. */
  rlsIn(window: Window): bigint | undefined {
    if (this.#rlsBefore?.from === window.from) return this.#rlsBefore.amount;
    return this.rlsFrom === window.from ? this.rls : undefined;
  }

  /** Holds an amount for a request in flight. */
  hold(amount: bigint, untilMillis: number): void {
    this.#holds.push({ amount, untilMillis });
  }

  /** Gives the oldest hold back: a call names no request, so the next charge ends it. */
  releaseHold(nowMillis: number): void {
    void this.heldAt(nowMillis);
    this.#holds.shift();
  }

  /** What is held at an instant; holds that are over are gone. */
  heldAt(nowMillis: number): bigint {
    while ((this.#holds[0]?.untilMillis ?? Number.POSITIVE_INFINITY) <= nowMillis) this.#holds.shift();
    let held = 0n;
    for (const { amount } of this.#holds) held += amount;
    return held;
  }

  /** Begins the next window. Returns whether anything was counted in the one before. */
  roll(to: Window): boolean {
    const counted = this.used !== 0n || this.rls !== undefined || this.#ahead.size > 0;
    this.used = this.#ahead.get(to.from) ?? 0n;
    this.sinceBeat = this.used;
    for (const from of this.#ahead.keys()) if (from <= to.from) this.#ahead.delete(from);
    if (this.rlsFrom < to.from) this.rls = undefined;
    this.bridge.roll();
    this.seen = [];
    this.changed = true;
    return counted;
  }

  /** Takes whole exported units out of what was charged; the rest is carried. */
  takeCharged(unit: bigint, by: "ledger" | "rls"): number {
    const carry = by === "ledger" ? this.carry : this.rlsCarry;
    const whole = carry / unit;
    if (by === "ledger") this.carry -= whole * unit;
    else this.rlsCarry -= whole * unit;
    return Number(whole);
  }

  /** As stored text. */
  stored(): string {
    const ahead = [...this.#ahead].map(([from, amount]) => [from, String(amount)] as const);
    const stored: StoredCounter = {
      used: String(this.used),
      carry: String(this.carry),
      ...(ahead.length === 0 ? {} : { ahead }),
      ...(this.rls === undefined ? {} : { rls: String(this.rls), rlsFrom: this.rlsFrom }),
      ...(this.rlsCarry === 0n ? {} : { rlsCarry: String(this.rlsCarry) }),
      ...this.bridge.stored(),
      state: this.state,
      since: this.since,
      seen: this.seen,
    };
    return JSON.stringify(stored);
  }

  /** Continues from stored text. Throws where it is none. */
  restore(text: string): void {
    const stored = JSON.parse(text) as StoredCounter;
    this.used = BigInt(stored.used);
    this.carry = BigInt(stored.carry);
    this.rlsCarry = BigInt(stored.rlsCarry ?? "0");
    this.rls = stored.rls === undefined ? undefined : BigInt(stored.rls);
    this.rlsFrom = stored.rlsFrom ?? 0;
    this.bridge.restore(stored.bridge);
    // Calls since that beat are lost, and what they charged the ledger may have by now.
    if (this.rls !== undefined && this.used > this.rls) this.rls = this.used;
    for (const [from, amount] of stored.ahead ?? []) this.#ahead.set(from, BigInt(amount));
    this.state = stored.state;
    this.since = stored.since;
    this.seen = [...stored.seen];
    this.changed = false;
  }

  /** What is taken back was charged all the same: an exported total never falls. */
  #charge(amount: bigint): void {
    if (amount > 0n) this.carry += amount;
    this.changed = true;
  }
}
