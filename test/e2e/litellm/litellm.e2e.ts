// LiteLLM's real proxy before an upstream of ours that reports usage: its page, and what its `otel` callback pushes.
import { spawn } from "node:child_process";
import { copyFileSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { createServer } from "node:net";
import { homedir, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, test } from "vitest";
import { probe } from "../../../agent/cli/probe-target.ts";
import { systemClock } from "../../../agent/clock.ts";
import { silentLog } from "../../../agent/log.ts";
import { Increments } from "../../../agent/meter/increments.ts";
import type { TokenSample } from "../../../agent/model.ts";
import { litellm } from "../../../agent/servers/litellm.ts";
import { openOtlp, otlp } from "../../../agent/servers/otlp.ts";
import type { PullServerSource } from "../../../agent/source.ts";
import type { Upstream } from "./upstream.ts";
import { reported, startUpstream } from "./upstream.ts";

const cache = process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache");
const program = join(process.env["TOKENWATT_TOOLS"] ?? join(cache, "tokenwatt-tools"), "litellm/bin/litellm");
const usable = existsSync(program);
if (!usable) console.warn(`SKIPPED: LiteLLM, because ${program} is not here; run test/e2e/install-tools.sh`);

const context = { clock: systemClock(), log: silentLog, signal: new AbortController().signal };
const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

interface Proxy {
  readonly url: string;
  readonly folder: string;
  readonly upstream: Upstream;
  /** Sends a chat completion with a caller's key; returns the status. */
  ask(key: string, model: string, more?: object): Promise<number>;
}

async function startProxy(callbacks: readonly string[], env: Record<string, string> = {}): Promise<Proxy> {
  const upstream = await startUpstream();
  closing.push(() => upstream.close());
  const folder = mkdtempSync(join(tmpdir(), "tokenwatt-litellm-"));
  closing.push(() => rmSync(folder, { recursive: true, force: true }));
  const to = (model: string): string =>
    `{model: openai/${model}, api_base: "${upstream.url}", api_key: none, max_retries: 0}`;
  const config = join(folder, "config.yaml");
  writeFileSync(
    config,
    `model_list:
  - {model_name: small, litellm_params: ${to("small-1")}}
  - {model_name: broken, litellm_params: ${to("broken")}}
  - {model_name: busy, litellm_params: ${to("busy")}}
litellm_settings: {callbacks: ${JSON.stringify(callbacks)}, num_retries: 0}
router_settings: {num_retries: 0, disable_cooldowns: true}
general_settings: {custom_auth: teams.authorise, always_include_stream_usage: true}
`,
  );
  copyFileSync(fileURLToPath(new URL("teams.py", import.meta.url)), join(folder, "teams.py"));
  const port = await freePort();
  const args = ["--config", config, "--host", "127.0.0.1", "--port", String(port), "--telemetry", "False"];
  const child = spawn(program, args, {
    cwd: folder,
    env: {
      ...process.env,
      ...env,
      LITELLM_LOCAL_MODEL_COST_MAP: "True",
      PATH: `${dirname(program)}:/usr/bin:/bin`,
    },
    stdio: "ignore",
  });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  closing.push(async () => {
    child.kill();
    await ended;
  });
  const url = `http://127.0.0.1:${port}`;
  await until(async () => (await fetch(`${url}/health/liveliness`)).ok);
  return { url, folder, upstream, ask: (key, model, more) => ask(url, key, model, more) };
}

async function ask(url: string, key: string, model: string, more: object = {}): Promise<number> {
  const messages = [{ role: "user", content: "hi" }];
  const response = await fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: JSON.stringify({ model, messages, ...more }),
  });
  await response.text();
  return response.status;
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer();
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

/** Waits until `check` holds; failures on the way count as not yet. */
async function until(check: () => Promise<boolean> | boolean): Promise<void> {
  for (let tries = 0; ; tries++) {
    if (await Promise.resolve(check()).catch(() => false)) return;
    if (tries > 300) throw new Error(`Gave up waiting until ${check}`);
    await context.clock.sleep(400, context.signal);
  }
}

/** What `requests` answers of the upstream come to. */
const times = (requests: number): Record<string, number> => ({
  input_uncached: requests * (reported.prompt - reported.cached),
  input_cached: requests * reported.cached,
  output: requests * reported.completion,
});

