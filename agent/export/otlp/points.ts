// One series of a snapshot as OTLP data points: its size, its cached bytes, its writing and its writing over.
// Field numbers: opentelemetry-proto 1.x, metrics.proto, NumberDataPoint and HistogramDataPoint.
import { sameBounds } from "../../meter/counters/histograms.ts";
import { numberOf } from "../../meter/ledger/running-total.ts";
import type { Histogram, LedgerSnapshot, SaidOnce, UnixNanos } from "../../model.ts";
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

/** The prefix of the series at a place, the old one where it still holds. */
export function prefixFor(
  metric: Metric,
  snapshot: LedgerSnapshot,
  place: number,
  old: Prefix | undefined,
): Prefix {
  const start = isCumulative(metric) ? (snapshot.series.starts[place] ?? 0n) : 0n;
  const bounds = histogramOf(metric, snapshot, place)?.bounds;
  if (old !== undefined && old.start === start && sameBounds(old.bounds, bounds)) return old;
  const dimensions = snapshot.series.names[place]?.dimensions ?? {};
  const timed = start === 0n ? 0 : WIDE;
  const bounded = bounds === undefined ? 0 : fieldSize(bounds.length * 8);
  const writer = new WireWriter(attributesSize(dimensions) + timed + bounded, "kept");
  writeAttributes(writer, bounds ? HISTOGRAM_ATTRIBUTES : NUMBER_ATTRIBUTES, dimensions);
  if (start !== 0n) writer.instant(START, start);
  if (bounds) {
    writer.head(HISTOGRAM_BOUNDS, bounds.length * 8);
    for (const bound of bounds) writer.packedDouble(bound);
  }
  return { id: ++prefixes, bytes: writer.bytes, start, bounds };
}

/** Data points a series sends: one, one more where it begins or comes back (the old total first), one more where it ends (no value last). */
export function pointCount(
  metric: Metric,
  said: SaidOnce | undefined,
  prefix: Prefix,
  time: UnixNanos,
): number {
  if (said === undefined) return 1;
  const first = hasFirst(metric, said, prefix, time) ? 1 : 0;
  return first + (hasValue(metric, said) ? 1 : 0) + (said.ended ? 1 : 0);
}

/** Bytes `writePoint` takes. */
export function pointSize(
  metric: Metric,
  said: SaidOnce | undefined,
  prefix: Prefix,
  time: UnixNanos,
): number {
  const body = fieldSize(bodySize(prefix));
  if (said === undefined) return body;
  let size = hasFirst(metric, said, prefix, time) ? body : 0;
  if (hasValue(metric, said)) size += body;
  if (said.ended) size += fieldSize(endSize(prefix));
  return size;
}

/**
 * Writes the series at a place: where it is new, 0 at 1 ms after its start (a consumer's `increase()` ignores a first
 * sample); where it comes back, the total it ended with; then its value, and where it ended one point without a value 1 ms
 * later. The last total of an ended series is not lost. Returns where its instant and value stand.
 */
export function writePoint(
  writer: WireWriter,
  metric: Metric,
  snapshot: LedgerSnapshot,
  place: number,
  prefix: Prefix,
): number {
  const said = snapshot.said.get(place);
  if (said !== undefined) writeFirst(writer, metric, said, prefix, snapshot.time);
  let at = 0;
  if (said === undefined || hasValue(metric, said)) {
    writeHead(writer, prefix);
    at = writer.length;
    writer.instant(TIME, snapshot.time);
    writeValue(writer, metric, snapshot, place);
  }
  if (said?.ended !== true) return at;
  writer.head(DATA_POINT, endSize(prefix));
  writer.raw(prefix.bytes);
  writer.instant(TIME, hasValue(metric, said) ? snapshot.time + NANOS_PER_MS : snapshot.time);
  writer.byte(prefix.bounds ? HISTOGRAM_FLAGS : NUMBER_FLAGS);
  writer.byte(NO_RECORDED_VALUE);
  return at;
}

