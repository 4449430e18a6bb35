// Running totals as the file holds them: 128 series a row, as JSON, written whole where one of them moved. Nearly all series of
// a busy host move at every beat, and a statement for each of ten thousand costs ten times what the text of eighty rows does.
// `series` shows them one by one (schema.ts).
import type { DatabaseSync, StatementSync } from "node:sqlite";
import type { Histogram } from "../../model.ts";
import type { Steps } from "./steps.ts";
import { forEach } from "./steps.ts";

/** Series of one row; the schema divides by it. */
const SERIES_A_PAGE = 128;
/** Pages, of some 20 microseconds each, that are written in one step. */
const PAGES_A_STEP = 32;

/** One row. */
interface Page {
  readonly number: number;
  /** What sums stand at. */
  readonly sums: BigInt64Array;
  /** JSON of what is no sum: of histograms, and `null` where a series has no total. */
  readonly texts: (string | undefined)[];
  /** Differs from the file. */
  isMoved: boolean;
  /** Was written since the last look for pages that rest. */
  isUsed: boolean;
}

/** The totals of the pages that move, beside the file. */
export class TotalPages {
  readonly #read: StatementSync;
  readonly #write: StatementSync;
  readonly #pages = new Map<number, Page>();
  #moved: Page[] = [];

  constructor(database: DatabaseSync) {
    this.#read = database.prepare(
      "SELECT key, type, value FROM total_pages, json_each(totals) WHERE page = ?",
    );
    this.#read.setReadBigInts(true);
    this.#write = database.prepare(
      "INSERT INTO total_pages VALUES (?, ?) ON CONFLICT (page) DO UPDATE SET totals = excluded.totals",
    );
  }

  /** Takes the total of a series, in place of the one it had. It is in the file after `write`. */
  take(series: number, total: bigint | Histogram): void {
    this.#set(this.#pageOf(series), series, total);
  }

  /** The same of a series that has a total; false where it has none, and nothing is taken. */
  move(series: number, total: bigint | Histogram): boolean {
    const page = this.#pageOf(series);
    if (page.texts[series % SERIES_A_PAGE] === NONE) return false;
    this.#set(page, series, total);
    return true;
  }

  /** Writes the pages that moved. Where it throws they wait; what is rolled back after it is to be taken once more. */
  *write(): Steps<void> {
    const write = (page: Page): unknown => this.#write.run(page.number, textOf(page));
    yield* forEach(this.#moved, write, PAGES_A_STEP);
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

  #set(page: Page, series: number, total: bigint | Histogram): void {
    const place = series % SERIES_A_PAGE;
    if (typeof total === "bigint") {
      page.sums[place] = total;
      page.texts[place] = undefined;
    } else page.texts[place] = JSON.stringify(total);
    if (!page.isMoved) this.#moved.push(page);
    page.isMoved = true;
  }

  #pageOf(series: number): Page {
    const number = Math.floor(series / SERIES_A_PAGE);
    let page = this.#pages.get(number);
    if (page !== undefined) return page;
    const texts: (string | undefined)[] = Array.from({ length: SERIES_A_PAGE }, () => NONE);
    page = { number, sums: new BigInt64Array(SERIES_A_PAGE), texts, isMoved: false, isUsed: true };
    for (const { key, type, value } of this.#read.iterate(number)) {
      const place = Number(key);
      if (type === "integer") page.sums[place] = value as bigint;
      page.texts[place] = type === "integer" ? undefined : type === "object" ? String(value) : NONE;
    }
    this.#pages.set(number, page);
    return page;
  }
}

const NONE = "null";

function textOf({ sums, texts }: Page): string {
  let text = "[";
  for (let place = 0; place < SERIES_A_PAGE; place++)
    text += `${place === 0 ? "" : ","}${texts[place] ?? sums[place]}`;
  return `${text}]`;
}
