import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { createServer as createSocketServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, test } from "vitest";
import { probe } from "../../agent/cli/probe-target.ts";
import { discoverAmong, discoverServer, typeOf, usualPorts } from "../../agent/discovery/ask.ts";
import { systemClock, virtualClock } from "../../agent/platform/clock.ts";
import { silentLog } from "../../agent/platform/log.ts";
import { fakePeer, field, message } from "../fakes/grpc-peer.ts";

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});
const context = { clock: systemClock(), log: silentLog, signal: new AbortController().signal };
const recording = (name: string): string =>
  readFileSync(fileURLToPath(new URL(`../fixtures/servers/${name}`, import.meta.url)), "utf8");

async function serve(pages: Readonly<Record<string, { type?: string; body: string }>>, wanted = 0) {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(request.url ?? "");
    const page = pages[request.url ?? ""];
    response.writeHead(
      page === undefined ? 404 : 200,
      page?.type === undefined ? {} : { "content-type": page.type },
    );
    response.end(page?.body ?? "");
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(wanted, "127.0.0.1", resolve);
  });
  closing.push(() => {
    server.close();
    server.closeAllConnections();
  });
  return { port: (server.address() as AddressInfo).port, asked };
}

describe("discoverServer()", () => {
  test("asks no port beyond the last one", async () => {
    const peer = createServer();
    const taken = await new Promise<boolean>((resolve) => {
      peer.once("error", () => resolve(true)).listen(65_535, "127.0.0.1", () => resolve(false));
    });
    closing.push(() => void peer.close());
    // Whoever has it already answers in its place.
    if (!taken) peer.on("request", (_, response) => response.writeHead(404).end());
    const { found, listens } = await discoverServer(65_535, context);
    expect([found, listens]).toEqual([undefined, true]);
  });

  test("finds a server by the labels of its page, whatever the path", async () => {
    const { port, asked } = await serve({ "/v1/metrics": { body: recording("nim-1-serving.prom") } });
    const { found } = await discoverServer(port, context);
    expect(found).toEqual({
      type: "nim",
      endpoint: `http://127.0.0.1:${port}/v1/metrics`,
      why: "vLLM's names without a prefix, beside NIM's own",
    });
    expect(asked).toEqual(["/metrics", "/v1/metrics"]);
    expect(
      typeOf(found as NonNullable<typeof found>)?.config.safeParse({ endpoint: found?.endpoint }).success,
    ).toBe(true);
  });

  test("goes past TensorRT-LLM's JSON queue after one look at it", async () => {
    const { port, asked } = await serve({
      "/metrics": { type: "application/json", body: '[{"iter":1}]' },
      "/prometheus/metrics": { body: recording("tensorrt-llm-1.3-documented.prom") },
    });
    expect((await discoverServer(port, context)).found?.type).toBe("tensorrt-llm");
    expect(asked.filter((path) => path === "/metrics")).toHaveLength(1);
  });

  test("finds a gRPC service by reflection", async () => {
    const peer = await fakePeer({}, ["grpc.health.v1.Health", "sglang.grpc.scheduler.SglangScheduler"]);
    closing.push(peer.close);
    const { found } = await discoverServer(Number(peer.address.split(":")[1]), context);
    expect(found).toMatchObject({ type: "get-loads", endpoint: peer.address });
  });

  test("takes a page beside a gRPC port before what that port would estimate, where the port beside may be asked", async () => {
    const pages = { "/metrics": { body: recording("triton-26-vllm-and-trtllm.prom") } };
    // Two ports in a row, which somebody else may take meanwhile.
    const inARow = async (): Promise<number> => {
      const peer = await fakePeer({}, ["inference.GRPCInferenceService"]);
      closing.push(peer.close);
      const port = Number(peer.address.split(":")[1]);
      return serve(pages, port + 1).then(() => port, inARow);
    };
    const port = await inARow();
    expect((await discoverServer(port, context)).found).toMatchObject({
      type: "triton",
      endpoint: `http://127.0.0.1:${port + 1}/metrics`,
    });
    const alone = await discoverAmong([port], context, "127.0.0.1", false);
    expect(alone.found?.type).toBe("triton-grpc");
    const both = await discoverAmong([port, port + 1], context, "127.0.0.1", false);
    expect(both.found?.type).toBe("triton");
  });

  test("asks nothing else where nothing listens", async () => {
    const { listens, tried } = await discoverAmong([1], context, "127.0.0.1", false);
    expect([listens, tried.length]).toEqual([false, 1]);
  });

  test.each([
    ["speaks something else", (socket: Socket) => void socket.end("220 mail ready\r\n")],
    ["says nothing at all", () => {}],
  ])("asks for one page where somebody %s, and then over gRPC", async (_, answer) => {
    const clock = virtualClock(0n);
    const server = createSocketServer((socket) => {
      closing.push(() => void socket.destroy());
      socket.on("error", () => {});
      answer(socket);
      // Whoever waits for an answer gives up.
      socket.once("data", () => void clock.advance(clock.now() + 10e9));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    closing.push(() => void server.close());
    const { port } = server.address() as AddressInfo;
    const { listens, tried } = await discoverAmong([port], { ...context, clock }, "127.0.0.1", false);
    expect(listens).toBe(true);
    expect(tried.map((line) => /\w+(?=:\/\/)/.exec(line)?.[0])).toEqual(["http", "grpc"]);
  });

  test("takes no page that repeats the engines of this host", async () => {
    const body = recording("gpustack-2.2-vllm-and-sglang.prom");
    const { port } = await serve({ "/metrics": { body } });
    const { found, tried } = await discoverServer(port, context);
    expect(found).toBeUndefined();
    expect(tried[0]).toMatch(/gpustack, whose engines are read themselves; name it under servers\.gpustack/);
    expect(usualPorts()).not.toContain(10_151);
    expect(usualPorts()).toContain(8000);
  });

  test("names what looks like tokens on a page of no known server", async () => {
    const { port } = await serve({ "/metrics": { body: 'acme_output_tokens_total{model="m"} 3\n' } });
    expect((await discoverServer(port, context)).tried[0]).toMatch(/look like tokens \(acme_output_tokens\)/);
  });

  test("says what it tried where nothing is to be found", async () => {
    const { port } = await serve({ "/metrics": { body: "up 1\n" } });
    const { found, tried } = await discoverServer(port, context);
    expect(found).toBeUndefined();
    expect(tried[0]).toContain("a metric page of no known server");
    expect(tried.some((line) => line.startsWith("grpc://"))).toBe(true);
  });
});

describe("probe()", () => {
  test("reads a gRPC target as the service it reflects", async () => {
    const service = "vllm.grpc.engine.VllmEngine";
    const load = field(4, message(field(2, 3), field(3, 1), field(7, { double: 0.5 })));
    const peer = await fakePeer({ [`/${service}/GetLoads`]: load }, [service]);
    closing.push(peer.close);
    const result = await probe(`grpc://${peer.address}`);
    expect(result).toMatchObject({
      server: "get-loads",
      readings: [{ running: 3, waiting: 1, output: null }],
    });
  });

  test("names what a gRPC target serves when it is nothing known", async () => {
    const peer = await fakePeer({}, ["some.Service"]);
    closing.push(peer.close);
    await expect(probe(`grpc://${peer.address}`)).rejects.toThrow("it serves some.Service");
  });

  test.each(["grpc://", "grpc://localhost", "grpc://h:99999"])("refuses the address %s", async (target) => {
    await expect(probe(target)).rejects.toThrow("wanted grpc://host:port");
  });

  test("says for each kind what is wrong where a target does not reflect", async () => {
    const { port } = await serve({});
    await expect(probe(`grpc://127.0.0.1:${port}`)).rejects.toThrow("does not speak gRPC");
  });

  test("says that a file is a web page or JSON", async () => {
    const folder = mkdtempSync(join(tmpdir(), "tokenwatt-probe-"));
    closing.push(() => rmSync(folder, { recursive: true }));
    writeFileSync(join(folder, "a"), "<html></html>");
    writeFileSync(join(folder, "b"), '{"iter": 1}');
    await expect(probe(join(folder, "a"))).rejects.toThrow(
      "it holds a web page (HTML), wanted Prometheus text",
    );
    await expect(probe(join(folder, "b"))).rejects.toThrow("it holds JSON, wanted Prometheus text");
    await expect(probe(join(folder, "c"))).rejects.toThrow("no such file");
  });

  test("refuses a kind it does not know", async () => {
    await expect(probe("x.prom", { as: "vlm" })).rejects.toThrow('Cannot probe as "vlm"');
  });
});
