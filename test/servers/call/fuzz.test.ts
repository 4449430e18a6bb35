// Every parser of bytes from outside that speaks protobuf, under mutated messages and any bytes at all: it takes them, or
// refuses them with WireError; what it takes is counted in whole numbers that are not negative, and never falls.
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import type { TokenReading, TokenSample } from "../../../agent/model.ts";
import { systemClock } from "../../../agent/platform/clock.ts";
import { silentLog } from "../../../agent/platform/log.ts";
import { tagOf, WireError, WireReader } from "../../../agent/platform/protobuf-reader.ts";
import { decodeServerArgs } from "../../../agent/servers/call/get-loads-facts.ts";
import { decodeAccessLogs } from "../../../agent/servers/envoy-access-log/decode.ts";
import { metadataFields } from "../../../agent/servers/envoy-access-log/index.ts";
import { toUsage } from "../../../agent/servers/envoy-access-log/usage.ts";
import { decodeLoads, getLoads } from "../../../agent/servers/get-loads.ts";
import { MetricsReader } from "../../../agent/servers/otlp/metrics.ts";
import { RecordsReader } from "../../../agent/servers/otlp/records.ts";
import { SeriesTable } from "../../../agent/servers/otlp/series.ts";
import { ReceiverMemory } from "../../../agent/servers/receive/memory.ts";
import type { Taken } from "../../../agent/servers/receive/receiver.ts";
import { UsageTotals } from "../../../agent/servers/receive/usage-totals.ts";
import { decodeWatchRequest, decodeWatchResponse } from "../../../agent/servers/token-counters/decode.ts";
import { encodeWatchRequest, encodeWatchResponse } from "../../../agent/servers/token-counters/encode.ts";
import { watchReadings } from "../../../agent/servers/token-counters/readings.ts";
import { decodeModelStatistics, tritonGrpc } from "../../../agent/servers/triton-grpc.ts";
import { createUsageReader } from "../../../agent/servers/usage-reports.ts";
import type { PullServerSource } from "../../../agent/source.ts";
import { SourceError } from "../../../agent/source.ts";
import { brokenMessages } from "../../fakes/broken-messages.ts";
import { fakePeer, field, message, reflectionOf } from "../../fakes/grpc-peer.ts";
import { accessLog, receiverKinds, runReceiver, send, usageReport } from "../../fakes/receivers.ts";
import { metricsRequest } from "../otlp-messages.ts";

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

const info = { id: "r", type: "x", family: "gateway", address: "x", pollMs: 1000 } as const;
const always = (): boolean => true;

/** What `take` makes of the bytes, or undefined where it refuses them in the one way it may. */
function taken<Result>(take: () => Result): Result | undefined {
  try {
    return take();
  } catch (error) {
    expect(error).toBeInstanceOf(WireError);
    return undefined;
  }
}

function expectSane(readings: readonly TokenReading[]): void {
  for (const { tokens, tokensByOutcome, requests, reasoningTokens, latencies, ...gauges } of readings) {
    const counts = [
      ...Object.values(tokens),
      ...Object.values(tokensByOutcome ?? {}).flatMap((kinds) => Object.values(kinds)),
      ...Object.values(requests),
      reasoningTokens ?? 0,
      gauges.running ?? 0,
      gauges.waiting ?? 0,
      ...Object.values(latencies ?? {}).flatMap(({ counts, count }) => [...counts, count]),
    ];
    expect(counts.filter((count) => !(Number.isSafeInteger(count) && count >= 0))).toEqual([]);
    const { kvCacheUtilization = 0 } = gauges;
    expect(kvCacheUtilization >= 0 && kvCacheUtilization <= 1).toBe(true);
    const sums = Object.values(latencies ?? {}).map(({ sum }) => sum);
    expect(sums.filter((sum) => !(sum >= 0 && sum < Infinity))).toEqual([]);
    const names = [gauges.model, gauges.tenant, gauges.endpoint].map((name = "") => name.length);
    expect(Math.max(...names)).toBeLessThanOrEqual(256);
  }
}

/** The sum of every count in a sample. */
const totalOf = (readings: readonly TokenReading[]): number =>
  readings.reduce(
    (sum, { tokens, requests }) =>
      [...Object.values(tokens), ...Object.values(requests)].reduce((all, one) => all + one, sum),
    0,
  );

/** Messages one after the other into one reader: all it may do is refuse, and its totals never fall. */
function feeds(
  messages: fc.Arbitrary<Buffer>,
  open: () => (bytes: Buffer, totals: UsageTotals) => unknown,
): void {
  fc.assert(
    fc.property(fc.array(messages, { minLength: 1, maxLength: 6 }), (all) => {
      const totals = new UsageTotals(info, 0, "e", 20);
      const take = open();
      let before = 0;
      for (const bytes of all) {
        taken(() => take(bytes, totals));
        const { readings, ignoredSamples } = totals.sample(1, "gateway");
        expectSane(readings);
        expect(readings.length).toBeLessThanOrEqual(21);
        expect(ignoredSamples).toBeGreaterThanOrEqual(0);
        const total = totalOf(readings);
        expect(total).toBeGreaterThanOrEqual(before);
        before = total;
      }
    }),
    { numRuns: 1000 },
  );
}

