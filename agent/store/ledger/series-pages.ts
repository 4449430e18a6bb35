// Numbers of series as the file holds them where they move at every beat: 128 series a row, as JSON, written whole where one of
// them moved. Nearly all series of a busy host move, and a statement for each of ten thousand costs ten times what the text of
// eighty rows does. Running totals lie so (`series` shows them one by one), and what moved in buckets that are open (`rows`).
import type { DatabaseSync, StatementSync } from "node:sqlite";
import type { AmountColumn, Histogram } from "../../model.ts";
import { sumAt } from "./batch-columns.ts";
import type { Steps } from "./steps.ts";
import { forEach } from "./steps.ts";

/** Series of one row; the schema divides by it. */
const SERIES_A_PAGE = 128;
/** Pages, of some 20 microseconds each, that are written in one step. */
const PAGES_A_STEP = 32;
const WORD = 2 ** 32;
const NONE = "null";

/** What a series moved: an amount, or a distribution. */
export type Moved = bigint | Histogram;

/** Sums by place, in two words (`AmountColumn`). */
type Words = Omit<AmountColumn, "series">;

/** One row. */
interface Page {
  readonly number: number;
  /** What sums stand at. */
  readonly sums: Words;
  /** JSON of what is no sum: of histograms, and `null` where a series has nothing. */
  readonly texts: (string | undefined)[];
  /** Differs from the file. */
  isMoved: boolean;
  /** Was written since the last look for pages that rest. */
  isUsed: boolean;
}

/** A table of pages. */
export interface PageTable {
  /** Of a page: a row for each place, with `key`, `type` and `value` as `json_each` says them. Takes the keys, then the page. */
  readonly read: StatementSync;
  /** Takes the keys, the page and its text. */
  readonly write: StatementSync;
  /** What the rows of these pages have before the number of the page. */
  readonly keys: readonly number[];
}

/** The pages that move, beside the file. */
export class SeriesPages {
  readonly #table: PageTable;
  readonly #pages = new Map<number, Page>();
  #moved: Page[] = [];

  constructor(table: PageTable) {
    this.#table = table;
  }

  /** The pages of running totals. */
  static ofTotals(database: DatabaseSync): SeriesPages {
    const read = database.prepare(
      "SELECT key, type, value FROM total_pages, json_each(totals) WHERE page = ?",
    );
    const write = database.prepare(
      "INSERT INTO total_pages VALUES (?, ?) ON CONFLICT (page) DO UPDATE SET totals = excluded.totals",
    );
    read.setReadBigInts(true);
    return new SeriesPages({ read, write, keys: [] });
  }

  /** Takes what a series stands at, in place of what it had. It is in the file after `write`. Throws on more than 64 bits. */
  take(series: number, moved: Moved): void {
    const page = this.#pageOf(series);
    const place = series % SERIES_A_PAGE;
    if (typeof moved === "bigint") {
      if (BigInt.asIntN(64, moved) !== moved)
        throw new RangeError(
          `Cannot store a total of series ${series}: ${moved} is larger than 64 bits hold`,
        );
      setSum(page, place, Number(moved >> 32n), Number(moved & 0xffff_ffffn));
    } else page.texts[place] = JSON.stringify(moved);
    this.#note(page);
  }

  /** The same of a sum at a place of a column. */
  takeAt({ high, low, series }: AmountColumn, place: number): void {
    const one = series[place] ?? 0;
    const page = this.#pageOf(one);
    setSum(page, one % SERIES_A_PAGE, high[place] ?? 0, low[place] ?? 0);
    this.#note(page);
  }

  /** Whether a series has something. */
  has(series: number): boolean {
    return this.#pageOf(series).texts[series % SERIES_A_PAGE] !== NONE;
  }

  /** What a sum stands at; 0 where the series has nothing, or a histogram. */
  sumOf(series: number): bigint {
    const { sums, texts } = this.#pageOf(series);
    const place = series % SERIES_A_PAGE;
    return texts[place] === undefined ? sumAt(sums, place) : 0n;
  }

  /** Writes the pages that moved. Where it throws they wait; what is rolled back after it is to be taken once more. */
  *write(): Steps<void> {
    const { keys, write } = this.#table;
    yield* forEach(this.#moved, (page) => write.run(...keys, page.number, textOf(page)), PAGES_A_STEP);
    for (const page of this.#moved) {
      page.isMoved = false;
      page.isUsed = true;
    }
    this.#moved = [];
  }

  /** Forgets the pages that nothing moved since the last call: they are read again when something does. */
  forgetResting(): void {
    for (const [number, page] of this.#pages) {
      if (!page.isUsed && !page.isMoved) this.#pages.delete(number);
      page.isUsed = false;
    }
  }

  #note(page: Page): void {
    if (!page.isMoved) this.#moved.push(page);
    page.isMoved = true;
  }

  #pageOf(series: number): Page {
    const number = Math.floor(series / SERIES_A_PAGE);
    let page = this.#pages.get(number);
    if (page !== undefined) return page;
    const texts: (string | undefined)[] = Array.from({ length: SERIES_A_PAGE }, () => NONE);
    const sums = { high: new Int32Array(SERIES_A_PAGE), low: new Uint32Array(SERIES_A_PAGE) };
    page = { number, sums, texts, isMoved: false, isUsed: true };
    for (const { key, type, value } of this.#table.read.iterate(...this.#table.keys, number)) {
      const place = Number(key);
      if (type === "object") texts[place] = String(value);
      else if (typeof value === "bigint")
        setSum(page, place, Number(value >> 32n), Number(value & 0xffff_ffffn));
    }
    this.#pages.set(number, page);
    return page;
  }
}

function setSum({ sums, texts }: Page, place: number, high: number, low: number): void {
  sums.high[place] = high;
  sums.low[place] = low;
  texts[place] = undefined;
}

/** Of a page of sums that doubles hold, as nearly all are: written over, for a hundred pages are written in each beat. */
const numbers = Array.from({ length: SERIES_A_PAGE }, () => 0.5);

function textOf(page: Page): string {
  const { sums, texts } = page;
  for (let place = 0; place < SERIES_A_PAGE; place++) {
    const sum = (sums.high[place] ?? 0) * WORD + (sums.low[place] ?? 0);
    const text = texts[place];
    if (text === undefined ? !Number.isSafeInteger(sum) : text !== NONE) return mixedText(page);
    // JSON says null of what is no number.
    numbers[place] = text === undefined ? sum : Number.NaN;
  }
  return JSON.stringify(numbers);
}

function mixedText({ sums, texts }: Page): string {
  let text = "[";
  for (let place = 0; place < SERIES_A_PAGE; place++) {
    const sum = (sums.high[place] ?? 0) * WORD + (sums.low[place] ?? 0);
    text += place === 0 ? "" : ",";
    // A number where a double holds it: a bigint would be an object.
    text += texts[place] ?? (Number.isSafeInteger(sum) ? sum : sumAt(sums, place));
  }
  return `${text}]`;
}
