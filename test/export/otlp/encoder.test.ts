// The encoder against generated code (point by point) and against otlp-transformer's serializer.
import { ProtobufMetricsSerializer } from "@opentelemetry/otlp-transformer";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Metric } from "../../../agent/export/metrics/metric.ts";
import { inUnit } from "../../../agent/export/metrics/metric.ts";
import { findMetric } from "../../../agent/export/metrics/metrics.ts";
import { createOtlpEncoder } from "../../../agent/export/otlp/encoder.ts";
import { Ledger } from "../../../agent/meter/ledger/ledger.ts";
import type { Histogram, LedgerPoint } from "../../../agent/model.ts";
import type { SpoolEntry } from "../../../agent/store/spool/spool.ts";
import { encodeOtlp } from "../../fakes/encode-otlp.ts";
import type { FlatPoint } from "../otlp-decode.ts";
import { decode, decodeAll } from "../otlp-decode.ts";
import { arbitrarySnapshot, bulk, point, SECOND, snapshot, T0 } from "../snapshots.ts";
import { stockMetrics } from "../stock-metrics.ts";

const resource = { "service.name": "tokenwatt", "host.name": "gpu-1" };
const MS = 1_000_000n;

describe("encodeOtlp()", () => {
  test("writes one resource and the scope tokenwatt with its version", () => {
    const [bytes] = encodeOtlp(
      snapshot([point("tokenwatt.tokens", 5n)]),
      { ...resource, cores: 8, ok: true },
      "1.2.3",
    );
    const request = decode(bytes as Uint8Array);
    expect(request.resource).toEqual({ ...resource, cores: 8n, ok: true });
    expect(request.scope).toEqual({ name: "tokenwatt", version: "1.2.3" });
  });

  test("makes no request of an empty snapshot", () => {
    expect(encodeOtlp(snapshot([]), resource)).toEqual([]);
  });

  test("writes tokens as integers beyond 2^53 exactly, nanoseconds as seconds, millijoules as joules, money as currency", () => {
    const points = decodeAll(
      encodeOtlp(
        snapshot([
          point("tokenwatt.tokens", 2n ** 60n + 1n),
          point("tokenwatt.gpu.time", 1_500_000_000n, { series: 2 }),
          point("tokenwatt.gpu.energy", 1_234n, { series: 3 }),
          point("tokenwatt.cost", 2_500_000_000n, { series: 4 }),
        ]),
        resource,
      ),
    );
    expect(points.map((one) => one.value)).toEqual([2n ** 60n + 1n, 1.5, 1.234, 2.5]);
    expect(points.every((one) => one.temporality === 2 && one.monotonic === true && one.start === T0)).toBe(
      true,
    );
  });

  test("sends a new series as 0 at 1 ms after its start, then its value at its own time", () => {
    const points = decodeAll(
      encodeOtlp(snapshot([point("tokenwatt.tokens", 7n, { isNew: true })]), resource),
    );
    expect(points.map(({ start, time, value }) => ({ start, time, value }))).toEqual([
      { start: T0, time: T0 + MS, value: 0n },
      { start: T0, time: T0 + 10n * SECOND, value: 7n },
    ]);
  });

  test("sends the last total of an ended sum, then one point without a value", () => {
    const points = decodeAll(
      encodeOtlp(snapshot([point("tokenwatt.tokens", 7n, { ended: true })]), resource),
    );
    expect(points.map(({ time, value, flags }) => ({ time, value, flags }))).toEqual([
      { time: T0 + 10n * SECOND, value: 7n, flags: 0 },
      { time: T0 + 10n * SECOND + MS, value: undefined, flags: 1 },
    ]);
  });

  test("sends an ended gauge once, without a value", () => {
    const points = decodeAll(encodeOtlp(snapshot([point("hw.power", 300, { ended: true })]), resource));
    expect(points).toHaveLength(1);
    expect(points[0]).toMatchObject({ value: undefined, flags: 1, start: 0n });
  });

  test("gives gauges and levels no start time and levels no monotonicity", () => {
    const points = decodeAll(
      encodeOtlp(
        snapshot([point("hw.power", 300.5), point("hw.gpu.memory.usage", 5e9, { series: 2 })]),
        resource,
      ),
    );
    expect(points[0]).toMatchObject({ kind: "gauge", value: 300.5, start: 0n });
    expect(points[1]).toMatchObject({ kind: "sum", monotonic: false, value: 5_000_000_000n, start: 0n });
  });

  test("throws on a metric the table does not know", () => {
    expect(() => encodeOtlp(snapshot([point("tokenwatt.tokns", 1n)]), resource)).toThrow(/tokenwatt\.tokns/);
  });

  test("carries every point of any snapshot exactly once, whatever its kind", () => {
    fc.assert(
      fc.property(arbitrarySnapshot, fc.integer({ min: 600, max: 20_000 }), (given, bytesMax) => {
        const encoder = createOtlpEncoder({ resource, version: "0", bytesMax });
        const got = decodeAll(encoder.encode(given).map((request) => request.bytes));
        expect(got.map(key).sort()).toEqual(given.points.flatMap(expected).map(key).sort());
      }),
      { numRuns: 150 },
    );
  });

  test("equals otlp-transformer point by point", () => {
    fc.assert(
      fc.property(arbitrarySnapshot, (given) => {
        const plain = snapshot(given.points.map(ordinary), { time: given.time });
        const theirs = ProtobufMetricsSerializer.serializeRequest(
          stockMetrics(plain, resource) as never,
        ) as Uint8Array;
        const ours = decodeAll(encodeOtlp(plain, resource));
        expect(ours.map(key).sort()).toEqual(decode(theirs).points.map(key).sort());
      }),
      { numRuns: 60 },
    );
  });
});

