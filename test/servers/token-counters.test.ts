import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { createServer as createTcpServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import type { Gap, TokenSample } from "../../agent/model.ts";
import { portOf } from "../../agent/platform/address.ts";
import { systemClock } from "../../agent/platform/clock.ts";
import type { Metadata } from "../../agent/platform/grpc.ts";
import { openChannel, Server, ServerCredentials, status } from "../../agent/platform/grpc.ts";
import { silentLog } from "../../agent/platform/log.ts";
import { WireError } from "../../agent/platform/protobuf-reader.ts";
import { decodeWatchRequest, decodeWatchResponse } from "../../agent/servers/token-counters/decode.ts";
import { encodeWatchRequest, encodeWatchResponse } from "../../agent/servers/token-counters/encode.ts";
import { readTokenCountersOnce, tokenCounters } from "../../agent/servers/token-counters/index.ts";
import type { ServerSnapshot } from "../../agent/servers/token-counters/messages.ts";
import { watchReadings } from "../../agent/servers/token-counters/readings.ts";
import { serveTokenCounters } from "../../agent/servers/token-counters/server.ts";
import type { PushServerSource } from "../../agent/source.ts";
import {
  TokenCountSchema,
  WatchRequestSchema,
  WatchResponseSchema,
} from "../gen/tokenwatt/v1/token_counters_pb.ts";

const snapshot: ServerSnapshot = {
  epochId: "run-1",
  epochUptimeNanos: 5_000_000_000,
  role: "decode",
  family: "engine",
  movement: "step",
  version: "1.2",
  gpus: ["GPU-1"],
  pids: [4711],
  activeNanos: 3_000_000_000,
  running: 3,
  waiting: 1,
  counters: [
    {
      model: "m",
      tenant: "t",
      endpoint: "e",
      tokens: [
        { kind: "input_uncached", outcome: "ok", tokens: 2 ** 53 - 1 },
        { kind: "input_cached", outcome: "ok", tokens: 20 },
        { kind: "output", outcome: "aborted", tokens: 30 },
      ],
      requests: { ok: 5, aborted: 1 },
      reasoningTokens: 7,
      kvCacheUtilization: 0.25,
      latencies: {
        request_duration: { bounds: [0.5, 1], counts: [1, 2, 3], sum: 4.5, count: 6 },
        "request_duration rejected": { bounds: [0.5, 1], counts: [7, 0, 0], sum: 0.1, count: 7 },
      },
    },
  ],
};

describe("token-counters codec", () => {
  test("encodeWatchResponse() writes what generated code reads", () => {
    const bytes = encodeWatchResponse({
      protocolVersion: 1,
      serverTimeUnixNanos: 2n ** 60n + 1n,
      uptimeNanos: 9_000_000_000,
      servers: [snapshot],
    });
    const message = fromBinary(WatchResponseSchema, bytes);
    expect(message.serverTimeUnixNanos).toBe(2n ** 60n + 1n);
    expect(message.servers[0]).toMatchObject({ epochId: "run-1", gpuUuids: ["GPU-1"], pids: [4711n] });
    expect(message.servers[0]?.counters[0]?.tokens[0]).toMatchObject({ kind: 1, tokens: 2n ** 53n - 1n });
    expect(message.servers[0]?.counters[0]?.latencies[0]).toMatchObject({
      boundsSeconds: [0.5, 1],
      counts: [1n, 2n, 3n],
      outcome: 0,
    });
    expect(message.servers[0]?.counters[0]?.latencies[1]).toMatchObject({ outcome: 4, counts: [7n, 0n, 0n] });
    expect(Buffer.from(toBinary(WatchResponseSchema, message)).length).toBeGreaterThan(0);
  });

  test("decodeWatchResponse() reads what generated code writes, packed lists included", () => {
    const encoded = encodeWatchResponse({
      protocolVersion: 1,
      serverTimeUnixNanos: 1n,
      uptimeNanos: 2,
      servers: [snapshot],
    });
    const packed = toBinary(WatchResponseSchema, fromBinary(WatchResponseSchema, encoded));
    const decoded = decodeWatchResponse(packed);
    expect(decoded).toMatchObject({
      protocolVersion: 1,
      serverTimeUnixNanos: 1n,
      uptimeNanos: 2,
      ignored: 0,
    });
    expect(decoded.servers[0]).toEqual(snapshot);
  });

  test("decodeWatchResponse() drops and counts what a number cannot hold", () => {
    const message = create(WatchResponseSchema, {
      protocolVersion: 1,
      servers: [
        {
          epochId: "e",
          counters: [
            {
              model: "m",
              tokens: [
                create(TokenCountSchema, { kind: 4, outcome: 1, tokens: 2n ** 63n }),
                create(TokenCountSchema, { kind: 77 as never, tokens: 3n }),
              ],
            },
          ],
        },
      ],
    });
    const decoded = decodeWatchResponse(toBinary(WatchResponseSchema, message));
    expect(decoded.ignored).toBe(2);
    expect(decoded.servers[0]?.counters[0]?.tokens).toEqual([]);
  });

  test("decodeWatchResponse() keeps at most 1000 label sets and says how many it dropped", () => {
    const counters = Array.from({ length: 1203 }, (_, index) => ({ model: `m${index}` }));
    const message = create(WatchResponseSchema, { servers: [{ epochId: "e", counters }] });
    const decoded = decodeWatchResponse(toBinary(WatchResponseSchema, message));
    expect(decoded.servers[0]?.counters).toHaveLength(1000);
    expect(decoded.errors[0]).toContain("203 label sets");
  });

  test("decodeWatchResponse() refuses any other bytes with WireError and never anything else", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        try {
          decodeWatchResponse(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(WireError);
        }
      }),
    );
  });

  test("decodeWatchResponse() survives every cut and flipped byte of a real message", () => {
    const bytes = encodeWatchResponse({
      protocolVersion: 1,
      serverTimeUnixNanos: 1n,
      uptimeNanos: 2,
      servers: [snapshot],
    });
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.nat(255), fc.boolean(), (at, value, cut) => {
        const broken = Buffer.from(cut ? bytes.subarray(0, at) : bytes);
        if (!cut) broken[at] = value;
        try {
          for (const server of decodeWatchResponse(broken).servers)
            for (const set of server.counters)
              for (const count of set.tokens) expect(count.tokens).toBeGreaterThanOrEqual(0);
        } catch (error) {
          expect(error).toBeInstanceOf(WireError);
        }
      }),
    );
  });

  test("encodeWatchRequest() agrees with generated code both ways", () => {
    const query = { protocolVersion: 1, intervalMs: 1500, serverIds: ["a", "b"] };
    const message = fromBinary(WatchRequestSchema, encodeWatchRequest(query));
    expect(message).toMatchObject({ protocolVersion: 1, intervalMillis: 1500, serverIds: ["a", "b"] });
    expect(decodeWatchRequest(toBinary(WatchRequestSchema, message))).toEqual(query);
  });
});

