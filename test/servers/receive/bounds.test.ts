// What the receivers hold, at most: size of a message, before and after inflating, calls, connections, messages being
// read, rates, nesting, names, label sets, series. Each bound over real sockets, or on the reader it belongs to.

import { mkdtempSync, rmSync } from "node:fs";
import type { ClientHttp2Session, ClientHttp2Stream } from "node:http2";
import { connect as connectHttp2 } from "node:http2";
import type { Socket } from "node:net";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterEach, describe, expect, test } from "vitest";
import { systemClock, virtualClock } from "../../../agent/platform/clock.ts";
import { openChannel, status } from "../../../agent/platform/grpc.ts";
import { silentLog } from "../../../agent/platform/log.ts";
import { WireError } from "../../../agent/platform/protobuf-reader.ts";
import { decodeAccessLogs } from "../../../agent/servers/envoy-access-log/decode.ts";
import { MetricsReader } from "../../../agent/servers/otlp/metrics.ts";
import { RecordsReader } from "../../../agent/servers/otlp/records.ts";
import { SeriesTable } from "../../../agent/servers/otlp/series.ts";
import { connectionsMax } from "../../../agent/servers/receive/listener.ts";
import { UsageTotals } from "../../../agent/servers/receive/usage-totals.ts";
import { field, message } from "../../fakes/grpc-peer.ts";
import type { ReceiverKind } from "../../fakes/receivers.ts";
import { accessLog, openStream, receiverKinds, runReceiver, send, sendOn } from "../../fakes/receivers.ts";
import { metricsRequest } from "../otlp-messages.ts";

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

function run(...receiver: Parameters<typeof runReceiver>) {
  const running = runReceiver(...receiver);
  closing.push(() => running.source.close());
  return running;
}

const [otlp, envoy, usage] = receiverKinds as [ReceiverKind, ReceiverKind, ReceiverKind];
const MEBIBYTE = 1024 * 1024;
const GZIP = { "grpc.default_compression_algorithm": 2 };
const info = { id: "r", type: "otlp", family: "gateway", address: "x", pollMs: 1000 } as const;
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe.each(receiverKinds)("$name", (kind) => {
  test("refuses a message over messageBytesMax, and one that inflates beyond it", async () => {
    const { address, counted } = run(kind, { messageBytesMax: MEBIBYTE });
    const target = { target: await address() };
    const large = Buffer.alloc(MEBIBYTE + 1);
    await expect(send(kind, target, large)).rejects.toMatchObject({
      code: status.RESOURCE_EXHAUSTED,
      details: expect.stringContaining("larger than max"),
    });
    // 64 MiB of zeros are 64 KiB on the wire.
    const bomb = send(kind, target, Buffer.alloc(64 * MEBIBYTE), GZIP);
    if (kind.stream) {
      const details = "streams are taken without compression";
      await expect(bomb).rejects.toMatchObject({ code: status.UNIMPLEMENTED, details });
    } else {
      await expect(bomb).rejects.toMatchObject({
        code: status.RESOURCE_EXHAUSTED,
        details: expect.stringContaining("decompresses to a size larger than"),
      });
    }
    await send(kind, target, kind.report(4), kind.stream ? {} : GZIP);
    await counted(4);
  });

  test("answers streamsMax calls at a time over all connections, and asks others to come again", async () => {
    const { address, counted } = run(kind, { streamsMax: 2 });
    const target = { target: await address() };
    if (!kind.stream) {
      // Calls wait a fifth of a second for their commit.
      const all = Array.from({ length: 5 }, () => send(kind, target, kind.report(1)));
      const results = await Promise.allSettled(all);
      const refused = results.flatMap((one) => (one.status === "rejected" ? [one.reason] : []));
      expect(refused).toHaveLength(3);
      for (const { code, details, metadata } of refused) {
        expect([code, details]).toEqual([status.UNAVAILABLE, "more than 2 calls at a time"]);
        expect(String(metadata.get("grpc-status-details-bin")[0])).toContain("google.rpc.RetryInfo");
      }
    } else {
      const streams = await Promise.all([1, 1].map((tokens) => openedStream(kind, target.target, tokens)));
      await counted(2);
      await expect(send(kind, target, kind.report(1))).rejects.toMatchObject({ code: status.UNAVAILABLE });
      for (const stream of streams) stream.end();
      await Promise.all(streams.map(({ answer }) => answer));
    }
    await send(kind, target, kind.report(1));
    await counted(3);
  });

  test("holds a bounded number of connections", async () => {
    const { address } = run(kind);
    const port = Number((await address()).split(":")[1]);
    const closed = new Set<Socket>();
    const sockets: Socket[] = [];
    closing.push(() => {
      for (const socket of sockets) socket.destroy();
    });
    for (let count = 0; count < connectionsMax + 5; count++) {
      const socket = connect(port, "127.0.0.1");
      socket.on("error", () => {}).on("close", () => closed.add(socket));
      sockets.push(socket);
      await new Promise<void>((resolve) => socket.on("connect", resolve));
      if (count < (connectionsMax * 3) / 4) expect(socket.destroyed).toBe(false);
    }
    while (!sockets.slice(connectionsMax).every((socket) => closed.has(socket))) await turn();
    // Those over the bound go at once; a quarter is not for a single caller, and goes once that is known.
    while (closed.size < 5 + connectionsMax / 4) await turn();
  });
});

