// The real llama-server on a tiny model: its page against the usage in its own answers, a restart, and router mode.
import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { createServer } from "node:net";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { systemClock } from "../../../agent/clock.ts";
import { silentLog } from "../../../agent/log.ts";
import { Increments } from "../../../agent/meter/increments.ts";
import type { TokenReading, TokenSample } from "../../../agent/model.ts";
import { llamaCpp } from "../../../agent/servers/llama-cpp.ts";
import type { PullServerSource } from "../../../agent/source.ts";
import { tinyModel } from "./tiny-model.ts";

const cache = process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache");
const program = join(process.env["TOKENWATT_TOOLS"] ?? join(cache, "tokenwatt-tools"), "llama-server");
const usable = existsSync(program);
if (!usable)
  console.warn(
    `SKIPPED: llama.cpp, because ${program} is not here; run TOKENWATT_BUILD_LLAMA_CPP=1 sh test/e2e/llama-cpp/install.sh`,
  );

const context = { clock: systemClock(), log: silentLog, signal: new AbortController().signal };
const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

function modelFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "tokenwatt-llama-"));
  closing.push(() => rmSync(folder, { recursive: true, force: true }));
  mkdirSync(join(folder, "models"));
  writeFileSync(join(folder, "models", "tiny.gguf"), tinyModel());
  return join(folder, "models");
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill();
  await ended;
}

async function start(port: number, ...args: readonly string[]): Promise<ChildProcess> {
  const where = [
    "--host",
    "127.0.0.1",
    "--port",
    String(port),
    "--metrics",
    "-c",
    "2048",
    "-np",
    "2",
    "-t",
    "1",
  ];
  const child = spawn(program, [...where, ...args], { stdio: "ignore" });
  closing.push(() => stop(child));
  await until(async () => (await fetch(`http://127.0.0.1:${port}/health`)).ok);
  return child;
}

/** Waits until `check` holds; failures on the way count as not yet. */
async function until(check: () => Promise<boolean> | boolean): Promise<void> {
  for (let tries = 0; ; tries++) {
    if (
      await Promise.resolve()
        .then(check)
        .catch(() => false)
    )
      return;
    if (tries > 300) throw new Error(`Gave up waiting until ${check}`);
    await context.clock.sleep(100, context.signal);
  }
}

function open(endpoint: string): PullServerSource {
  const source = llamaCpp.open(llamaCpp.config.parse({ endpoint }), context) as PullServerSource;
  closing.push(() => source.close());
  return source;
}

interface Usage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly prompt_tokens_details: { readonly cached_tokens: number };
}

/** Completes `prompt` by `tokens` tokens; returns what the server says that took. */
async function complete(port: number, prompt: string, tokens: number): Promise<Usage> {
  const response = await fetch(`http://127.0.0.1:${port}/v1/completions`, {
    method: "POST",
    body: JSON.stringify({ prompt, max_tokens: tokens, ignore_eos: true }),
  });
  expect(response.status).toBe(200);
  return ((await response.json()) as { usage: Usage }).usage;
}

/** What several answers used, in our kinds. */
function sum(usages: readonly Usage[]): TokenReading["tokens"] {
  const total = (of: (usage: Usage) => number): number => usages.reduce((all, usage) => all + of(usage), 0);
  const cached = total((usage) => usage.prompt_tokens_details.cached_tokens);
  return {
    input_uncached: total((usage) => usage.prompt_tokens) - cached,
    input_cached: cached,
    output: total((usage) => usage.completion_tokens),
  };
}

describe.runIf(usable)("llama-server", () => {
  test("counts as its own answers say, hits of the prompt cache apart, and tells its runs apart", async () => {
    const [model, port] = [join(modelFolder(), "tiny.gguf"), await freePort()];
    const child = await start(port, "-m", model);
    await complete(port, "history of before the agent", 5);
    const source = open(`127.0.0.1:${port}`);
    const increments = new Increments({ agentStarted: context.clock.now() });
    const poll = async (): Promise<readonly [TokenSample, TokenReading["tokens"] | undefined]> => {
      const sample = await source.poll();
      return [sample, increments.accept(sample).increments[0]?.tokens];
    };
    const [idle, history] = await poll();
    expect(history).toBeUndefined();
    expect(idle).toMatchObject({ ignoredSamples: 0, errors: [] });
    expect(idle.readings).toMatchObject([{ running: 0, waiting: 0, volume: "finish", progressKind: "step" }]);
    const prompt = "the same beginning of two prompts, ";
    const used = [await complete(port, prompt, 40), await complete(port, `${prompt}and an end`, 30)];
    expect(used[1]?.prompt_tokens_details.cached_tokens).toBeGreaterThan(10);
    const [worked, tokens] = await poll();
    expect(tokens).toEqual(sum(used));
    expect(worked.activeNanos).toBeGreaterThan(idle.activeNanos ?? Number.POSITIVE_INFINITY);
    expect(worked.readings[0]?.epoch).toBe(idle.readings[0]?.epoch);

    await stop(child);
    await expect(source.poll()).rejects.toThrow("nothing listens");
    await start(port, "-m", model);
    const after = [await complete(port, prompt, 7), await complete(port, prompt, 8)];
    const [again, counted] = await poll();
    expect(again.readings[0]?.epoch).not.toBe(worked.readings[0]?.epoch);
    expect(counted).toEqual(sum(after));
  });

  test("as router is read without loading a model", async () => {
    const [folder, port] = [modelFolder(), await freePort()];
    await start(port, "--models-dir", folder);
    const status = async (): Promise<string | undefined> => {
      const models = await (await fetch(`http://127.0.0.1:${port}/v1/models`)).text();
      return /"status":\{"value":"([a-z]+)"/.exec(models)?.[1];
    };
    await expect(open(`127.0.0.1:${port}`).poll()).rejects.toThrow("400");
    const source = open(`http://127.0.0.1:${port}/metrics?model=tiny`);
    await expect(source.poll()).rejects.toThrow(/it answers 4\d\d/);
    expect(await status()).toBe("unloaded");
    const response = await fetch(`http://127.0.0.1:${port}/v1/completions`, {
      method: "POST",
      body: JSON.stringify({ model: "tiny", prompt: "hello", max_tokens: 9, ignore_eos: true }),
    });
    const { usage } = (await response.json()) as { usage: Usage };
    expect(await status()).toBe("loaded");
    expect((await source.poll()).readings).toMatchObject([{ tokens: sum([usage]) }]);
  });
});
