import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import type { Gap, TokenReading, TokenSample } from "../../../agent/model.ts";
import { systemClock, virtualClock } from "../../../agent/platform/clock.ts";
import { openChannel, status } from "../../../agent/platform/grpc.ts";
import { silentLog } from "../../../agent/platform/log.ts";
import { WireError } from "../../../agent/platform/protobuf-reader.ts";
import { decodeAccessLogs } from "../../../agent/servers/envoy-access-log/decode.ts";
import { envoyAccessLog, openEnvoyAccessLog } from "../../../agent/servers/envoy-access-log/index.ts";
import { toUsage } from "../../../agent/servers/envoy-access-log/usage.ts";
import { openOtlp, otlp } from "../../../agent/servers/otlp/index.ts";
import { MetricsReader } from "../../../agent/servers/otlp/metrics.ts";
import { RecordsReader } from "../../../agent/servers/otlp/records.ts";
import { SeriesTable } from "../../../agent/servers/otlp/series.ts";
import type { ReceiverSource } from "../../../agent/servers/receive/receiver.ts";
import { UsageTotals } from "../../../agent/servers/receive/usage-totals.ts";
import { openUsageReports, usageReports } from "../../../agent/servers/usage-reports.ts";
import { field, message } from "../../fakes/grpc-peer.ts";
import { ExportMetricsServiceRequestSchema } from "../../gen/opentelemetry/proto/collector/metrics/v1/metrics_service_pb.ts";
import { ReportUsageRequestSchema, ReportUsageResponseSchema } from "../../gen/tokenwatt/v1/usage_pb.ts";
import type { MetricSpec } from "../otlp-messages.ts";
import { metricsRequest } from "../otlp-messages.ts";

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});
const context = { clock: systemClock(), log: silentLog, signal: new AbortController().signal };
const info = { id: "r", type: "otlp", family: "gateway", address: "x", pollMs: 1000 } as const;
const newTotals = (keysMax?: number): UsageTotals => new UsageTotals(info, 0, "received:0", keysMax);
const readingsOf = (totals: UsageTotals): readonly TokenReading[] => totals.sample(1, "gateway").readings;
const always = (): boolean => true;

describe("UsageTotals", () => {
  test("keeps every token when tenants are folded into other", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(30), fc.nat(5), fc.nat(1000))), (all) => {
        const totals = newTotals(8);
        for (const [tenant, model, output] of all)
          totals.addUsage({ tenant: `t${tenant}`, model: `m${model}`, tokens: { output } });
        const readings = readingsOf(totals);
        expect(readings.length).toBeLessThanOrEqual(9);
        const sum = readings.reduce((total, reading) => total + (reading.tokens.output ?? 0), 0);
        expect(sum).toBe(all.reduce((total, [, , output]) => total + output, 0));
      }),
    );
  });

  test("drops and counts what is no count", () => {
    const totals = newTotals();
    totals.addUsage({
      tokens: { output: -1, input_cached: 2 ** 60, input_uncached: 1.5 },
      seconds: { request_duration: Number.NaN },
    });
    expect(totals.sample(1, "gateway")).toMatchObject({ ignoredSamples: 4, readings: [{ tokens: {} }] });
  });
});

