// Every counter series a page ever showed, by number: its labels, what was counted of it, and where it stands on the
// page. A page without new series costs one pass over its samples and no look-up by text.
import type { MetricSample } from "../../source.ts";
import type { Labels } from "./labels.ts";
import { partOf } from "./labels.ts";
import type { Values } from "./runs.ts";

/** A series as readers see it: `value` is what was counted of it, which never falls. */
export interface CountedSeries {
  readonly name: string;
  readonly labels: Labels;
  value: number;
}

const NONE: readonly CountedSeries[] = [];
/** Series of one address at most; what is new beyond them is not counted, and said so. */
const SERIES_MAX = 200_000;
/** Not volume: seconds and the buckets of histograms, which say nothing of how much a server made. */
const TIMED = /(_bucket|(seconds|_(ms|us|ns|milliseconds|microseconds|nanoseconds))(_sum)?)$/;

interface Family {
  /** The family that says when its series began. */
  readonly createdName: string;
  samples: readonly MetricSample[] | undefined;
  created: readonly MetricSample[] | undefined;
  numbers: Int32Array;
  createdSamples: readonly (MetricSample | undefined)[];
  readonly byPart: Map<string, number>;
  /** All its series that were counted, present or not; another list once there are more. */
  listed: readonly CountedSeries[];
}

