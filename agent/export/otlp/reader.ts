// Reads OTLP metric requests point by point without building objects of them: for the receiver, for splitting a
// request that is too large and for thinning a backlog. Bounds and wire types are checked; field numbers are those of
// opentelemetry-proto 1.x, metrics.proto.

import { BYTES, bytesField, FIXED32, FIXED64, join, VARINT } from "../../platform/protobuf-writer.ts";
import { rawRequestHead } from "./attributes.ts";

/** What follows the points of a request apart from them: the parts to rebuild it from. */
export interface RawMetric {
  readonly resource: Uint8Array;
  readonly scope: Uint8Array;
  readonly name: string;
  /** Name, description and unit fields. */
  readonly head: Uint8Array;
  /** Tag of the data field: gauge, sum, histogram. */
  readonly dataTag: number;
  /** Temporality and monotonicity fields. */
  readonly tail: Uint8Array;
}

/** One data point; byte arrays are views into the request. */
export interface RawPoint {
  readonly metric: RawMetric;
  /** The data point's message. */
  readonly body: Uint8Array;
  readonly start: bigint;
  readonly time: bigint;
  readonly flags: number;
  /** Number points only. */
  readonly value: number | bigint | undefined;
  /** Attribute fields as found, one after another: with the metric's name the identity of the series. */
  readonly attributes: readonly Uint8Array[];
}

/** Thrown on bytes that are no OTLP request. */
export class WireError extends Error {}

/** Calls `visit` for each data point. Throws WireError on malformed bytes; points before them were visited. */
export function readRequest(bytes: Uint8Array, visit: (point: RawPoint) => void): void {
  for (const resourceMetrics of fieldsOf(bytes, 1)) {
    const resource = join(rawFields(resourceMetrics, 1));
    for (const scopeMetrics of fieldsOf(resourceMetrics, 2)) {
      const scope = join(rawFields(scopeMetrics, 1));
      for (const metric of fieldsOf(scopeMetrics, 2)) readMetric(metric, resource, scope, visit);
    }
  }
}

/** Times of a request's oldest and newest point; 0 where it has none. */
export function timesOf(bytes: Uint8Array): { readonly from: bigint; readonly to: bigint } {
  let [from, to]: [bigint | undefined, bigint] = [undefined, 0n];
  readRequest(bytes, ({ time }) => {
    if (from === undefined || time < from) from = time;
    if (time > to) to = time;
  });
  return { from: from ?? 0n, to };
}

/** A request in two halves of about equal points; undefined when it has fewer than two. */
export function splitRequest(bytes: Uint8Array): readonly [Uint8Array, Uint8Array] | undefined {
  const points: RawPoint[] = [];
  readRequest(bytes, (point) => points.push(point));
  if (points.length < 2) return undefined;
  const half = points.length >> 1;
  return [buildRequest(points.slice(0, half)), buildRequest(points.slice(half))];
}

/** A request of these points, in their order; resource and scope are those of the first point. */
export function buildRequest(points: readonly RawPoint[]): Uint8Array {
  const [first] = points;
  if (first === undefined) return new Uint8Array(0);
  const metrics: Uint8Array[] = [];
  for (let from = 0; from < points.length; ) {
    const metric = (points[from] as RawPoint).metric;
    let to = from + 1;
    while (points[to]?.metric.name === metric.name) to++;
    const bodies = points.slice(from, to).map((point) => bytesField(0x0a, point.body));
    const data = join([...bodies, metric.tail]);
    metrics.push(bytesField(0x12, join([metric.head, bytesField(metric.dataTag, data)])));
    from = to;
  }
  const size = metrics.reduce((sum, metric) => sum + metric.length, 0);
  const writer = rawRequestHead(first.metric.resource, first.metric.scope).begin(size);
  for (const metric of metrics) writer.raw(metric);
  return writer.bytes;
}

/** Identity of a point's series within its resource: the metric's name and its attribute bytes. */
export function seriesKey(point: RawPoint): string {
  let key = point.metric.name;
  for (const attribute of point.attributes) key += `\u0000${Buffer.from(attribute).toString("latin1")}`;
  return key;
}

