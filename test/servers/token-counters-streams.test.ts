// What a Watch stream may do to its reader, over real sockets: other versions, many servers and label sets, messages too
// large, silence, servers that restart, vanish or come twice, a target that ends and comes back.
import type { Server as NetServer, Socket } from "node:net";
import { connect, createServer } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { Increments } from "../../agent/meter/counters/increments.ts";
import type { Gap, TokenSample } from "../../agent/model.ts";
import { systemClock } from "../../agent/platform/clock.ts";
import { Server, ServerCredentials, status } from "../../agent/platform/grpc.ts";
import type { Facts, Log } from "../../agent/platform/log.ts";
import { silentLog } from "../../agent/platform/log.ts";
import { decodeWatchRequest } from "../../agent/servers/token-counters/decode.ts";
import { encodeWatchResponse } from "../../agent/servers/token-counters/encode.ts";
import { tokenCounters } from "../../agent/servers/token-counters/index.ts";
import type { CounterSet, ServerSnapshot, WatchQuery } from "../../agent/servers/token-counters/messages.ts";
import { watchReadings } from "../../agent/servers/token-counters/readings.ts";
import type { PushServerSource } from "../../agent/source.ts";
import { field, message } from "../fakes/grpc-peer.ts";

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});
const clock = systemClock();
const signal = new AbortController().signal;

/** A caller's stream. */
interface Watcher {
  readonly query: WatchQuery;
  send(...servers: ServerSnapshot[]): void;
  raw(bytes: Buffer): void;
  end(): void;
  fail(code: number, details: string): void;
}

/** A Watch server that does what `serve` says with each stream. */
async function watchServer(serve: (watcher: Watcher, stream: number) => void): Promise<string> {
  const server = new Server();
  let streams = 0;
  const bytes = (buffer: Buffer): Buffer => buffer;
  server.register(
    "/tokenwatt.v1.TokenCounters/Watch",
    (call: {
      request: Buffer;
      write(bytes: Buffer): void;
      end(): void;
      emit(event: "error", error: object): void;
    }) => {
      const raw = (message: Buffer): void => call.write(message);
      const query = decodeWatchRequest(call.request);
      serve(
        {
          query,
          raw,
          send: (...servers) => raw(snapshot(servers)),
          end: () => call.end(),
          fail: (code, details) => void call.emit("error", { code, details }),
        },
        streams++,
      );
    },
    bytes,
    bytes,
    "serverStream",
  );
  const port = await new Promise<number>((resolve) =>
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (_, bound) => resolve(bound)),
  );
  closing.push(() => server.forceShutdown());
  return `127.0.0.1:${port}`;
}

let uptime = 0;
const snapshot = (servers: readonly ServerSnapshot[]): Buffer =>
  encodeWatchResponse({ protocolVersion: 1, serverTimeUnixNanos: 0n, uptimeNanos: ++uptime * 1e6, servers });

const counted = (epochId: string, output: number, more: Partial<ServerSnapshot> = {}): ServerSnapshot => ({
  epochId,
  counters: [{ model: "m", tokens: [{ kind: "output", tokens: output }] }],
  ...more,
});

/** A running tail; `next` is its next reading. */
function tail(endpoint: string, more: Record<string, unknown> = {}) {
  const warnings: Facts[] = [];
  const warn = (_: string, facts: Facts = {}): void => void warnings.push(facts);
  const log: Log = { ...silentLog, warn, with: () => log };
  const entry = tokenCounters.config.parse({ endpoint, id: "t", pollMs: 100, ...more });
  const source = tokenCounters.open(entry, { clock, log, signal }) as PushServerSource;
  closing.push(() => source.close());
  const seen: (TokenSample | Gap)[] = [];
  let arrived = Promise.withResolvers<void>();
  void source.run(async (reading) => {
    seen.push(reading);
    arrived.resolve();
  });
  const next = async (): Promise<TokenSample | Gap> => {
    while (seen.length === 0) await arrived.promise;
    arrived = Promise.withResolvers();
    return seen.shift() as TokenSample | Gap;
  };
  const nextSample = async (): Promise<TokenSample> => {
    for (;;) {
      const reading = await next();
      if (!("reason" in reading)) return reading;
    }
  };
  const nextGap = async (): Promise<Gap> => {
    for (;;) {
      const reading = await next();
      if ("reason" in reading) return reading;
    }
  };
  return { next, nextSample, nextGap, warnings };
}