const attribute = (key: string, value: string | number): Buffer =>
  message(field(1, key), field(2, typeof value === "number" ? field(3, value) : field(1, value)));

describe("receivers under mutated messages", () => {
  const point = {
    start: 10,
    time: 20,
    attributes: { "gen_ai.token.type": "input", "gen_ai.request.model": "m" },
  };
  const metrics = [
    metricsRequest([{ name: "gen_ai.client.token.usage", histogram: true, points: [{ ...point, sum: 5 }] }]),
    metricsRequest([
      { name: "gen_ai.client.token.usage", histogram: true, points: [{ ...point, sum: 9, time: 30 }] },
    ]),
    metricsRequest([
      { name: "gen_ai.client.inference.usage.output_tokens", delta: true, points: [{ ...point, sum: 4 }] },
    ]),
    metricsRequest([
      {
        name: "gen_ai.server.request.duration",
        histogram: true,
        points: [{ ...point, sum: 3, buckets: [1, 0, 2], bounds: [1, 2] }],
      },
    ]),
  ];

  test("OTLP metrics", () => {
    feeds(brokenMessages(...metrics), () => {
      const reader = new MetricsReader(new SeriesTable(0), { tenantAttribute: "tenant" });
      return (bytes, totals) => expect(reader.take(bytes, totals, always)).toBeGreaterThanOrEqual(0);
    });
  });

  test.each(["traces", "logs"] as const)("OTLP %s", (signal) => {
    const fixed = Buffer.concat([
      Buffer.from([57]),
      Buffer.alloc(8, 1),
      Buffer.from([65]),
      Buffer.alloc(8, 2),
    ]);
    const attributes = [
      attribute("gen_ai.usage.input_tokens", 20),
      attribute("gen_ai.usage.output_tokens", "6"),
      attribute("gen_ai.usage.cache_read.input_tokens", 5),
      attribute("gen_ai.request.model", "m"),
    ].map((each) => field(signal === "traces" ? 9 : 6, each));
    const record = message(
      field(signal === "traces" ? 1 : 9, "trace"),
      field(signal === "traces" ? 2 : 10, "span"),
      fixed,
      ...attributes,
    );
    const resource = field(1, field(1, attribute("service.name", "s")));
    feeds(brokenMessages(field(1, message(resource, field(2, field(2, record))))), () => {
      const reader = new RecordsReader(signal, { tenantAttribute: "tenant" });
      return (bytes, totals) => expect(reader.take(bytes, totals, always)).toBeGreaterThanOrEqual(0);
    });
  });

  test("Envoy access logs", () => {
    const value = (key: string, content: Buffer): Buffer =>
      field(1, message(field(1, key), field(2, content)));
    const metadata = message(
      value("llm_input_token", field(2, { double: 11 })),
      value("llm_cached_input_token", field(2, { double: 4 })),
      value("llm_output_token", field(3, "5")),
      value("token_latency_ttft", field(2, { double: 250 })),
      value("model_name_override", field(3, "m")),
    );
    const filter = field(1, message(field(1, "io.envoy.ai_gateway"), field(2, metadata)));
    const common = message(
      field(17, filter),
      field(19, "route"),
      field(23, message(field(1, 2), field(2, 5))),
    );
    const headers = field(3, field(13, message(field(1, "x-tenant"), field(2, "t"))));
    const entry = message(field(1, common), headers, field(4, field(1, field(1, 200))));
    const keys = { metadata: metadataFields.parse({}), tenantHeader: "x-tenant" };
    feeds(
      brokenMessages(field(2, field(1, entry)), accessLog(field(1, "llm_output_token"), 7)),
      () => (bytes, totals) => {
        for (const logged of decodeAccessLogs(bytes)) {
          const usage = toUsage(logged, keys);
          if (usage !== undefined) totals.addUsage(usage);
        }
      },
    );
  });

  test("usage reports", async () => {
    const clock = systemClock();
    const messages = brokenMessages(usageReport("1", 7), usageReport("2", 9));
    await fc.assert(
      fc.asyncProperty(fc.array(messages, { minLength: 1, maxLength: 6 }), async (all) => {
        const totals = new UsageTotals(info, 0, "e", 20);
        const read = createUsageReader({ totals, clock, memory: new ReceiverMemory("r") });
        let before = 0;
        for (const bytes of all) {
          const answer = await read(bytes).catch((error: unknown) => error);
          if (answer instanceof Error) expect(answer).toBeInstanceOf(WireError);
          else expect((answer as Taken).answer.length).toBeLessThanOrEqual(bytes.length * 60 + 100);
          const { readings } = totals.sample(1, "gateway");
          expectSane(readings);
          expect(totalOf(readings)).toBeGreaterThanOrEqual(before);
          before = totalOf(readings);
        }
      }),
      { numRuns: 1000 },
    );
  });

  test("keep answering over real sockets, and count what they could not read", async () => {
    for (const kind of receiverKinds) {
      const running = runReceiver(kind, { messagesPerSecondMax: 100_000 });
      closing.push(() => running.source.close());
      const target = { target: await running.address() };
      const seeds = [kind.report(1)];
      const answers = fc.sample(brokenMessages(...seeds), 90).map((bytes) =>
        send(kind, target, bytes).then(
          () => 0,
          (error: { code: number }) => error.code,
        ),
      );
      // Taken, or refused with INVALID_ARGUMENT: never INTERNAL.
      expect([...new Set(await Promise.all(answers))].filter((code) => code !== 0 && code !== 3)).toEqual([]);
      // Of a series and with an id that no broken message can have used up.
      await send(kind, target, kind.report(1_000_000, "whole"));
      while (totalOf(running.samples.at(-1)?.readings ?? []) < 1_000_000)
        await new Promise((resolve) => setImmediate(resolve));
      for (const { readings } of running.samples) expectSane(readings);
      if (kind.stream) {
        await send(kind, target, Buffer.from([255, 255]));
        while (!running.samples.some(({ ignoredSamples }) => ignoredSamples > 0))
          await new Promise((resolve) => setImmediate(resolve));
      }
    }
  }, 60_000);
});

