// Every line a parser has met, by number: its bytes up to the value, what it is, and its sample.
import { ByteTable, longer } from "../platform/byte-table.ts";
import type { MetricSample } from "../source.ts";
import { readLabels } from "./parse-line.ts";

const BRACE = 123;
/** Shortest part of a string that V8 does not copy (SlicedString::kMinLength). */
const VIEWED_LENGTH = 13;

/**
 * What a line is: of a family nobody wants, known by the name alone; a sample somebody wants, to be judged or only to be
 * known; or a comment.
 */
export const lineKinds = { skipped: 0, sample: 1, comment: 2, aside: 3 } as const;

/** One of them. */
export type LineKind = (typeof lineKinds)[keyof typeof lineKinds];

/** A sample whose value is overwritten page by page and whose labels are read when first asked for. */
export class LineSample implements MetricSample {
  readonly name: string;
  /** Its name on the page ends in `_total`. */
  readonly total: boolean;
  value = Number.NaN;
  /** Where its labels are, until they are read. */
  #table: LineTable | undefined;
  readonly #line: number;
  #labels: Labels | undefined;

  constructor(name: string, total: boolean, table: LineTable, line: number) {
    this.name = name;
    this.total = total;
    this.#table = table;
    this.#line = line;
  }

  get labels(): Labels {
    if (this.#labels === undefined) {
      this.#labels = (this.#table as LineTable).readLabels(this.#line);
      this.#table = undefined;
    }
    return this.#labels;
  }
}

type Labels = Readonly<Record<string, string>>;

/** Label sets by their text: a page repeats the same few in every family, and they need to be in memory once. */
class LabelSets {
  readonly #sets = new Map<string, Labels>();
  readonly #values = new Map<string, string>();

  /** The labels in the key `[start, end)` of `keys`. */
  read(keys: Buffer, start: number, end: number): Labels {
    const open = keys.indexOf(BRACE, start);
    const text = open === -1 || open >= end ? "" : keys.toString("latin1", open, end);
    // A name in the braces belongs to the sample, so its labels are its own.
    if (open === start) return readLabels(text, true, (value) => this.#once(value));
    const known = this.#sets.get(text);
    if (known !== undefined) return known;
    const labels = readLabels(text, false, (value) => this.#once(value));
    this.#sets.set(text, labels);
    return labels;
  }

  /** Forgets the texts, which are as long as all keys. */
  forget(): void {
    this.#sets.clear();
    this.#values.clear();
  }

  #once(value: string): string {
    const known = this.#values.get(value);
    if (known !== undefined) return known;
    // V8 keeps a longer part of a text as a view of that text, which then stays as long as the part.
    const own = value.length < VIEWED_LENGTH ? value : Buffer.from(value).toString();
    this.#values.set(own, own);
    return own;
  }
}

const LINES_AT_FIRST = 512;

/** Lines by number, from 0. */
export class LineTable extends ByteTable {
  #sampleNumbers = new Int32Array(LINES_AT_FIRST);
  readonly #samples: LineSample[] = [];
  readonly #sets = new LabelSets();
  kinds = new Uint8Array(LINES_AT_FIRST);
  /** The page each line was last on, and its place there (-1 = not on the last page). */
  stamps = new Int32Array(LINES_AT_FIRST);
  places = new Int32Array(LINES_AT_FIRST);

  constructor() {
    super(LINES_AT_FIRST);
  }

  /** The labels of a line that holds a sample. */
  readLabels(line: number): Labels {
    const start = this.start(line);
    return this.#sets.read(this.keys, start, start + this.length(line));
  }

  /** Gives back what was only needed to meet new lines; those that come later share no labels with the ones before. */
  rest(): void {
    this.tighten();
    this.#sets.forget();
  }

  /** The sample on a line, if it is one. */
  sample(line: number): LineSample | undefined {
    return this.#samples[this.#sampleNumbers[line] as number];
  }

  /** Adds the line with key `[start, end)` of `bytes`, which `find` has just missed; a sample if it has a name. */
  addLine(bytes: Buffer, start: number, end: number, kind: number, name?: string, total = false): number {
    const line = this.insert(bytes, start, end);
    if (line === this.kinds.length) this.#widen(2 * line);
    this.#sampleNumbers[line] = name === undefined ? -1 : this.#samples.length;
    if (name !== undefined) {
      this.#samples.push(new LineSample(name, total, this, line));
    }
    this.kinds[line] = kind;
    this.places[line] = -1;
    return line;
  }

  #widen(lines: number): void {
    this.#sampleNumbers = longer(this.#sampleNumbers, lines);
    this.stamps = longer(this.stamps, lines);
    this.places = longer(this.places, lines);
    const kinds = new Uint8Array(lines);
    kinds.set(this.kinds);
    this.kinds = kinds;
  }
}
