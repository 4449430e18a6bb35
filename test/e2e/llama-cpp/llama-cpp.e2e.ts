// The real llama-server on a tiny model: its page against the usage in its own answers, a restart, router mode, and LiteLLM
// before it, which must count the same.
import { spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Increments } from "../../../agent/meter/counters/increments.ts";
import type { TokenReading, TokenSample } from "../../../agent/model.ts";
import { llamaCpp } from "../../../agent/servers/llama-cpp.ts";
import type { PullServerSource } from "../../../agent/source.ts";
import { program as litellm, startProxy } from "../litellm/proxy.ts";
import { afterTest, context, freePort, owned, scratchFolder, tool, until } from "../peers.ts";
import { tinyModel } from "./tiny-model.ts";

const program = tool("llama-server", "llama.cpp", "E2E_LLAMA_CPP=1 sh test/e2e/llama-cpp/install.sh");

function modelFolder(): string {
  const folder = join(scratchFolder("llama"), "models");
  mkdirSync(folder);
  writeFileSync(join(folder, "tiny.gguf"), tinyModel());
  return folder;
}

async function start(port: number, ...args: readonly string[]): Promise<() => Promise<void>> {
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
  const stop = owned(spawn(program as string, [...where, ...args], { stdio: "ignore" }));
  await until(async () => (await fetch(`http://127.0.0.1:${port}/health`)).ok);
  return stop;
}

function open(endpoint: string): PullServerSource {
  const source = llamaCpp.open(llamaCpp.config.parse({ endpoint }), context) as PullServerSource;
  afterTest(() => source.close());
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

describe.runIf(program !== undefined)("llama-server", () => {
  test("counts as its own answers say, hits of the prompt cache apart, and tells its runs apart", async () => {
    const [model, port] = [join(modelFolder(), "tiny.gguf"), await freePort()];
    const stop = await start(port, "-m", model);
    await complete(port, "history of before the agent", 5);
    const source = open(`127.0.0.1:${port}`);
    const increments = new Increments({ agentStarted: context.clock.now() });
    const poll = async (): Promise<readonly [TokenSample, TokenReading["tokens"] | undefined]> => {
      const sample = await source.poll();
      return [sample, increments.countSample(sample).increments[0]?.tokens];
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

    await stop();
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

  test.runIf(litellm !== undefined)("and LiteLLM before it count the same tokens", async () => {
    const port = await freePort();
    await start(port, "-m", join(modelFolder(), "tiny.gguf"));
    const proxy = await startProxy(`http://127.0.0.1:${port}/v1`, { small: "tiny" }, ["prometheus"]);
    const [engine, gateway] = [open(`127.0.0.1:${port}`), proxy.open()];
    const more = { max_tokens: 20, ignore_eos: true };
    for (const stream of [false, true, false]) {
      expect(await proxy.ask("sk-a", "small", { ...more, stream })).toMatchObject({ status: 200 });
    }
    await until(async () => (await gateway.poll()).readings[0]?.requests.ok === 3);
    const [made] = (await engine.poll()).readings;
    const [seen] = (await gateway.poll()).readings;
    expect(seen).toMatchObject({ model: "tiny", tenant: "team-a", tokens: made?.tokens });
    expect(made?.tokens.output).toBe(60);
    expect(made?.tokens.input_cached).toBeGreaterThan(0);
  });
});
