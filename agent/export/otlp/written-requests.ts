// The requests of one snapshot as bytes, kept to be written over by the next: while the same series are shown under the same
// starts, only instants and what moved are new. What is still being sent of them is left alone: the next are written elsewhere.
import { randomInt } from "node:crypto";
import type { LedgerSnapshot, ShownSeries, ShownValues } from "../../model.ts";
import type { WireWriter } from "../../platform/protobuf-writer.ts";
import type { Lease, SpoolEntry } from "../../store/spool/spool.ts";
import type { RequestHead } from "./attributes.ts";
import type { Prefix } from "./points.ts";
import { isCumulative, writeOver, writePoint } from "./points.ts";
import type { Piece } from "./request-plan.ts";
import { metricHead, metricSize, metricsSize, metricTail } from "./request-plan.ts";

const METRIC = 0x12;
/** Tag of the data by kind: gauge 5, sum 7, histogram 9. */
const DATA_TAGS = { gauge: 0x2a, sum: 0x3a, level: 0x3a, histogram: 0x4a } as const;

/** Distinguishes layouts of this process from those of processes before it. */
const PROCESS = randomInt(2 ** 32);

/** Where a request is written, and whether it is still read there. */
interface RequestBuffer extends Lease {
  readonly bytes: Buffer;
}

/** One request. */
interface Written {
  readonly pieces: readonly Piece[];
  /** Into a buffer of the request's own. */
  readonly writer: WireWriter;
  readonly lease: Lease;
  /** Where the instant of each series stands, in the order of the pieces. */
  readonly offsets: Uint32Array;
  readonly points: number;
  readonly layout: number;
}

/** The requests of the snapshot that was written last. */
export class WrittenRequests {
  readonly #head: RequestHead;
  readonly #planned: readonly (readonly Piece[])[];
  readonly #series: ShownSeries;
  readonly #buffers: readonly RequestBuffer[];
  /** What only one snapshot says is in them, or they are not written to the end. */
  #isOutdated = true;
  #values: ShownValues;
  #requests: Written[] = [];

  /** `before`: the requests before these, whose buffers are taken over. */
  constructor(
    snapshot: LedgerSnapshot,
    planned: readonly (readonly Piece[])[],
    head: RequestHead,
    before: WrittenRequests | undefined,
  ) {
    this.#series = snapshot.series;
    this.#values = snapshot.values;
    this.#planned = planned;
    this.#head = head;
    this.#buffers = planned.map((pieces, index) =>
      bufferFor(head.size(metricsSize(pieces)), before === undefined ? undefined : before.#buffers[index]),
    );
  }

  /** Whether a snapshot may be written over them: it says the same of the same series, but for instants and values. */
  holds({ said, series }: LedgerSnapshot): boolean {
    const isFree = !this.#buffers.some(({ isHeld }) => isHeld);
    return isFree && !this.#isOutdated && series === this.#series && !saysOnce(said);
  }

  /** Writes them for the first time, each when it is asked for. */
  *write(snapshot: LedgerSnapshot): Generator<SpoolEntry> {
    this.#requests = [];
    for (const [index, pieces] of this.#planned.entries()) {
      const request = writeRequest(pieces, this.#head, snapshot, this.#buffers[index] as RequestBuffer);
      this.#requests.push(request);
      yield entryOf(request, snapshot);
    }
    this.#isOutdated = saysOnce(snapshot.said);
  }

  /** Writes over them what is new in a snapshot that `holds`. */
  *writeOver(snapshot: LedgerSnapshot): Generator<SpoolEntry> {
    // Until the last is written, they are of two snapshots.
    this.#isOutdated = true;
    for (const request of this.#requests) {
      let index = 0;
      for (const { from, group, to } of request.pieces) {
        for (let i = from; i < to; i++) {
          const place = group.places[i] as number;
          const at = request.offsets[index++] as number;
          const moved = hasMoved(snapshot, this.#values, place);
          writeOver(request.writer, at, group.metric, snapshot, place, moved);
        }
      }
      yield entryOf(request, snapshot);
    }
    this.#values = snapshot.values;
    this.#isOutdated = false;
  }
}

function entryOf({ layout, lease, points, writer }: Written, { time }: LedgerSnapshot): SpoolEntry {
  return { bytes: writer.bytes, lease, points, time, layout };
}

/**
 * The buffer of an earlier request where it is free and large enough, and not twice as large: the zeros of new series are
 * over.
 */
function bufferFor(size: number, before: RequestBuffer | undefined): RequestBuffer {
  const isFitting =
    before?.isHeld === false && size <= before.bytes.length && 2 * size >= before.bytes.length;
  return isFitting ? before : { bytes: Buffer.allocUnsafeSlow(size), isHeld: false };
}

function saysOnce(said: LedgerSnapshot["said"]): boolean {
  for (const { back, ended, isNew } of said.values())
    if (isNew || ended || back?.at !== undefined) return true;
  return false;
}

function hasMoved({ series, values }: LedgerSnapshot, before: ShownValues, place: number): boolean {
  if (series.names[place]?.kind !== "histogram")
    return values.high[place] !== before.high[place] || values.low[place] !== before.low[place];
  const index = values.high[place] ?? 0;
  return values.histograms[index] !== before.histograms[index];
}

function writeRequest(
  pieces: readonly Piece[],
  head: RequestHead,
  snapshot: LedgerSnapshot,
  buffer: RequestBuffer,
): Written {
  const writer = head.begin(metricsSize(pieces), buffer.bytes);
  const offsets = new Uint32Array(pieces.reduce((sum, { from, to }) => sum + to - from, 0));
  let [index, points] = [0, 0];
  for (const piece of pieces) {
    writeMetric(writer, piece, snapshot, offsets.subarray(index));
    index += piece.to - piece.from;
    points += piece.points;
  }
  return { pieces, writer, lease: buffer, offsets, points, layout: layoutOf(pieces, snapshot.said) };
}

function writeMetric(writer: WireWriter, piece: Piece, snapshot: LedgerSnapshot, offsets: Uint32Array): void {
  const { metric, places, prefixes } = piece.group;
  const tail = metricTail(metric);
  writer.head(METRIC, metricSize(piece));
  writer.raw(metricHead(metric));
  writer.head(DATA_TAGS[metric.kind], piece.bytes + tail.length);
  for (let i = piece.from; i < piece.to; i++) {
    const [place, prefix] = [places[i] as number, prefixes[i] as Prefix];
    offsets[i - piece.from] = writePoint(writer, metric, snapshot, place, prefix);
  }
  writer.raw(tail);
}

/** 52 bits over which series, with which start times, are in a request; 0 where one begins, ends or comes back. */
function layoutOf(pieces: readonly Piece[], said: LedgerSnapshot["said"]): number {
  let low = PROCESS;
  let high = 0;
  for (const { group, from, to } of pieces) {
    for (let i = from; i < to; i++) {
      const once = said.get(group.places[i] as number);
      if (once?.ended || ((once?.isNew || once?.back?.at !== undefined) && isCumulative(group.metric)))
        return 0;
      const { id } = group.prefixes[i] as Prefix;
      low = Math.imul(low ^ id, 0x0100_0193);
      high = Math.imul(high + id, 0x85eb_ca6b) ^ (low >>> 13);
    }
  }
  return (high & 0xf_ffff) * 2 ** 32 + (low >>> 0) || 1;
}
