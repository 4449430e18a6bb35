// The metrics code of engines themselves, from their released packages, driven without a model: what the page of vLLM,
// SGLang, LMDeploy and KServe really says, against what was put in. Only torch and the like are stand-ins (stubs.py).
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, test } from "vitest";
import type { ProbeResult } from "../../../agent/cli/probe-target.ts";
import { probe } from "../../../agent/cli/probe-target.ts";

const cache = process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache");
const tools = join(process.env["TOKENWATT_TOOLS"] ?? join(cache, "tokenwatt-tools"), "engines");
const source = (wheel: string): string => join(tools, "source", wheel);

function usable(wheel: string): boolean {
  if (existsSync(source(wheel))) return true;
  console.warn(
    `SKIPPED: metrics code of ${wheel}, because ${source(wheel)} is not here; run install-tools.sh`,
  );
  return false;
}

const closing: (() => unknown)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

/** Starts a script of this folder; resolves to the port it prints. */
function start(script: string, wheel: string, args: readonly string[] = [], env = {}): Promise<string> {
  const path = fileURLToPath(new URL(script, import.meta.url));
  const child = spawn(join(tools, "bin/python"), [path, source(wheel), ...args], {
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
    await expect(probe(`grpc://127.0.0.1:${port}`, "triton-grpc")).rejects.toThrow(
      "does not offer inference.GRPCInferenceService",
    );
  });
});
