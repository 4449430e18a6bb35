// One series of a snapshot as OTLP data points: its size, its cached bytes and its writing.
// Field numbers: opentelemetry-proto 1.x, metrics.proto, NumberDataPoint and HistogramDataPoint.
import { sameBounds } from "../../meter/counters/histograms.ts";
import type { Histogram, LedgerPoint, UnixNanos } from "../../model.ts";
import { fieldSize, varintSize, WireWriter } from "../../platform/protobuf-writer.ts";
import type { Metric } from "../metrics/metric.ts";
import { inUnit } from "../metrics/metric.ts";
import { attributesSize, writeAttributes } from "./attributes.ts";

const NANOS_PER_MS = 1_000_000n;
const START = 0x11;
const TIME = 0x19;
const AS_DOUBLE = 0x21;
const AS_INT = 0x31;
const NUMBER_ATTRIBUTES = 0x3a;
const NUMBER_FLAGS = 0x40;
const HISTOGRAM_COUNT = 0x21;
const HISTOGRAM_SUM = 0x29;
const HISTOGRAM_COUNTS = 0x32;
const HISTOGRAM_BOUNDS = 0x3a;
const HISTOGRAM_ATTRIBUTES = 0x4a;
const HISTOGRAM_FLAGS = 0x50;
const NO_RECORDED_VALUE = 1;
const DATA_POINT = 0x0a;
/** A tag and eight bytes. */
const WIDE = 9;

/** What does not change of a series between snapshots, encoded: attributes, start, bounds. */
export interface Prefix {
  /** New with each prefix: says which series, under which start, a request carries. */
  readonly id: number;
  readonly bytes: Uint8Array;
  readonly start: UnixNanos;
  readonly bounds: readonly number[] | undefined;
}

let prefixes = 0;

/** Whether a metric's points carry a start time and begin at zero. */
export function isCumulative(metric: Metric): boolean {
  return metric.kind === "sum" || metric.kind === "histogram";
}

/** The prefix of a point, the old one where it still holds. */
export function prefixFor(metric: Metric, point: LedgerPoint, old: Prefix | undefined): Prefix {
  const start = isCumulative(metric) ? point.start : 0n;
  const bounds = histogramOf(metric, point)?.bounds;
  if (old !== undefined && old.start === start && sameBounds(old.bounds, bounds)) return old;
  const timed = start === 0n ? 0 : WIDE;
  const bounded = bounds === undefined ? 0 : fieldSize(bounds.length * 8);
  const writer = new WireWriter(attributesSize(point.dimensions) + timed + bounded, "kept");
  writeAttributes(writer, bounds ? HISTOGRAM_ATTRIBUTES : NUMBER_ATTRIBUTES, point.dimensions);
  if (start !== 0n) writer.instant(START, start);
  if (bounds) {
    writer.head(HISTOGRAM_BOUNDS, bounds.length * 8);
    for (const bound of bounds) writer.packedDouble(bound);
  }
  return { id: ++prefixes, bytes: writer.bytes, start, bounds };
}

/** Data points a series sends: one, one more where it begins or comes back (the old total first), one more where it ends (no value last). */
export function pointCount(metric: Metric, point: LedgerPoint): number {
  return (hasFirst(metric, point) ? 1 : 0) + (hasValue(metric, point) ? 1 : 0) + (point.ended ? 1 : 0);
}

/** Bytes `writePoint` takes. */
export function pointSize(metric: Metric, point: LedgerPoint, prefix: Prefix): number {
  if (!point.isNew && !point.ended && point.back === undefined) return fieldSize(bodySize(prefix));
  let size = hasFirst(metric, point) ? fieldSize(bodySize(prefix)) : 0;
  if (hasValue(metric, point)) size += fieldSize(bodySize(prefix));
  if (point.ended) size += fieldSize(endSize(prefix));
  return size;
}

/**
 * Writes a series: where it is new, 0 at 1 ms after its start (a consumer's `increase()` ignores a first sample); where it
 * comes back, the total it ended with; then its value, and where it ended one point without a value 1 ms later. The last
 * total of an ended series is not lost.
 */
export function writePoint(writer: WireWriter, metric: Metric, point: LedgerPoint, prefix: Prefix): void {
  if (hasZero(metric, point)) writeValue(writer, metric, prefix, point.start + NANOS_PER_MS, nothing(point));
  else if (point.back?.at !== undefined && isCumulative(metric))
    writeValue(writer, metric, prefix, point.back.at, point.back.value);
  if (hasValue(metric, point)) writeValue(writer, metric, prefix, point.time, point.value);
  if (!point.ended) return;
  writer.head(DATA_POINT, endSize(prefix));
  writer.raw(prefix.bytes);
  writer.instant(TIME, hasValue(metric, point) ? point.time + NANOS_PER_MS : point.time);
  writer.byte(prefix.bounds ? HISTOGRAM_FLAGS : NUMBER_FLAGS);
  writer.byte(NO_RECORDED_VALUE);
}

/** What a cumulative series has where it starts. */
function nothing({ value }: LedgerPoint): bigint | Histogram {
  if (typeof value !== "object") return 0n;
  return { bounds: value.bounds, counts: value.bounds.map(() => 0).concat(0), sum: 0, count: 0 };
}

function writeValue(
  writer: WireWriter,
  metric: Metric,
  prefix: Prefix,
  time: UnixNanos,
  value: LedgerPoint["value"],
): void {
  writer.head(DATA_POINT, bodySize(prefix));
  writer.raw(prefix.bytes);
  writer.instant(TIME, time);
  if (typeof value === "object") writeHistogram(writer, value);
  else if (metric.number === "int") writer.integer(AS_INT, whole(value));
  else writer.double(AS_DOUBLE, inUnit(metric, value));
}

function writeHistogram(writer: WireWriter, { bounds, count, counts, sum }: Histogram): void {
  writer.integer(HISTOGRAM_COUNT, count);
  writer.double(HISTOGRAM_SUM, sum);
  writer.head(HISTOGRAM_COUNTS, (bounds.length + 1) * 8);
  for (let i = 0; i <= bounds.length; i++) writer.packedInteger(counts[i] ?? 0);
}

/** A gauge of a metric that is whole by nature may still come as 2.9999999. */
function whole(value: bigint | number): bigint | number {
  return typeof value === "bigint" ? value : Math.round(value);
}

function hasZero(metric: Metric, point: LedgerPoint): boolean {
  return point.isNew && isCumulative(metric) && point.time > point.start + NANOS_PER_MS;
}

/** Whether a point goes before the value: zero of a new series, the old total of one that is back. */
function hasFirst(metric: Metric, point: LedgerPoint): boolean {
  return hasZero(metric, point) || (point.back?.at !== undefined && isCumulative(metric));
}

function hasValue(metric: Metric, point: LedgerPoint): boolean {
  return !point.ended || isCumulative(metric);
}

function bodySize(prefix: Prefix): number {
  const value = prefix.bounds ? 2 * WIDE + fieldSize((prefix.bounds.length + 1) * 8) : WIDE;
  return prefix.bytes.length + WIDE + value;
}

function endSize(prefix: Prefix): number {
  return prefix.bytes.length + WIDE + 1 + varintSize(NO_RECORDED_VALUE);
}

function histogramOf(metric: Metric, point: LedgerPoint): Histogram | undefined {
  if (metric.kind !== "histogram") return undefined;
  if (typeof point.value === "object") return point.value;
  throw new Error(`Cannot encode ${metric.name}: got a ${typeof point.value}, wanted a histogram`);
}
