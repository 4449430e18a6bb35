// Real python peers: pages of prometheus_client in one process and in several, and an OpenTelemetry SDK that pushes.
import type { ChildProcess } from "node:child_process";
import { execFile, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterEach, describe, expect, test } from "vitest";
import { probe } from "../../../agent/cli/probe-target.ts";
import { systemClock } from "../../../agent/clock.ts";
import { silentLog } from "../../../agent/log.ts";
import type { TokenSample } from "../../../agent/model.ts";
import { openOtlp, otlp } from "../../../agent/servers/otlp.ts";

const cache = process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache");
const python = join(process.env["TOKENWATT_TOOLS"] ?? join(cache, "tokenwatt-tools"), "python/bin/python");
const usable = existsSync(python);
if (!usable)
  console.warn(`SKIPPED: python peers, because ${python} is not here; run test/e2e/install-tools.sh`);

const script = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

async function servePage(kind: "single" | "multi"): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "tokenwatt-python-"));
  const env = kind === "multi" ? { ...process.env, PROMETHEUS_MULTIPROC_DIR: folder } : process.env;
  const child: ChildProcess = spawn(python, [script("metrics_server.py"), kind], {
    env,
    stdio: ["ignore", "pipe", "inherit"],
  });
  closing.push(() => {
    child.kill();
    rmSync(folder, { recursive: true });
  });
  const port = await new Promise<string>((resolve, reject) => {
    child.stdout?.once("data", (data: Buffer) => resolve(data.toString().trim()));
    child.once("exit", (code) => reject(new Error(`metrics_server.py ended with ${code}`)));
  });
  return `http://127.0.0.1:${port}/metrics`;
}

describe.runIf(usable)("python peers", () => {
  test("a page of prometheus_client in one process", async () => {
    const result = await probe(await servePage("single"));
    expect(result).toMatchObject({ server: "vllm", ignored_samples: 0, errors: [] });
    expect(result.readings).toMatchObject([
      {
        model: "m",
        input_uncached: 2_000_000,
        input_cached: 1_000_000,
        input_unsplit: null,
        output: 1_400_002,
        running: 6,
        requests: { ok: 4 },
        epoch: expect.stringMatching(/^start:\d+\.\d+$/),
      },
    ]);
  });

  test("a page of prometheus_client over several processes, without start times", async () => {
    const result = await probe(await servePage("multi"));
    expect(result).toMatchObject({ server: "sglang", errors: [] });
    expect(result.readings).toMatchObject([
      { model: "m", input_uncached: 1230, input_cached: 0, output: 123, running: 2, epoch: null },
    ]);
  });

  test.each(["delta", "cumulative"])(
    "an OpenTelemetry SDK that pushes %s metrics over gRPC",
    async (temporality) => {
      const context = { clock: systemClock(), log: silentLog, signal: new AbortController().signal };
      const entry = otlp.config.parse({ endpoint: "127.0.0.1:1", tenantAttribute: "team" });
      const source = openOtlp(
        { ...(entry as Parameters<typeof openOtlp>[0]), endpoint: "127.0.0.1:0" },
        context,
      );
      closing.push(() => source.close());
      const samples: TokenSample[] = [];
      void source.run(async (reading) => {
        if (!("reason" in reading)) samples.push(reading);
      });
      const target = `127.0.0.1:${await source.listening}`;
      await promisify(execFile)(python, [script("otlp_push.py"), target, temporality]);
      expect(samples.at(-1)?.readings).toMatchObject([
        {
          model: "m",
          tenant: "a",
          tokens: { input_uncached: 180, input_cached: 120, output: 90 },
          requests: { ok: 3 },
          latencies: { request_duration: { count: 3, sum: 4.5 } },
        },
      ]);
    },
  );
});
