// From a committed snapshot to OTLP/protobuf requests, cumulative with true start times (METERING.md 5).
// Field numbers: opentelemetry-proto 1.x, metrics.proto. Written by hand because the SDK's serializer makes objects per
// point and per attribute; here a series costs one copy of its cached bytes, an instant and a value, and while none begins,
// ends or comes back the requests of the beat before are written over: eight bytes for one that rests.
// Left out: exemplars, exponential histograms, summaries.
import type { LedgerSnapshot, ShownName } from "../../model.ts";
import type { SpoolEntry } from "../../store/spool/spool.ts";
import { SCHEMA_URL } from "../metrics/conventions.ts";
import { findMetric } from "../metrics/metrics.ts";
import type { Attributes } from "./attributes.ts";
import { requestHead } from "./attributes.ts";
import type { Prefix } from "./points.ts";
import { pointSize, prefixFor } from "./points.ts";
import type { Group } from "./request-plan.ts";
import { planRequests } from "./request-plan.ts";
import { WrittenRequests } from "./written-requests.ts";

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
   * The same requests, each written when it is asked for, into buffers that the next snapshot writes over: the bytes of a
   * request hold until then, and for as long as its lease is held.
   */
  stream(snapshot: LedgerSnapshot): Iterable<SpoolEntry>;
  /** Series whose bytes are kept. */
  cachedSeries(): number;
}

/** An encoder for one resource. */
export function createOtlpEncoder(options: OtlpEncoderOptions): OtlpEncoder {
  const head = requestHead(options.resource, { name: "tokenwatt", version: options.version }, SCHEMA_URL);
  const limits = { bytes: options.bytesMax ?? 3_400_000, points: options.pointsMax ?? 8_000 };
  let cache = new Map<number, Prefix>();
  /** Requests as they were written last, to be written over; none where they say what is said once. */
  let written: WrittenRequests | undefined;
  const groupsOf = (snapshot: LedgerSnapshot): Iterable<Group> => {
    const { names } = snapshot.series;
    const groups = new Map<string, Group>();
    const kept = cache.size > 2 * names.length ? new Map<number, Prefix>() : cache;
    for (let place = 0; place < names.length; place++) {
      const { id, metric } = names[place] as ShownName;
      const group = groupOf(groups, metric);
      const old = cache.get(id);
      const prefix = prefixFor(group.metric, snapshot, place, old);
      if (prefix !== old || kept !== cache) kept.set(id, prefix);
      group.places.push(place);
      group.prefixes.push(prefix);
      group.sizes.push(pointSize(group.metric, snapshot.said.get(place), prefix, snapshot.time));
    }
    cache = kept;
    return groups.values();
  };
  const stream = (snapshot: LedgerSnapshot): Iterable<SpoolEntry> => {
    if (written?.holds(snapshot) === true) return written.writeOver(snapshot);
    const requests = planRequests(groupsOf(snapshot), snapshot, head, limits);
    written = new WrittenRequests(snapshot, requests, head, written);
    return written.write(snapshot);
  };
  return {
    cachedSeries: () => cache.size,
    encode: (snapshot) =>
      Array.from(stream(snapshot), ({ lease: _own, ...entry }) => ({
        ...entry,
        bytes: Uint8Array.from(entry.bytes),
      })),
    stream,
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
  const group = { metric, places: [], prefixes: [], sizes: [] };
  groups.set(name, group);
  return group;
}