describe("OTLP metrics", () => {
  const OPENED = 1_000_000;
  const reader = (names = {}) => {
    const totals = newTotals();
    const metrics = new MetricsReader(new SeriesTable(OPENED), names);
    return { totals, take: (...specs: MetricSpec[]) => metrics.take(metricsRequest(specs), totals, always) };
  };
  const usage = (type: string, sum: number, time: number, start = OPENED + 1, delta = false): MetricSpec => ({
    name: "gen_ai.client.token.usage",
    histogram: true,
    delta,
    points: [
      { sum, start, time, attributes: { "gen_ai.token.type": type, "gen_ai.request.model": "m", team: "a" } },
    ],
  });

  test("splits input by cached input and keeps reasoning apart, tenant and alias from the configuration", () => {
    const { totals, take } = reader({ tenantAttribute: "team", modelAliases: { m: "served" } });
    take(
      usage("input", 100, 1),
      usage("cached_input", 40, 1),
      usage("output", 30, 1),
      usage("reasoning", 7, 1),
    );
    expect(readingsOf(totals)).toMatchObject([
      {
        model: "served",
        tenant: "a",
        tokens: { input_uncached: 60, input_cached: 40, output: 30 },
        reasoningTokens: 7,
        epoch: "received:0",
      },
    ]);
  });

  test("counts cumulative series from the first look, unless they began after it opened", () => {
    const { totals, take } = reader();
    take(usage("output", 1000, 10, OPENED - 1));
    take(usage("output", 1007, 20, OPENED - 1));
    expect(readingsOf(totals)[0]?.tokens).toEqual({ output: 7 });
    take(usage("output", 5, 30, OPENED + 50));
    expect(readingsOf(totals)[0]?.tokens).toEqual({ output: 12 });
  });

  test("counts deltas once, however often they are delivered", () => {
    const { totals, take } = reader();
    for (const time of [10, 20, 20, 10, 30]) take(usage("output", 5, time, time - 10, true));
    expect(readingsOf(totals)[0]?.tokens).toEqual({ output: 15 });
  });

  test("refuses a point of the future or of absurd size, which does not silence those after it", () => {
    const totals = newTotals();
    const metrics = new MetricsReader(new SeriesTable(OPENED), {}, () => 1e18);
    const point = (sum: number, time: number): number =>
      metrics.take(metricsRequest([usage("output", sum, time, time - 1, true)]), totals, always);
    expect(point(7, 1e18 + 3600e9)).toBe(1);
    expect(point(2 ** 52, 1e18 - 3e9)).toBe(0);
    expect(point(5, 1e18 - 2e9)).toBe(0);
    expect(totals.sample(1, "gateway")).toMatchObject({
      ignoredSamples: 1,
      readings: [{ tokens: { output: 5 } }],
    });
  });

  test("reads the newer counters, and not a second view of the same usage", () => {
    const { totals, take } = reader();
    const counter = (name: string, value: number): MetricSpec => ({
      name,
      points: [{ sum: value, start: OPENED + 1, time: 1, attributes: { "gen_ai.request.model": "m" } }],
    });
    take(
      counter("gen_ai.client.inference.usage.input_tokens", 9),
      counter("gen_ai.client.inference.usage.output_tokens", 4),
    );
    take(usage("output", 99, 5), usage("input", 99, 5));
    expect(readingsOf(totals)[0]?.tokens).toEqual({ input_unsplit: 9, output: 4 });
  });

  test("counts requests and latencies by outcome from a duration histogram", () => {
    const { totals, take } = reader();
    const duration = (errorType: string | undefined, time: number, buckets: number[]): MetricSpec => ({
      name: "gen_ai.server.request.duration",
      histogram: true,
      points: [
        {
          sum: 4,
          start: OPENED + 1,
          time,
          buckets,
          bounds: [1, 2],
          attributes: errorType === undefined ? {} : { "error.type": errorType },
        },
      ],
    });
    take(duration(undefined, 1, [1, 1, 0]), duration("_OTHER", 1, [0, 0, 1]));
    take(duration(undefined, 2, [3, 1, 1]));
    expect(readingsOf(totals)[0]).toMatchObject({
      requests: { ok: 5, error: 1 },
      latencies: {
        "request_duration ok": { bounds: [1, 2], counts: [3, 1, 1], count: 5 },
        "request_duration error": { bounds: [1, 2], counts: [0, 0, 1], count: 1 },
      },
    });
  });

  test("takes the absence of error.type for a success only of durations", () => {
    const { totals, take } = reader();
    const first = (errorType: string | undefined): MetricSpec => ({
      name: "gen_ai.server.time_to_first_token",
      histogram: true,
      points: [
        {
          ...{ sum: 1, start: OPENED + 1, time: 1, buckets: [1, 0], bounds: [1] },
          attributes: errorType === undefined ? {} : { "error.type": errorType },
        },
      ],
    });
    take(first(undefined), first("timeout"));
    expect(Object.keys(readingsOf(totals)[0]?.latencies ?? {}).sort()).toEqual([
      "time_to_first_token",
      "time_to_first_token error",
    ]);
  });

  test("adds nothing of a request that cannot be read to its end", () => {
    const { totals } = reader();
    const metrics = new MetricsReader(new SeriesTable(OPENED), {});
    const bytes = metricsRequest([usage("output", 5, 1)]);
    for (let at = 1; at < bytes.length; at++) {
      try {
        metrics.take(bytes.subarray(0, at), totals, always);
      } catch (error) {
        expect(error).toBeInstanceOf(WireError);
      }
    }
    expect(readingsOf(totals).every((reading) => Object.keys(reading.tokens).length === 0)).toBe(true);
    expect(metrics.take(bytes, totals, always)).toBe(0);
    expect(readingsOf(totals)[0]?.tokens).toEqual({ output: 5 });
  });

  test("finds a series again whatever the order of its attributes", () => {
    const { totals, take } = reader();
    const point = (attributes: Record<string, string>, sum: number, time: number): MetricSpec => ({
      name: "gen_ai.client.inference.usage.output_tokens",
      points: [{ sum, start: OPENED + 1, time, attributes }],
    });
    take(point({ a: "1", b: "2" }, 10, 1));
    take(point({ b: "2", a: "1" }, 15, 2));
    expect(readingsOf(totals)[0]?.tokens).toEqual({ output: 15 });
  });

  test("survives any bytes and any changed byte, and never counts below zero", () => {
    const bytes = metricsRequest([usage("output", 5, 1), usage("input", 5, 1)]);
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.nat(255)), { maxLength: 4 }), (changes) => {
        const totals = newTotals();
        const metrics = new MetricsReader(new SeriesTable(OPENED), {});
        const broken = Buffer.from(bytes);
        for (const [at, byte] of changes) broken[at] = byte;
        try {
          metrics.take(broken, totals, always);
        } catch (error) {
          expect(error).toBeInstanceOf(WireError);
        }
        for (const reading of readingsOf(totals))
          for (const tokens of Object.values(reading.tokens)) expect(tokens).toBeGreaterThanOrEqual(0);
      }),
    );
  });

  test("agrees with generated code on random requests", () => {
    const sums = fc.array(fc.tuple(fc.constantFrom("input", "output"), fc.nat(10_000), fc.nat(3)), {
      maxLength: 20,
    });
    fc.assert(
      fc.property(sums, (all) => {
        const { totals, take } = reader();
        const specs = all.map(
          ([type, sum, model], index): MetricSpec => ({
            name: "gen_ai.client.token.usage",
            histogram: true,
            delta: true,
            points: [
              {
                sum,
                start: index,
                time: index + 1,
                attributes: { "gen_ai.token.type": type, "gen_ai.request.model": `m${model}` },
              },
            ],
          }),
        );
        take(...specs);
        const decoded = fromBinary(ExportMetricsServiceRequestSchema, metricsRequest(specs));
        const wanted = decoded.resourceMetrics
          .flatMap((each) => each.scopeMetrics.flatMap((scope) => scope.metrics))
          .flatMap((metric) => (metric.data.case === "histogram" ? metric.data.value.dataPoints : []))
          .reduce((total, point) => total + (point.sum ?? 0), 0);
        const seen = readingsOf(totals)
          .flatMap((reading) => Object.values(reading.tokens))
          .reduce((total, tokens) => total + tokens, 0);
        expect(seen).toBe(wanted);
      }),
    );
  });
});

