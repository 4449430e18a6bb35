import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { systemClock, virtualClock } from "../../../agent/platform/clock.ts";
import { openChannel } from "../../../agent/platform/grpc.ts";
import { silentLog } from "../../../agent/platform/log.ts";
import { WireError } from "../../../agent/platform/protobuf-reader.ts";
import { reflectServices } from "../../../agent/servers/call/call.ts";
import { explainGrpcError } from "../../../agent/servers/call/errors.ts";
import { decodeServerArgs } from "../../../agent/servers/call/get-loads-facts.ts";
import { decodeLoads, getLoads } from "../../../agent/servers/get-loads.ts";
import { decodeModelStatistics, tritonGrpc } from "../../../agent/servers/triton-grpc.ts";
import type { PullServerSource, ServerType } from "../../../agent/source.ts";
import type { FakePeer } from "../../fakes/grpc-peer.ts";
import { fakePeer, field, message } from "../../fakes/grpc-peer.ts";

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});
const context = { clock: systemClock(), log: silentLog, signal: new AbortController().signal };

async function serve(...peer: Parameters<typeof fakePeer>): Promise<FakePeer> {
  const fake = await fakePeer(...peer);
  closing.push(fake.close);
  return fake;
}

function open(type: ServerType, address: string, more = {}): PullServerSource {
  const source = type.open(type.config.parse({ endpoint: address, ...more }), context) as PullServerSource;
  closing.push(() => source.close());
  return source;
}

const duration = (count: number): Buffer => field(1, count);
const SERVICE = "/inference.GRPCInferenceService";

describe("triton-grpc", () => {
  // Every entry also has the failed (4), the empty last (5) and the given-up responses (6), which are no tokens.
  const chunk = (key: string, sent: number, others = 0): Buffer =>
    field(
      9,
      message(
        field(1, key),
        field(
          2,
          message(field(3, duration(sent)), ...[4, 5, 6].map((kind) => field(kind, duration(others)))),
        ),
      ),
    );
  const llm = message(
    field(1, "llm"),
    field(2, "1"),
    field(4, 12),
    field(6, message(field(1, duration(2 ** 40)), field(2, duration(3)))),
    chunk("0", 10),
    chunk("1", 9, 2),
  );
  const bert = message(field(1, "bert"), field(2, "2"), field(6, message(field(1, duration(7)))));
  const statistics = message(field(1, llm), field(1, bert));

  test("reads requests, and streamed responses as an estimate of output tokens", async () => {
    const peer = await serve({
      [`${SERVICE}/ServerMetadata`]: message(field(1, "triton"), field(2, "2.60.0")),
      [`${SERVICE}/RepositoryIndex`]: message(field(1, field(1, "llm")), field(1, field(1, "bert"))),
      [`${SERVICE}/ModelStatistics`]: statistics,
    });
    const sample = await open(tritonGrpc, peer.address).poll();
    expect(sample.version).toBe("2.60.0");
    expect(sample.readings).toEqual([
      {
        model: "llm",
        role: "combined",
        tokens: { output: 19 },
        requests: { ok: 2 ** 40, error: 3 },
        volume: "estimate",
      },
      { model: "bert", role: "combined", tokens: {}, requests: { ok: 7, error: 0 }, volume: "estimate" },
    ]);
  });

  test("says that KServe's copy of the service has no statistics", async () => {
    const peer = await serve({ [`${SERVICE}/ServerMetadata`]: message(field(1, "kserve")) });
    await expect(open(tritonGrpc, peer.address).poll()).rejects.toThrow(
      "does not offer inference.GRPCInferenceService",
    );
  });

  test("names the header that a restricted protocol misses", () => {
    const details = "This protocol is restricted, expecting header 'triton-grpc-protocol-x-token'";
    const error = explainGrpcError({ code: 14, details }, "a.Service", "h:1");
    expect(error.message).toBe(`Cannot read a.Service at h:1: refused: ${details}`);
    expect(error.hint).toBe('set "triton-grpc-protocol-x-token" under `headers`');
  });

  test("decodeModelStatistics() sums versions and survives any bytes", () => {
    const twice = message(field(1, llm), field(1, llm));
    const absurd = message(field(1, "x"), chunk("0", 2 ** 60));
    expect(decodeModelStatistics(message(field(1, absurd)))).toEqual({ models: [], ignored: 1 });
    expect(decodeModelStatistics(twice).models).toMatchObject([{ failed: 6, responses: 38 }]);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(statistics.length), (noise, at) => {
        const broken = Buffer.concat([statistics.subarray(0, at), noise]);
        try {
          for (const model of decodeModelStatistics(broken).models)
            expect(model.succeeded).toBeGreaterThanOrEqual(0);
        } catch (error) {
          expect(error).toBeInstanceOf(WireError);
        }
      }),
    );
  });
});