describe("tails and polls under mutated answers", () => {
  const watched = encodeWatchResponse({
    protocolVersion: 1,
    serverTimeUnixNanos: 2n ** 60n,
    uptimeNanos: 5e9,
    servers: [
      {
        serverId: "a",
        epochId: "e",
        epochUptimeNanos: 1e9,
        gpus: ["GPU-1"],
        pids: [1, 2],
        activeNanos: 5,
        running: 2,
        waiting: 1,
        counters: [
          {
            model: "m",
            tenant: "t",
            tokens: [
              { kind: "input_uncached", outcome: "ok", tokens: 2 ** 52 },
              { kind: "output", outcome: "error", tokens: 30 },
            ],
            requests: { ok: 5, error: 2 ** 52 },
            reasoningTokens: 7,
            kvCacheUtilization: 0.25,
            latencies: { queue_time: { bounds: [0.5, 1], counts: [1, 2, 3], sum: 4.5, count: 6 } },
          },
        ],
      },
    ],
  });

  test("tokenwatt.v1 Watch", () => {
    fc.assert(
      fc.property(fc.array(brokenMessages(watched), { minLength: 1, maxLength: 4 }), (all) => {
        const readings = watchReadings({ ...info, type: "token-counters" }, undefined, { now: () => 1e9 });
        let last = Number.NEGATIVE_INFINITY;
        for (const [index, bytes] of all.entries()) {
          const samples = taken(() => readings.readMessage(decodeWatchResponse(bytes), index * 1e9)) ?? [];
          for (const sample of samples) {
            expectSane(sample.readings);
            expect(sample.at).toBeGreaterThanOrEqual(last);
            last = sample.at;
            expect((sample.pids ?? []).length + (sample.gpus ?? []).length).toBeLessThanOrEqual(128);
          }
          expect(new Set(samples.map(({ server }) => server)).size).toBe(samples.length);
        }
      }),
      { numRuns: 1500 },
    );
  });

  test("a Watch request, which our serving half reads", () => {
    const request = encodeWatchRequest({ protocolVersion: 1, intervalMs: 1000, serverIds: ["a", "b"] });
    fc.assert(
      fc.property(brokenMessages(request), (bytes) => {
        const query = taken(() => decodeWatchRequest(bytes));
        expect(query?.serverIds.length ?? 0).toBeLessThanOrEqual(1000);
      }),
      { numRuns: 500 },
    );
  });

  const count = (value: number): Buffer => field(1, value);
  const statistics = field(
    1,
    message(
      field(1, "llm"),
      field(2, "1"),
      field(6, message(field(1, count(2 ** 40)), field(2, count(3)))),
      field(9, message(field(1, "0"), field(2, message(field(3, count(10)), field(6, count(1)))))),
    ),
  );
  const load = field(
    4,
    message(field(1, 0), field(2, 3), field(3, 1), field(7, { double: 0.5 }), field(8, { double: 9 })),
  );
  const info7 = message(
    field(1, field(1, message(field(1, "served_model_name"), field(2, field(3, "m"))))),
    field(7, "1.0"),
  );

  test("Triton statistics", () => {
    fc.assert(
      fc.property(brokenMessages(statistics), (bytes) => {
        const { models = [], ignored = 0 } = taken(() => decodeModelStatistics(bytes)) ?? {};
        expect(ignored).toBeGreaterThanOrEqual(0);
        for (const { succeeded, failed, responses = 0 } of models)
          for (const value of [succeeded, failed, responses])
            expect(Number.isSafeInteger(value) && value >= 0).toBe(true);
      }),
      { numRuns: 1000 },
    );
  });

  test("GetLoads and GetServerInfo", () => {
    fc.assert(
      fc.property(brokenMessages(load, info7), (bytes) => {
        for (const dialect of [
          { tokenUsage: 7, genThroughput: 8 },
          { tokenUsage: 8, genThroughput: 9 },
        ]) {
          for (const rank of taken(() => decodeLoads(bytes, dialect).ranks) ?? []) {
            for (const value of [rank.rank, rank.running, rank.waiting])
              expect(Number.isSafeInteger(value) && value >= 0).toBe(true);
            expect(rank.tokenUsage >= 0 && rank.tokenUsage <= 1).toBe(true);
            expect(rank.genThroughput >= 0 && rank.genThroughput < Infinity).toBe(true);
          }
        }
        for (const value of Object.values(taken(() => decodeServerArgs(bytes)) ?? {}))
          expect(value.length).toBeLessThanOrEqual(256);
      }),
      { numRuns: 1000 },
    );
  });

  /** Polls of one source against a peer whose every answer is mutated: samples, or reasons in words. */
  async function polls(type: typeof tritonGrpc, peer: Awaited<ReturnType<typeof fakePeer>>): Promise<number> {
    closing.push(() => peer.close());
    const context = { clock: systemClock(), log: silentLog, signal: new AbortController().signal };
    const source = type.open(
      type.config.parse({ endpoint: peer.address, timeoutMs: 1000 }),
      context,
    ) as PullServerSource;
    closing.push(() => source.close());
    let read = 0;
    for (let poll = 0; poll < 60; poll++) {
      try {
        const sample: TokenSample = await source.poll();
        expectSane(sample.readings);
        read++;
      } catch (error) {
        expect(error).toBeInstanceOf(SourceError);
        expect((error as Error).message).toMatch(/^Cannot read /);
      }
    }
    return read;
  }

  /** Half of the answers as they should be, half mutated. */
  const answers = (seed: Buffer): (() => Buffer) => {
    const all = [seed, ...fc.sample(brokenMessages(seed), 40)];
    let asked = 0;
    return () => (asked++ % 2 === 0 ? seed : (all[asked % all.length] as Buffer));
  };

  test("a Triton that answers anything at all", async () => {
    const service = "/inference.GRPCInferenceService";
    const methods = {
      [`${service}/ServerMetadata`]: answers(field(2, "2.60")),
      [`${service}/RepositoryIndex`]: answers(field(1, field(1, "llm"))),
      [`${service}/ModelStatistics`]: answers(statistics),
    };
    expect(await polls(tritonGrpc, await fakePeer(methods))).toBeGreaterThan(10);
  });

  test("an engine whose reflection, info and loads are anything at all", async () => {
    const service = "sglang.grpc.scheduler.SglangScheduler";
    const methods = {
      [`/${service}/GetLoads`]: answers(load),
      [`/${service}/GetServerInfo`]: answers(info7),
    };
    const reflection = answers(reflectionOf(["grpc.health.v1.Health", service]));
    expect(await polls(getLoads, await fakePeer(methods, reflection))).toBeGreaterThan(10);
  });
});

describe("WireReader", () => {
  test("reads any bytes to their end or refuses them, and never beyond", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 200 }),
        fc.array(fc.nat(8), { maxLength: 200 }),
        (bytes, moves) => {
          const reader = new WireReader(bytes);
          const outer: number[] = [];
          taken(() => {
            for (const move of moves) {
              const tag = reader.tag();
              if (tag === 0) {
                const end = outer.pop();
                if (end === undefined) break;
                reader.leave(end);
              } else if (tag % 8 === 2 && move < 4) outer.push(reader.enter());
              else if (tag % 8 === 2 && move < 6) expect(reader.text().length).toBeLessThanOrEqual(256);
              else if (tag === tagOf(1, "varint") && move < 4)
                expect(reader.bigUint()).toBeGreaterThanOrEqual(0n);
              else reader.skip(tag);
              expect(reader.position).toBeLessThanOrEqual(reader.end);
              expect(reader.end).toBeLessThanOrEqual(bytes.length);
            }
          });
        },
      ),
      { numRuns: 2000 },
    );
  });
});
