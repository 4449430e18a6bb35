// The pushed series and what each added since its last point: delta and cumulative, restarts, redelivery.
// A request is taken in whole or not at all: points move series only at `commit`, when everything could be read.
import type { Histogram } from "../../model.ts";
import type { Usage, UsageTotals } from "../receive/usage-totals.ts";
import { amountMax } from "../receive/usage-totals.ts";
import type { LastPoint } from "./last-points.ts";
import { LastPoints, seriesId } from "./last-points.ts";
import type { Quantity } from "./meaning.ts";

const SERIES_MAX = 100_000;
/** A full table lets go of series that had no point for this long: those of requests, or of a process that is gone. */
const IDLE_NANOS = 3600 * 1e9;
/** Bounds and counts of histograms kept over all series; beyond it histograms count requests only. */
const NUMBERS_MAX = 2_000_000;

/** One pushed series. */
export interface Series {
  readonly quantity: Quantity;
  readonly account: Account;
  readonly failed: boolean;
  readonly caller: string;
  readonly last: LastPoint;
}

/** Whom usage is counted for; input and cached input of one account are split together. */
interface Account {
  readonly identity: Pick<Usage, "model" | "tenant" | "endpoint" | "upstream">;
  readonly caller: string;
  /** Whether cached input was ever seen: without, input stays unsplit. */
  splits: boolean;
  input: number;
  cached: number;
  output: number;
  reasoning: number | undefined;
}

interface Movement {
  readonly series: Series;
  readonly start: number;
  readonly time: number;
  readonly value: number;
  readonly delta: boolean;
  readonly histogram: Histogram | undefined;
}

/** All series of one receiver. */
export class SeriesTable {
  readonly #points: LastPoints;
  readonly #seriesMax: number;
  readonly #series = new Map<string, Series>();
  readonly #accounts = new Map<string, Account>();
  readonly #ofCaller = new Map<string, number>();
  #moves: Movement[] = [];
  #numbers = 0;
  /** Times of the newest point, and of the newest when series were last let go. */
  #newest = 0;
  #sweptAt = 0;
  /** Changes when series were let go: what was found before may not be used any more. */
  generation = 0;

  /** Cumulative series that began after the points' `opened` count whole at first sight; a number stands for it. */
  constructor(points: LastPoints | number, seriesMax = SERIES_MAX) {
    this.#seriesMax = seriesMax;
    this.#points = typeof points === "number" ? new LastPoints(points) : points;
  }

  /** Starts a request. */
  begin(): void {
    this.#moves = [];
  }

