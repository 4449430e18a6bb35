// Sums of products and servers over ten seconds, or over a window of such steps: the numbers of a row are one list, for an
// hour of them is added up every ten seconds.
import type {
  ActivityMethod,
  AllocatedState,
  Dimensions,
  GpuState,
  Posting,
  ServerInterval,
  TokenIncrement,
} from "../../model.ts";
import type { CostState, KpiTotals } from "./kpis.ts";
import { metTime } from "./sums.ts";

const states = ["token_active", "stalled", "parked", "other", "free", "unobserved"] as const;
const costStates: readonly CostState[] = [...states, "unattributed"];
/** Places in the list of a row; a cost is not a number while nothing was booked under its state. */
const places = { nanos: 0, millijoules: 6, unknown: 12, input: 13, output: 14, cost: 15 } as const;
const noSums: readonly number[] = [
  ...Array<number>(places.cost).fill(0),
  ...costStates.map(() => Number.NaN),
];

/** What a row is about. */
export type RowKind = "product" | "server";

/** The sums of a product or a server. Tokens are those of engines: a gateway counts them again, late ones have no time. */
export class Row {
  readonly kind: RowKind;
  readonly name: string;
  /** The product itself, or those of the GPUs a server held. */
  readonly homes: string[] = [];
  /** Undefined: nothing had a price. */
  currency: string | undefined;
  /** Some of it had no price, or one in another currency. */
  unpriced = false;
  readonly #sums: number[] = noSums.slice();

  constructor(kind: RowKind, name: string) {
    this.kind = kind;
    this.name = name;
  }

  get dimensions(): Dimensions {
    return this.kind === "product" ? { "hw.model": this.name } : { "tokenwatt.server.id": this.name };
  }

  /** Adds the time and energy of a GPU of this product, or of a server's part of one; both know the states they have. */
  addStates(
    product: string,
    nanos: Readonly<Partial<Record<GpuState, number>>>,
    millijoules: Readonly<Partial<Record<GpuState, number>>>,
  ): void {
    if (!this.homes.includes(product)) this.homes.push(product);
    for (let place = 0; place < states.length; place++) {
      const state = states[place] as GpuState;
      this.#add(places.nanos + place, nanos[state] ?? 0);
      this.#add(places.millijoules + place, millijoules[state] ?? 0);
    }
  }

  /** Adds allocated time whose activity nothing tells: counters that move at the end of a request, without a gauge. */
  addUnknown(
    method: ActivityMethod,
    { parked, stalled, token_active }: Readonly<Record<AllocatedState, number>>,
  ): void {
    if (method === "unknown") this.#add(places.unknown, parked + stalled + token_active);
  }

  /** Adds the tokens of an interval. */
  addTokens({ increments }: ServerInterval): void {
    for (let place = 0; place < increments.length; place++) {
      const increment = increments[place] as TokenIncrement;
      const { family, tokens } = increment;
      if (family !== "engine" || !metTime(increment)) continue;
      for (const kind in tokens) {
        const amount = tokens[kind as keyof typeof tokens] ?? 0;
        this.#add(kind === "output" ? places.output : places.input, amount);
      }
    }
  }

  /** Adds what some of its time cost. */
  addCost({ amount, dimensions }: Posting): void {
    const place = costStates.indexOf((dimensions["tokenwatt.gpu.state"] ?? "") as CostState);
    if (place >= 0) this.#addCost(places.cost + place, amount);
    this.#addCurrency(dimensions["tokenwatt.currency"] ?? "");
  }

  /** Adds all of another row of this name, its prices included; its homes stay its own. */
  addRow(other: Row): void {
    for (let place = 0; place < places.cost; place++) this.#add(place, other.#sums[place] as number);
    for (let place = places.cost; place < noSums.length; place++) {
      const amount = other.#sums[place] as number;
      if (!Number.isNaN(amount)) this.#addCost(place, amount);
    }
    this.unpriced ||= other.unpriced;
    this.#addCurrency(other.currency);
  }

  /** What key figures are made of. */
  totals(): KpiTotals {
    const cost: Partial<Record<CostState, number>> = {};
    costStates.forEach((state, place) => {
      const amount = this.#sums[places.cost + place] as number;
      if (!Number.isNaN(amount)) cost[state] = amount;
    });
    return {
      gpuNanos: this.#byState(places.nanos),
      gpuMillijoules: this.#byState(places.millijoules),
      unknownNanos: this.#sums[places.unknown] as number,
      inputTokens: this.#sums[places.input] as number,
      outputTokens: this.#sums[places.output] as number,
      cost,
    };
  }

  #byState(from: number): Record<GpuState, number> {
    return Object.fromEntries(
      states.map((state, place) => [state, this.#sums[from + place] as number]),
    ) as Record<GpuState, number>;
  }

  #add(place: number, amount: number): void {
    this.#sums[place] = (this.#sums[place] as number) + amount;
  }

  #addCost(place: number, amount: number): void {
    const before = this.#sums[place] as number;
    this.#sums[place] = Number.isNaN(before) ? amount : before + amount;
  }

  #addCurrency(currency: string | undefined): void {
    this.unpriced ||= this.currency !== undefined && currency !== this.currency;
    this.currency ??= currency;
  }
}

/** Rows by what they are about, in the order in which they came. */
export class Rows {
  readonly all: Row[] = [];
  readonly #max: number;
  readonly #byName = { product: new Map<string, Row>(), server: new Map<string, Row>() };

  /** At most `max` rows are kept. */
  constructor(max = Number.POSITIVE_INFINITY) {
    this.#max = max;
  }

  find(kind: RowKind, name: string): Row | undefined {
    return this.#byName[kind].get(name);
  }

  /** The row of that name, new at first; beyond the bound one that nothing is kept of. */
  row(kind: RowKind, name: string): Row {
    const known = this.find(kind, name);
    if (known !== undefined) return known;
    const fresh = new Row(kind, name);
    if (this.all.length >= this.#max) return fresh;
    this.all.push(fresh);
    this.#byName[kind].set(name, fresh);
    return fresh;
  }
}