describe("watchReadings()", () => {
  const info = {
    id: "target",
    type: "token-counters",
    family: "engine",
    address: "x:1",
    pollMs: 1000,
  } as const;
  const message = (uptimeNanos: number, ...servers: ServerSnapshot[]) => ({
    protocolVersion: 1,
    serverTimeUnixNanos: 0n,
    uptimeNanos,
    servers,
    ignored: 0,
    errors: [],
  });

  test("places snapshots by the server's uptime, not by when they came", () => {
    const readings = watchReadings(info, undefined, { now: () => Number.MAX_SAFE_INTEGER });
    const at = (uptime: number, received: number) =>
      readings.readMessage(message(uptime, snapshot), received)[0]?.at as number;
    expect(at(1e9, 11e9)).toBe(11e9);
    expect(at(2e9, 12.4e9)).toBe(12e9);
    expect(at(3e9, 13e9)).toBe(13e9);
  });

  test("takes the instant of arrival when a snapshot claims to be very old", () => {
    const readings = watchReadings(info, undefined, { now: () => Number.MAX_SAFE_INTEGER });
    readings.readMessage(message(1e9, snapshot), 11e9);
    expect(readings.readMessage(message(2e9, snapshot), 20e9)[0]?.at).toBe(20e9);
  });

  test("says that a sample is complete for its epoch, and when that began", () => {
    const readings = watchReadings(info, undefined, { now: () => Number.MAX_SAFE_INTEGER });
    const sample = readings.readMessage(message(6e9, snapshot), 10e9)[0];
    expect(sample?.completeEpoch).toBe("run-1");
    expect(sample?.readings[0]).toMatchObject({ epoch: "run-1", epochBegan: 5e9 });
  });

  test("names several servers of one target apart", () => {
    const readings = watchReadings(info, undefined, { now: () => Number.MAX_SAFE_INTEGER });
    const samples = readings.readMessage(
      message(1e9, { ...snapshot, serverId: "a" }, { ...snapshot, serverId: "target" }),
      1e9,
    );
    expect(samples.map((sample) => sample.server)).toEqual(["target/a", "target"]);
  });

  test("splits tokens by outcome only where an outcome is not ok", () => {
    const readings = watchReadings(info, { m: "served" }, { now: () => Number.MAX_SAFE_INTEGER });
    const reading = readings.readMessage(message(1e9, snapshot), 1e9)[0]?.readings[0];
    expect(reading).toMatchObject({
      model: "served",
      tenant: "t",
      endpoint: "e",
      role: "decode",
      tokens: { input_cached: 20, output: 30 },
      tokensByOutcome: { ok: { input_cached: 20 }, aborted: { output: 30 } },
      running: 3,
      waiting: 1,
      reasoningTokens: 7,
    });
  });
});

