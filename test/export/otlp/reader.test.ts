// Reading, splitting and rebuilding requests: nothing is lost, malformed bytes are refused and never hang.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { SCHEMA_URL } from "../../../agent/export/metrics/conventions.ts";
import { createOtlpEncoder } from "../../../agent/export/otlp/encoder.ts";
import type { RawPoint } from "../../../agent/export/otlp/reader.ts";
import { buildRequest, readRequest, seriesKey, splitRequest } from "../../../agent/export/otlp/reader.ts";
import { WireError } from "../../../agent/platform/protobuf-reader.ts";
import { decode } from "../otlp-decode.ts";
import { arbitrarySnapshot, bulk } from "../snapshots.ts";

const resource = { "service.name": "tokenwatt" };

function encode(snapshot: Parameters<ReturnType<typeof createOtlpEncoder>["encode"]>[0]): Uint8Array[] {
  return createOtlpEncoder({ resource, version: "0" })
    .encode(snapshot)
    .map((request) => request.bytes);
}

function pointsOf(bytes: Uint8Array): RawPoint[] {
  const points: RawPoint[] = [];
  readRequest(bytes, (point) => points.push(point));
  return points;
}

describe("readRequest()", () => {
  test("sees the points generated code sees, with times, flags and values", () => {
    fc.assert(
      fc.property(arbitrarySnapshot, (given) => {
        for (const bytes of encode(given)) {
          const theirs = decode(bytes).points;
          const ours = pointsOf(bytes);
          expect(
            ours.map(({ metric, start, time, flags, value }) => ({
              name: metric.name,
              start,
              time,
              flags,
              value,
            })),
          ).toEqual(
            theirs.map(({ metric, start, time, flags, value }) => ({
              name: metric,
              start,
              time,
              flags,
              value,
            })),
          );
        }
      }),
      { numRuns: 60 },
    );
  });

  test("refuses bytes cut anywhere or changed anywhere with WireError or reads on, never otherwise", () => {
    const [bytes] = encode(bulk(3, 1, true));
    fc.assert(
      fc.property(fc.nat(), fc.nat(255), fc.boolean(), (at, value, cut) => {
        const broken = Uint8Array.from(bytes as Uint8Array);
        broken[at % broken.length] = value;
        try {
          readRequest(cut ? broken.subarray(0, at % broken.length) : broken, () => {});
        } catch (error) {
          expect(error).toBeInstanceOf(WireError);
        }
      }),
      { numRuns: 2_000 },
    );
  });
});

describe("buildRequest()", () => {
  test("rebuilds any request to the same bytes", () => {
    fc.assert(
      fc.property(arbitrarySnapshot, (given) => {
        for (const bytes of encode(given))
          expect(Buffer.from(buildRequest(pointsOf(bytes)))).toEqual(Buffer.from(bytes));
      }),
      { numRuns: 60 },
    );
  });
});

describe("splitRequest()", () => {
  test("halves until single points, losing and doubling none", () => {
    const [bytes] = encode(bulk(37));
    const queue = [bytes as Uint8Array];
    const leaves: Uint8Array[] = [];
    for (let one = queue.shift(); one !== undefined; one = queue.shift()) {
      const halves = splitRequest(one);
      if (halves === undefined) leaves.push(one);
      else queue.push(...halves);
    }
    expect(leaves).toHaveLength(37);
    const ids = leaves.flatMap((leaf) => decode(leaf).points).map((point) => point.attributes["hw.id"]);
    expect(new Set(ids).size).toBe(37);
    for (const leaf of leaves) {
      expect(decode(leaf).resource).toEqual(resource);
      expect(decode(leaf).schemas).toEqual([SCHEMA_URL, SCHEMA_URL]);
    }
  });
});

describe("seriesKey()", () => {
  test("is equal for one series over beats and differs between series", () => {
    const encoder = createOtlpEncoder({ resource, version: "0" });
    const keys = [1, 2].map((beat) =>
      encoder.encode(bulk(50, beat)).flatMap(({ bytes }) => pointsOf(bytes).map(seriesKey)),
    );
    expect(keys[0]).toEqual(keys[1]);
    expect(new Set(keys[0]).size).toBe(50);
  });
});