type Action = Readonly<Record<string, string | number | boolean>>;

function act(ledger: Ledger, one: Action, end: bigint): void {
  const named = (name: unknown): Record<string, string> => ({ "tokenwatt.server.id": String(name) });
  const { amount, book, bounds, end: ended, see } = one;
  if (book !== undefined) {
    const metrics = ["tokenwatt.tokens", "tokenwatt.server.energy"];
    for (const metric of metrics)
      ledger.postUntil([{ metric, dimensions: named(book), amount: Number(amount) }], end);
  } else if (see !== undefined) {
    const edges = [1, 2].slice(0, Number(bounds));
    const counts = [Number(one["seconds"]), ...edges.map(() => 1)];
    const count = counts.reduce((sum, each) => sum + each, 0);
    const histogram = { bounds: edges, counts, sum: count, count };
    ledger.postUntil([{ metric: "tokenwatt.server.queue_time", dimensions: named(see), histogram }], end);
  } else if (ended !== undefined)
    ledger.endWhere((dimensions) => dimensions["tokenwatt.server.id"] === ended);
  else if (one["sayAgain"] === true) ledger.sayAgain();
  else ledger.startAnew(end);
}

describe("createOtlpEncoder()", () => {
  test("writes over the requests of the beat before, each in its own buffer", () => {
    const options = { resource, version: "0", bytesMax: 50_000 };
    const encoder = createOtlpEncoder(options);
    const buffers = [...encoder.stream(bulk(3_000))].map(({ bytes }) => bytes.buffer);
    const whole = createOtlpEncoder(options).encode(bulk(3_000, 2));
    const streamed = [...encoder.stream(bulk(3_000, 2))];
    expect(streamed.map(({ bytes }) => bytes.buffer)).toEqual(buffers);
    for (const [index, { bytes, points, time }] of whole.entries())
      expect({ ...streamed[index], bytes: Uint8Array.from(streamed[index]?.bytes ?? []) }).toMatchObject({
        bytes: Uint8Array.from(bytes),
        points,
        time,
      });
  });

  test("encodes each beat of a ledger as an encoder that never saw it, whatever came before", () => {
    const server = fc.constantFrom("a", "b", "c");
    const action = fc.oneof(
      { weight: 4, arbitrary: fc.record({ book: server, amount: fc.constantFrom(0, 1, 2 ** 32, 2 ** 52) }) },
      {
        weight: 2,
        arbitrary: fc.record({ see: server, seconds: fc.nat(9), bounds: fc.constantFrom(1, 1, 2) }),
      },
      { weight: 1, arbitrary: fc.record({ end: server }) },
      { weight: 1, arbitrary: fc.record({ sayAgain: fc.constant(true) }) },
      { weight: 1, arbitrary: fc.record({ stepBack: fc.constant(true) }) },
    );
    const beats = fc.array(
      fc.record({
        far: fc.constantFrom(10, 10, 10, 10, 10, 100, 4000),
        isCut: fc.constantFrom(false, false, false, false, true),
        // Some of its requests are still being sent when the next beats come.
        sends: fc.constantFrom(0, 0, 1, 2),
        isSent: fc.boolean(),
        value: fc.constantFrom(1, 2),
        // In most beats nothing begins or ends.
        actions: fc.oneof({ weight: 2, arbitrary: fc.constant([]) }, fc.array(action, { maxLength: 3 })),
      }),
      { maxLength: 25, size: "max" },
    );
    fc.assert(
      fc.property(beats, (all) => {
        const options = { resource, version: "0", pointsMax: 3 };
        const encoder = createOtlpEncoder(options);
        const ledger = new Ledger(T0, { unixNanos: (at) => T0 + BigInt(at) });
        let seconds = 0;
        let sending: { readonly entry: SpoolEntry; readonly as: Uint8Array }[] = [];
        for (const { actions, far, isCut, isSent, sends, value } of all) {
          seconds += far;
          const end = T0 + BigInt(seconds) * SECOND;
          for (const metric of ["hw.power", "tokenwatt.server.running"])
            ledger.observe({ metric, dimensions: {}, value, at: seconds * 1e9, everyMs: 10_000 });
          for (const one of actions) act(ledger, one, end);
          const shown = ledger.commit(end, seconds * 1e9);
          const wanted = createOtlpEncoder(options).encode(shown);
          const got = encoder.stream(shown)[Symbol.iterator]();
          for (const { bytes, points, time } of isCut ? wanted.slice(0, 1) : wanted) {
            const entry = got.next().value as SpoolEntry;
            expect(entry).toMatchObject({ points, time });
            expect(Uint8Array.from(entry.bytes)).toEqual(bytes);
            if (sending.length >= sends || entry.lease === undefined) continue;
            entry.lease.isHeld = true;
            sending.push({ entry, as: bytes });
          }
          if (!isCut) expect(got.next().done).toBe(true);
          for (const { as, entry } of sending) expect(Uint8Array.from(entry.bytes)).toEqual(as);
          if (!isSent) continue;
          for (const { entry } of sending) if (entry.lease) entry.lease.isHeld = false;
          sending = [];
        }
      }),
    );
  });

  test("keeps every request within bytesMax and pointsMax, and counts points truly", () => {
    const encoder = createOtlpEncoder({ resource, version: "0", bytesMax: 50_000, pointsMax: 300 });
    const requests = encoder.encode(bulk(3_000, 1, true));
    expect(requests.length).toBeGreaterThan(15);
    for (const { bytes, points, time } of requests) {
      expect(bytes.length).toBeLessThanOrEqual(50_000);
      expect(points).toBeLessThanOrEqual(300);
      expect(decode(bytes).points).toHaveLength(points);
      expect(time).toBe(T0 + 10n * SECOND);
    }
    expect(requests.reduce((sum, request) => sum + request.points, 0)).toBe(6_000);
  });

  test("stays under 3.5 MB per request at 20,000 series", () => {
    for (const { bytes } of createOtlpEncoder({ resource, version: "0" }).encode(bulk(20_000))) {
      expect(bytes.length).toBeLessThan(3_500_000);
    }
  });

  test("writes the same bytes from its cache as anew, and new start times and bounds when they change", () => {
    const encoder = createOtlpEncoder({ resource, version: "0" });
    encoder.encode(bulk(100, 1));
    const beat = bulk(100, 2);
    const [cached] = encoder.encode(beat);
    expect(cached?.bytes).toEqual(encodeOtlp(beat, resource)[0]);
    const histogram = { bounds: [1], counts: [1, 2], sum: 3, count: 3 };
    const wider = { bounds: [1, 2], counts: [1, 2, 3], sum: 9, count: 6 };
    const name = "tokenwatt.server.queue_time";
    encoder.encode(snapshot([point(name, histogram, { series: 900 })]));
    const again = snapshot([point(name, wider, { series: 900, start: T0 + SECOND })]);
    const [only] = decodeAll(encoder.encode(again).map((request) => request.bytes));
    expect(only).toMatchObject({ start: T0 + SECOND, histogram: { bounds: [1, 2], counts: [1n, 2n, 3n] } });
  });

  test("gives equal layouts to beats of the same series and none to a beat in which one begins or ends", () => {
    const encoder = createOtlpEncoder({ resource, version: "0" });
    const layout = (given: LedgerPoint[]): number => encoder.encode(snapshot(given))[0]?.layout ?? -1;
    const two = [point("tokenwatt.tokens", 1n), point("hw.power", 1, { series: 2, isNew: true })];
    const first = layout(two);
    expect(first).toBeGreaterThan(0);
    expect(layout(two.map((one) => ({ ...one, isNew: false, time: one.time + SECOND })))).toBe(first);
    expect(layout(two.slice(0, 1))).not.toBe(first);
    expect(layout(two.map((one) => ({ ...one, start: one.start + SECOND })))).not.toBe(first);
    expect(layout([point("tokenwatt.tokens", 1n, { isNew: true })])).toBe(0);
    expect(layout([point("hw.power", 1, { series: 2, ended: true })])).toBe(0);
  });

  test("forgets series that are gone", () => {
    const encoder = createOtlpEncoder({ resource, version: "0" });
    encoder.encode(bulk(1_000));
    encoder.encode(bulk(100));
    encoder.encode(bulk(100));
    expect(encoder.cachedSeries()).toBeLessThanOrEqual(200);
  });
});