/** Writes over what `writePoint` wrote at `at`: the instant, and the value where it moved since. */
export function writeOver(
  writer: WireWriter,
  at: number,
  metric: Metric,
  snapshot: LedgerSnapshot,
  place: number,
  hasMoved: boolean,
): void {
  writer.moveTo(at);
  writer.instant(TIME, snapshot.time);
  if (hasMoved) writeValue(writer, metric, snapshot, place);
}

/** Zero of a new series, the old total of one that is back. */
function writeFirst(
  writer: WireWriter,
  metric: Metric,
  said: SaidOnce,
  prefix: Prefix,
  time: UnixNanos,
): void {
  if (!hasFirst(metric, said, prefix, time)) return;
  const isZero = hasZero(metric, said, prefix, time);
  writeHead(writer, prefix);
  writer.instant(TIME, isZero ? prefix.start + NANOS_PER_MS : (said.back?.at ?? 0n));
  const value = isZero ? nothing(prefix) : (said.back?.value ?? 0n);
  if (typeof value === "object") writeHistogram(writer, value);
  else if (metric.number === "int") writer.integer(AS_INT, value);
  else writer.double(AS_DOUBLE, inUnit(metric, value));
}

/** What a cumulative series has where it starts. */
function nothing({ bounds }: Prefix): bigint | Histogram {
  return bounds === undefined ? 0n : { bounds, counts: bounds.map(() => 0).concat(0), sum: 0, count: 0 };
}

function writeHead(writer: WireWriter, prefix: Prefix): void {
  writer.head(DATA_POINT, bodySize(prefix));
  writer.raw(prefix.bytes);
}

function writeValue(writer: WireWriter, metric: Metric, snapshot: LedgerSnapshot, place: number): void {
  const { high, low } = snapshot.values;
  const [upper = 0, lower = 0] = [high[place], low[place]];
  const histogram = histogramOf(metric, snapshot, place);
  if (histogram !== undefined) writeHistogram(writer, histogram);
  else if (snapshot.series.names[place]?.kind === "sum") {
    if (metric.number === "int") writer.words(AS_INT, lower, upper);
    else writer.double(AS_DOUBLE, inUnit(metric, numberOf(upper, lower)));
  } else if (metric.number === "double") writer.double(AS_DOUBLE, inUnit(metric, upper));
  // A gauge of a metric that is whole by nature may still come as 2.9999999.
  else writer.integer(AS_INT, Math.round(upper));
}

function writeHistogram(writer: WireWriter, { bounds, count, counts, sum }: Histogram): void {
  writer.integer(HISTOGRAM_COUNT, count);
  writer.double(HISTOGRAM_SUM, sum);
  writer.head(HISTOGRAM_COUNTS, (bounds.length + 1) * 8);
  for (let i = 0; i <= bounds.length; i++) writer.packedInteger(counts[i] ?? 0);
}

function hasZero(metric: Metric, said: SaidOnce, { start }: Prefix, time: UnixNanos): boolean {
  return said.isNew && isCumulative(metric) && time > start + NANOS_PER_MS;
}

/** Whether a point goes before the value: zero of a new series, the old total of one that is back. */
function hasFirst(metric: Metric, said: SaidOnce, prefix: Prefix, time: UnixNanos): boolean {
  return hasZero(metric, said, prefix, time) || (said.back?.at !== undefined && isCumulative(metric));
}

function hasValue(metric: Metric, said: SaidOnce): boolean {
  return !said.ended || isCumulative(metric);
}

function bodySize(prefix: Prefix): number {
  const value = prefix.bounds ? 2 * WIDE + fieldSize((prefix.bounds.length + 1) * 8) : WIDE;
  return prefix.bytes.length + WIDE + value;
}

function endSize(prefix: Prefix): number {
  return prefix.bytes.length + WIDE + 1 + varintSize(NO_RECORDED_VALUE);
}

function histogramOf(
  metric: Metric,
  { series, values }: LedgerSnapshot,
  place: number,
): Histogram | undefined {
  if (metric.kind !== "histogram") return undefined;
  const kind = series.names[place]?.kind;
  const histogram = kind === "histogram" ? values.histograms[values.high[place] ?? 0] : undefined;
  if (histogram !== undefined) return histogram;
  throw new Error(`Cannot encode ${metric.name}: got a ${kind}, wanted a histogram`);
}
