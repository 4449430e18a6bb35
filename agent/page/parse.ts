// Prometheus text and OpenMetrics pages, tolerant of both dialects and fast on a page seen before.
// The parser remembers every line up to its value. A line that starts with the bytes expected at its place costs one
// comparison and one number; only new lines are taken apart. A page is valid until the next one is parsed: unchanged
// series keep their sample objects, whose values are overwritten. Values of the same series twice: the first counts.
// Of a line whose family nobody wants, only the name is read: most of a page is such lines, and they are not remembered.
import { longer, viewOf } from "../platform/byte-table.ts";
import type { MetricPage, MetricSample } from "../source.ts";
import type { LineKind, LineSample } from "./line-table.ts";
import { LineTable, lineKinds } from "./line-table.ts";
import { familyKeyEnd, familyOf, lineEnd, normaliseName, quotedName, splitLine } from "./parse-line.ts";
import { parsedNumber, parseNumber } from "./parse-number.ts";

const NEWLINE = 10;
const RETURN = 13;
const SPACE = 32;
const TAB = 9;
const HASH = 35;
const ERRORS_MAX = 10;
const LINES_MAX = 500_000;
const LINE_BYTES_MAX = 64 * 1024;
/** How many expected lines may be missing before a line is looked up by its key. */
const LOOKAHEAD = 8;
const NOTHING = Buffer.alloc(0);
const NO_VIEW = viewOf(NOTHING);
/** Families every page keeps. */
const ALWAYS = ["process_start_time_seconds"];

/** A page, and beside it what is no counter of anything. */
export interface ParsedPage extends MetricPage {
  /**
   * Samples of the families that were asked for beside the others, by name: whatever they show, they neither ignore a sample
   * nor move a page. NaN where the page has no finite number.
   */
  readonly aside: ReadonlyMap<string, readonly MetricSample[]>;
}

/** Parses the pages of one server, one after the other. */
export interface PageParser {
  /**
   * The page in `bytes`. Never throws: what cannot be read is counted and named in `errors`. `open`: the page may be cut,
   * so that a last line without its end is not believed.
   */
  parse(bytes: Uint8Array, end?: "complete" | "open"): ParsedPage;
}

/** A parser that keeps only the families given (normalised names), or all; those given `aside` apart. */
export function createPageParser(families?: readonly string[], aside: readonly string[] = []): PageParser {
  return new Parser(families, aside);
}

/** The samples of a page that is seen once. */
export function parsePage(bytes: Uint8Array, families?: readonly string[]): MetricPage {
  return new Parser(families, []).parse(bytes);
}

class Parser implements PageParser {
  readonly #families: ReadonlySet<string> | undefined;
  readonly #besides: ReadonlySet<string>;
  #lines = new LineTable();
  // Line numbers in the order of the last page, and of this one.
  #expected = new Int32Array(0);
  #expectedCount = 0;
  #order = new Int32Array(0);
  #count = 0;
  #page = 0;
  #bytes: Buffer = NOTHING;
  #view = NO_VIEW;
  /** Whether the page may be cut at its end. */
  #open = false;
  /** Whether this page has other series than the last. */
  #changed = false;
  /** Whether a value differs from the last page's. */
  #moved = false;
  #ignored = 0;
  #errors: string[] = [];
  #byName = new Map<string, LineSample[]>();
  #aside = new Map<string, LineSample[]>();
  /** The line `# EOF`, once seen. */
  #endMark: number | undefined;
  // The name of the last new line: most lines repeat it.
  #name = "";
  #filed: string | undefined;
  /** Names of wanted lines and what they are filed under, each text once. */
  readonly #names = new Map<string, string>();
  #kind: LineKind = lineKinds.skipped;

  constructor(families: readonly string[] | undefined, besides: readonly string[]) {
    this.#families = families === undefined ? undefined : new Set([...families, ...ALWAYS]);
    this.#besides = new Set(besides);
  }