describe("get-loads", () => {
  const SGLANG = "sglang.grpc.scheduler.SglangScheduler";
  const VLLM = "vllm.grpc.engine.VllmEngine";
  const TOKENSPEED = "tokenspeed.grpc.scheduler.TokenSpeedScheduler";
  const load = (running: number, ...more: Buffer[]): Buffer =>
    field(4, message(field(1, 0), field(2, running), field(3, 1), ...more));

  test("chooses the dialect by the reflected service and integrates its throughput", async () => {
    const clock = virtualClock(0n);
    const peer = await serve(
      {
        [`/${TOKENSPEED}/GetLoads`]: load(
          2,
          field(7, 99),
          field(8, { double: 0.5 }),
          field(9, { double: 100 }),
        ),
      },
      ["grpc.health.v1.Health", TOKENSPEED],
    );
    const source = getLoads.open(getLoads.config.parse({ endpoint: peer.address, role: "decode" }), {
      ...context,
      clock,
    }) as PullServerSource;
    closing.push(() => source.close());
    expect((await source.poll()).readings[0]).toMatchObject({
      role: "decode",
      tokens: { output: 0 },
      running: 2,
      waiting: 1,
      kvCacheUtilization: 0.5,
      volume: "estimate",
      epochBegan: 0,
    });
    await clock.advance(2e9);
    expect((await source.poll()).readings[0]?.tokens).toEqual({ output: 200 });
  });

  test("does not integrate the last rate an idle rank keeps showing", async () => {
    const clock = virtualClock(0n);
    const idle = load(0, field(7, { double: 0 }), field(8, { double: 100 }));
    const peer = await serve({ [`/${SGLANG}/GetLoads`]: idle }, [SGLANG]);
    const entry = getLoads.config.parse({ endpoint: peer.address });
    const source = getLoads.open(entry, { ...context, clock }) as PullServerSource;
    closing.push(() => source.close());
    await source.poll();
    await clock.advance(2e9);
    expect((await source.poll()).readings[0]).toMatchObject({ tokens: { output: 0 }, running: 0 });
  });

  test("integrates vLLM's windowed rate to its end, and has no output before a rate was seen", async () => {
    const clock = virtualClock(0n);
    let [running, rate] = [0, 0];
    const peer = await serve(
      { [`/${VLLM}/GetLoads`]: () => message(load(running, field(8, { double: rate })), field(2, "0.33.0")) },
      [VLLM],
    );
    const entry = getLoads.config.parse({ endpoint: peer.address });
    const source = getLoads.open(entry, { ...context, clock }) as PullServerSource;
    closing.push(() => source.close());
    const first = await source.poll();
    expect(first.version).toBe("0.33.0");
    expect(first.readings[0]).not.toHaveProperty("epoch");
    expect(first.readings[0]?.tokens).toEqual({});
    // 100 tokens a second for 2 s, then the window empties while nothing runs.
    const outputs: unknown[] = [];
    const steps = [100, 100, 50, 0];
    for (const [second, step] of steps.entries()) {
      [running, rate] = [step === 100 ? 1 : 0, step];
      await clock.advance((second + 1) * 1e9);
      outputs.push((await source.poll()).readings[0]?.tokens.output);
    }
    expect(outputs).toEqual([50, 150, 225, 250]);
  });

  test("asks each dialect where the peer does not reflect; vLLM's zeros are unknown until something ran", async () => {
    let running = 0;
    const peer = await serve({
      [`/${VLLM}/GetLoads`]: () => load(running, field(7, { double: 0.25 }), field(8, { double: 0 })),
      [`/${VLLM}/GetModelInfo`]: message(field(1, "/models/x"), field(6, "served")),
      [`/${VLLM}/GetServerInfo`]: message(field(7, "kv_producer")),
    });
    const source = open(getLoads, peer.address, { modelAliases: { served: "alias" } });
    const idle = (await source.poll()).readings[0];
    expect(idle).toEqual({ model: "alias", role: "prefill", tokens: {}, requests: {}, volume: "estimate" });
    running = 3;
    await source.poll();
    running = 0;
    expect((await source.poll()).readings[0]).toMatchObject({
      running: 0,
      waiting: 1,
      kvCacheUtilization: 0.25,
    });
  });

  test("names what a peer without loads serves", async () => {
    const peer = await serve({}, ["some.Service"]);
    await expect(open(getLoads, peer.address).poll()).rejects.toThrow("it serves some.Service");
  });

  test("gives up at its deadline", async () => {
    const peer = await serve({ [`/${SGLANG}/GetLoads`]: () => undefined }, [SGLANG]);
    await expect(open(getLoads, peer.address, { timeoutMs: 150 }).poll()).rejects.toThrow(
      "no answer within 150 ms",
    );
  });

  test("reads allowed keys of server_args only", () => {
    const entry = (key: string, value: string): Buffer =>
      field(1, message(field(1, key), field(2, field(3, value))));
    const info = message(
      field(
        1,
        message(
          entry("api_key", "secret"),
          entry("served_model_name", "m"),
          entry("disaggregation_mode", "decode"),
        ),
      ),
      field(7, "0.5.9"),
    );
    expect(decodeServerArgs(info)).toEqual({ model: "m", role: "decode", version: "0.5.9" });
  });

  test("decodeLoads() never yields a negative or absurd load", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
        try {
          const table = { tokenUsage: 7, genThroughput: 8 };
          for (const rank of decodeLoads(message(field(4, Buffer.from(bytes))), table).ranks) {
            expect(rank.tokenUsage).toBeGreaterThanOrEqual(0);
            expect(rank.genThroughput).toBeGreaterThanOrEqual(0);
          }
        } catch (error) {
          expect(error).toBeInstanceOf(WireError);
        }
      }),
    );
  });
});

describe("reflection", () => {
  test("is absent, not an error, where a peer has none", async () => {
    const peer = await serve({});
    const target = { target: peer.address };
    const channel = openChannel(target);
    closing.push(() => channel.close());
    const grpcPeer = { channel, target, timeoutMs: 2000, clock: context.clock };
    expect(await reflectServices(grpcPeer)).toBeUndefined();
  });
});