/** A stream on a connection of its own that reported `tokens`. */
async function openedStream(kind: ReceiverKind, target: string, tokens: number) {
  const channel = openChannel({ target }, { "grpc.use_local_subchannel_pool": 1 });
  closing.push(() => channel.close());
  await new Promise<void>((resolve, reject) =>
    channel.waitForReady(Date.now() + 10_000, (error) => (error ? reject(error) : resolve())),
  );
  const stream = openStream(channel, kind, { target });
  stream.write(kind.report(tokens));
  return stream;
}

describe("messages being read", () => {
  /** A caller that sends a message's head and `bytes` of it, and leaves it at that. */
  async function slowCaller(address: string, bytes: number): Promise<ClientHttp2Stream> {
    const session: ClientHttp2Session = connectHttp2(`http://${address}`);
    session.on("error", () => {});
    closing.push(() => session.destroy());
    const stream = session.request({
      ":method": "POST",
      ":path": otlp.method,
      "content-type": "application/grpc",
      te: "trailers",
    });
    const head = Buffer.from([0, 0, 0, 0, 0]);
    head.writeUInt32BE(MEBIBYTE, 1);
    stream.on("error", () => {});
    stream.write(Buffer.concat([head, Buffer.alloc(bytes)]));
    await new Promise<void>((resolve) => session.on("remoteSettings", () => resolve()));
    return stream;
  }

  test("are few at a time: others wait until one is there, and a slow caller ends after ten seconds", async () => {
    const clock = virtualClock(0n);
    // One message at a time, as it may be as large as all that are read together.
    const { address, source } = run(otlp, { messageBytesMax: 32 * MEBIBYTE }, silentLog, clock);
    const target = { target: await address() };
    const slow = await slowCaller(target.target, 1000);
    const slowStatus = new Promise((resolve) => slow.on("trailers", (all) => resolve(all["grpc-status"])));
    const slowHeaders = new Promise((resolve) => slow.on("response", (all) => resolve(all["grpc-status"])));
    slow.resume();
    for (let round = 0; round < 50; round++) await turn();
    let answered = false;
    const second = send(otlp, target, otlp.report(1)).finally(() => {
      answered = true;
    });
    second.catch(() => {});
    for (let round = 0; round < 20; round++) {
      await turn();
      await clock.advance(clock.now() + 0.4e9);
    }
    expect(answered).toBe(false);
    await clock.advance(clock.now() + 3e9);
    const ended = String(await Promise.race([slowStatus, slowHeaders.then((seen) => seen ?? slowStatus)]));
    expect(ended).toBe(String(status.DEADLINE_EXCEEDED));
    while (!answered) {
      await turn();
      await clock.advance(clock.now() + 0.2e9);
    }
    await second;
    await source.close();
  });

  test("are let go by callers that leave", async () => {
    const { address, counted } = run(otlp, { messageBytesMax: 32 * MEBIBYTE });
    const target = { target: await address() };
    for (let left = 0; left < 3; left++) {
      const slow = await slowCaller(target.target, 1000);
      for (let round = 0; round < 50; round++) await turn();
      slow.destroy();
    }
    await send(otlp, target, otlp.report(1));
    await counted(1);
  });
});