  parse(given: Uint8Array, end: "complete" | "open" = "complete"): ParsedPage {
    const bytes = withoutMark(given);
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#view = viewOf(bytes);
    this.#open = end === "open";
    this.#page++;
    this.#changed = false;
    this.#moved = false;
    this.#ignored = 0;
    this.#errors = [];
    this.#count = 0;
    this.#lines.adopt(this.#bytes);
    this.#readLines();
    this.#lines.settle();
    if (this.#endMark !== undefined && this.#lines.stamps[this.#endMark] !== this.#page)
      this.#fail("the page is cut: it ends without # EOF");
    if (this.#count !== this.#expectedCount) this.#changed = true;
    [this.#expected, this.#order] = [this.#order, this.#expected];
    this.#expectedCount = this.#count;
    if (this.#changed) this.#refile();
    else this.#lines.rest();
    this.#bytes = NOTHING;
    this.#view = NO_VIEW;
    const isRight = this.#ignored === 0 && this.#errors.length === 0;
    const isSame = this.#page > 1 && isRight && !this.#changed && !this.#moved;
    const [samples, aside] = [this.#byName, this.#aside];
    return { samples, aside, ignoredSamples: this.#ignored, errors: this.#errors, isSame };
  }

  /** Every line of the page: the expected one at a comparison's cost, any other through `#meet`. */
  #readLines(): void {
    const { length } = this.#bytes;
    let position = 0;
    let place = 0;
    while (position < length) {
      if (place < this.#expectedCount) {
        const line = this.#expected[place] as number;
        const next = this.#lines.startsAt(this.#view, position, line) ? this.#take(position, line) : -1;
        if (next >= 0) {
          position = next;
          place++;
          continue;
        }
      }
      const end = this.#bytes.indexOf(NEWLINE, position);
      const stop = end === -1 ? length : end;
      const line = this.#meet(position, stop, place, end === -1);
      const next = line < 0 ? -1 : this.#take(position, line);
      if (line >= 0 && next < 0) this.#refuse(`it has no value: ${this.#quote(position, stop)}`);
      else if (line >= 0) {
        this.#changed = true;
        const was = this.#lines.places[line] as number;
        if (was >= 0) place = was + 1;
      }
      position = next < 0 ? stop + 1 : next;
    }
  }

  /** Takes the value of a known line; returns where the next line starts, or -1 if it is another line after all. */
  #take(position: number, line: number): number {
    const bytes = this.#bytes;
    const { length } = bytes;
    const kind = this.#lines.kinds[line];
    let at = position + this.#lines.length(line);
    if (kind === lineKinds.skipped) {
      at = this.#pass(position, line) - 1;
      if (at < 0) return -1;
    } else if (kind === lineKinds.comment) {
      if (at < length && bytes[at] !== NEWLINE) return -1;
    } else {
      const behind = parseNumber(bytes, at, length);
      if (behind === at) return -1;
      at = behind;
      // A timestamp or an exemplar may follow; a line without its end may be cut, and its value with it.
      if (at < length && bytes[at] !== NEWLINE) at = bytes.indexOf(NEWLINE, at);
      if (at < 0 || at >= length) {
        if (this.#open) return -1;
        at = length;
      }
      if (kind === lineKinds.sample) this.#set(line);
      else if (this.#lines.stamps[line] !== this.#page)
        (this.#lines.sample(line) as LineSample).value = parsedNumber[0] as number;
    }
    this.#lines.stamps[line] = this.#page;
    if (this.#count === this.#order.length) this.#order = longer(this.#order, Math.max(512, 2 * this.#count));
    this.#order[this.#count++] = line;
    return at + 1;
  }

  /** Where the lines of a family end that nobody wants; -1 where the page may be cut in the first of them. */
  #pass(position: number, line: number): number {
    const skipped = this.#lines.length(line);
    let at = position;
    do {
      const end = lineEnd(this.#view, at + skipped);
      if (end < 0 && this.#open) return at === position ? -1 : at;
      if (end < 0) return this.#bytes.length + 1;
      at = end + 1;
    } while (this.#lines.startsAt(this.#view, at, line));
    return at;
  }

  /** Gives the line's sample the value read last. */
  #set(line: number): void {
    const value = parsedNumber[0] as number;
    const sample = this.#lines.sample(line) as LineSample;
    if (this.#lines.stamps[line] === this.#page) {
      this.#ignored++;
      this.#fail(`a series stands there twice: ${sample.name} ${JSON.stringify(sample.labels)}`);
      return;
    }
    if (Number.isNaN(value)) this.#ignored++;
    if (Number.isNaN(value) !== Number.isNaN(sample.value)) this.#changed = true;
    this.#moved ||= value !== sample.value;
    sample.value = value;
  }

  /** The number of a line that was not expected here; -1 when it cannot be used. */
  #meet(start: number, end: number, place: number, cut: boolean): number {
    const bytes = this.#bytes;
    const stop = end > start && bytes[end - 1] === RETURN ? end - 1 : end;
    if (stop === start) return -1;
    let first = start;
    while (first < stop && (bytes[first] === SPACE || bytes[first] === TAB)) first++;
    if (first === stop) return -1;
    if (bytes[first] === HASH) return this.#meetComment(start, end);
    if (cut && this.#open) return this.#refuse("the page is cut in its last line");
    if (stop - start > LINE_BYTES_MAX) return this.#refuse(`a line of ${stop - start} bytes is too long`);
    for (let ahead = place + 1; ahead <= place + LOOKAHEAD && ahead < this.#expectedCount; ahead++) {
      const line = this.#expected[ahead] as number;
      if (this.#isSample(start, line)) return line;
    }
    const keyEnd = familyKeyEnd(bytes, first, stop);
    if (keyEnd >= 0) this.#judge(first, keyEnd);
    if (keyEnd >= 0 && this.#filed !== undefined && this.#kind === lineKinds.skipped) {
      const known = this.#lines.find(this.#view, start, keyEnd);
      return known >= 0 ? known : this.#add(start, keyEnd, lineKinds.skipped);
    }
    const parts = splitLine(bytes, start, stop);
    if (typeof parts === "string") return this.#refuse(`${parts}: ${this.#quote(start, stop)}`);
    const known = this.#lines.find(this.#view, start, parts.value);
    if (known >= 0) return known;
    if (keyEnd < 0 || this.#filed === undefined)
      return this.#refuse(`its name is none: ${this.#quote(start, stop)}`);
    return this.#add(start, parts.value, this.#kind, this.#filed, this.#name.endsWith("_total"));
  }

  /** Whether a known series stands at `start`; more blanks before its value make it another line. */
  #isSample(start: number, line: number): boolean {
    const kind = this.#lines.kinds[line];
    if (kind === lineKinds.comment || !this.#lines.startsAt(this.#view, start, line)) return false;
    if (kind === lineKinds.skipped) return true;
    const next = this.#bytes[start + this.#lines.length(line)];
    return next !== SPACE && next !== TAB;
  }

  #meetComment(start: number, end: number): number {
    const known = this.#lines.find(this.#view, start, end);
    if (known >= 0) return known;
    const line = this.#add(start, end, lineKinds.comment);
    if (end - start < 8 && this.#quote(start, end).trimEnd() === "# EOF") this.#endMark = line;
    return line;
  }

  #add(start: number, end: number, kind: LineKind, name?: string, total = false): number {
    if (this.#lines.size >= LINES_MAX) return this.#refuse(`the page has more than ${LINES_MAX} lines`);
    return this.#lines.addLine(this.#bytes, start, end, kind, name, total);
  }

  #repeatsName(start: number, end: number): boolean {
    const name = this.#name;
    if (name.length !== end - start || name.length === 0) return false;
    for (let index = 0; index < name.length; index++) {
      if (this.#bytes[start + index] !== name.charCodeAt(index)) return false;
    }
    return true;
  }

  /** Notes the name of a new line: what it is filed under and whether anybody wants it. */
  #judge(start: number, keyEnd: number): void {
    if (this.#repeatsName(start, keyEnd - 1)) return;
    const key = this.#bytes.toString("latin1", start, keyEnd);
    const name = key.startsWith("{") ? quotedName(key) : key.slice(0, -1);
    const filed = this.#names.get(name) ?? normaliseName(name);
    this.#name = name;
    this.#filed = filed;
    this.#kind = filed === undefined ? lineKinds.skipped : this.#kindOf(filed);
    if (filed !== undefined && this.#kind !== lineKinds.skipped) this.#names.set(name, filed);
  }

  #kindOf(filed: string): LineKind {
    const families = this.#families;
    if (families === undefined || families.has(filed) || families.has(familyOf(filed)))
      return lineKinds.sample;
    return this.#besides.has(filed) ? lineKinds.aside : lineKinds.skipped;
  }

  /** Files the samples of this page again, and forgets all lines once most of them are gone. */
  #refile(): void {
    const lines = this.#lines;
    this.#byName = new Map();
    this.#aside = new Map();
    const totals = new Set<string>();
    lines.places.fill(-1);
    for (let place = 0; place < this.#expectedCount; place++) {
      const line = this.#expected[place] as number;
      if ((lines.places[line] as number) >= 0) continue;
      lines.places[line] = place;
      const sample = lines.sample(line);
      const isAside = lines.kinds[line] === lineKinds.aside;
      if (sample === undefined || (Number.isNaN(sample.value) && !isAside)) continue;
      const map = isAside ? this.#aside : this.#byName;
      const filed = map.get(sample.name);
      if (filed === undefined) map.set(sample.name, [sample]);
      else filed.push(sample);
      if (isAside) continue;
      if (sample.total) totals.add(sample.name);
    }
    // `x` beside `x_total` is the same counter once more, as a gauge: Ray writes both (ray-project/ray PR 43795).
    for (const name of totals) {
      const filed = this.#byName.get(name) ?? [];
      if (filed.some(({ total }) => !total))
        this.#byName.set(
          name,
          filed.filter(({ total }) => total),
        );
    }
    if (lines.size > 2 * this.#expectedCount + 1000) {
      this.#lines = new LineTable();
      this.#names.clear();
      this.#expectedCount = 0;
      this.#endMark = undefined;
    }
  }

  #quote(start: number, end: number): string {
    return this.#bytes.toString("latin1", start, Math.min(end, start + 80));
  }

  #refuse(problem: string): number {
    this.#ignored++;
    this.#fail(problem);
    return -1;
  }

  #fail(problem: string): void {
    if (this.#errors.length < ERRORS_MAX) this.#errors.push(problem);
    else if (this.#errors.length === ERRORS_MAX) this.#errors.push("further errors are left out");
  }
}

/** The bytes without the byte order mark some servers put before a page. */
function withoutMark(bytes: Uint8Array): Uint8Array {
  return bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? bytes.subarray(3) : bytes;
}
