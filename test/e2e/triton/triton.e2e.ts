// A real Triton (tritonserver 2.51.0 of the nvidia-pytriton wheel, no GPU): statistics over gRPC, the metric page, the
// restricted protocol, what is not gRPC, an unloaded model, and a restart.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { probe } from "../../../agent/cli/probe-target.ts";
import type { TokenReading } from "../../../agent/model.ts";
import { systemClock } from "../../../agent/platform/clock.ts";
import { openChannel } from "../../../agent/platform/grpc.ts";
import { silentLog } from "../../../agent/platform/log.ts";
import { reflectServices } from "../../../agent/servers/call/call.ts";
import { tritonGrpc } from "../../../agent/servers/triton-grpc.ts";
import type { PullServerSource } from "../../../agent/source.ts";
import type { Triton } from "./rig.ts";
import { certificates, missing, startTriton } from "./rig.ts";

const lacking = missing();
if (lacking !== undefined) console.warn(`SKIPPED: a real Triton, because ${lacking}`);

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});
const context = { clock: systemClock(), log: silentLog, signal: new AbortController().signal };

async function start(...more: string[]): Promise<Triton> {
  const triton = await startTriton(more);
  closing.push(triton.stop);
  return triton;
}

function open(endpoint: string, more = {}): PullServerSource {
  const source = tritonGrpc.open(tritonGrpc.config.parse({ endpoint, ...more }), context) as PullServerSource;
  closing.push(() => source.close());
  return source;
}

const of = (readings: readonly TokenReading[], model: string): TokenReading | undefined =>
  readings.find((reading) => reading.model === model);

