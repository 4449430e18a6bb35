// The metrics code of engines themselves, from their released packages, driven without a model: what the page of vLLM,
// SGLang, LMDeploy and KServe really says, against what was put in. Only torch and the like are stand-ins (stubs.py).
// vLLM's Rust front end is the real program, in front of engines that speak its protocol.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, test } from "vitest";
import type { ProbeResult } from "../../../agent/cli/probe/result.ts";
import { probe } from "../../../agent/cli/probe-target.ts";
import { toolsFolder } from "../tools-folder.ts";

const tools = join(toolsFolder, "engines");
const source = (wheel: string): string => join(tools, "source", wheel);

function usable(wheel: string): boolean {
  if (existsSync(source(wheel))) return true;
  console.warn(
    `SKIPPED: metrics code of ${wheel}, because ${source(wheel)} is not here; run install-tools.sh`,
  );
  return false;
}

const rustFrontEnd = join(source("vllm==0.33.0"), "vllm/vllm-rs");
const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

/** Starts a script of this folder; resolves to the port it prints. */
function start(script: string, wheel: string, args: readonly string[] = [], env = {}): Promise<string> {
  const child = spawn(join(tools, "bin/python"), [here(script), source(wheel), ...args], {
    env: { ...process.env, PYTHONDONTWRITEBYTECODE: "1", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  closing.push(() => child.kill());
  return new Promise((resolve, reject) => {
    let seen = "";
    const hear = (data: Buffer): void => {
      seen += data.toString();
      const port = /^\d+$/m.exec(seen)?.[0];
      if (port !== undefined) resolve(port);
    };
    child.stdout.on("data", hear);
    child.stderr.on("data", hear);
    child.once("exit", (code) => reject(new Error(`${script} ended with ${code}: ${seen}`)));
  });
}

async function page(
  script: string,
  wheel: string,
  args: readonly string[] = [],
  env = {},
): Promise<ProbeResult> {
  return probe(`http://127.0.0.1:${await start(script, wheel, args, env)}/metrics`);
}

/** vLLM's Rust front end in front of two engines of rust_engine.py; resolves to its URL. */
async function startRustFrontEnd(): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "tokenwatt-vllm-"));
  closing.push(() => rmSync(folder, { recursive: true }));
  // It starts its engines as `python3 -m vllm... --data-parallel-rpc-port PORT --data-parallel-size ENGINES`.
  const shim = [
    "#!/bin/sh",
    'for arg in "$@"; do',
    "  case $last in --data-parallel-rpc-port) port=$arg ;; --data-parallel-size) size=$arg ;; esac",
    "  last=$arg",
    "done",
    `exec "${join(tools, "bin/python")}" "${here("rust_engine.py")}" "${source("vllm==0.33.0")}" "$port" "$size"`,
  ];
  writeFileSync(join(folder, "python3"), `${shim.join("\n")}\n`, { mode: 0o755 });
  const port = await freePort();
  const args = ["serve", here("../tiny-model"), "--host", "127.0.0.1", "--port", `${port}`];
  const child = spawn(rustFrontEnd, [...args, "--served-model-name", "one", "--data-parallel-size", "2"], {
    env: {
      ...process.env,
      PATH: `${folder}:${process.env["PATH"]}`,
      PYTHONDONTWRITEBYTECODE: "1",
      VLLM_LOGGING_LEVEL: "ERROR",
    },
    stdio: ["ignore", "ignore", "inherit"],
  });
  closing.push(() => new Promise((resolve) => child.once("exit", resolve) && child.kill()));
  const url = `http://127.0.0.1:${port}`;
  const models = (): Promise<string> =>
    fetch(`${url}/v1/models`).then(
      (response) => response.text(),
      () => "",
    );
  await expect.poll(models, { timeout: 60_000, interval: 200 }).toContain('"id":"one"');
  return url;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const of = (result: ProbeResult, tenant: string | null): unknown =>
  result.readings.find((reading) => reading["tenant"] === tenant);

describe.runIf(usable("vllm==0.33.0"))("vLLM 0.33.0", () => {
  test("counts two engines in one API server", async () => {
    const result = await page("vllm_page.py", "vllm==0.33.0", ["single"]);
    expect(result).toMatchObject({ server: "vllm", ignored_samples: 0, errors: [] });
    expect(result.readings).toMatchObject([
      {
        model: "m",
        input_uncached: 2 * (400_000 + 30 + 30 + 30) + 7,
        input_cached: 2 * (600_000 + 20),
        input_unsplit: null,
        // The aborted request's tokens, and those of the one that still runs, are counted.
        output: 2 * (700_001 + 8 + 5 + 5) + 2,
        requests: { ok: 6, error: 0, aborted: 2, rejected: 4 },
        running: 6,
        waiting: 2,
        kv_cache_utilization: 0.25,
        epoch: expect.stringMatching(/^start:\d+/),
      },
    ]);
  });

  test("counts what two API servers heard, without a start time", async () => {
    const folder = mkdtempSync(join(tmpdir(), "tokenwatt-vllm-"));
    closing.push(() => rmSync(folder, { recursive: true }));
    const result = await page("vllm_page.py", "vllm==0.33.0", ["multi"], {
      PROMETHEUS_MULTIPROC_DIR: folder,
    });
    expect(result).toMatchObject({ server: "vllm", ignored_samples: 0, errors: [] });
    expect(result.readings).toMatchObject([
      { output: 4 * 700_019 + 4, requests: { ok: 12, aborted: 4, rejected: 8 }, running: 6, epoch: null },
    ]);
  });
});

describe.runIf(existsSync(rustFrontEnd))("vLLM's Rust front end 0.33.0", () => {
  test("counts what two engines told it, in OpenMetrics without start times", async () => {
    const url = await startRustFrontEnd();
    const post = async (path: string, more: object): Promise<string> => {
      const body = JSON.stringify({ model: "one", max_tokens: 5, ...more });
      const headers = { "content-type": "application/json" };
      return (await fetch(url + path, { method: "POST", headers, body })).text();
    };
    expect(await post("/v1/completions", { prompt: "a b c a" })).toContain('"completion_tokens":5');
    expect(await post("/v1/completions", { prompt: "a b c a b c", stream: true })).toContain("[DONE]");
    const messages = [{ role: "user", content: "a b c" }];
    expect(await post("/v1/chat/completions", { messages, max_tokens: 7 })).toContain(
      '"completion_tokens":7',
    );
    expect((await fetch(`${url}/metrics`)).headers.get("content-type")).toContain("openmetrics-text");
    const result = await probe(url);
    expect(result).toMatchObject({ server: "vllm", ignored_samples: 0, errors: [] });
    expect(result.readings).toMatchObject([
      {
        model: "one",
        // Half of each prompt, of 4, 6 and 7 tokens, came from the cache.
        input_uncached: 2 + 3 + 4,
        input_cached: 2 + 3 + 3,
        output: 5 + 5 + 7,
        requests: { ok: 3 },
        running: 0,
        waiting: 0,
        epoch: null,
      },
    ]);
  });
});

describe.runIf(usable("sglang==0.5.23"))("SGLang 0.5.23", () => {
  test("counts tenants, cached input of streams and others, and one rank of those that repeat", async () => {
    const result = await page("sglang_page.py", "sglang==0.5.23");
    expect(result).toMatchObject({ server: "sglang", errors: [] });
    expect(of(result, "acme")).toMatchObject({
      model: "m",
      input_uncached: 600 + 250,
      input_cached: 400 + 250,
      output: 240,
      requests: { ok: 2, aborted: null },
    });
    expect(of(result, null)).toMatchObject({
      input_uncached: 70,
      input_cached: 0,
      output: 7,
      requests: { ok: 1, aborted: 1 },
      running: 6,
      waiting: 2,
      kv_cache_utilization: 0.5,
    });
  });
});

describe.runIf(usable("lmdeploy==0.18.0"))("LMDeploy 0.18.0", () => {
  test("counts tokens of every request, and failures that its request counter leaves out", async () => {
    const result = await page("lmdeploy_page.py", "lmdeploy==0.18.0");
    expect(result).toMatchObject({ server: "lmdeploy", ignored_samples: 0, errors: [] });
    expect(result.readings).toMatchObject([
      {
        model: "m",
        input_unsplit: 1110,
        output: 218,
        requests: { ok: 2, error: 2 },
        running: 1,
        waiting: 2,
        kv_cache_utilization: 0.25,
      },
    ]);
  });
});

describe.runIf(usable("kserve==0.21.0"))("KServe 0.21.0", () => {
  test("counts requests and no tokens", async () => {
    const result = await page("kserve_peer.py", "kserve==0.21.0", ["page"]);
    expect(result).toMatchObject({ server: "kserve", ignored_samples: 0, errors: [] });
    expect(result.readings).toMatchObject([
      { model: "m", requests: { ok: 3 }, output: null, input_unsplit: null },
    ]);
  });

  test("has no statistics in its copy of Triton's service, and that is said", async () => {
    const port = await start("kserve_peer.py", "kserve==0.21.0", ["grpc"]);
    await expect(probe(`grpc://127.0.0.1:${port}`, { as: "triton-grpc" })).rejects.toThrow(
      "does not offer inference.GRPCInferenceService",
    );
  });
});
