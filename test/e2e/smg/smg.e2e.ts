// The published protos of the engines' gRPC mode (smg-grpc-proto 0.4.28) against our decoders; the real gRPC server for
// vLLM that smg 1.13.0 ships, in front of an engine that speaks vLLM's protocol; and the real gateway smg in front of
// engines built from the protos: over gRPC, where it counts tokens, and over HTTP, where it does not.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import type { RequestListener } from "node:http";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, test } from "vitest";
import type { ProbeResult } from "../../../agent/cli/probe/result.ts";
import { probe } from "../../../agent/cli/probe-target.ts";
import { systemClock, virtualClock } from "../../../agent/platform/clock.ts";
import { silentLog } from "../../../agent/platform/log.ts";
import { getLoads } from "../../../agent/servers/get-loads.ts";
import type { PullServerSource } from "../../../agent/source.ts";
import { toolsFolder } from "../tools-folder.ts";

const tools = join(toolsFolder, "smg/bin");
const usable = existsSync(join(tools, "smg"));
const vllm = join(tools, "../../engines/source/vllm==0.33.0");
const poll = { timeout: 20_000, interval: 50 };
if (!usable)
  console.warn(
    `SKIPPED: smg and its protos, because ${tools}/smg is not here; run test/e2e/install-tools.sh`,
  );

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

/** Starts a script that ends with its input; resolves to the line it prints. */
function start(script: string, ...args: readonly string[]): Promise<string> {
  const child = spawn(join(tools, "python"), [here(script), ...args], { stdio: ["pipe", "pipe", "inherit"] });
  const exit = new Promise((resolve) => child.once("exit", resolve));
  closing.push(() => {
    child.stdin.end();
    const deadline = setTimeout(() => child.kill("SIGKILL"), 5000);
    return exit.then(() => clearTimeout(deadline));
  });
  return new Promise((resolve, reject) => {
    child.stdout.once("data", (data: Buffer) => resolve(data.toString().trim()));
    child.once("exit", (code) => reject(new Error(`${script} ${args.join(" ")} ended with ${code}`)));
  });
}

/** Starts an engine of engine.py; resolves to its address. */
const startEngine = async (kind: string): Promise<string> => `127.0.0.1:${await start("engine.py", kind)}`;

interface Gateway {
  /** The body of the answer to a POST, after its last byte. */
  post(path: string, body: object): Promise<string>;
  readings(): Promise<ProbeResult>;
}

/** Starts smg in front of a worker; resolves once it serves the model `one`. */
async function startGateway(worker: string): Promise<Gateway> {
  const [port, metrics] = [await freePort(), await freePort()];
  const args = ["launch", "--host", "127.0.0.1", "--port", `${port}`, "--worker-urls", worker];
  const more = ["--prometheus-host", "127.0.0.1", "--prometheus-port", `${metrics}`, "--log-level", "error"];
  const child = spawn(join(tools, "smg"), [...args, ...more], { stdio: "ignore" });
  closing.push(() => new Promise((resolve) => child.once("exit", resolve) && child.kill("SIGKILL")));
  const url = `http://127.0.0.1:${port}`;
  const page = async (path: string): Promise<string> =>
    fetch(url + path).then(
      (response) => response.text(),
      () => "",
    );
  const patience = { timeout: 60_000, interval: 200 };
  await expect.poll(() => page("/v1/models"), patience).toContain('"id":"one"');
  // Behind gRPC it tokenizes itself, with the tokenizer the engine hands it.
  if (worker.startsWith("grpc")) await expect.poll(() => page("/v1/tokenizers"), patience).toContain('"one"');
  return {
    post: async (path, body) => {
      const init = { method: "POST", headers: { "content-type": "application/json" } };
      return (await fetch(url + path, { ...init, body: JSON.stringify(body) })).text();
    },
    readings: () => probe(`http://127.0.0.1:${metrics}`),
  };
}

async function freePort(): Promise<number> {
  const server = createServer();
  const port = await listen(server);
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function listen(server: ReturnType<typeof createServer>): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as AddressInfo).port;
}

const chat = (content: string, more: object): object => ({
  model: "one",
  messages: [{ role: "user", content }],
  ...more,
});

describe.runIf(usable)("published protos", () => {
  test.each([
    ["sglang", "0.5.23"],
    ["vllm", "0.33.0"],
    ["tokenspeed", "0.5.23"],
  ])("GetLoads, GetServerInfo and GetModelInfo of %s are read field by field", async (kind, version) => {
    const endpoint = await startEngine(kind);
    const clock = virtualClock(0n);
    const context = { clock, log: silentLog, signal: new AbortController().signal };
    const source = getLoads.open(getLoads.config.parse({ endpoint }), context) as PullServerSource;
    closing.push(() => source.close());
    const sample = await source.poll();
    expect(sample).toMatchObject({ version, errors: [] });
    expect(sample.readings).toEqual([
      {
        model: "one",
        role: "decode",
        tokens: { output: 0 },
        requests: {},
        running: 7,
        waiting: 11,
        kvCacheUtilization: 0.5,
        volume: "estimate",
        epoch: "start:0",
        epochBegan: 0,
        ranks: [
          { rank: "0", tokens: {}, running: 3, waiting: 5 },
          { rank: "1", tokens: {}, running: 4, waiting: 6 },
        ],
      },
    ]);
    await clock.advance(2e9);
    const [later] = (await source.poll()).readings;
    expect(later?.tokens).toEqual({ output: 320 });
    const ofRanks = (later?.ranks ?? []).map(({ tokens }) => tokens.output ?? 0);
    expect(ofRanks.reduce((sum, tokens) => sum + tokens)).toBe(320);
    expect(await probe(`grpc://${endpoint}`)).toMatchObject({
      server: "get-loads",
      why: "get-loads services are reflected",
      readings: [{ model: "one", role: "decode", output: 0, running: 7, waiting: 11 }],
    });
  });
});