describe("rates", () => {
  test("of calls are those of a connection on this host, over unix sockets too", async () => {
    const at = mkdtempSync(join(tmpdir(), "tokenwatt-rates-"));
    closing.push(() => rmSync(at, { recursive: true }));
    for (const endpoint of ["127.0.0.1:0", `unix:${join(at, "s")}`]) {
      // All of them in one second, however long they take.
      const clock = { ...systemClock(), now: () => 0 };
      const { address } = run(usage, { endpoint, messagesPerSecondMax: 2 }, silentLog, clock);
      const target = { target: await address() };
      const busy = openChannel(target, { "grpc.use_local_subchannel_pool": 1 });
      closing.push(() => busy.close());
      const calls = Array.from({ length: 3 }, () => sendOn(busy, usage, target, usage.report(1)));
      const results = await Promise.allSettled(calls);
      expect(results.map((one) => one.status).sort()).toEqual(["fulfilled", "fulfilled", "rejected"]);
      await send(usage, target, usage.report(1));
    }
  });

  test("of a stream hold its messages back and lose none", async () => {
    const clock = virtualClock(0n);
    const { address, samples } = run(envoy, { messagesPerSecondMax: 2 }, silentLog, clock);
    const stream = await openedStream(envoy, await address(), 1);
    for (let sent = 0; sent < 5; sent++) stream.write(envoy.report(1));
    const output = (): number => samples.at(-1)?.readings[0]?.tokens.output ?? 0;
    const pass = async (seconds: number): Promise<void> => {
      for (let round = 0; round < 20; round++) await turn();
      await clock.advance(clock.now() + seconds * 1e9);
      for (let round = 0; round < 20; round++) await turn();
    };
    await pass(0.2);
    await pass(0.2);
    expect(output()).toBe(2);
    for (let round = 0; round < 20; round++) await pass(0.2);
    expect(output()).toBe(6);
    expect(samples.reduce((sum, sample) => sum + sample.ignoredSamples, 0)).toBe(0);
  });

  test("are all that holds a stream: what waits to be recorded loses nothing", async () => {
    const { address, counted } = run(envoy, { waitingMax: 1 });
    const stream = await openedStream(envoy, await address(), 1);
    for (let sent = 0; sent < 300; sent++) stream.write(envoy.report(1));
    await counted(301);
  });
});

/** Messages inside messages under `tag`, `levels` deep, as one would nest AnyValue or Struct. */
function nested(tags: readonly number[], levels: number): Buffer {
  const heads: Buffer[] = [];
  let length = 0;
  for (let level = 0; level < levels; level++) {
    const head = Buffer.concat([Buffer.from([tags[level % tags.length] as number]), lengthOf(length)]);
    heads.push(head);
    length += head.length;
  }
  return Buffer.concat(heads.reverse());
}

function lengthOf(value: number): Buffer {
  const all: number[] = [];
  let rest = value;
  for (; rest > 127; rest = Math.floor(rest / 128)) all.push((rest % 128) | 128);
  return Buffer.from([...all, rest]);
}