function readMetric(
  bytes: Uint8Array,
  resource: Uint8Array,
  scope: Uint8Array,
  visit: (point: RawPoint) => void,
): void {
  const cursor = new Cursor(bytes);
  const head: Uint8Array[] = [];
  let name = "";
  let dataTag = 0;
  let data: Uint8Array | undefined;
  while (cursor.next()) {
    if (cursor.field === 1) name = Buffer.from(cursor.bytes()).toString("utf8");
    if (cursor.field <= 3) head.push(cursor.raw());
    if (cursor.field >= 5 && cursor.field <= 11) {
      dataTag = cursor.tag;
      data = cursor.bytes();
    }
  }
  if (data === undefined) return;
  const tail = join(rawFields(data, 2, 3));
  const metric: RawMetric = { resource, scope, name, head: join(head), dataTag, tail };
  const histogram = dataTag >> 3 === 9;
  for (const body of fieldsOf(data, 1)) visit(readPoint(metric, body, histogram));
}

function readPoint(metric: RawMetric, body: Uint8Array, histogram: boolean): RawPoint {
  const cursor = new Cursor(body);
  const attributes: Uint8Array[] = [];
  let start = 0n;
  let time = 0n;
  let flags = 0;
  let value: number | bigint | undefined;
  while (cursor.next()) {
    const { field } = cursor;
    if (field === 2) start = cursor.fixed64();
    else if (field === 3) time = cursor.fixed64();
    else if (field === (histogram ? 9 : 7)) attributes.push(cursor.bytes());
    else if (field === (histogram ? 10 : 8)) flags = cursor.varint();
    else if (!histogram && field === 4) value = cursor.double();
    else if (!histogram && field === 6) value = BigInt.asIntN(64, cursor.fixed64());
  }
  return { metric, body, start, time, flags, value, attributes };
}

/** Contents of every length-delimited field of this number. */
function fieldsOf(bytes: Uint8Array, field: number): Uint8Array[] {
  const found: Uint8Array[] = [];
  const cursor = new Cursor(bytes);
  while (cursor.next()) if (cursor.field === field) found.push(cursor.bytes());
  return found;
}

/** Fields from one number to another, tags included. */
function rawFields(bytes: Uint8Array, from: number, to = from): Uint8Array[] {
  const found: Uint8Array[] = [];
  const cursor = new Cursor(bytes);
  while (cursor.next()) if (cursor.field >= from && cursor.field <= to) found.push(cursor.raw());
  return found;
}

/** Steps over the fields of one message. */
export class Cursor {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #from = 0;
  #content = 0;
  #end = 0;
  #wire = VARINT;
  #number = 0;
  tag = 0;
  field = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Moves to the next field; false at the end of the message. */
  next(): boolean {
    if (this.#end >= this.#bytes.length) return false;
    this.#from = this.#end;
    this.#content = this.#end;
    this.tag = this.#readVarint();
    this.field = Math.floor(this.tag / 8);
    this.#wire = this.tag & 7;
    if (this.field === 0) throw new WireError("Cannot read a message: got field number 0");
    if (this.#wire === VARINT) {
      this.#number = this.#readVarint();
      this.#end = this.#content;
    } else {
      const length = this.#wire === BYTES ? this.#readVarint() : this.#fixedLength();
      this.#end = this.#content + length;
    }
    if (this.#end > this.#bytes.length) throw new WireError("Cannot read a message: a field passes its end");
    return true;
  }

  /** The field with its tag, as found. */
  raw(): Uint8Array {
    return this.#bytes.subarray(this.#from, this.#end);
  }

  bytes(): Uint8Array {
    this.#expect(BYTES);
    return this.#bytes.subarray(this.#content, this.#end);
  }

  varint(): number {
    this.#expect(VARINT);
    return this.#number;
  }

  fixed64(): bigint {
    this.#expect(FIXED64);
    return this.#view.getBigUint64(this.#content, true);
  }

  double(): number {
    this.#expect(FIXED64);
    return this.#view.getFloat64(this.#content, true);
  }

  #expect(wire: number): void {
    if (this.#wire !== wire)
      throw new WireError(`Cannot read field ${this.field}: got wire type ${this.#wire}`);
  }

  #fixedLength(): number {
    if (this.#wire === FIXED64) return 8;
    if (this.#wire === FIXED32) return 4;
    throw new WireError(`Cannot read a message: got wire type ${this.#wire}`);
  }

  /** Up to ten bytes; beyond 2^53 the value is only good for skipping. */
  #readVarint(): number {
    let value = 0;
    for (let i = 0, scale = 1; i < 10; i++, scale *= 128) {
      const byte = this.#bytes[this.#content++];
      if (byte === undefined) throw new WireError("Cannot read a message: a number is cut");
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
    throw new WireError("Cannot read a message: a number is longer than ten bytes");
  }
}