describe.runIf(usable && existsSync(vllm))("smg's gRPC server for vLLM", () => {
  test("shows a rate whose integral is what was streamed, and zeros until a request ran", async () => {
    const sockets = mkdtempSync(join(tmpdir(), "tokenwatt-smg-"));
    closing.push(() => rmSync(sockets, { recursive: true }));
    const engine = join(tools, "../../engines/bin/python");
    const endpoint = await start("vllm_grpc.py", engine, vllm, here("../tiny-model"), sockets);
    const context = { clock: systemClock(), log: silentLog, signal: new AbortController().signal };
    const source = getLoads.open(getLoads.config.parse({ endpoint }), context) as PullServerSource;
    closing.push(() => source.close());
    expect((await source.poll()).readings).toEqual([
      { model: "one", role: "decode", tokens: {}, requests: {}, volume: "estimate" },
    ]);
    const gateway = await startGateway(`grpc://${endpoint}`);
    const streamed = gateway.post("/v1/completions", {
      model: "one",
      prompt: "a b c",
      max_tokens: 300,
      stream: true,
    });
    let running = 0;
    const output = async (): Promise<number | undefined> => {
      const [reading] = (await source.poll()).readings;
      running = Math.max(running, reading?.running ?? 0);
      return reading?.tokens.output;
    };
    // The rate is the mean of two seconds, so the last token leaves it two seconds after the end.
    await expect.poll(output, poll).toBeGreaterThan(280);
    expect(await streamed).toContain("[DONE]");
    const ended = performance.now();
    await expect.poll(async () => [await output(), performance.now() - ended > 2500][1], poll).toBe(true);
    expect(await output()).toBeGreaterThan(280);
    expect(await output()).toBeLessThan(320);
    expect(running).toBe(1);
  });
});

describe.runIf(usable)("the gateway smg", () => {
  test.each(["vllm", "sglang"])(
    "counts tokens of streams from a %s engine over gRPC, no others",
    async (kind) => {
      const gateway = await startGateway(`grpc://${await startEngine(kind)}`);
      expect(
        await gateway.post("/v1/chat/completions", chat("a b c", { max_tokens: 7, stream: true })),
      ).toContain("[DONE]");
      const completion = { model: "one", prompt: "a b c", max_tokens: 4, stream: true };
      expect(await gateway.post("/v1/completions", completion)).toContain("[DONE]");
      const whole = chat("a b c", { max_tokens: 5 });
      expect(await gateway.post("/v1/chat/completions", whole)).toContain('"completion_tokens":5');
      expect(await gateway.post("/v1/chat/completions", { model: "one" })).toContain("missing field");
      expect(await gateway.post("/v1/completions", { ...completion, model: "none" })).toContain(
        "model_not_found",
      );
      const result = await gateway.readings();
      expect(result).toMatchObject({ server: "smg", ignored_samples: 0, errors: [] });
      const of = (model: string | null): unknown =>
        result.readings.find((reading) => reading["model"] === model);
      // The chat template makes 7 tokens of three words: "user : a b c assistant :".
      expect(of("one")).toMatchObject({ input_unsplit: 7 + 3, output: 7 + 4 });
      expect(of(null)).toMatchObject({
        requests: { ok: 3, error: 2, aborted: null, rejected: null },
        running: 0,
      });
    },
  );

  test("counts requests and no tokens of an HTTP engine", async () => {
    const engine = createServer(answerAsOpenAi);
    closing.push(() => engine.closeAllConnections() ?? engine.close());
    const gateway = await startGateway(`http://127.0.0.1:${await listen(engine)}`);
    const answer = await gateway.post("/v1/chat/completions", chat("a", { max_tokens: 5, stream: true }));
    expect(answer).toContain("[DONE]");
    const result = await gateway.readings();
    expect(result.readings.find((reading) => reading["model"] === null)).toMatchObject({
      requests: { ok: 1 },
      output: null,
    });
    expect(result.readings.filter((reading) => reading["output"] !== null)).toEqual([]);
  });
});

/** An OpenAI-compatible engine that serves the model `one` and streams one chunk. */
const answerAsOpenAi: RequestListener = (request, response) => {
  const usage = { prompt_tokens: 3, completion_tokens: 5, total_tokens: 8 };
  const chunk = { id: "1", object: "chat.completion.chunk", created: 1, model: "one", choices: [], usage };
  if (request.url === "/v1/chat/completions") {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.end(`data: ${JSON.stringify(chunk)}\n\ndata: [DONE]\n\n`);
    return;
  }
  const pages: Readonly<Record<string, object>> = {
    "/v1/models": { object: "list", data: [{ id: "one", object: "model", created: 1, owned_by: "vllm" }] },
    "/version": { version: "0.33.0" },
  };
  const page = pages[request.url ?? ""];
  response.writeHead(page === undefined && request.url !== "/health" ? 404 : 200, {
    "content-type": "application/json",
  });
  response.end(JSON.stringify(page ?? {}));
};