describe.runIf(lacking === undefined)("a real Triton", () => {
  let triton: Triton;
  beforeAll(async () => {
    triton = await startTriton();
  });
  // Triton 2.51 ended by itself once after a stream was given up: the next try has a new one.
  beforeEach(async () => {
    const how = triton.died();
    if (how === undefined) return;
    console.warn(`Triton ended by itself (${how}) and is started again`);
    await triton.stop();
    triton = await startTriton();
  });
  afterAll(() => triton.stop());

  test("counts requests and reported responses over gRPC, and tokens of its back ends on its page", async () => {
    const source = open(triton.grpc);
    expect(of((await source.poll()).readings, "counted")).toMatchObject({ requests: { ok: 0, error: 0 } });
    expect(await triton.send("counted", 7, 5, -1, 0)).toEqual(["7", "5", "negative", "0"]);
    expect(await triton.send("stream", 4, 8, -1)).toEqual(["4", "8", "negative"]);
    expect(await triton.send("plain", 30, -1, 40)).toEqual(["1", "negative", "1"]);
    const sample = await source.poll();
    expect(sample).toMatchObject({ version: "2.51.0", ignoredSamples: 0, errors: [] });
    expect(sample.readings.toSorted((a, b) => String(a.model).localeCompare(String(b.model)))).toEqual([
      {
        model: "counted",
        role: "combined",
        // The end of a stream and the error are responses, but no tokens.
        tokens: { output: 12 },
        requests: { ok: 3, error: 1 },
        volume: "estimate",
      },
      // A python model's responses are not reported, and its error answers count as success.
      { model: "plain", role: "combined", tokens: {}, requests: { ok: 3, error: 0 }, volume: "estimate" },
      { model: "stream", role: "combined", tokens: {}, requests: { ok: 3, error: 0 }, volume: "estimate" },
    ]);
    const page = await probe(triton.page);
    expect(page).toMatchObject({ server: "triton", ignored_samples: 0, errors: [] });
    const reading = (model: string): unknown => page.readings.find((each) => each["model"] === model);
    expect(reading("stream")).toMatchObject({
      input_unsplit: 20,
      output: 12,
      requests: { ok: 3, error: 0, aborted: 0, rejected: 0 },
      running: 0,
      waiting: 0,
      kv_cache_utilization: 0.25,
      volume: "step",
    });
    expect(reading("plain")).toMatchObject({ input_unsplit: 40, output: 70, volume: "finish" });
    expect(reading("counted")).toMatchObject({ requests: { ok: 3, error: 1 }, output: null });
  });

  test("counts the tokens of a stream that is given up, and its request once", async () => {
    const source = open(triton.grpc);
    const before = of((await source.poll()).readings, "counted");
    expect(await triton.send("counted", "cancel:100000")).toEqual(["1"]);
    const after = async (): Promise<TokenReading | undefined> =>
      of((await source.poll()).readings, "counted");
    await expect.poll(async () => (await after())?.requests.error).toBe((before?.requests.error ?? 0) + 1);
    expect((await after())?.requests.ok).toBe(before?.requests.ok);
    expect((await after())?.tokens.output).toBeGreaterThan(before?.tokens.output ?? 0);
  });

  test("is probed by its gRPC port, which does not reflect", async () => {
    await triton.send("counted", 2);
    const target = { target: triton.grpc };
    const channel = openChannel(target);
    closing.push(() => channel.close());
    const peer = { channel, target, timeoutMs: 5000, clock: systemClock() };
    expect(await reflectServices(peer)).toBeUndefined();
    const result = await probe(`grpc://${triton.grpc}`);
    expect(result).toMatchObject({ server: "triton-grpc", why: "it answers as triton-grpc" });
    expect(result.readings.map((each) => each["model"]).sort()).toEqual(["counted", "plain", "stream"]);
    // Its HTTP and metrics ports end a gRPC connection without a word.
    const page = new URL(triton.page).host;
    await expect(probe(`grpc://${page}`)).rejects.toThrow("no gRPC server");
    await expect(probe(`grpc://${triton.http}`)).rejects.toThrow("no gRPC server");
  });

  test("hides its statistics behind a restricted protocol, and shows them to the right header", async () => {
    const restricted = await start(
      "--grpc-restricted-protocol=statistics,model-repository,metadata:x-token=secret",
    );
    const header = "triton-grpc-protocol-x-token";
    await expect(open(restricted.grpc).poll()).rejects.toMatchObject({
      message: expect.stringContaining("refused: This protocol is restricted"),
      hint: `set "${header}" under \`headers\``,
    });
    await expect(open(restricted.grpc, { headers: { [header]: "wrong" } }).poll()).rejects.toThrow("refused");
    const { readings } = await open(restricted.grpc, { headers: { [header]: "secret" } }).poll();
    expect(readings).toHaveLength(3);
  });

  test("is read over mutual TLS, and says what is wrong without", async () => {
    const folder = mkdtempSync(join(tmpdir(), "tokenwatt-triton-"));
    closing.push(() => rmSync(folder, { recursive: true }));
    certificates(folder);
    const file = (name: string): string => join(folder, name);
    const secure = await start(
      "--grpc-use-ssl-mutual=true",
      `--grpc-server-cert=${file("server.pem")}`,
      `--grpc-server-key=${file("server.key")}`,
      `--grpc-root-cert=${file("ca.pem")}`,
    );
    const known = { caFile: file("ca.pem"), certFile: file("client.pem"), keyFile: file("client.key") };
    expect((await open(secure.grpc, { tls: known }).poll()).readings).toHaveLength(3);
    await expect(open(secure.grpc).poll()).rejects.toThrow("closes the connection before a call");
    await expect(open(secure.grpc, { tls: { caFile: file("ca.pem") } }).poll()).rejects.toThrow(
      "Cannot read inference.GRPCInferenceService",
    );
    await expect(open(secure.grpc, { tls: true }).poll()).rejects.toThrow(/certificate|issuer/);
    await expect(open(triton.grpc, { tls: known }).poll()).rejects.toThrow("does not speak TLS");
  });

  test("forgets a model that is unloaded, and everything when it starts again", async () => {
    const args = ["--model-control-mode=explicit", "--load-model=counted", "--load-model=plain"];
    const explicit = await start(...args);
    expect(await explicit.send("counted", 5)).toEqual(["5"]);
    const source = open(explicit.grpc);
    const outputs = async (): Promise<unknown> =>
      Object.fromEntries((await source.poll()).readings.map(({ model, tokens }) => [model, tokens.output]));
    expect(await outputs()).toEqual({ counted: 5, plain: undefined });
    const models = `http://${explicit.http}/v2/repository/models`;
    await fetch(`${models}/counted/unload`, { method: "POST" });
    await expect.poll(outputs).toEqual({ plain: undefined });
    await fetch(`${models}/counted/load`, { method: "POST" });
    await expect.poll(outputs).toEqual({ counted: undefined, plain: undefined });
    await explicit.stop();
    await expect(source.poll()).rejects.toThrow("nothing listens there");
  });
});