describe("token-counters over real sockets", () => {
  const open: { close(): Promise<unknown> | undefined }[] = [];
  afterEach(async () => {
    for (const item of open.splice(0).reverse()) await item.close();
  });
  const stopped = new AbortController();
  const context = { clock: systemClock(), log: silentLog, signal: stopped.signal };

  const serve = async (address: string, read: () => readonly ServerSnapshot[]) => {
    const server = await serveTokenCounters(address, { clock: context.clock, read });
    open.push(server);
    return server;
  };
  const tail = (endpoint: string, more: Record<string, unknown> = {}) => {
    const source = tokenCounters.open(
      tokenCounters.config.parse({ endpoint, pollMs: 100, ...more }),
      context,
    ) as PushServerSource;
    open.push(source);
    const seen: (TokenSample | Gap)[] = [];
    const waiting: { done: () => void; test: (seen: readonly (TokenSample | Gap)[]) => boolean }[] = [];
    void source.run(async (reading) => {
      seen.push(reading);
      for (const wait of waiting) if (wait.test(seen)) wait.done();
    });
    const until = (test: (seen: readonly (TokenSample | Gap)[]) => boolean) =>
      new Promise<void>((done) => (test(seen) ? done() : waiting.push({ done, test })));
    return { seen, until };
  };
  const isGap = (reading: TokenSample | Gap): reading is Gap => "reason" in reading;

  test("streams samples, publishes a gap while the server is down and resumes", async () => {
    let tokens = 10;
    const read = (): ServerSnapshot[] => [
      { epochId: "one", counters: [{ model: "m", tokens: [{ kind: "output", tokens: tokens++ }] }] },
    ];
    const server = await serve("127.0.0.1:0", read);
    const { seen, until } = tail(server.address);
    await until((all) => all.length >= 2);
    expect(seen[0]).toMatchObject({ server: `token-counters:${portOf(server.address)}`, family: "engine" });
    await server.close();
    await until((all) => all.some(isGap));
    expect(seen.find(isGap)?.source).toBe(`server:token-counters:${portOf(server.address)}`);
    const before = seen.length;
    await serve(server.address, read);
    await until((all) => all.slice(before).some((reading) => !isGap(reading)));
    const samples = seen.flatMap((reading) => (isGap(reading) ? [] : [reading]));
    const outputs = samples.map((sample) => sample.readings[0]?.tokens.output ?? 0);
    expect(outputs).toEqual([...outputs].sort((a, b) => a - b));
  });

  test("cancels a stream that stays silent and says so", async () => {
    const server = new Server();
    server.register(
      "/tokenwatt.v1.TokenCounters/Watch",
      () => {},
      (b: Buffer) => b,
      (b: Buffer) => b,
      "serverStream",
    );
    const port = await new Promise<number>((resolve) =>
      server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (_, bound) => resolve(bound)),
    );
    open.push({ close: async () => server.forceShutdown() });
    const { seen, until } = tail(`127.0.0.1:${port}`, { firstMs: 100 });
    await until((all) => all.some(isGap));
    expect(seen.find(isGap)?.reason).toContain("no snapshot for 100 ms");
  });

  test.each([
    ["a gRPC server without the service", "does not offer tokenwatt.v1.TokenCounters", "grpc"],
    ["an HTTP server", "does not speak gRPC", "http"],
    ["a peer that hangs up at once", "closes the connection before a call", "hang-up"],
    ["nothing", "nothing listens there", "none"],
  ])("says what is wrong with %s", async (_, message, kind) => {
    let port = 1;
    if (kind === "grpc") {
      const server = new Server();
      port = await new Promise<number>((resolve) =>
        server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (_error, bound) =>
          resolve(bound),
        ),
      );
      open.push({ close: async () => server.forceShutdown() });
    } else if (kind === "http") {
      const server = createServer((_request, response) => response.end("<html></html>"));
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      port = (server.address() as AddressInfo).port;
      open.push({
        close: () => new Promise((resolve) => server.close(resolve)).then(() => server.closeAllConnections()),
      });
    } else if (kind === "hang-up") {
      const server = createTcpServer((socket) => socket.destroy());
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      port = (server.address() as AddressInfo).port;
      open.push({ close: async () => void server.close() });
    }
    await expect(readTokenCountersOnce(`127.0.0.1:${port}`, context)).rejects.toThrow(message);
  });

  test("sends its token and asks in its version; refuses an answer in a newer one", async () => {
    const folder = mkdtempSync(join(tmpdir(), "tokenwatt-bearer-"));
    open.push({ close: async () => rmSync(folder, { recursive: true }) });
    writeFileSync(join(folder, "token"), "secret\n");
    let seen: { version: number; authorization: unknown } | undefined;
    const server = new Server();
    server.register(
      "/tokenwatt.v1.TokenCounters/Watch",
      (call: { request: Buffer; metadata: Metadata; write(bytes: Buffer): void }) => {
        const { protocolVersion } = decodeWatchRequest(call.request);
        seen = { version: protocolVersion, authorization: call.metadata.get("authorization")[0] };
        call.write(
          encodeWatchResponse({ protocolVersion: 2, serverTimeUnixNanos: 0n, uptimeNanos: 1, servers: [] }),
        );
      },
      (b: Buffer) => b,
      (b: Buffer) => b,
      "serverStream",
    );
    const port = await new Promise<number>((resolve) =>
      server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (_, bound) => resolve(bound)),
    );
    open.push({ close: async () => server.forceShutdown() });
    const { seen: readings, until } = tail(`127.0.0.1:${port}`, {
      bearerFile: join(folder, "token"),
    });
    await until((all) => all.some(isGap));
    expect(seen).toEqual({ version: 1, authorization: "Bearer secret" });
    expect(readings.find(isGap)?.reason).toContain("answers in version 2, wanted at most 1");
  });

  test("refuses a client that names no version", async () => {
    const server = await serve("127.0.0.1:0", () => [snapshot]);
    const channel = openChannel({ target: server.address });
    open.push({ close: async () => channel.close() });
    const bytes = (buffer: Buffer): Buffer => buffer;
    const call = channel.makeServerStreamRequest(
      "/tokenwatt.v1.TokenCounters/Watch",
      bytes,
      bytes,
      Buffer.alloc(0),
    );
    const error = await new Promise<{ code: number }>((resolve) => call.on("error", resolve as () => void));
    expect(error.code).toBe(status.FAILED_PRECONDITION);
  });

  test("serves only the servers a client asks for", async () => {
    const server = await serve("127.0.0.1:0", () => [
      { ...snapshot, serverId: "a" },
      { ...snapshot, serverId: "b" },
    ]);
    const { seen, until } = tail(server.address, { id: "t", servers: ["b"] });
    await until((all) => all.length > 0);
    expect(seen.map((reading) => ("server" in reading ? reading.server : ""))).toEqual(["t/b"]);
  });

  test("readTokenCountersOnce() returns the first snapshot", async () => {
    const server = await serve("127.0.0.1:0", () => [snapshot]);
    const samples = await readTokenCountersOnce(server.address, context);
    expect(samples[0]?.readings[0]?.tokens.input_cached).toBe(20);
  });
});
