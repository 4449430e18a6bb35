// Between two feeds of one counter: what RLS calls charged since the ledger booked last. While the ledger's feed is silent
// calls count in its place, and are exported as charged; when the feed is back, what it brings of the same requests is
// neither exported again nor counted in a window that began meanwhile. Amounts are set off, never added.

/** A bridge as it is stored; amounts as decimal text. */
export interface StoredBridge {
  readonly unmet?: string;
  readonly unmetBefore?: string;
  readonly unmetSince?: number;
  readonly bridged?: string;
  readonly before?: string;
}

/** How long calls may charge what the ledger does not book before its feed counts as silent. */
export const SILENT_MS = 300_000;

/** What of an amount that the ledger booked is new. */
export interface Settled {
  /** To be exported as charged by the ledger. */
  readonly charged: bigint;
  /** To be counted in the current window. */
  readonly used: bigint;
}

/** The bridge of one counter. */
export class Bridge {
  /** Charged by calls since the ledger booked last, and when that began. */
  #unmet = 0n;
  #unmetSince: number | undefined;
  /** The part of it that was charged in windows that are over. */
  #unmetBefore = 0n;
  #isOpen = false;
  /** Exported as charged by calls, and not yet brought by the ledger. */
  #bridged = 0n;
  /** The part of it that was charged in windows that are over. */
  #before = 0n;
  /** The ledger booked since; how many beats ago. */
  #isBack = false;
  #beatsBack = 0;

  /** Since when calls charge what the ledger does not book, unix milliseconds; undefined while it does. */
  get unmetSince(): number | undefined {
    return this.#unmetSince;
  }

  /** Takes a call's charge; returns what of it is to be exported now. */
  charge(amount: bigint, atMillis: number): bigint {
    this.#unmetSince ??= atMillis;
    if (this.#isOpen) this.#bridged += amount;
    else this.#unmet += amount;
    return this.#isOpen ? amount : 0n;
  }

  /** Calls count in the ledger's place from now on; returns what they charged since it booked last. */
  open(): bigint {
    const unmet = this.#unmet;
    this.#isOpen = true;
    this.#isBack = false;
    this.#bridged += unmet;
    this.#before += this.#unmetBefore;
    this.#unmet = 0n;
    this.#unmetBefore = 0n;
    return unmet;
  }

  /**
   * The ledger books again: what calls charged in its place is taken out. Usage with a time of its own counts in the window
   * it happened in, so nothing of an earlier window is in it.
   */
  settle(amount: bigint, own: boolean): Settled {
    if (amount === 0n) return { charged: 0n, used: 0n };
    if (!this.#isBack) this.#beatsBack = 0;
    this.#unmet = 0n;
    this.#unmetBefore = 0n;
    this.#unmetSince = undefined;
    this.#isOpen = false;
    this.#isBack = true;
    if (amount < 0n || this.#bridged === 0n) return { charged: amount, used: amount };
    const old = own ? 0n : least(this.#before, amount);
    const now = least(this.#bridged - this.#before, amount - old);
    this.#before -= old;
    this.#bridged -= old + now;
    return { charged: amount - old - now, used: amount - old };
  }

  /** The window is over. */
  roll(): void {
    this.#before = this.#bridged;
    this.#unmetBefore = this.#unmet;
  }

  /** A beat is done. What the ledger did not bring with the first ones after its silence it will not bring. */
  beat(): void {
    if (!this.#isBack || this.#bridged === 0n || ++this.#beatsBack < 2) return;
    this.#bridged = 0n;
    this.#before = 0n;
  }

  /** As part of a stored counter; empty where there is nothing to keep. */
  stored(): { readonly bridge?: StoredBridge } {
    if (this.#unmetSince === undefined && this.#bridged === 0n) return {};
    return {
      bridge: {
        ...(this.#unmet === 0n ? {} : { unmet: String(this.#unmet), unmetBefore: String(this.#unmetBefore) }),
        ...(this.#unmetSince === undefined ? {} : { unmetSince: this.#unmetSince }),
        ...(this.#bridged === 0n ? {} : { bridged: String(this.#bridged), before: String(this.#before) }),
      },
    };
  }

  /** Continues from what was stored: open is what the next beat finds to be so. */
  restore(stored: StoredBridge | undefined): void {
    this.#bridged = BigInt(stored?.bridged ?? "0");
    this.#before = BigInt(stored?.before ?? "0");
    this.#unmet = BigInt(stored?.unmet ?? "0");
    this.#unmetBefore = BigInt(stored?.unmetBefore ?? "0");
    this.#unmetSince = stored?.unmetSince;
  }
}

function least(one: bigint, other: bigint): bigint {
  return one < other ? one : other;
}