  /**
   * The series of a canonical key, new or known, for a point of `time`; "full" beyond the bound, of which one caller has
   * three quarters. `formerKey`: what an earlier version remembered it by.
   */
  series(
    key: string,
    quantity: Quantity,
    identity: Account["identity"],
    errorType: string | undefined,
    time: number,
    { caller, formerKey }: { readonly caller: string; readonly formerKey?: string } = { caller: "" },
  ): Series | "full" {
    this.#newest = Math.max(this.#newest, time);
    const id = seriesId(key);
    const known = this.#series.get(id);
    if (known !== undefined) return known;
    if (this.#isFullFor(caller) && !(this.#letGoOfIdle() && !this.#isFullFor(caller))) return "full";
    if (formerKey !== undefined) this.#points.adopt(seriesId(formerKey), id);
    const failed = errorType !== undefined && errorType !== "";
    const account = this.#account(identity, caller);
    const series: Series = { quantity, account, failed, caller, last: this.#points.of(id) };
    this.#series.set(id, series);
    this.#ofCaller.set(caller, (this.#ofCaller.get(caller) ?? 0) + 1);
    return series;
  }

  #isFullFor(caller: string): boolean {
    if (this.#series.size >= this.#seriesMax) return true;
    return caller !== "" && (this.#ofCaller.get(caller) ?? 0) >= Math.ceil((this.#seriesMax * 3) / 4);
  }

  /** Notes a point. */
  move(
    series: Series,
    point: { readonly start: number; readonly time: number; readonly value: number },
    delta: boolean,
    histogram: Histogram | undefined,
  ): void {
    const { start, time, value } = point;
    this.#moves.push({ series, start, time, value, delta, histogram: this.#kept(histogram) });
  }

  /** Adds everything noted to the totals. */
  commit(totals: UsageTotals): void {
    const touched = new Set<Account>();
    for (const move of this.#moves) {
      const { last } = move.series;
      // A point that is not newer than the last one was delivered before.
      if (move.time <= last.time) continue;
      if (move.time <= this.#points.forgotten) {
        totals.ignored++;
        continue;
      }
      const base = this.#base(move);
      if (base !== undefined) this.#add(move, base, totals, touched);
      last.start = move.start;
      last.time = move.time;
      last.value = move.value;
      this.#numbers += numbersOf(move.histogram) - numbersOf(last.histogram);
      last.histogram = move.histogram;
      this.#newest = Math.max(this.#newest, move.time);
      this.#points.moved(last);
    }
    this.#moves = [];
    for (const account of touched) settle(account, totals);
  }

  /** Makes room; at most once in the time that makes a series idle, for it looks at all of them. */
  #letGoOfIdle(): boolean {
    if (this.#sweptAt + IDLE_NANOS > this.#newest) return false;
    this.#sweptAt = this.#newest;
    const moving = new Set(this.#moves.map(({ series }) => series));
    for (const [id, series] of this.#series) {
      const { last } = series;
      if (last.time > this.#newest - IDLE_NANOS || moving.has(series)) continue;
      this.#series.delete(id);
      this.#ofCaller.set(series.caller, (this.#ofCaller.get(series.caller) ?? 1) - 1);
      this.#numbers -= numbersOf(last.histogram);
      this.#points.forget(id);
    }
    this.generation++;
    return this.#series.size < this.#seriesMax;
  }

  /** The histogram, without its buckets where all together are too many to keep. */
  #kept(histogram: Histogram | undefined): Histogram | undefined {
    if (histogram === undefined || this.#numbers < NUMBERS_MAX) return histogram;
    return { bounds: [], counts: [histogram.count], sum: histogram.sum, count: histogram.count };
  }

  /** What the point is counted from: nothing, the last point, or (undefined) it only sets the base. */
  #base(move: Movement): { value: number; histogram: Histogram | undefined } | undefined {
    const { last } = move.series;
    const zero = { value: 0, histogram: undefined };
    if (move.delta) return zero;
    if (last.time === -1) return move.start > this.#points.opened ? zero : undefined;
    if (move.start !== last.start) return zero;
    if (move.value < last.value) return move.start === 0 ? zero : undefined;
    return { value: last.value, histogram: last.histogram };
  }

  #add(
    move: Movement,
    base: { value: number; histogram: Histogram | undefined },
    totals: UsageTotals,
    touched: Set<Account>,
  ): void {
    const { quantity, account } = move.series;
    if (move.histogram !== undefined) {
      const histogram = difference(move.histogram, base.histogram);
      if (histogram === undefined || histogram.count === 0) return;
      const requests = quantity === "request_duration" ? { requests: histogram.count } : {};
      const outcome = move.series.failed ? "error" : "ok";
      // Of durations alone the conventions want `error.type` where a request failed; elsewhere its absence says nothing.
      const isTold = move.series.failed || quantity === "request_duration";
      const key = isTold ? `${quantity} ${outcome}` : quantity;
      const latencies = histogram.bounds.length === 0 ? {} : { latencies: { [key]: histogram } };
      totals.addUsage(
        {
          ...account.identity,
          outcome,
          ...requests,
          ...latencies,
        },
        move.series.caller,
      );
      return;
    }
    const amount = Math.round(move.value) - Math.round(base.value);
    if (amount > amountMax) return void totals.ignored++;
    if (quantity === "input") account.input += amount;
    else if (quantity === "output") account.output += amount;
    else if (quantity === "reasoning") account.reasoning = (account.reasoning ?? 0) + amount;
    else if (quantity === "cached") {
      account.cached += amount;
      account.splits = true;
    }
    touched.add(account);
  }

  #account(identity: Account["identity"], caller: string): Account {
    const key = JSON.stringify([
      caller,
      identity.model ?? null,
      identity.tenant ?? null,
      identity.endpoint ?? null,
      identity.upstream ?? null,
    ]);
    const known = this.#accounts.get(key);
    if (known !== undefined) return known;
    const account: Account = {
      identity,
      caller,
      splits: false,
      input: 0,
      cached: 0,
      output: 0,
      reasoning: undefined,
    };
    this.#accounts.set(key, account);
    return account;
  }
}

function numbersOf(histogram: Histogram | undefined): number {
  return histogram === undefined ? 0 : histogram.bounds.length + histogram.counts.length;
}

/** Books what an account gathered in one request; cached input beyond the input waits for it. */
function settle(account: Account, totals: UsageTotals): void {
  const cached = Math.min(account.cached, account.input);
  const tokens = account.splits
    ? { input_cached: cached, input_uncached: account.input - cached }
    : { input_unsplit: account.input };
  const { reasoning } = account;
  totals.addUsage(
    {
      ...account.identity,
      tokens: {
        ...(account.input > 0 ? tokens : {}),
        ...(account.output > 0 ? { output: account.output } : {}),
      },
      ...(reasoning === undefined ? {} : { reasoningTokens: reasoning }),
    },
    account.caller,
  );
  account.cached -= cached;
  account.input = 0;
  account.output = 0;
  account.reasoning = undefined;
}

/** What a histogram gained; undefined when it fell or its buckets changed. */
function difference(now: Histogram, before: Histogram | undefined): Histogram | undefined {
  if (before === undefined) return now;
  const same =
    before.bounds.length === now.bounds.length &&
    before.bounds.every((bound, index) => bound === now.bounds[index]);
  if (!same) return undefined;
  const counts = now.counts.map((count, index) => count - (before.counts[index] as number));
  if (counts.some((count) => count < 0)) return undefined;
  return {
    bounds: now.bounds,
    counts,
    sum: Math.max(0, now.sum - before.sum),
    count: counts.reduce((a, b) => a + b, 0),
  };
}
