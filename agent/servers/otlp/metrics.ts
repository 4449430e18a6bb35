// ExportMetricsServiceRequest to usage: only metrics with a GenAI meaning are looked into, everything else is skipped
// unread. Facts: opentelemetry-proto v1.9 metrics.proto. Field numbers are written as tags (number x 8 + wire type).
// A series is found by the bytes of its attributes; only new bytes are decoded. Cumulative series count from their first
// look unless they began after this receiver; delta points count once, redelivered ones are known by their time.
import { createHash } from "node:crypto";
import { WireReader } from "../../platform/protobuf-reader.ts";
import type { UsageTotals } from "../receive/usage-totals.ts";
import { amountMax } from "../receive/usage-totals.ts";
import { ByteKeys, readAttribute, readAttributes } from "./byte-keys.ts";
import type { AttributeNames, MeaningOfMetric } from "./meaning.ts";
import { identityOf, meaningful, metricMeanings } from "./meaning.ts";
import { histogramOf, newPoint } from "./point.ts";
import type { Series, SeriesTable } from "./series.ts";

const DELTA = 1;
const RESOURCES_MAX = 1000;
/** How far a sender's clock may be ahead. */
/** A clock that is wrong by more is told so: a point ahead silences those of its series until then. */
const FUTURE_NANOS = 60e9;
/** What the bytes of known series may take; beyond it they are met again, and found again by their meaning. */
const KEY_BYTES_MAX = 32 * 1024 * 1024;

/** Senders: whether a service's usage is read from this signal (each is read from one alone); only what `chooses` decides it. */
export type Claim = (service: string, chooses?: boolean) => boolean;
/** Callers whose senders are known by their bytes; beyond it all are found again by their meaning. */
const CALLERS_MAX = 256;

interface Sender {
  /** Hash of its attributes in order: the sender's identity, over restarts of either side. */
  readonly id: string;
  /** The same without its caller: what versions that told callers not apart remember its series by. */
  readonly formerId?: string;
  readonly caller: string;
  /** Those of its attributes that mean something here. */
  readonly resource: ReadonlyMap<string, string>;
  readonly service: string;
  /** Per group of metrics, the variant this sender is read by. */
  readonly variants: Map<string, string>;
  readonly keys: Map<string, ByteKeys<Series | null>>;
}

/** Reads metric requests of any senders into `totals`. */
export class MetricsReader {
  /** By caller: two of different identity share no series, whatever they call themselves. */
  readonly #senders = new Map<string, ByteKeys<Sender>>();
  #caller = "";
  readonly #table: SeriesTable;
  readonly #names: AttributeNames;
  #reader = new WireReader(new Uint8Array());
  #view: DataView = new DataView(new ArrayBuffer(0));
  readonly #point = newPoint();
  #refused = 0;
  readonly #unixNanos: () => number;
  /** No point is later; one that was would make all after it look old. */
  #latest = 0;
  /** The tables of all senders. */
  #keys: ByteKeys<Series | null>[] = [];
  /** Of the table when the keys were cleared last. */
  #generation = 0;

  /** `unixNanos`: now, for points that claim to be of the future. */
  constructor(table: SeriesTable, names: AttributeNames, unixNanos: () => number = () => Infinity) {
    this.#table = table;
    this.#names = names;
    this.#unixNanos = unixNanos;
  }

