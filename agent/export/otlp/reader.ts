// Reads OTLP metric requests point by point without building objects of them: for the receiver, for splitting a
// request that is too large and for thinning a backlog. Bounds and wire types are checked; field numbers are those of
// opentelemetry-proto 1.x, metrics.proto.

import { tagOf, WireError, WireReader, wireTypes } from "../../platform/protobuf-reader.ts";
import { bytesField, join } from "../../platform/protobuf-writer.ts";
import { rawRequestHead } from "./attributes.ts";

/** Field of the schema's URL, of resource and scope alike. */
const SCHEMA_URL = 3;

/** What follows the points of a request apart from them: the parts to rebuild it from. */
export interface RawMetric {
  /** Resource, scope: the fields around what they hold, with their schema's URL. */
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

/** Calls `visit` for each data point. Throws WireError on malformed bytes; points before them were visited. */
export function readRequest(bytes: Uint8Array, visit: (point: RawPoint) => void): void {
  for (const resourceMetrics of fieldsOf(bytes, 1)) {
    const resource = join([...rawFields(resourceMetrics, 1), ...rawFields(resourceMetrics, SCHEMA_URL)]);
    for (const scopeMetrics of fieldsOf(resourceMetrics, 2)) {
      const scope = join([...rawFields(scopeMetrics, 1), ...rawFields(scopeMetrics, SCHEMA_URL)]);
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

/**
 * A request of these points, in their order; resource and scope are those of the first point.
 * Exported for its test: it undoes what is read.
 */
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
  const reader = new WireReader(bytes);
  const head: Uint8Array[] = [];
  let name = "";
  let dataTag = 0;
  let data: Uint8Array | undefined;
  for (let [from, tag] = [0, reader.tag()]; tag !== 0; [from, tag] = [reader.position, reader.tag()]) {
    const field = tag >>> 3;
    if (field >= 5 && field <= 11) {
      dataTag = tag;
      data = contentOf(reader, tag);
    } else if (field === 1) name = Buffer.from(contentOf(reader, tag)).toString("utf8");
    else reader.skip(tag);
    if (field <= 3) head.push(bytes.subarray(from, reader.position));
  }
  if (data === undefined) return;
  const tail = join(rawFields(data, 2, 3));
  const metric: RawMetric = { resource, scope, name, head: join(head), dataTag, tail };
  const histogram = dataTag >> 3 === 9;
  for (const body of fieldsOf(data, 1)) visit(readPoint(metric, body, histogram));
}

const START = tagOf(2, "fixed64");
const TIME = tagOf(3, "fixed64");
const NUMBER = {
  attributes: 7,
  flags: tagOf(8, "varint"),
  double: tagOf(4, "fixed64"),
  integer: tagOf(6, "fixed64"),
};
const HISTOGRAM = { attributes: 9, flags: tagOf(10, "varint"), double: -1, integer: -1 };

function readPoint(metric: RawMetric, body: Uint8Array, histogram: boolean): RawPoint {
  const reader = new WireReader(body);
  const tags = histogram ? HISTOGRAM : NUMBER;
  const attributes: Uint8Array[] = [];
  let start = 0n;
  let time = 0n;
  let flags = 0;
  let value: number | bigint | undefined;
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === START) start = reader.bigFixed64();
    else if (tag === TIME) time = reader.bigFixed64();
    else if (tag >>> 3 === tags.attributes) attributes.push(contentOf(reader, tag));
    else if (tag === tags.flags) flags = reader.uint();
    else if (tag === tags.double) value = reader.double();
    else if (tag === tags.integer) value = BigInt.asIntN(64, reader.bigFixed64());
    else reader.skip(tag);
  }
  return { metric, body, start, time, flags, value, attributes };
}

/** What a length-delimited field holds. Throws WireError where the field is of another wire type. */
function contentOf(reader: WireReader, tag: number): Uint8Array {
  if (tag % 8 !== wireTypes.bytes)
    throw new WireError(
      `Cannot read field ${tag >>> 3}: got wire type ${tag % 8}, wanted ${wireTypes.bytes}`,
    );
  return reader.slice();
}

/** Contents of every length-delimited field of this number. */
function fieldsOf(bytes: Uint8Array, field: number): Uint8Array[] {
  const found: Uint8Array[] = [];
  const reader = new WireReader(bytes);
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag >>> 3 === field) found.push(contentOf(reader, tag));
    else reader.skip(tag);
  }
  return found;
}

/** Fields from one number to another, tags included. */
function rawFields(bytes: Uint8Array, from: number, to = from): Uint8Array[] {
  const found: Uint8Array[] = [];
  const reader = new WireReader(bytes);
  for (let [start, tag] = [0, reader.tag()]; tag !== 0; [start, tag] = [reader.position, reader.tag()]) {
    reader.skip(tag);
    if (tag >>> 3 >= from && tag >>> 3 <= to) found.push(bytes.subarray(start, reader.position));
  }
  return found;
}
