// openServer(): `aliases` of the configuration hold for every server, and an entry's own names go before them.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { openServer } from "../../agent/config/open-server.ts";
import { virtualClock } from "../../agent/platform/clock.ts";
import { silentLog } from "../../agent/platform/log.ts";
import { serverTypes } from "../../agent/servers/registry.ts";
import type { PullServerSource, SourceContext } from "../../agent/source.ts";

const closing: (() => unknown)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

/** Output tokens by model, of a vLLM page with 5 tokens of `raw`, 7 of `raw-2` and 11 of `other`. */
async function outputs(
  aliases: SourceContext["aliases"],
  modelAliases?: Readonly<Record<string, string>>,
): Promise<Readonly<Record<string, number>>> {
  const counted = { raw: 5, "raw-2": 7, other: 11 };
  const lines = Object.entries(counted).map(
    ([model, tokens]) => `vllm:generation_tokens_total{engine="0",model_name="${model}"} ${tokens}\n`,
  );
  const server = createServer((_, response) => response.end(lines.join(""))).listen(0, "127.0.0.1");
  closing.push(() => server.close());
  await new Promise((resolve) => server.once("listening", resolve));
  const vllm = serverTypes.find(({ name }) => name === "vllm");
  const endpoint = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const entry = vllm?.config.parse({ endpoint, ...(modelAliases === undefined ? {} : { modelAliases }) });
  const context: SourceContext = {
    clock: virtualClock(0n),
    log: silentLog,
    signal: new AbortController().signal,
    ...(aliases === undefined ? {} : { aliases }),
  };
  const source = openServer(vllm as NonNullable<typeof vllm>, entry, context) as PullServerSource;
  closing.push(() => source.close());
  const { readings } = await source.poll();
  return Object.fromEntries(readings.map(({ model, tokens }) => [model ?? "", tokens.output ?? 0]));
}

describe("openServer()", () => {
  test("names models as they are served, and adds up those of one name", async () => {
    expect(await outputs({ raw: "org/model", "raw-2": "org/model" })).toEqual({ "org/model": 12, other: 11 });
    expect(await outputs(undefined)).toEqual({ raw: 5, "raw-2": 7, other: 11 });
  });

  test("lets an entry's own names go before, which may be aliases themselves", async () => {
    const aliases = { raw: "not/this", product: "org/model" };
    expect(await outputs(aliases, { raw: "mine", "raw-2": "product" })).toEqual({
      mine: 5,
      "org/model": 7,
      other: 11,
    });
  });

  test.each(serverTypes.filter(({ name }) => name !== "replay"))("reaches every type: $name", (type) => {
    const seen: unknown[] = [];
    const open = (entry: unknown): never => {
      seen.push(entry);
      throw new Error("seen");
    };
    const context = { clock: virtualClock(0n), log: silentLog, signal: new AbortController().signal };
    const entry = type.config.parse(type.example);
    expect(() => openServer({ ...type, open }, entry, { ...context, aliases: { a: "b" } })).toThrow("seen");
    expect(seen).toEqual([{ ...(entry as object), modelAliases: { a: "b" } }]);
  });
});
