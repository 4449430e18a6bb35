// A real Dynamo 1.6.1: its frontend in front of its mocker engine, found over a folder (no etcd, no NATS), and a worker of
// its runtime that passes on the families of vLLM's own metrics code.
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, test } from "vitest";
import type { ProbeResult } from "../../../agent/cli/probe/result.ts";
import { probe } from "../../../agent/cli/probe-target.ts";
import { toolsFolder } from "../tools-folder.ts";

const tools = toolsFolder;
const python = join(tools, "dynamo/bin/python");
const vllm = join(tools, "engines/source/vllm==0.33.0");
const usable = existsSync(python);
if (!usable) console.warn(`SKIPPED: Dynamo, because ${python} is not here; run test/e2e/install-tools.sh`);
if (!existsSync(vllm))
  console.warn(`SKIPPED: a Dynamo worker, because ${vllm} is not here; run test/e2e/install-tools.sh`);

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), "tokenwatt-dynamo-"));
  closing.push(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

function start(args: readonly string[], env: Readonly<Record<string, string>>): void {
  const loopback = {
    DYN_TCP_RPC_HOST: "127.0.0.1",
    DYN_SYSTEM_HOST: "127.0.0.1",
    DYN_EVENT_PLANE_HOST: "127.0.0.1",
  };
  const child = spawn(python, args, {
    env: { ...process.env, ...loopback, DYN_LOG: "off", PYTHONDONTWRITEBYTECODE: "1", ...env },
    stdio: ["ignore", "ignore", "inherit"],
  });
  closing.push(() => {
    if (child.exitCode !== null) return undefined;
    return new Promise((resolve) => child.once("exit", resolve) && child.kill("SIGKILL"));
  });
}

/** A free port below 32768: Dynamo reads its system port as a 16-bit number with sign. */
async function freePort(): Promise<number> {
  for (let port = 20_000 + (process.pid % 10_000); ; port++) {
    const server = createServer();
    const free = await new Promise<boolean>((resolve) => {
      server.once("error", () => resolve(false));
      server.listen(port, "127.0.0.1", () => resolve(true));
    });
    await new Promise((resolve) => server.close(resolve));
    if (free && !taken.has(port)) {
      taken.add(port);
      return port;
    }
  }
}
const taken = new Set<number>();

const textAt = (url: string): Promise<string> =>
  fetch(url).then(
    (response) => response.text(),
    () => "",
  );
const patience = { timeout: 60_000, interval: 200 };
const of = (result: ProbeResult, model: string): unknown =>
  result.readings.find((reading) => reading["model"] === model);

describe.runIf(usable)("a real Dynamo", () => {
  test("counts live output, input and cached input, and how requests ended, at its frontend", async () => {
    const env = { DYN_FILE_KV: folder() };
    const planes = ["--discovery-backend", "file", "--request-plane", "tcp", "--event-plane", "zmq"];
    const port = await freePort();
    start(["-m", "dynamo.frontend", "--http-host", "127.0.0.1", "--http-port", `${port}`, ...planes], env);
    start(
      ["-m", "dynamo.mocker", "--model-path", here("../tiny-model"), "--model-name", "one", ...planes],
      env,
    );
    const url = `http://127.0.0.1:${port}`;
    await expect.poll(() => textAt(`${url}/v1/models`), patience).toContain('"id":"one"');
    const post = async (prompt: string, more: object): Promise<string> => {
      const body = JSON.stringify({ model: "one", prompt, max_tokens: 4, ...more });
      const headers = { "content-type": "application/json" };
      return (await fetch(`${url}/v1/completions`, { method: "POST", headers, body })).text();
    };
    // 210 tokens, of which a second request finds the full blocks of 64 in the cache.
    const long = "a b c ".repeat(70);
    expect(await post(long, {})).toContain('"completion_tokens":4');
    expect(await post(long, {})).toContain('"cached_tokens":192');
    expect(await post("a b", { stream: true })).toContain("[DONE]");
    expect(await post("a b", { model: "none" })).toContain("not found");
    const outputs = async (): Promise<unknown> =>
      (await probe(url)).readings.map((reading) => reading["output"]).sort();
    await expect.poll(outputs, patience).toEqual([12, null]);
    const result = await probe(url);
    expect(result).toMatchObject({ server: "dynamo", ignored_samples: 0, errors: [] });
    expect(of(result, "one")).toMatchObject({
      // Dynamo counts the input of a streamed text completion nowhere.
      input_uncached: 210 + 18,
      input_cached: 192,
      requests: { ok: 3, error: null, aborted: null },
      running: 0,
      waiting: 0,
    });
    expect(of(result, "unknown_model")).toMatchObject({ requests: { ok: null, error: 1 }, output: null });
  });

  test.runIf(existsSync(vllm))(
    "passes its engine's families on, each series with Dynamo's labels",
    async () => {
      const port = await freePort();
      const store = folder();
      mkdirSync(store, { recursive: true });
      start([here("worker.py"), vllm], { DYN_FILE_KV: store, DYN_SYSTEM_PORT: `${port}` });
      const url = `http://127.0.0.1:${port}/metrics`;
      await expect.poll(() => textAt(url), patience).toContain("vllm:generation_tokens_total");
      const result = await probe(url);
      expect(result).toMatchObject({
        server: "dynamo-worker",
        why: "dynamo_component label on an engine's families",
        errors: [],
      });
      expect(result.readings).toMatchObject([
        {
          model: "m",
          input_uncached: 2 * 400_090 + 7,
          input_cached: 2 * 600_020,
          output: 2 * 700_019 + 2,
          requests: { ok: 6, aborted: 2, rejected: 4 },
          running: 6,
          waiting: 2,
        },
      ]);
    },
  );
});