describe.runIf(usable)("LiteLLM's proxy", () => {
  test("counts what the upstream reported, by team and outcome, from a tenant's first request on", async () => {
    const proxy = await startProxy(["prometheus"]);
    const bearerFile = join(proxy.folder, "key");
    writeFileSync(bearerFile, "sk-none\n");
    const entry = litellm.config.parse({ endpoint: proxy.url, bearerFile });
    const source = litellm.open(entry, context) as PullServerSource;
    closing.push(() => source.close());
    const increments = new Increments({ agentStarted: context.clock.now() });
    const seen = new Map<string, Record<string, number>>();
    const poll = async (): Promise<TokenSample> => {
      const sample = await source.poll();
      for (const { model, tenant, tokens, requests } of increments.accept(sample).increments) {
        const of = seen.get(`${model} ${tenant}`) ?? {};
        for (const [name, amount] of Object.entries({ ...tokens, ...requests }))
          of[name] = (of[name] ?? 0) + amount;
        seen.set(`${model} ${tenant}`, of);
      }
      return sample;
    };
    await poll();
    await poll();
    expect(await proxy.ask("sk-a", "small")).toBe(200);
    expect(await proxy.ask("sk-a", "small", { stream: true })).toBe(200);
    await until(async () => (await poll()) !== undefined && seen.get("small-1 team-a")?.["ok"] === 2);
    expect(await proxy.ask("sk-b", "small", { stream: true })).toBe(200);
    expect(await proxy.ask("sk-none", "small", { user: "end-1" })).toBe(200);
    expect(await proxy.ask("sk-a", "broken")).toBe(500);
    expect(await proxy.ask("sk-a", "busy")).toBe(429);
    expect(await proxy.ask("sk-wrong", "small")).toBe(401);
    await until(async () => (await poll()) !== undefined && seen.size === 5);
    const sample = await poll();
    expect(sample).toMatchObject({ errors: [] });
    expect(Object.fromEntries(seen)).toEqual({
      "small-1 team-a": { ...times(2), ok: 2 },
      "small-1 team-b": { ...times(1), ok: 1 },
      "small-1 undefined": { ...times(1), ok: 1 },
      "broken team-a": { error: 1 },
      "busy team-a": { rejected: 1 },
    });
    expect(proxy.upstream.answered).toEqual(new Map([["small-1", 4]]));
    const first = sample.readings.find(
      (reading) => reading.tenant === "team-a" && reading.model === "small-1",
    );
    expect(first).toMatchObject({
      reasoningTokens: 2 * reported.reasoning,
      latencies: {
        request_duration: { count: 2 },
        time_to_first_token: { count: 1 },
        queue_time: { count: 2 },
      },
    });
    await expect(probe(`${proxy.url}/metrics`)).rejects.toThrow("401");
  });

  test.each([
    ["metrics", { input_unsplit: 2 * reported.prompt, output: 2 * reported.completion }, undefined],
    ["traces", { input_unsplit: 2 * reported.prompt, output: 2 * reported.completion }, { error: 1 }],
  ] as const)(
    "pushes %s over gRPC, tokens equal to what the upstream reported",
    async (signal, tokens, failed) => {
      const entry = otlp.config.parse({
        endpoint: "127.0.0.1:1",
        signals: [signal],
        tenantAttribute: "metadata.user_api_key_team_id",
      });
      const receiver = openOtlp(
        { ...(entry as Parameters<typeof openOtlp>[0]), endpoint: "127.0.0.1:0" },
        context,
      );
      closing.push(() => receiver.close());
      let last: TokenSample | undefined;
      void receiver.run(async (reading) => {
        if (!("reason" in reading)) last = reading;
      });
      const proxy = await startProxy(["otel"], {
        OTEL_EXPORTER: "otlp_grpc",
        OTEL_ENDPOINT: `http://127.0.0.1:${await receiver.listening}`,
        OTEL_METRIC_EXPORT_INTERVAL: "1000",
        OTEL_BSP_SCHEDULE_DELAY: "300",
        LITELLM_OTEL_INTEGRATION_ENABLE_METRICS: String(signal === "metrics"),
      });
      const reading = (model: string, team: string): unknown =>
        last?.readings.find((each) => each.model === model && each.tenant === team);
      await proxy.ask("sk-a", "small");
      await proxy.ask("sk-a", "small", { stream: true });
      await proxy.ask("sk-b", "small");
      if (failed !== undefined) await proxy.ask("sk-a", "broken");
      await until(
        () => reading("small-1", "team-b") !== undefined && last?.readings.length === (failed ? 3 : 2),
      );
      await until(() => JSON.stringify(reading("small-1", "team-a")).includes('"ok":2'));
      expect(reading("small-1", "team-a")).toMatchObject({ tokens, requests: { ok: 2 } });
      expect(reading("small-1", "team-b")).toMatchObject({ requests: { ok: 1 } });
      if (failed !== undefined)
        expect(reading("broken", "team-a")).toMatchObject({ tokens: {}, requests: failed });
    },
  );
});