function key(one: FlatPoint): string {
  const fields = {
    ...one,
    attributes: Object.entries(one.attributes).sort(),
    histogram: one.histogram ?? null,
  };
  return JSON.stringify(
    Object.entries({ ...fields, value: one.value ?? null }).sort(([a], [b]) => a.localeCompare(b)),
    (_, value) => (typeof value === "bigint" ? `${value}n` : Object.is(value, -0) ? "-0" : value),
  );
}

/** What the contract says a ledger point becomes, written out apart from the encoder. */
function expected(one: LedgerPoint): FlatPoint[] {
  const metric = findMetric(one.metric) as Metric;
  const cumulative = metric.kind === "sum" || metric.kind === "histogram";
  const shape = {
    metric: metric.name,
    unit: metric.unit,
    kind: metric.kind === "level" ? "sum" : metric.kind,
    ...(metric.kind === "gauge" ? {} : { temporality: 2 }),
    ...(metric.kind === "sum" ? { monotonic: true } : metric.kind === "level" ? { monotonic: false } : {}),
    attributes: one.dimensions,
    start: cumulative ? one.start : 0n,
    flags: 0,
  };
  const list: FlatPoint[] = [];
  if (one.isNew && cumulative) list.push({ ...shape, time: one.start + MS, ...content(metric, one, true) });
  if (!one.ended || cumulative) list.push({ ...shape, time: one.time, ...content(metric, one, false) });
  if (one.ended) {
    const none = {
      counts: [],
      bounds: (one.value as Histogram).bounds as number[],
      sum: undefined,
      count: 0n,
    };
    const time = cumulative ? one.time + MS : one.time;
    const empty = metric.kind === "histogram" ? { histogram: none } : {};
    list.push({ ...shape, time, flags: 1, value: undefined, ...empty });
  }
  return list;
}

function content(metric: Metric, one: LedgerPoint, zero: boolean) {
  if (metric.kind === "histogram") {
    const { bounds, counts, sum, count } = one.value as Histogram;
    const histogram = {
      counts: counts.map((n) => BigInt(zero ? 0 : n)),
      bounds: [...bounds],
      sum: zero ? 0 : sum,
      count: BigInt(zero ? 0 : count),
    };
    return { value: undefined, histogram };
  }
  const value = one.value as bigint | number;
  if (metric.number === "int")
    return { value: zero ? 0n : BigInt(typeof value === "bigint" ? value : Math.round(value)) };
  return { value: zero ? 0 : inUnit(metric, value) };
}

/** A point the stock SDK can carry: neither new nor ended, and below 2^53 because it has no bigint. */
function ordinary(one: LedgerPoint): LedgerPoint {
  const value = typeof one.value === "bigint" ? one.value % 2n ** 53n : one.value;
  return { ...one, value, isNew: false, ended: false };
}