describe("OTLP traces and logs", () => {
  const attribute = (key: string, value: string | number): Buffer =>
    message(field(1, key), field(2, typeof value === "number" ? field(3, value) : field(1, value)));
  const fixed64 = (number: number, value: bigint): Buffer => {
    const bytes = Buffer.alloc(9);
    bytes[0] = number * 8 + 1;
    bytes.writeBigUInt64LE(value, 1);
    return bytes;
  };
  const span = (id: string, attributes: Record<string, string | number>, error = false): Buffer =>
    message(
      field(1, "0123456789abcdef"),
      field(2, id),
      fixed64(7, 1_000_000_000n),
      fixed64(8, 3_000_000_000n),
      ...Object.entries(attributes).map(([key, value]) => field(9, attribute(key, value))),
      ...(error ? [field(15, field(3, 2))] : []),
    );
  const traces = (...spans: Buffer[]): Buffer =>
    field(
      1,
      message(
        field(1, field(1, attribute("service.name", "vllm"))),
        field(2, message(...spans.map((each) => field(2, each)))),
      ),
    );

  test("counts a model call once, by old or new names, with its duration and outcome", () => {
    const totals = newTotals();
    const reader = new RecordsReader("traces", {});
    const old = span("a", {
      "gen_ai.usage.prompt_tokens": 10,
      "gen_ai.usage.completion_tokens": 4,
      "gen_ai.response.model": "m",
    });
    const recent = span(
      "b",
      {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.usage.input_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 5,
        "gen_ai.usage.output_tokens": 6,
      },
      true,
    );
    const agent = span("c", { "gen_ai.operation.name": "invoke_agent", "gen_ai.usage.input_tokens": 999 });
    for (let time = 0; time < 2; time++)
      reader.take(traces(old, recent, agent, span("d", { other: 1 })), totals, always);
    expect(readingsOf(totals)).toMatchObject([
      {
        model: "m",
        tokens: { input_unsplit: 10, input_cached: 5, input_uncached: 15, output: 10 },
        tokensByOutcome: { error: { output: 6 } },
        requests: { ok: 1, error: 1 },
        latencies: {
          "request_duration ok": { sum: 2, count: 1 },
          "request_duration error": { sum: 2, count: 1 },
        },
      },
    ]);
  });

  test("counts LiteLLM's spans under its own operation names, and a call that failed as a request", () => {
    const totals = newTotals();
    const call = { "gen_ai.operation.name": "acompletion", "gen_ai.request.model": "m" };
    const ok = span("a", { ...call, "gen_ai.usage.input_tokens": 9, "gen_ai.usage.output_tokens": 2 });
    const failed = span("b", { ...call, "error.type": "InternalServerError" }, true);
    const proxy = span("c", { "error.type": "ProxyException" }, true);
    const raw = span("d", { "llm.openai.id": "x" });
    new RecordsReader("traces", {}).take(traces(ok, failed, proxy, raw), totals, always);
    expect(readingsOf(totals)).toMatchObject([
      { model: "m", tokens: { input_unsplit: 9, output: 2 }, requests: { ok: 1, error: 1 } },
    ]);
    expect(readingsOf(totals)).toHaveLength(1);
  });

  test("takes a log record's outcome from its status, and a dash for nothing", () => {
    const totals = newTotals();
    const record = (status: string, ...more: [string, string][]): Buffer => {
      const pairs = [
        ["gen_ai.request.model", "m"],
        ["tenant", "-"],
        ["http.response.status_code", status],
        ...more,
      ];
      return field(
        2,
        message(...pairs.map(([key, value]) => field(6, attribute(key as string, value as string)))),
      );
    };
    const records = [
      record("200", ["gen_ai.usage.input_tokens", "7"]),
      record("200", ["gen_ai.usage.input_tokens", "-"]),
      record("429", ["gen_ai.usage.input_tokens", "-"]),
      record("0"),
      record("503"),
    ];
    const logs = field(1, field(2, message(...records)));
    new RecordsReader("logs", { tenantAttribute: "tenant" }).take(logs, totals, always);
    expect(readingsOf(totals)).toMatchObject([
      { model: "m", tokens: { input_unsplit: 7 }, requests: { ok: 1, rejected: 1, error: 1 } },
    ]);
    expect(readingsOf(totals)[0]?.requests).not.toHaveProperty("aborted");
    expect(readingsOf(totals)[0]).not.toHaveProperty("tenant");
  });

  test("counts log records of a gateway", () => {
    const totals = newTotals();
    const record = message(
      field(6, attribute("gen_ai.usage.input_tokens", "7")),
      field(6, attribute("gen_ai.usage.output_tokens", "3")),
      field(6, attribute("tenant", "t")),
    );
    const logs = field(1, field(2, message(field(2, record), field(2, record))));
    new RecordsReader("logs", { tenantAttribute: "tenant" }).take(logs, totals, always);
    expect(readingsOf(totals)).toMatchObject([
      { tenant: "t", tokens: { input_unsplit: 14, output: 6 }, requests: { ok: 2 } },
    ]);
  });
});