const outputOf = (sample: TokenSample): number =>
  sample.readings.reduce((sum, reading) => sum + (reading.tokens.output ?? 0), 0);

describe("versions", () => {
  test("a newer server answers in ours, with fields and values of its own, which are passed over", async () => {
    const address = await watchServer(({ query, raw }) => {
      expect(query.protocolVersion).toBe(1);
      const set = message(field(1, "m"), field(4, message(field(1, 4), field(3, 9), field(99, "new"))));
      const server = message(field(2, "e"), field(4, 77), field(12, set), field(500, Buffer.alloc(10)));
      raw(message(field(1, 1), field(3, 1), field(4, server), field(77, 5)));
    });
    const sample = await tail(address).nextSample();
    expect(sample.readings).toMatchObject([{ model: "m", role: "combined", tokens: { output: 9 } }]);
    expect(sample.ignoredSamples).toBe(0);
  });

  test("one that speaks none of ours refuses in words, and is asked again until it does", async () => {
    const address = await watchServer((watcher, stream) => {
      if (stream === 0) watcher.fail(status.FAILED_PRECONDITION, "protocol_version 2 or newer is wanted");
      else watcher.send(counted("e", 1));
    });
    const { nextGap, nextSample, warnings } = tail(address);
    expect((await nextGap()).reason).toBe(
      `Cannot read tokenwatt.v1.TokenCounters at ${address}: refused: protocol_version 2 or newer is wanted`,
    );
    expect(warnings[0]?.["hint"]).toBe("they speak no common version: update the older one");
    expect(outputOf(await nextSample())).toBe(1);
  });

  test("one that answers in a newer version all the same is refused, and is asked again until it does not", async () => {
    const address = await watchServer((watcher, stream) => {
      if (stream === 0) watcher.raw(message(field(1, 2), field(4, field(2, "e"))));
      else watcher.send(counted("e", 1));
    });
    const { next, nextSample, warnings } = tail(address);
    expect(await next()).toMatchObject({
      reason: expect.stringContaining("answers in version 2, wanted at most 1"),
    });
    expect(warnings[0]?.["hint"]).toContain("WatchRequest.protocol_version");
    expect(outputOf(await nextSample())).toBe(1);
  });
});

