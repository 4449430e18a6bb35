// Which series go into which request, and how many bytes and points each takes: within a receiver's limits, and a series is
// never split over two.
import type { LedgerSnapshot } from "../../model.ts";
import { fieldSize, join, stringField } from "../../platform/protobuf-writer.ts";
import type { Metric } from "../metrics/metric.ts";
import type { RequestHead } from "./attributes.ts";
import type { Prefix } from "./points.ts";
import { pointCount } from "./points.ts";

const CUMULATIVE = 2;

/** The series of one metric in one snapshot. */
export interface Group {
  readonly metric: Metric;
  /** Where they stand in the snapshot. */
  readonly places: number[];
  readonly prefixes: Prefix[];
  readonly sizes: number[];
}

/** A run of one group's series that goes into one request. */
export interface Piece {
  readonly group: Group;
  readonly from: number;
  to: number;
  bytes: number;
  points: number;
}

/** Cuts the groups into requests, each within the limits unless a single series is larger. */
export function planRequests(
  groups: Iterable<Group>,
  { said, time }: LedgerSnapshot,
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
    for (let i = 0; i < group.places.length; i++) {
      const size = group.sizes[i] ?? 0;
      const once = said.get(group.places[i] as number);
      const count = pointCount(group.metric, once, group.prefixes[i] as Prefix, time);
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

/** Bytes the Metric fields of a request take. */
export function metricsSize(pieces: readonly Piece[]): number {
  return pieces.reduce((sum, piece) => sum + fieldSize(metricSize(piece)), 0);
}

/** Bytes of the Metric message of a piece. */
export function metricSize(piece: Piece): number {
  const { metric } = piece.group;
  return metricHead(metric).length + fieldSize(piece.bytes + metricTail(metric).length);
}

const heads = new Map<Metric, Uint8Array>();

/** Name, description and unit. */
export function metricHead(metric: Metric): Uint8Array {
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
export function metricTail(metric: Metric): Uint8Array {
  return TAILS[metric.kind];
}
