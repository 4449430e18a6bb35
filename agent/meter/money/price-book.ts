// What a token cost at any instant: the catalogues this host was given, each from when to when it was in force.
// Usage is booked at the price of its own time, also when it arrives after the price file was changed (METERING.md 8).
// Kept for the 35 days in which usage is taken; a change inside a bucket starts new rows.
import type { Outcome, TokenKind, UnixNanos } from "../../model.ts";
import type { Catalogue, TokenPrice } from "./catalogue.ts";
import { inForce } from "./catalogue.ts";

/** The price one token was booked at. The same object for the same price, so that rows are found by it. */
export interface UnitPrice {
  readonly version: string;
  readonly currency: string;
  /** 1e-9 of the currency per million tokens. */
  readonly perMillion: bigint;
  /** False: requests of this outcome are not billed, whatever the price. */
  readonly isBilled: boolean;
}

/** The part of a catalogue that prices tokens, and since when it is in force. */
export interface PricedSince {
  /** Undefined: the first this host was given holds for everything before it too. */
  readonly since: UnixNanos | undefined;
  /** Of the first: since when it is known. What was counted before had no price. */
  readonly knownSince?: UnixNanos | undefined;
  readonly catalogue: Pick<Catalogue, "version" | "currency" | "tokens"> & {
    readonly outcomes?: readonly Outcome[] | undefined;
  };
}

/** Outcomes that are billed where a price file does not say. */
const billedByDefault: readonly Outcome[] = ["ok"];
const keptNanos = 36n * 86_400_000_000_000n;
const pricesMax = 50_000;

/** Token prices by model, kind, outcome and instant. */
export class PriceBook {
  #catalogues: PricedSince[] = [];
  /** Prices of one stretch between two edges, by model, kind and outcome; null = none. */
  readonly #known = new Map<string, UnitPrice | null>();
  readonly #units = new Map<string, UnitPrice>();
  /** Something was taken since the last `takeChange()`. */
  #isChanged = false;
  #edges: readonly UnixNanos[] = [];
  #last = { from: 1n, to: 0n, stretch: -1 };

  /** Prices by this catalogue from `since` on. Nothing changes where it says what the last one says. */
  take(catalogue: PricedSince["catalogue"], since: UnixNanos): void {
    const { currency, outcomes, tokens, version } = catalogue;
    const last = this.#catalogues.at(-1);
    const priced = { version, currency, tokens, outcomes };
    if (last !== undefined && textOf(last.catalogue) === textOf(priced)) return;
    const first = last === undefined ? undefined : since;
    this.#isChanged = true;
    this.#catalogues.push({
      since: first,
      catalogue: priced,
      ...(last === undefined ? { knownSince: since } : {}),
    });
    this.#forgetBefore(since - keptNanos);
    this.#rebuild();
  }

  /** Whether anything was ever priced. */
  get isEmpty(): boolean {
    return this.#catalogues.length === 0;
  }

  /** Whether the catalogue of an instant prices any tokens. */
  hasPrices(at: UnixNanos): boolean {
    const latest = this.#catalogues.findLast(({ since }) => since === undefined || at >= since);
    return (latest?.catalogue.tokens.length ?? 0) > 0;
  }

  /**
   * The price of a token used at `at`, by what was known at `knownAt`; undefined where none is known. `outcome` undefined =
   * the source tells none apart.
   */
  price(
    model: string,
    kind: TokenKind,
    outcome: Outcome | undefined,
    at: UnixNanos,
    knownAt?: UnixNanos,
  ): UnitPrice | undefined {
    const catalogue = this.#catalogueAt(at, knownAt);
    if (catalogue === -1) return undefined;
    const key = `${catalogue} ${this.#stretchOf(at)} ${kind} ${outcome ?? ""} ${model}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known ?? undefined;
    if (this.#known.size >= pricesMax) this.#known.clear();
    const found = this.#find(this.#catalogues[catalogue]?.catalogue, model, kind, outcome, at);
    this.#known.set(key, found ?? null);
    return found;
  }

  /** The catalogues as plain data, where they changed since the last call. */
  takeChange(): string | undefined {
    if (!this.#isChanged) return undefined;
    this.#isChanged = false;
    return textOf(this.#catalogues);
  }

  /** Continues from `takeChange()`. */
  restore(text: string): void {
    this.#catalogues = JSON.parse(text, (key, value: unknown) =>
      bigintKeys.has(key) && typeof value === "string" ? BigInt(value) : value,
    ) as PricedSince[];
    this.#rebuild();
  }

  #find(
    catalogue: PricedSince["catalogue"] | undefined,
    model: string,
    kind: TokenKind,
    outcome: Outcome | undefined,
    at: UnixNanos,
  ): UnitPrice | undefined {
    if (catalogue === undefined) return undefined;
    const entry = inForce(catalogue.tokens, at, (one: TokenPrice) =>
      one.kind === kind ? modelRank(one.model, model) : undefined,
    );
    if (entry === undefined) return undefined;
    const isBilled = outcome === undefined || (catalogue.outcomes ?? billedByDefault).includes(outcome);
    return this.#unit({
      version: entry.version,
      currency: catalogue.currency,
      perMillion: isBilled ? entry.perMillion : 0n,
      isBilled,
    });
  }

  #unit(price: UnitPrice): UnitPrice {
    const key = textOf(price);
    const known = this.#units.get(key) ?? price;
    this.#units.set(key, known);
    return known;
  }

  /** Place of the catalogue in force, of those that were known; -1 = none. */
  #catalogueAt(at: UnixNanos, knownAt: UnixNanos | undefined): number {
    const isKnown = (from: UnixNanos): boolean => knownAt === undefined || knownAt >= from;
    return this.#catalogues.findLastIndex(({ knownSince = 0n, since }) =>
      since === undefined ? isKnown(knownSince) : at >= since && isKnown(since),
    );
  }

  /** Number of the stretch between two edges that an instant lies in: no price changes inside it. */
  #stretchOf(at: UnixNanos): number {
    if (at >= this.#last.from && at < this.#last.to) return this.#last.stretch;
    const above = this.#edges.findIndex((edge) => edge > at);
    const stretch = above === -1 ? this.#edges.length : above;
    this.#last = {
      from: this.#edges[stretch - 1] ?? at,
      to: this.#edges[stretch] ?? at + 1n,
      stretch,
    };
    return stretch;
  }

  #forgetBefore(before: UnixNanos): void {
    while (this.#catalogues.length > 1) {
      const [first, second] = this.#catalogues;
      if (first === undefined || second?.since === undefined || second.since >= before) return;
      this.#catalogues.splice(0, 2, { ...second, since: undefined, knownSince: second.since });
    }
  }

  #rebuild(): void {
    const edges = this.#catalogues.flatMap(({ catalogue, since }) => [
      since,
      ...catalogue.tokens.flatMap(({ from, to }) => [from, to]),
    ]);
    const known = new Set(edges.filter((edge) => edge !== undefined));
    this.#edges = [...known].sort((one, other) => (one < other ? -1 : 1));
    this.#known.clear();
    this.#last = { from: 1n, to: 0n, stretch: -1 };
  }
}

const bigintKeys: ReadonlySet<string> = new Set(["since", "knownSince", "from", "to", "perMillion"]);

function textOf(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) => (typeof inner === "bigint" ? String(inner) : inner));
}

/** Exact names first, `*` for every model last. */
export function modelRank(pattern: string, model: string): number | undefined {
  if (pattern === model) return 1;
  return pattern === "*" ? 0 : undefined;
}
