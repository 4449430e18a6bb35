// From a committed snapshot to OTLP/protobuf requests, cumulative with true start times (METERING.md 5).
// Field numbers: opentelemetry-proto 1.x, metrics.proto. Written by hand because the SDK's serializer makes objects per
// point and per attribute; here a series costs one copy of its cached bytes, an instant and a value.
// Left out: exemplars, exponential histograms, summaries.
import { randomInt } from "node:crypto";
import type { LedgerPoint, LedgerSnapshot, UnixNanos } from "../../model.ts";
import type { WireWriter } from "../../platform/protobuf-writer.ts";
import { fieldSize, join, stringField } from "../../platform/protobuf-writer.ts";
import type { SpoolEntry } from "../../store/spool/spool.ts";
import { SCHEMA_URL } from "../metrics/conventions.ts";
import type { Metric } from "../metrics/metric.ts";
import { findMetric } from "../metrics/metrics.ts";
import type { Attributes, RequestHead } from "./attributes.ts";
import { requestHead } from "./attributes.ts";
import type { Prefix } from "./points.ts";
import { isCumulative, pointCount, pointSize, prefixFor, writePoint } from "./points.ts";

const METRIC = 0x12;
const CUMULATIVE = 2;
/** Tag of the data by kind: gauge 5, sum 7, histogram 9. */
const DATA_TAGS = { gauge: 0x2a, sum: 0x3a, level: 0x3a, histogram: 0x4a } as const;

/** What an encoder puts into every request, and how large one may become. */
export interface OtlpEncoderOptions {
  readonly resource: Attributes;
  /** Version of the scope `tokenwatt`. */
  readonly version: string;
  /** Receivers refuse 4 MiB after decompression by default (grpc-js and grpc-go alike). */
  readonly bytesMax?: number;
  readonly pointsMax?: number;
}

/** Encodes snapshots; keeps what does not change of a series between them. */
export interface OtlpEncoder {
  /**
   * Requests of at most `bytesMax` bytes and `pointsMax` points; a series is never split over two. Throws on a metric
   * the table does not know: that is our own mistake.
   */
  encode(snapshot: LedgerSnapshot): readonly SpoolEntry[];
  /**
   * The same requests, each written when it is asked for, into one buffer that all of them use: the bytes of a request
   * hold until the next is asked for.
   */
  stream(snapshot: LedgerSnapshot): Iterable<SpoolEntry>;
  /** Series whose bytes are kept. */
  cachedSeries(): number;
}

/** The series of one metric in one snapshot. */
interface Group {
  readonly metric: Metric;
  readonly points: LedgerPoint[];
  readonly prefixes: Prefix[];
  readonly sizes: number[];
}

/** Distinguishes layouts of this process from those of processes before it. */
const PROCESS = randomInt(2 ** 32);

/** A run of one group's series that goes into one request. */
interface Piece {
  readonly group: Group;
  readonly from: number;
  to: number;
  bytes: number;
  points: number;
}

/** An encoder for one resource. */
export function createOtlpEncoder(options: OtlpEncoderOptions): OtlpEncoder {
  const head = requestHead(options.resource, { name: "tokenwatt", version: options.version }, SCHEMA_URL);
  const limits = { bytes: options.bytesMax ?? 3_400_000, points: options.pointsMax ?? 8_000 };
  let cache = new Map<number, Prefix>();
  let shared = Buffer.alloc(0);
  const requests = (snapshot: LedgerSnapshot): Piece[][] => {
    const groups = new Map<string, Group>();
    const kept = cache.size > 2 * snapshot.points.length ? new Map<number, Prefix>() : cache;
    for (const point of snapshot.points) {
      const group = groupOf(groups, point.metric);
      const old = cache.get(point.series);
      const prefix = prefixFor(group.metric, point, old);
      if (prefix !== old || kept !== cache) kept.set(point.series, prefix);
      group.points.push(point);
      group.prefixes.push(prefix);
      group.sizes.push(pointSize(group.metric, point, prefix));
    }
    cache = kept;
    return plan(groups.values(), head, limits);
  };
  return {
    cachedSeries: () => cache.size,
    encode: (snapshot) => requests(snapshot).map((pieces) => write(pieces, head, snapshot.time)),
    stream(snapshot) {
      const planned = requests(snapshot);
      const largest = Math.max(0, ...planned.map((pieces) => head.size(metricsSize(pieces))));
      // Twice as large as needed: the zeros of new series are over.
      if (largest > shared.length || 2 * largest < shared.length) shared = Buffer.allocUnsafeSlow(largest);
      return planned.values().map((pieces) => write(pieces, head, snapshot.time, shared));
    },
  };
}