/** The series of one address. */
export class SeriesTable {
  readonly series: CountedSeries[] = [];
  readonly #max: number;
  readonly #families = new Map<string, Family>();
  /** 1 where a series counts volume. */
  #volume = new Uint8Array(64);
  /** 1 where a series is listed for readers. */
  #listed = new Uint8Array(64);
  readonly #unlisted = new Map<string, number[]>();
  #page: Values = {
    numbers: new Int32Array(64),
    values: new Float64Array(64),
    created: new Float64Array(64),
    size: 0,
    hasCreated: false,
  };
  /** Values of the last page that cannot be counters, and series over the bound. */
  ignored = 0;
  overflowed = 0;

  constructor(seriesMax = SERIES_MAX) {
    this.#max = seriesMax;
  }

  /** More than half of the room is taken. */
  get isCrowded(): boolean {
    return this.series.length * 2 > this.#max;
  }

  /** Names of the families that are counters. */
  get names(): IterableIterator<string> {
    return this.#families.keys();
  }

  /** Whether a series counts volume, not time. */
  readonly isVolume = (series: number): boolean => this.#volume[series] === 1;

  /** Makes a family known; false when it was. */
  enrol(name: string): boolean {
    if (this.#families.has(name)) return false;
    this.#families.set(name, {
      createdName: `${name.replace(/_(bucket|sum|count)$/, "")}_created`,
      samples: undefined,
      created: undefined,
      numbers: new Int32Array(0),
      createdSamples: [],
      byPart: new Map(),
      listed: [],
    });
    return true;
  }

  /** The number of a series, new or known; -1 beyond the bound. */
  number(name: string, labels: Labels, value = 0): number {
    this.enrol(name);
    const family = this.#families.get(name) as Family;
    const part = partOf(labels);
    const known = family.byPart.get(part);
    if (known !== undefined) return known;
    if (this.series.length >= this.#max) return -1;
    const number = this.series.length;
    this.series.push({ name, labels, value });
    family.byPart.set(part, number);
    if (number >= this.#volume.length) {
      this.#volume = doubled(this.#volume);
      this.#listed = doubled(this.#listed);
    }
    this.#volume[number] = TIMED.test(name) ? 0 : 1;
    return number;
  }

  /** Takes the values of families off a page: of one, or of all that are known. */
  read(samples: ReadonlyMap<string, readonly MetricSample[]>, only?: string): Values {
    const page = this.#page;
    page.size = 0;
    page.hasCreated = false;
    this.ignored = 0;
    this.overflowed = 0;
    for (const [name, family] of this.#families) {
      if (only !== undefined && name !== only) continue;
      const on = samples.get(name);
      if (on === undefined) continue;
      const created = samples.get(family.createdName);
      if (on !== family.samples || created !== family.created) this.#find(name, family, on, created);
      this.#readFamily(family, on);
    }
    return this.#page;
  }

  #find(
    name: string,
    family: Family,
    on: readonly MetricSample[],
    created: readonly MetricSample[] | undefined,
  ): void {
    family.samples = on;
    family.created = created;
    family.numbers = Int32Array.from(on, ({ labels }) => this.number(name, labels));
    if (created === undefined) {
      family.createdSamples = [];
      return;
    }
    const byPart = new Map(created.map((sample) => [partOf(sample.labels), sample]));
    const without = name.endsWith("_bucket") ? ["le"] : [];
    family.createdSamples = on.map(({ labels }) => byPart.get(partOf(labels, without)));
  }

  #readFamily({ createdSamples, numbers }: Family, on: readonly MetricSample[]): void {
    const page = this.#room(on.length);
    const hasCreated = createdSamples.length > 0;
    page.hasCreated ||= hasCreated;
    let { size } = page;
    for (let place = 0; place < on.length; place++) {
      const number = numbers[place] as number;
      const { value } = on[place] as MetricSample;
      if (number < 0) {
        this.overflowed++;
        continue;
      }
      if (!(value >= 0 && value <= Number.MAX_SAFE_INTEGER)) {
        this.ignored++;
        continue;
      }
      page.numbers[size] = number;
      page.values[size] = value;
      page.created[size++] = hasCreated ? (createdSamples[place]?.value ?? Number.NaN) : Number.NaN;
    }
    page.size = size;
  }

  #room(more: number): Values {
    const page = this.#page;
    const wanted = page.size + more;
    if (wanted <= page.numbers.length) return page;
    const size = Math.max(wanted, 2 * page.numbers.length);
    const grown = {
      ...page,
      numbers: new Int32Array(size),
      values: new Float64Array(size),
      created: new Float64Array(size),
    };
    grown.numbers.set(page.numbers);
    grown.values.set(page.values);
    grown.created.set(page.created);
    this.#page = grown;
    return grown;
  }

  /** Shows a series to readers from now on. */
  list(number: number): void {
    if (this.#listed[number] === 1) return;
    this.#listed[number] = 1;
    const { name } = this.series[number] as CountedSeries;
    const waiting = this.#unlisted.get(name);
    if (waiting === undefined) this.#unlisted.set(name, [number]);
    else waiting.push(number);
  }

  /** Whether a series is shown to readers. */
  isListed(number: number): boolean {
    return this.#listed[number] === 1;
  }

  /** Forgets the series that are not kept, and numbers the others from 0: their new numbers by the old ones, -1 = forgotten. */
  keep(isKept: (series: number) => boolean): Int32Array {
    const numbers = new Int32Array(this.series.length).fill(-1);
    const kept = this.series.filter((_, number) => isKept(number));
    const listed = new Set(this.series.filter((_, number) => this.isListed(number)));
    for (let [number, next] = [0, 0]; number < numbers.length; number++) {
      if (isKept(number)) numbers[number] = next++;
    }
    const names = [...this.#families.keys()];
    this.series.length = 0;
    this.#families.clear();
    this.#unlisted.clear();
    this.#listed.fill(0);
    for (const name of names) this.enrol(name);
    for (const { name, labels, value } of kept) this.number(name, labels, value);
    for (const [number, series] of kept.entries()) if (listed.has(series)) this.list(number);
    return numbers;
  }

  /** What was counted of a family's series, present or not: the same list as long as there are no more of them. */
  counted(name: string): readonly CountedSeries[] {
    const family = this.#families.get(name);
    if (family === undefined) return NONE;
    const waiting = this.#unlisted.get(name);
    if (waiting !== undefined) {
      family.listed = [...family.listed, ...waiting.map((number) => this.series[number] as CountedSeries)];
      this.#unlisted.delete(name);
    }
    return family.listed;
  }
}

function doubled(column: Uint8Array): Uint8Array<ArrayBuffer> {
  const grown = new Uint8Array(2 * column.length);
  grown.set(column);
  return grown;
}