describe("nesting", () => {
  const LEVELS = 200_000;

  test("of AnyValue costs nothing: what is deeper than a scalar is skipped", () => {
    // AnyValue.array_value 5, ArrayValue.values 1, and so on.
    const deep = nested([0x0a, 0x2a], LEVELS);
    const attribute = message(field(1, "deep"), field(2, deep));
    const tokens = message(field(1, "gen_ai.usage.output_tokens"), field(2, field(3, 7)));
    const totals = new UsageTotals(info, 0, "e");
    const spans = field(2, field(2, message(field(9, attribute), field(9, tokens))));
    new RecordsReader("traces", {}).take(field(1, spans), totals, () => true);
    expect(totals.sample(1, "gateway").readings[0]?.tokens).toEqual({ output: 7 });
    const [good] = [
      metricsRequest([
        {
          name: "gen_ai.client.inference.usage.output_tokens",
          delta: true,
          points: [{ sum: 5, start: 1, time: 2, attributes: {} }],
        },
      ]),
    ];
    const resource = field(1, field(1, field(1, attribute)));
    new MetricsReader(new SeriesTable(0), {}).take(message(resource, good as Buffer), totals, () => true);
    expect(totals.sample(1, "gateway").readings[0]?.tokens).toEqual({ output: 12 });
  });

  test("of Struct costs nothing: what is deeper than a scalar is skipped", () => {
    // Value.struct_value 5, Struct.fields 1, the entry's value 2.
    const deep = nested([0x2a, 0x12, 0x0a], LEVELS);
    const entry = field(1, message(field(1, "deep"), field(2, deep)));
    const metadata = field(1, message(field(1, "io.envoy.ai_gateway"), field(2, entry)));
    const bytes = field(2, field(1, field(1, field(17, metadata))));
    expect(decodeAccessLogs(bytes)[0]?.metadata.get("io.envoy.ai_gateway")?.size).toBe(0);
  });

  test("of groups, which know no length, is refused", () => {
    const groups = Buffer.alloc(LEVELS, 0x0b);
    expect(() => decodeAccessLogs(groups)).toThrow(WireError);
  });
});