describe("several servers of one target", () => {
  test("have a sample each; one that is not named any more is a gap once, until it comes back", async () => {
    const watchers: Watcher[] = [];
    const address = await watchServer((watcher) => {
      watchers.push(watcher);
      watcher.send(counted("a1", 1, { serverId: "a" }), counted("b1", 10, { serverId: "b" }));
    });
    const { next } = tail(address);
    expect([await next(), await next()]).toMatchObject([{ server: "t/a" }, { server: "t/b" }]);
    const [watcher] = watchers as [Watcher];
    watcher.send(counted("a1", 2, { serverId: "a" }));
    expect(await next()).toMatchObject({ server: "t/a" });
    expect(await next()).toMatchObject({
      source: "server:t/b",
      reason: expect.stringContaining("does not name it"),
    });
    watcher.send(counted("a1", 3, { serverId: "a" }));
    expect(await next()).toMatchObject({ server: "t/a" });
    watcher.send(counted("b1", 12, { serverId: "b" }), counted("a1", 4, { serverId: "a" }));
    expect([await next(), await next()]).toMatchObject([{ server: "t/b" }, { server: "t/a" }]);
    watcher.send();
    expect([await next(), await next()]).toMatchObject([{ source: "server:t/b" }, { source: "server:t/a" }]);
    // None is left: what fails now is the target itself.
    watcher.end();
    expect(await next()).toMatchObject({ source: "server:t" });
  });

  test("that restart one by one are counted once, each by its epoch, over broken streams too", async () => {
    const steps: ServerSnapshot[][] = [
      [counted("a1", 100, { serverId: "a" }), counted("b1", 1000, { serverId: "b" })],
      [counted("a1", 130, { serverId: "a" }), counted("b1", 1010, { serverId: "b" })],
      // a was restarted and counted 7 since; b goes on.
      [counted("a2", 7, { serverId: "a", epochUptimeNanos: 1000 }), counted("b1", 1015, { serverId: "b" })],
      // The stream broke before; b was restarted meanwhile.
      [counted("a2", 9, { serverId: "a" }), counted("b2", 3, { serverId: "b", epochUptimeNanos: 1000 })],
    ];
    const address = await watchServer((watcher, stream) => {
      for (const step of stream === 0 ? steps.slice(0, 3) : steps.slice(3)) watcher.send(...step);
      if (stream === 0) watcher.end();
    });
    const { nextSample } = tail(address);
    const increments = new Increments({ agentStarted: clock.now() });
    const total: Record<string, number> = { "t/a": 0, "t/b": 0 };
    for (let taken = 0; taken < 8; taken++) {
      const sample = await nextSample();
      for (const { tokens } of increments.countSample(sample).increments)
        total[sample.server] = (total[sample.server] ?? 0) + (tokens.output ?? 0);
    }
    expect(total).toEqual({ "t/a": 30 + 7 + 2, "t/b": 10 + 5 + 3 });
  });

  test("with one id are not added up: the second is dropped and counted", async () => {
    const address = await watchServer((watcher) => watcher.send(counted("e", 5), counted("e", 50)));
    const { next } = tail(address);
    expect(await next()).toMatchObject({
      server: "t",
      ignoredSamples: 1,
      readings: [{ tokens: { output: 5 } }],
      errors: ["1 servers with an id that another one has were dropped"],
    });
  });

  test("are a thousand at most over the life of a target", () => {
    const info = { id: "t", type: "token-counters", family: "engine", address: "x", pollMs: 1000 } as const;
    const readings = watchReadings(info, undefined, { now: () => Number.MAX_SAFE_INTEGER });
    const names = new Set<string>();
    let last: readonly TokenSample[] = [];
    for (let round = 0; round < 30; round++) {
      const servers = Array.from({ length: 50 }, (_, index) =>
        counted("e", 1, { serverId: index === 0 ? "stays" : `pod-${round}-${index}` }),
      );
      const message = {
        protocolVersion: 1,
        serverTimeUnixNanos: 0n,
        uptimeNanos: 1,
        servers,
        ignored: 0,
        errors: [],
      };
      last = readings.readMessage(message, round);
      for (const { server } of last) names.add(server);
    }
    expect(names.size).toBe(1000);
    expect(last.map(({ server }) => server)).toEqual(["t/stays"]);
    expect(last[0]).toMatchObject({
      ignoredSamples: 49,
      errors: [expect.stringContaining("limit of 1000 per target")],
    });
  });
});