describe("Envoy access log", () => {
  const value = (key: string, content: Buffer): Buffer => field(1, message(field(1, key), field(2, content)));
  const entry = (input: number, status = 200, ...common: Buffer[]): Buffer =>
    message(
      field(
        1,
        message(
          ...common,
          field(
            17,
            field(
              1,
              message(
                field(1, "io.envoy.ai_gateway"),
                field(
                  2,
                  message(
                    value("llm_input_token", field(2, { double: input })),
                    value("llm_output_token", field(3, "5")),
                    value("model_name_override", field(3, "m")),
                    value("token_latency_ttft", field(2, { double: 250 })),
                  ),
                ),
              ),
            ),
          ),
          field(19, "route-a"),
          field(23, message(field(1, 2), field(2, 500_000_000))),
        ),
      ),
      field(3, field(13, message(field(1, "X-Tenant"), field(2, "acme")))),
      field(4, field(1, field(1, status))),
    );
  const stream = (...entries: Buffer[]): Buffer =>
    field(2, message(...entries.map((each) => field(1, each))));

  test("reads usage, tenant, route and status from a stream and records it", async () => {
    const config = envoyAccessLog.config.parse({ endpoint: "127.0.0.1:1", tenantHeader: "X-Tenant" });
    const source = openEnvoyAccessLog(
      { ...(config as never as Parameters<typeof openEnvoyAccessLog>[0]), endpoint: "127.0.0.1:0" },
      context,
    );
    const { samples, until } = run(source);
    const channel = openChannel({ target: `127.0.0.1:${await source.listening}` });
    closing.push(() => channel.close());
    const bytes = (buffer: Buffer): Buffer => buffer;
    const call = channel.makeClientStreamRequest(
      "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs",
      bytes,
      bytes,
      () => {},
    );
    call.write(stream(entry(11), entry(4, 429)));
    call.write(Buffer.from([255, 255]));
    call.write(stream(entry(1)));
    await until((all) => (all.at(-1)?.readings[0]?.requests.ok ?? 0) === 2);
    call.end();
    expect(samples.at(-1)?.readings).toMatchObject([
      {
        model: "m",
        tenant: "acme",
        endpoint: "route-a",
        tokens: { input_unsplit: 16, output: 15 },
        tokensByOutcome: { rejected: { input_unsplit: 4 } },
        requests: { ok: 2, rejected: 1 },
        latencies: {
          "time_to_first_token ok": { count: 2, sum: 0.5 },
          "time_to_first_token rejected": { count: 1, sum: 0.25 },
          "request_duration ok": { sum: 5 },
          "request_duration rejected": { sum: 2.5 },
        },
      },
    ]);
    expect(samples.reduce((sum, sample) => sum + sample.ignoredSamples, 0)).toBe(1);
  });

  test("reads who cut an answer and who gave it, and leaves out entries of requests that go on", () => {
    const flag = (number: number): Buffer => field(16, message(field(number, 1)));
    const address = (host: string): Buffer =>
      field(13, message(field(1, message(field(2, host), field(3, 8000)))));
    const entries = decodeAccessLogs(
      stream(
        entry(1, 200, flag(15), address("10.0.0.1")),
        entry(2, 200, flag(7), address("fd00::1")),
        entry(3, 200, field(26, 1), field(33, 5)),
        entry(4, 200, field(33, 9)),
        entry(5, 503, flag(6), field(33, 6)),
      ),
    );
    expect(entries.map(({ cutBy, upstream }) => [cutBy, upstream])).toEqual([
      ["client", "10.0.0.1:8000"],
      ["upstream", "[fd00::1]:8000"],
      [undefined, undefined],
    ]);
    const keys = envoyAccessLog.config.parse({ endpoint: "127.0.0.1:1" }) as Parameters<typeof toUsage>[1];
    expect(entries.map((each) => toUsage(each, keys)?.outcome)).toEqual(["aborted", "error", "error"]);
    const only = (...upstreams: string[]): unknown => {
      const totals = new UsageTotals(info, 0, "received:0", 10, upstreams);
      for (const each of entries) totals.addUsage(toUsage(each, keys) ?? {});
      return totals.sample(1, "gateway").usage?.map(({ outcome, requests }) => [outcome, requests]);
    };
    expect(only("10.0.0.1")).toEqual([["aborted", 1]]);
    expect(only("[fd00::1]:8000", "10.0.0.1:1")).toEqual([["error", 1]]);
  });

  test("decodeAccessLogs() refuses other bytes with WireError only", () => {
    const good = stream(entry(1));
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.nat(255), (at, byte) => {
        const broken = Buffer.from(good);
        broken[at] = byte;
        try {
          decodeAccessLogs(broken);
        } catch (error) {
          expect(error).toBeInstanceOf(WireError);
        }
      }),
    );
  });
});

