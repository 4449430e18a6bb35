// Starts LiteLLM's proxy without a database: callers are known by teams.py, models go to an upstream of the test.
import { spawn } from "node:child_process";
import { copyFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { litellm } from "../../../agent/servers/litellm.ts";
import type { PullServerSource } from "../../../agent/source.ts";
import { afterTest, context, freePort, owned, scratchFolder, tool, until } from "../peers.ts";

/** The program, where it is installed. */
export const program = tool("litellm/bin/litellm", "LiteLLM");

/** A running proxy. */
export interface LitellmProxy {
  readonly url: string;
  /** A file with the key its page asks for. */
  readonly keyFile: string;
  /** Sends a chat completion with a caller's key; returns the status and the answer. */
  ask(key: string, model: string, more?: object): Promise<{ readonly status: number; readonly text: string }>;
  /** Reads its page, under its own address and with a key. */
  open(): PullServerSource;
  restart(): Promise<void>;
}

/**
 * A proxy whose models are named by `models` and served under the name they map to at `upstream`; `more`: what it is told
 * of each of them beside, such as what a token costs.
 */
export async function startProxy(
  upstream: string,
  models: Readonly<Record<string, string>>,
  callbacks: readonly string[],
  env: Readonly<Record<string, string>> = {},
  more: object = {},
): Promise<LitellmProxy> {
  const folder = scratchFolder("litellm");
  const list = Object.entries(models).map(([name, served]) => ({
    model_name: name,
    litellm_params: {
      model: `openai/${served}`,
      api_base: upstream,
      api_key: "none",
      max_retries: 0,
      ...more,
    },
  }));
  const config = {
    model_list: list,
    litellm_settings: { callbacks, num_retries: 0 },
    router_settings: { num_retries: 0, disable_cooldowns: true },
    general_settings: { custom_auth: "teams.authorise", always_include_stream_usage: true },
  };
  // JSON is YAML.
  writeFileSync(join(folder, "config.yaml"), JSON.stringify(config));
  copyFileSync(fileURLToPath(new URL("teams.py", import.meta.url)), join(folder, "teams.py"));
  writeFileSync(join(folder, "key"), "sk-none\n");
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  let stop = await start(folder, port, env);
  return {
    url,
    keyFile: join(folder, "key"),
    ask: (key, model, more) => ask(url, key, model, more),
    open: () => {
      const entry = litellm.config.parse({ endpoint: url, bearerFile: join(folder, "key") });
      const source = litellm.open(entry, context) as PullServerSource;
      afterTest(() => source.close());
      return source;
    },
    restart: async () => {
      await stop();
      stop = await start(folder, port, env);
    },
  };
}

async function start(
  folder: string,
  port: number,
  env: Readonly<Record<string, string>>,
): Promise<() => Promise<void>> {
  const path = program as string;
  const args = [
    "--config",
    "config.yaml",
    "--host",
    "127.0.0.1",
    "--port",
    String(port),
    "--telemetry",
    "False",
  ];
  const child = spawn(path, args, {
    cwd: folder,
    env: {
      ...process.env,
      ...env,
      LITELLM_LOCAL_MODEL_COST_MAP: "True",
      PATH: `${dirname(path)}:/usr/bin:/bin`,
    },
    stdio: "ignore",
  });
  const stop = owned(child);
  await until(async () => (await fetch(`http://127.0.0.1:${port}/health/liveliness`)).ok);
  return stop;
}

async function ask(
  url: string,
  key: string,
  model: string,
  more: object = {},
): Promise<{ readonly status: number; readonly text: string }> {
  const messages = [{ role: "user", content: "hi" }];
  const response = await fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: JSON.stringify({ model, messages, ...more }),
  });
  return { status: response.status, text: await response.text() };
}