describe("sizes", () => {
  const sets = (count: number): CounterSet[] =>
    Array.from({ length: count }, (_, index) => ({
      model: `model-${index % 10}`,
      tenant: `tenant-${index}`,
      tokens: [
        { kind: "input_uncached", tokens: index },
        { kind: "output", tokens: 1 },
      ],
      latencies: { request_duration: { bounds: [1, 2], counts: [1, 0, 1], sum: 3, count: 2 } },
    }));

  test("1,000 label sets in one snapshot are all read, snapshot after snapshot", async () => {
    const address = await watchServer((watcher) => {
      for (let sent = 0; sent < 3; sent++) watcher.send({ epochId: "e", counters: sets(1000) });
    });
    const { next } = tail(address);
    for (let taken = 0; taken < 3; taken++) {
      const sample = (await next()) as TokenSample;
      expect(sample).toMatchObject({ ignoredSamples: 0, errors: [] });
      expect(sample.readings).toHaveLength(1000);
      expect(outputOf(sample)).toBe(1000);
    }
  });

  test("label sets above 1,000 over all servers are dropped, counted and told", async () => {
    const address = await watchServer((watcher) =>
      watcher.send(
        { serverId: "a", epochId: "e", counters: sets(700) },
        { serverId: "b", epochId: "e", counters: sets(700) },
      ),
    );
    const { next } = tail(address);
    expect(await next()).toMatchObject({
      ignoredSamples: 400,
      errors: [expect.stringContaining("400 label sets")],
    });
    expect(((await next()) as TokenSample).readings).toHaveLength(300);
  });

  test("a message over receiveBytesMax ends the stream with what to do, and the next is read", async () => {
    const address = await watchServer((watcher, stream) =>
      watcher.send({ epochId: "e", counters: sets(stream === 0 ? 1000 : 1) }),
    );
    const { nextGap, nextSample, warnings } = tail(address, { receiveBytesMax: 10_000 });
    expect((await nextGap()).reason).toContain("the answer is too large");
    expect(warnings[0]?.["hint"]).toBe("raise `receiveBytesMax`");
    expect(outputOf(await nextSample())).toBe(1);
  });

  test("a message that is none ends the stream, and the next is read", async () => {
    const address = await watchServer((watcher, stream) =>
      stream === 0 ? watcher.raw(Buffer.from([255])) : watcher.send(counted("e", 1)),
    );
    const { nextGap, nextSample } = tail(address);
    expect((await nextGap()).reason).toContain("it is cut off");
    expect(outputOf(await nextSample())).toBe(1);
  });
});

/** Stands between a reader and its server; `cut` lets nothing pass on connections there, and says nothing about it. */
async function wire(to: string): Promise<{ address: string; cut(): void; connections: () => number }> {
  const port = Number(to.split(":")[1]);
  const pairs: [Socket, Socket][] = [];
  const server: NetServer = createServer((near) => {
    const far = connect(port, "127.0.0.1");
    for (const socket of [near, far]) socket.on("error", () => {});
    near.pipe(far).pipe(near);
    pairs.push([near, far]);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closing.push(() => {
    for (const socket of pairs.flat()) socket.destroy();
    server.close();
  });
  return {
    address: `127.0.0.1:${(server.address() as { port: number }).port}`,
    connections: () => pairs.length,
    cut: () => {
      for (const [near, far] of pairs) {
        near.unpipe(far);
        far.unpipe(near);
      }
    },
  };
}

describe("connections", () => {
  test("that are half open are silence: a gap after silenceMs, and a connection of its own after it", async () => {
    let beat: ReturnType<typeof setInterval> | undefined;
    const address = await watchServer((watcher) => {
      let output = 0;
      clearInterval(beat);
      beat = setInterval(() => watcher.send(counted("e", output++)), 20);
    });
    closing.push(() => clearInterval(beat));
    const between = await wire(address);
    const { nextSample, nextGap } = tail(between.address, { silenceMs: 150 });
    await nextSample();
    await nextSample();
    between.cut();
    const gap = await nextGap();
    expect(gap).toMatchObject({
      source: "server:t",
      reason: expect.stringContaining("no snapshot for 150 ms"),
    });
    await nextSample();
    expect(between.connections()).toBe(2);
  });

  test("that end are tried again, and what was counted meanwhile is in the next snapshot", async () => {
    const address = await watchServer((watcher, stream) => {
      watcher.send(counted("e", stream === 0 ? 100 : 250));
      if (stream === 0) watcher.end();
    });
    const { nextSample } = tail(address);
    const increments = new Increments({ agentStarted: clock.now() });
    increments.countSample(await nextSample());
    const accepted = increments.countSample(await nextSample());
    expect(accepted.increments.map(({ tokens }) => tokens.output)).toEqual([150]);
  });
});