/** Runs a source with an accept that records at once, or as `accept` says. */
function run(source: ReceiverSource, accept: (sample: TokenSample) => Promise<void> = async () => {}) {
  const samples: TokenSample[] = [];
  const waiting: (() => void)[] = [];
  closing.push(() => source.close());
  void source.run(async (reading: TokenSample | Gap) => {
    if ("reason" in reading) return;
    samples.push(reading);
    for (const check of waiting) check();
    await accept(reading);
  });
  const until = (test: (all: readonly TokenSample[]) => boolean) =>
    new Promise<void>((resolve) => {
      const check = (): void => {
        if (test(samples)) resolve();
      };
      waiting.push(check);
      check();
    });
  return { samples, until };
}

describe("receivers over real sockets", () => {
  const unary = (port: number, method: string, request: Uint8Array, headers: Record<string, string> = {}) =>
    new Promise<Buffer>((resolve, reject) => {
      const channel = openChannel({ target: `127.0.0.1:${port}` });
      closing.push(() => channel.close());
      const bytes = (buffer: Buffer): Buffer => buffer;
      const call = channel.makeUnaryRequest(method, bytes, bytes, Buffer.from(request), (error, value) =>
        error === null ? resolve(value as Buffer) : reject(error),
      );
      void call;
      void headers;
    });
  const EXPORT = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
  const usage = metricsRequest([
    {
      name: "gen_ai.client.inference.usage.output_tokens",
      delta: true,
      points: [{ sum: 5, start: 1, time: 2, attributes: {} }],
    },
  ]);
  const receiver = (more = {}, clock = context.clock) =>
    openOtlp(
      { ...otlp.config.parse({ endpoint: "127.0.0.1:1", ...more }), endpoint: "127.0.0.1:0" } as never,
      { ...context, clock },
    );

  test("answers OK only once what was sent is recorded", async () => {
    const gate = Promise.withResolvers<void>();
    const source = receiver();
    let calls = 0;
    const { until } = run(source, () => (++calls === 1 ? Promise.resolve() : gate.promise));
    let answered = false;
    const answer = unary(await source.listening, EXPORT, usage).then(() => {
      answered = true;
    });
    await until((all) => all.at(-1)?.readings[0]?.tokens.output === 5);
    expect(answered).toBe(false);
    gate.resolve();
    await answer;
  });

  test("asks to retry over the high-water mark, with RetryInfo, and when recording fails", async () => {
    const source = receiver({ waitingMax: 1 });
    let calls = 0;
    const { until } = run(source, () =>
      ++calls === 1 ? Promise.resolve() : Promise.reject(new Error("disk full")),
    );
    const port = await source.listening;
    const results = await Promise.allSettled([unary(port, EXPORT, usage), unary(port, EXPORT, usage)]);
    await until((all) => all.length > 1);
    for (const result of results) {
      const { code, metadata } = (result as PromiseRejectedResult).reason;
      expect(code).toBe(status.UNAVAILABLE);
      expect(String(metadata.get("grpc-status-details-bin")[0])).toContain("google.rpc.RetryInfo");
    }
  });

  test("takes calls again once those before are recorded", async () => {
    const source = receiver({ waitingMax: 1 });
    run(source);
    const port = await source.listening;
    for (let call = 0; call < 2; call++) expect(await unary(port, EXPORT, usage)).toHaveLength(0);
  });

  test("refuses unreadable messages, too many messages and messages that are too large", async () => {
    // All of it in one second, however long it takes.
    const source = receiver(
      { messageBytesMax: 1000, messagesPerSecondMax: 3 },
      { ...context.clock, now: () => 0 },
    );
    run(source);
    const port = await source.listening;
    await expect(unary(port, EXPORT, Buffer.from([10, 200]))).rejects.toMatchObject({
      code: status.INVALID_ARGUMENT,
    });
    await expect(unary(port, EXPORT, Buffer.alloc(2000))).rejects.toMatchObject({
      code: status.RESOURCE_EXHAUSTED,
    });
    await unary(port, EXPORT, Buffer.alloc(0));
    await expect(unary(port, EXPORT, Buffer.alloc(0))).rejects.toMatchObject({ code: status.UNAVAILABLE });
  });

  test("publishes a gap while its port is taken and listens once it is free", async () => {
    const first = receiver();
    run(first);
    const port = await first.listening;
    const clock = virtualClock(0n);
    const config = otlp.config.parse({ endpoint: `127.0.0.1:${port}` });
    const second = openOtlp(config as Parameters<typeof openOtlp>[0], { ...context, clock });
    closing.push(() => second.close());
    const gap = Promise.withResolvers<Gap>();
    void second.run(async (reading) => {
      if ("reason" in reading) gap.resolve(reading);
    });
    expect((await gap.promise).reason).toContain(`Cannot listen on 127.0.0.1:${port}`);
    await first.close();
    await new Promise((resolve) => setImmediate(resolve));
    await clock.advance(5e9);
    expect(await second.listening).toBe(port);
  });

  test("counts a usage record once per source and id", async () => {
    const config = usageReports.config.parse({ endpoint: "127.0.0.1:1" });
    const source = openUsageReports(
      { ...(config as never as Parameters<typeof openUsageReports>[0]), endpoint: "127.0.0.1:0" },
      context,
    );
    const { samples } = run(source);
    const port = await source.listening;
    const now = context.clock.unixNanos(context.clock.now());
    const record = (id: string, age = 0n) => ({
      id,
      endTimeUnixNanos: now - age,
      model: "m",
      tenant: "t",
      outcome: 3,
      tokens: [{ kind: 4, tokens: 8n, outcome: 0, $typeName: "tokenwatt.v1.TokenCount" as const }],
      durationSeconds: 1.5,
    });
    const report = async (records: ReturnType<typeof record>[]) => {
      const request = toBinary(
        ReportUsageRequestSchema,
        create(ReportUsageRequestSchema, { source: "gw", records: records as never }),
      );
      return fromBinary(
        ReportUsageResponseSchema,
        await unary(port, "/tokenwatt.v1.UsageReports/ReportUsage", request),
      );
    };
    const first = await report([
      record("1"),
      record("2"),
      record("1"),
      record("3", 36n * 86_400n * 10n ** 9n),
    ]);
    expect(first).toMatchObject({ accepted: 2n, duplicates: 1n, refused: [{ id: "3" }] });
    expect(await report([record("2")])).toMatchObject({ accepted: 0n, duplicates: 1n });
    expect(samples.at(-1)?.readings).toMatchObject([
      {
        model: "m",
        tenant: "t",
        tokens: { output: 16 },
        tokensByOutcome: { aborted: { output: 16 } },
        requests: { aborted: 2 },
      },
    ]);
  });

  test.each([otlp, envoyAccessLog, usageReports])(
    "$name listens in the clear on this host only",
    ({ config }) => {
      expect(config.safeParse({ endpoint: "0.0.0.0:4317" }).success).toBe(false);
      expect(config.safeParse({ endpoint: "unix:/run/x.sock" }).success).toBe(true);
      const tls = { certFile: "a", keyFile: "b" };
      expect(config.safeParse({ endpoint: "0.0.0.0:4317", tls }).success).toBe(true);
    },
  );
});