  /** Adds a request to the totals; returns how many points were refused. Throws WireError before anything is added. */
  take(bytes: Uint8Array, totals: UsageTotals, claim: Claim, caller = ""): number {
    this.#caller = caller;
    this.#reader = new WireReader(bytes);
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#refused = 0;
    this.#latest = this.#unixNanos() + FUTURE_NANOS;
    this.#table.begin();
    const reader = this.#reader;
    for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
      if (tag === 10) this.#resourceMetrics(claim);
      else reader.skip(tag);
    }
    this.#table.commit(totals);
    this.#boundKeys();
    return this.#refused;
  }

  #boundKeys(): void {
    const bytes = this.#keys.reduce((sum, keys) => sum + keys.bytes, 0);
    if (bytes <= KEY_BYTES_MAX) return;
    this.#senders.clear();
    this.#keys = [];
  }

  #resourceMetrics(claim: Claim): void {
    const reader = this.#reader;
    const outer = reader.enter();
    let sender: Sender | undefined;
    for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
      if (tag === 10) {
        const inner = reader.enter();
        sender = this.#sender(reader.position, reader.end);
        reader.leave(inner);
      } else if (tag === 18) {
        sender ??= this.#sender(reader.position, reader.position);
        const inner = reader.enter();
        for (let field = reader.tag(); field !== 0; field = reader.tag()) {
          if (field === 18) this.#metric(sender, claim);
          else reader.skip(field);
        }
        reader.leave(inner);
      } else reader.skip(tag);
    }
    reader.leave(outer);
  }

  #sender(start: number, end: number): Sender {
    const { bytes } = this.#reader;
    const known = this.#senders.get(this.#caller)?.get(this.#view, start, end);
    if (known !== undefined) return known;
    const attributes = readAttributes(bytes.subarray(start, end), 10);
    const service = `${attributes.get("service.name") ?? ""} ${attributes.get("service.instance.id") ?? ""}`;
    const sorted = JSON.stringify([...attributes].sort(([a], [b]) => (a < b ? -1 : 1)));
    const hash = (text: string): string => createHash("sha256").update(text).digest("base64url");
    const caller = this.#caller;
    const names =
      caller === ""
        ? { id: hash(sorted) }
        : { id: hash(JSON.stringify([caller, sorted])), formerId: hash(sorted) };
    const resource = meaningful(attributes, this.#names);
    const sender = { ...names, caller, resource, service, variants: new Map(), keys: new Map() };
    let senders = this.#senders.get(caller);
    if (senders === undefined) {
      if (this.#senders.size >= CALLERS_MAX) this.#senders.clear();
      senders = new ByteKeys(RESOURCES_MAX);
      this.#senders.set(caller, senders);
    }
    senders.set(bytes, start, end, sender);
    return sender;
  }

  /** Metric: name 1, gauge 5, sum 7, histogram 9, exponential histogram 10. The name may come after the data. */
  #metric(sender: Sender, claim: Claim): void {
    const reader = this.#reader;
    const outer = reader.enter();
    let name = "";
    let data = 0;
    let at = 0;
    for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
      if (tag === 10) name = reader.text();
      else {
        if (tag === 42 || tag === 58 || tag === 74 || tag === 82) {
          data = tag;
          at = reader.position;
        }
        reader.skip(tag);
      }
    }
    const meaning = metricMeanings.get(name);
    if (meaning !== undefined && data !== 0 && this.#reads(sender, meaning, claim)) {
      const end = reader.position;
      reader.position = at;
      // Gauges are no counters.
      if (data === 42) this.#refused++;
      else this.#points(sender, name, meaning, data);
      reader.position = end;
    }
    reader.leave(outer);
  }

  #reads(sender: Sender, meaning: MeaningOfMetric, claim: Claim): boolean {
    if (!claim(sender.service)) {
      this.#refused++;
      return false;
    }
    const variant = sender.variants.get(meaning.group);
    if (variant === undefined) sender.variants.set(meaning.group, meaning.variant);
    return variant === undefined || variant === meaning.variant;
  }

  /** Sum, Histogram, ExponentialHistogram: data_points 1, aggregation_temporality 2, which may follow the points. */
  #points(sender: Sender, name: string, meaning: MeaningOfMetric, data: number): void {
    const reader = this.#reader;
    const outer = reader.enter();
    const first = reader.position;
    let temporality = 0;
    for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
      if (tag === 16) temporality = reader.uint();
      else reader.skip(tag);
    }
    reader.position = first;
    let keys = sender.keys.get(name);
    if (keys === undefined) {
      keys = new ByteKeys(100_000);
      sender.keys.set(name, keys);
      this.#keys.push(keys);
    }
    const attributesTag = data === 58 ? 58 : data === 74 ? 74 : 10;
    const histogram = meaning.group !== "usage";
    for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
      if (tag !== 10) {
        reader.skip(tag);
        continue;
      }
      if (!this.#readPoint(data, attributesTag, histogram)) {
        this.#refused++;
        continue;
      }
      const series = this.#series(sender, name, meaning, keys, attributesTag);
      if (series === "full") this.#refused++;
      else if (series !== null)
        this.#table.move(
          series,
          this.#point,
          temporality === DELTA,
          histogram ? histogramOf(this.#point) : undefined,
        );
    }
    reader.leave(outer);
  }

  /**
   * NumberDataPoint: start 2, time 3, double 4, int 6, attributes 7. HistogramDataPoint: start 2, time 3, count 4, sum 5,
   * bucket_counts 6, explicit_bounds 7, attributes 9. ExponentialHistogramDataPoint: attributes 1, start 2, time 3,
   * count 4, sum 5. False when the point has no value, is of the future or its attributes do not stand together.
   */
  #readPoint(data: number, attributesTag: number, histogram: boolean): boolean {
    const reader = this.#reader;
    const point = this.#point;
    point.start = point.time = point.count = 0;
    point.value = Number.NaN;
    point.attributesFrom = point.attributesTo = -1;
    if (histogram) {
      point.buckets = [];
      point.bounds = [];
    }
    let together = true;
    const outer = reader.enter();
    for (
      let before = reader.position, tag = reader.tag();
      tag !== 0;
      before = reader.position, tag = reader.tag()
    ) {
      if (tag === attributesTag) {
        if (point.attributesFrom === -1) point.attributesFrom = before;
        else if (point.attributesTo !== before) together = false;
        reader.skip(tag);
        reader.skipRun(tag);
        point.attributesTo = reader.position;
      } else if (tag === 17) point.start = reader.fixed64();
      else if (tag === 25) point.time = reader.fixed64();
      else if (data === 58 && tag === 33) point.value = reader.double();
      else if (data === 58 && tag === 49) point.value = reader.sfixed64();
      else if (data !== 58 && tag === 33) point.count = reader.fixed64();
      else if (data !== 58 && tag === 41) point.value = reader.double();
      else if (data === 74 && histogram && (tag === 50 || tag === 58)) this.#readPacked(tag);
      else reader.skip(tag);
    }
    reader.leave(outer);
    if (point.time > this.#latest || point.count > amountMax) return false;
    return together && point.value >= 0 && point.value <= Number.MAX_SAFE_INTEGER;
  }

  #readPacked(tag: number): void {
    const reader = this.#reader;
    const outer = reader.enter();
    while (reader.position < reader.end) {
      if (tag === 50) this.#point.buckets.push(reader.fixed64());
      else this.#point.bounds.push(reader.double());
    }
    reader.leave(outer);
  }

  /** The series of the point read last; null if it counts nothing that matters, "full" if there are too many. */
  #series(
    sender: Sender,
    name: string,
    meaning: MeaningOfMetric,
    keys: ByteKeys<Series | null>,
    attributesTag: number,
  ): Series | null | "full" {
    const { bytes } = this.#reader;
    const from = Math.max(0, this.#point.attributesFrom);
    const to = Math.max(from, this.#point.attributesTo);
    this.#dropStaleKeys();
    const known = keys.get(this.#view, from, to);
    if (known !== undefined) return known;
    const attributes = new Map<string, string>();
    const reader = new WireReader(bytes.subarray(from, to));
    for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
      if (tag === attributesTag) readAttribute(reader, attributes);
      else reader.skip(tag);
    }
    const quantity = meaning.quantity(attributes);
    const identity = identityOf(attributes, sender.resource, this.#names);
    const sorted = [...attributes].sort(([a], [b]) => (a < b ? -1 : 1));
    const key = JSON.stringify([sender.id, name, sorted]);
    const { caller, formerId } = sender;
    const former = formerId === undefined ? {} : { formerKey: JSON.stringify([formerId, name, sorted]) };
    const errorType = attributes.get("error.type");
    const { time } = this.#point;
    const series =
      quantity === undefined
        ? null
        : this.#table.series(key, quantity, identity, errorType, time, { caller, ...former });
    if (series !== "full") keys.set(bytes, from, to, series);
    return series;
  }
  /** Series the table let go of are found by their meaning again. */
  #dropStaleKeys(): void {
    if (this.#generation === this.#table.generation) return;
    this.#generation = this.#table.generation;
    for (const keys of this.#keys) keys.clear();
  }
}