function groupOf(groups: Map<string, Group>, name: string): Group {
  const known = groups.get(name);
  if (known !== undefined) return known;
  const metric = findMetric(name);
  if (metric === undefined) {
    throw new Error(
      `Cannot encode metric ${JSON.stringify(name)}: it is not in agent/export/metrics/metrics.ts`,
    );
  }
  const group = { metric, points: [], prefixes: [], sizes: [] };
  groups.set(name, group);
  return group;
}

/** Cuts the groups into requests, each within the limits unless a single series is larger. */
function plan(
  groups: Iterable<Group>,
  head: RequestHead,
  limits: { bytes: number; points: number },
): Piece[][] {
  const requests: Piece[][] = [];
  let pieces: Piece[] = [];
  let bytes = head.size(0);
  let points = 0;
  for (const group of groups) {
    const overhead = metricHead(group.metric).length + 24;
    let piece: Piece | undefined;
    for (let i = 0; i < group.points.length; i++) {
      const size = group.sizes[i] ?? 0;
      const count = pointCount(group.metric, group.points[i] as LedgerPoint);
      const added = size + (piece === undefined ? overhead : 0);
      if (points > 0 && (bytes + added > limits.bytes || points + count > limits.points)) {
        requests.push(pieces);
        pieces = [];
        piece = undefined;
        bytes = head.size(0);
        points = 0;
      }
      if (piece === undefined) {
        piece = { group, from: i, to: i, bytes: 0, points: 0 };
        pieces.push(piece);
        bytes += overhead;
      }
      piece.to = i + 1;
      piece.bytes += size;
      piece.points += count;
      bytes += size;
      points += count;
    }
  }
  if (points > 0) requests.push(pieces);
  return requests;
}

function metricsSize(pieces: readonly Piece[]): number {
  return pieces.reduce((sum, piece) => sum + fieldSize(metricSize(piece)), 0);
}

function write(pieces: readonly Piece[], head: RequestHead, time: UnixNanos, buffer?: Buffer): SpoolEntry {
  const writer = head.begin(metricsSize(pieces), buffer);
  let points = 0;
  for (const piece of pieces) {
    writeMetric(writer, piece);
    points += piece.points;
  }
  return { bytes: writer.bytes, points, time, layout: layoutOf(pieces) };
}

/** 52 bits over which series, with which start times, are in a request; 0 where one begins, ends or comes back. */
function layoutOf(pieces: readonly Piece[]): number {
  let low = PROCESS;
  let high = 0;
  for (const { group, from, to } of pieces) {
    for (let i = from; i < to; i++) {
      const point = group.points[i] as LedgerPoint;
      if (point.ended || ((point.isNew || point.back?.at !== undefined) && isCumulative(group.metric)))
        return 0;
      const { id } = group.prefixes[i] as Prefix;
      low = Math.imul(low ^ id, 0x0100_0193);
      high = Math.imul(high + id, 0x85eb_ca6b) ^ (low >>> 13);
    }
  }
  return (high & 0xf_ffff) * 2 ** 32 + (low >>> 0) || 1;
}

function writeMetric(writer: WireWriter, piece: Piece): void {
  const { metric, points, prefixes } = piece.group;
  const tail = metricTail(metric);
  writer.head(METRIC, metricSize(piece));
  writer.raw(metricHead(metric));
  writer.head(DATA_TAGS[metric.kind], piece.bytes + tail.length);
  for (let i = piece.from; i < piece.to; i++) {
    writePoint(writer, metric, points[i] as LedgerPoint, prefixes[i] as Prefix);
  }
  writer.raw(tail);
}

function metricSize(piece: Piece): number {
  const { metric } = piece.group;
  return metricHead(metric).length + fieldSize(piece.bytes + metricTail(metric).length);
}

const heads = new Map<Metric, Uint8Array>();

/** Name, description and unit. */
function metricHead(metric: Metric): Uint8Array {
  let head = heads.get(metric);
  if (head === undefined) {
    head = join([
      stringField(0x0a, metric.name),
      stringField(0x12, metric.description),
      stringField(0x1a, metric.unit),
    ]);
    heads.set(metric, head);
  }
  return head;
}

const TAILS = {
  gauge: new Uint8Array(0),
  sum: Uint8Array.of(0x10, CUMULATIVE, 0x18, 1),
  level: Uint8Array.of(0x10, CUMULATIVE),
  histogram: Uint8Array.of(0x10, CUMULATIVE),
} as const;

/** Temporality and monotonicity. */
function metricTail(metric: Metric): Uint8Array {
  return TAILS[metric.kind];
}