describe("names and numbers", () => {
  test("over 256 bytes are cut, and told apart still", async () => {
    const { address, counted, samples } = run(envoy, { tenantMetadata: "tenant", labelSetsMax: 100 });
    const stream = await openedStream(envoy, await address(), 1);
    const tenant = (end: string): Buffer => {
      const name = `${"n".repeat(100_000)}${end}`;
      const value = (key: string, content: Buffer): Buffer =>
        field(1, message(field(1, key), field(2, content)));
      const values = message(
        value("llm_output_token", field(2, { double: 2 })),
        value("tenant", field(3, name)),
      );
      const metadata = field(1, message(field(1, "io.envoy.ai_gateway"), field(2, values)));
      return field(2, field(1, field(1, field(17, metadata))));
    };
    for (const end of ["a", "b", "a"]) stream.write(tenant(end));
    await counted(7);
    const tenants = samples.at(-1)?.readings.flatMap((reading) => reading.tenant ?? []) ?? [];
    expect(tenants).toHaveLength(2);
    for (const name of tenants) expect(name).toMatch(/^n{200}…[0-9a-f]{16}$/);
  });

  test("of label sets are bounded by labelSetsMax, the rest goes to `other`", async () => {
    const { address, counted, samples } = run(envoy, { labelSetsMax: 3, metadata: { model: ["model"] } });
    const stream = await openedStream(envoy, await address(), 1);
    const of = (model: string): Buffer => {
      const value = (key: string, content: Buffer): Buffer =>
        field(1, message(field(1, key), field(2, content)));
      const values = message(
        value("llm_output_token", field(2, { double: 1 })),
        value("model", field(3, model)),
      );
      const metadata = field(1, message(field(1, "io.envoy.ai_gateway"), field(2, values)));
      return field(2, field(1, field(1, field(17, metadata))));
    };
    for (let model = 0; model < 20; model++) stream.write(of(`m${model}`));
    await counted(21);
    expect(samples.at(-1)?.readings).toHaveLength(4);
    const errors = samples.flatMap((sample) => sample.errors);
    expect(errors.join()).toContain('over the bound of 3 label sets went to "other"');
  });

  test("of entries, records and spans in one message are bounded", () => {
    const entries = Buffer.concat(Array.from({ length: 10_001 }, () => field(1, "")));
    expect(() => decodeAccessLogs(field(2, entries))).toThrow("Cannot take more than 10000 log entries");
    const span = message(field(9, message(field(1, "gen_ai.usage.output_tokens"), field(2, field(3, 1)))));
    const spans = Buffer.concat(Array.from({ length: 20_100 }, () => field(2, span)));
    const totals = new UsageTotals(info, 0, "e");
    const refused = new RecordsReader("traces", {}).take(field(1, field(2, spans)), totals, () => true);
    expect(refused).toBe(100);
    expect(totals.sample(1, "gateway").readings[0]?.tokens).toEqual({ output: 20_000 });
  });

  test("of records in a usage report are bounded", async () => {
    const { address } = run(usage);
    const records = Buffer.concat(Array.from({ length: 1001 }, () => field(2, "")));
    await expect(send(usage, { target: await address() }, records)).rejects.toMatchObject({
      code: status.INVALID_ARGUMENT,
      details: "Cannot take more than 1000 records at once",
    });
  });

  test("of a sender's series are bounded: more are refused and counted, and memory stays", () => {
    setFlagsFromString("--expose-gc");
    const collect = runInNewContext("gc") as () => void;
    const used = (): number => {
      collect();
      const { arrayBuffers, heapUsed } = process.memoryUsage();
      return (arrayBuffers + heapUsed) / MEBIBYTE;
    };
    const totals = new UsageTotals(info, 0, "e", 100);
    const reader = new MetricsReader(new SeriesTable(0), {});
    const before = used();
    let refused = 0;
    const POINTS = 1000;
    for (let request = 0; request < 110; request++) {
      const points = Array.from({ length: POINTS }, (_, index) => ({
        sum: 1,
        start: 1,
        time: 2,
        attributes: { request: `${request}/${index}`, padding: `${"x".repeat(250)}` },
      }));
      const name = "gen_ai.client.inference.usage.output_tokens";
      refused += reader.take(metricsRequest([{ name, delta: true, points }]), totals, () => true);
    }
    expect(refused).toBe(10 * POINTS);
    expect(totals.sample(1, "gateway").readings[0]?.tokens).toEqual({ output: 100 * POINTS });
    // The attributes alone were 35 MB; kept are a hash and the last point of each series.
    expect(used() - before).toBeLessThan(120);
  }, 30_000);

  test("of a histogram's buckets are bounded over all series", () => {
    const totals = new UsageTotals(info, 0, "e", 100);
    const reader = new MetricsReader(new SeriesTable(0), {});
    const bounds = Array.from({ length: 499 }, (_, index) => index);
    const buckets = Array.from({ length: 500 }, () => 1);
    const request = (from: number) =>
      metricsRequest([
        {
          name: "gen_ai.server.request.duration",
          histogram: true,
          points: Array.from({ length: 300 }, (_, index) => ({
            sum: 1,
            start: 1,
            time: 2,
            attributes: { series: `${from + index}` },
            buckets,
            bounds,
          })),
        },
      ]);
    for (let sent = 0; sent < 10; sent++) reader.take(request(sent * 300), totals, () => true);
    const reading = totals.sample(1, "gateway").readings[0];
    // Every request is counted, but only the first two million numbers keep their buckets.
    expect(reading?.requests.ok).toBe(10 * 300 * 500);
    expect(reading?.latencies?.["request_duration ok"]?.count).toBeLessThan(9 * 300 * 500);
    expect(reading?.latencies?.["request_duration ok"]?.count).toBeGreaterThanOrEqual(6 * 300 * 500);
  });
});

test("what a stream sends that is no access log is counted, and the stream goes on", async () => {
  const { address, counted, samples } = run(envoy);
  const stream = await openedStream(envoy, await address(), 1);
  stream.write(Buffer.from([255, 255]));
  stream.write(accessLog(field(1, "llm_output_token"), 2));
  await counted(3);
  expect(samples.reduce((sum, sample) => sum + sample.ignoredSamples, 0)).toBe(1);
});
