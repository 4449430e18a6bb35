// openServers(): what the configuration says of all servers reaches each of them.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, test } from "vitest";
import { loadConfig } from "../../agent/config/load.ts";
import { openServers } from "../../agent/daemon/sources.ts";
import { virtualClock } from "../../agent/platform/clock.ts";
import { silentLog } from "../../agent/platform/log.ts";
import type { PullServerSource } from "../../agent/source.ts";

test("openServers() names models by the aliases of the configuration", async () => {
  const page = 'vllm:generation_tokens_total{engine="0",model_name="raw"} 5\n';
  const server = createServer((_, response) => response.end(page)).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const endpoint = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const settings = [`servers.vllm=[{ endpoint: "${endpoint}" }]`, "aliases={ raw: org/model }"];
  const { config } = loadConfig({ env: {}, file: false, settings });
  const context = { clock: virtualClock(0n), log: silentLog, signal: new AbortController().signal };
  const sources = openServers(config, context).map(({ source }) => source as PullServerSource);
  const samples = await Promise.all(sources.map((source) => source.poll()));
  expect(samples.flatMap(({ readings }) => readings.map(({ model }) => model))).toEqual(["org/model"]);
  for (const source of sources) await source.close();
  server.close();
});
