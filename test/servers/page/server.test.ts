import { readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { explainPage } from "../../../agent/discovery/explain.ts";
import { Increments } from "../../../agent/meter/counters/increments.ts";
import type { TokenReading } from "../../../agent/model.ts";
import { parsePage } from "../../../agent/page/parse.ts";
import { systemClock, virtualClock } from "../../../agent/platform/clock.ts";
import { silentLog } from "../../../agent/platform/log.ts";
import { envoyAiGateway } from "../../../agent/servers/envoy-ai-gateway.ts";
import { kong } from "../../../agent/servers/kong.ts";
import { litellm } from "../../../agent/servers/litellm.ts";
import { llamaCpp } from "../../../agent/servers/llama-cpp.ts";
import { llmDEpp } from "../../../agent/servers/llm-d-epp.ts";
import { pageReader, pageUrl } from "../../../agent/servers/page/server.ts";
import { watchFrozen } from "../../../agent/servers/page/watch.ts";
import { prometheusGeneric } from "../../../agent/servers/prometheus-generic.ts";
import { serverTypes } from "../../../agent/servers/registry.ts";
import { sglang } from "../../../agent/servers/sglang.ts";
import { tensorrtLlm } from "../../../agent/servers/tensorrt-llm.ts";
import { vllm } from "../../../agent/servers/vllm.ts";
import type { PullServerSource, ServerType } from "../../../agent/source.ts";

const fixtures = fileURLToPath(new URL("../../fixtures/servers", import.meta.url));
const recording = (name: string): string => readFileSync(`${fixtures}/${name}`, "utf8");
const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});
const context = { clock: systemClock(), log: silentLog, signal: new AbortController().signal };

async function serve(page: () => { body: string; headers?: Record<string, string> }): Promise<string> {
  const server = createServer((_request, response) => {
    const { body, headers } = page();
    response.writeHead(200, headers).end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closing.push(() => {
    server.close();
    server.closeAllConnections();
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function open(type: ServerType, entry: Record<string, unknown>): PullServerSource {
  const source = type.open(type.config.parse(entry), context) as PullServerSource;
  closing.push(() => source.close());
  return source;
}

describe("a text server", () => {
  test("polls its page and reads it under the entry's aliases, role and product endpoint", async () => {
    const endpoint = await serve(() => ({ body: recording("vllm-0.16-two-engines.prom") }));
    const source = open(vllm, {
      endpoint,
      id: "a",
      modelAliases: { "llama-3.3-70b": "llama" },
      productEndpoint: "chat",
      gpus: ["GPU-1"],
    });
    const sample = await source.poll();
    expect(sample).toMatchObject({
      server: "a",
      family: "engine",
      gpus: ["GPU-1"],
      ignoredSamples: 0,
      errors: [],
    });
    expect(sample.readings).toMatchObject([
      { model: "llama", endpoint: "chat", tokens: { output: 14969502 } },
    ]);
    expect(sample.sent).toBeLessThanOrEqual(sample.at);
    expect(sample.at).toBeLessThanOrEqual(sample.received);
    const began = Number(context.clock.unixNanos(sample.readings[0]?.epochBegan as number)) / 1e9;
    expect(began).toBeCloseTo(1795420913.98, 1);
  });

  test("a decode server counts no input it was handed", () => {
    const reader = pageReader(vllmLike, { role: "decode" });
    const { readings } = reader.read(parsePage(Buffer.from(recording("vllm-0.16-two-engines.prom"))));
    expect(readings[0]).toMatchObject({
      role: "decode",
      tokens: { input_uncached: 5201382, input_cached: 2927520, output: 14969502 },
    });
    expect(readings[0]?.tokens).not.toHaveProperty("input_unsplit");
  });

  test("what was transferred is cached input of a combined server and none of a decode server", () => {
    const labels = 'engine="0",model_name="m"';
    const page = parsePage(
      Buffer.from(
        [
          `vllm:prompt_tokens_total{${labels}} 100`,
          `vllm:prompt_tokens_by_source_total{${labels},source="local_compute"} 50`,
          `vllm:prompt_tokens_by_source_total{${labels},source="local_cache_hit"} 20`,
          `vllm:prompt_tokens_by_source_total{${labels},source="external_kv_transfer"} 30\n`,
        ].join("\n"),
      ),
    );
    const tokens = (role?: "decode") => pageReader(vllmLike, { role }).read(page).readings[0]?.tokens;
    expect(tokens()).toEqual({ input_uncached: 50, input_cached: 50 });
    expect(tokens("decode")).toEqual({ input_uncached: 50, input_cached: 20 });
  });

  test("sources of SGLang's cached tokens are disjoint, and without the counter input stays unsplit", () => {
    const read = (lines: string[]) =>
      sglang.page.read(parsePage(Buffer.from(`${lines.join("\n")}\n`))).readings[0]?.tokens;
    const prompt = 'sglang:prompt_tokens_total{model_name="m"} 100';
    const cached = (source: string, value: number) =>
      `sglang:cached_tokens_total{cache_source="${source}",model_name="m"} ${value}`;
    expect(read([prompt])).toEqual({ input_unsplit: 100 });
    expect(read([prompt, cached("total", 30)])).toEqual({ input_uncached: 70, input_cached: 30 });
    expect(read([prompt, cached("device", 10), cached("host", 5), cached("total", 15)])).toEqual({
      input_uncached: 70,
      input_cached: 30,
    });
    const realtime = 'sglang:realtime_tokens_total{mode="prefill_compute",model_name="m"} 100';
    expect(read([prompt, realtime])).toEqual({ input_uncached: 100, input_cached: 0 });
  });

  test("TensorRT-LLM's input is split from the first request on, not only from the first hit", () => {
    const labels = 'engine_type="trtllm",model_name="m"';
    const prompt = `trtllm_prompt_tokens_total{${labels}} 100`;
    const read = (...lines: string[]) =>
      tensorrtLlm.page.read(parsePage(Buffer.from(`${[prompt, ...lines].join("\n")}\n`))).readings[0]?.tokens;
    const known = `trtllm_prompt_cached_tokens_per_request_count{${labels}} 1`;
    expect(read()).toEqual({ input_unsplit: 100 });
    expect(read(known)).toEqual({ input_uncached: 100, input_cached: 0 });
    expect(read(known, `trtllm_prompt_cached_tokens_total{${labels}} 30`)).toEqual({
      input_uncached: 70,
      input_cached: 30,
    });
  });

  test("says that a page has no token counter, and goes on", async () => {
    const endpoint = await serve(() => ({ body: "up 1\n" }));
    expect((await open(vllm, { endpoint }).poll()).errors).toEqual([
      "no token counter of vllm is on the page",
    ]);
  });

  test("says once what a page without its counters seems to be, as long as it has none", async () => {
    let looks = 0;
    let body = recording("sglang-2026-two-ranks.prom");
    const endpoint = await serve(() => ({ body }));
    const explain = (page: Uint8Array): string | undefined => {
      looks++;
      return explainPage(page, "vllm");
    };
    const source = vllm.open(vllm.config.parse({ endpoint }), { ...context, explainPage: explain });
    closing.push(() => source.close());
    const poll = async () => ((await (source as PullServerSource).poll()).errors ?? []).join("; ");
    expect(await poll()).toMatch(/no token counter of vllm is on the page; the page looks like sglang/);
    expect(await poll()).toMatch(/the page looks like sglang/);
    expect(looks).toBe(1);
    body = recording("vllm-0.16-two-engines.prom");
    expect(await poll()).toBe("");
    expect(looks).toBe(1);
  });

  test("takes llama.cpp's run from its header, which is no time", async () => {
    let start = "2466692687";
    const endpoint = await serve(() => ({
      body: recording("llama-cpp-b6-serving.prom"),
      headers: { "Process-Start-Time-Unix": start },
    }));
    const source = open(llamaCpp, { endpoint });
    const before = (await source.poll()).readings[0];
    start = "2507359344";
    const after = (await source.poll()).readings[0];
    expect(before?.epoch).toBe("header:2466692687");
    expect(before?.epochBegan).toBeUndefined();
    expect(after?.epoch).not.toBe(before?.epoch);
    expect(before).toMatchObject({ progress: { output: 612044 }, progressKind: "step", volume: "finish" });
  });

  test("reads llama.cpp's router without loading the model it names", async () => {
    let asked: string | undefined;
    const server = createServer((request, response) => {
      asked = request.url;
      response.end(recording("llama-cpp-0.5.0-after-work.prom"));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    closing.push(() => server.close());
    const page = `http://127.0.0.1:${(server.address() as AddressInfo).port}/metrics`;
    await open(llamaCpp, { endpoint: `${page}?model=m` }).poll();
    expect(asked).toBe("/metrics?model=m&autoload=false");
    await open(llamaCpp, { endpoint: page }).poll();
    expect(asked).toBe("/metrics");
  });

  test("reads any page by mapping", async () => {
    const body = [
      'my:tokens_total{kind="in",m="x",t="a"} 10',
      'my:tokens_total{kind="hit",m="x",t="a"} 4',
      'my:tokens_total{kind="out",m="x",t="a"} 7',
      'my_done{code="ok",m="x",t="a"} 2',
      'my_ms_bucket{m="x",t="a",le="100"} 1',
      'my_ms_bucket{m="x",t="a",le="+Inf"} 2',
      'my_ms_sum{m="x",t="a"} 400',
      'my_ms_count{m="x",t="a"} 2',
      ...["ok", "limited"].map(
        (code) => `my_queue_bucket{m="x",t="a",code="${code}",le="+Inf"} ${code.length}`,
      ),
      "",
    ].join("\n");
    const endpoint = await serve(() => ({ body }));
    const kind = (value: string) => [{ metric: "my:tokens_total", where: { kind: value } }];
    const source = open(prometheusGeneric, {
      endpoint,
      family: "gateway",
      modelLabel: "m",
      tenantLabel: "t",
      tokens: { input: kind("in"), cached: kind("hit"), output: kind("out") },
      requests: { ok: [{ metric: "my_done", where: { code: "ok" } }] },
      latencies: {
        request_duration: { metric: "my_ms", unit: "ms" },
        queue_time: [
          { metric: "my_queue", where: { code: "ok" }, outcome: "ok" },
          { metric: "my_queue", where: { code: "limited" }, outcome: "rejected" },
        ],
      },
    });
    expect((await source.poll()).readings).toMatchObject([
      {
        model: "x",
        tenant: "a",
        tokens: { input_cached: 4, input_uncached: 6, output: 7 },
        requests: { ok: 2 },
        latencies: {
          request_duration: { bounds: [0.1], counts: [1, 1], sum: 0.4, count: 2 },
          "queue_time ok": { counts: [2] },
          "queue_time rejected": { counts: [7] },
        },
      },
    ]);
  });

  test.each([
    ["localhost:8000", "http://localhost:8000/metrics"],
    ["http://h:1", "http://h:1/metrics"],
    ["http://h:1/x", "http://h:1/x"],
    ["unix:/run/s", "unix:/run/s:/metrics"],
  ])("finds the page behind %s", (endpoint, url) => {
    expect(pageUrl(endpoint, "/metrics", false)).toBe(url);
  });

  test.each(["localhost", "http://", "host:99999", "a b:1"])("refuses the address %j", (endpoint) => {
    expect(vllm.config.safeParse({ endpoint }).error?.issues[0]?.path).toEqual(["endpoint"]);
  });
});

const vllmLike = {
  name: "vllm",
  family: "engine",
  port: 8000,
  path: "/metrics",
  volume: "step",
  labels: { modelLabel: "model_name" },
  families: vllm.page.families ?? [],
  recognises: () => undefined,
  read: (await import("../../../agent/servers/vllm.ts")).readVllm,
} as const;

describe("a polled page", () => {
  test("lets the meter count a tenant's first request, but no history of before the agent", async () => {
    let body = `process_start_time_seconds 5\n${lines("old", 1000)}`;
    const restarted = (): void => {
      body = "process_start_time_seconds 6\n";
    };
    const source = open(litellm, { endpoint: await serve(() => ({ body })) });
    const increments = new Increments({ agentStarted: context.clock.now() });
    const moved: unknown[] = [];
    const poll = async (): Promise<void> => {
      for (const { tenant, tokens } of increments.countSample(await source.poll()).increments)
        moved.push([tenant, tokens.output]);
    };
    await poll();
    await poll();
    body += lines("new", 70);
    await poll();
    await poll();
    expect(moved).toEqual([["new", 70]]);
    restarted();
    await poll();
    body += lines("newer", 3) + lines("old", 5);
    await poll();
    expect(moved.slice(1)).toEqual([
      ["old", 5],
      ["newer", 3],
    ]);
  });
});

const lines = (team: string, tokens: number): string =>
  `litellm_output_tokens_metric_total{model="m",team="${team}"} ${tokens}\n`;

describe("watchFrozen()", () => {
  test("speaks up when requests run and nothing moves for two minutes", async () => {
    const clock = virtualClock(0n);
    const frozen = watchFrozen(clock);
    const reading = (output: number, running: number): TokenReading[] => [
      { role: "combined", tokens: { output }, requests: {}, running, volume: "step" },
    ];
    expect(frozen(reading(5, 3))).toBeUndefined();
    await clock.advance(119e9);
    expect(frozen(reading(5, 3))).toBeUndefined();
    await clock.advance(121e9);
    expect(frozen(reading(5, 3))).toContain("while 3 requests run");
    expect(frozen(reading(6, 3))).toBeUndefined();
  });
});

describe("every page reader", () => {
  const readers = serverTypes.flatMap((type) =>
    type.page === undefined ? [] : [[type.name, type.page] as const],
  );
  const pages = [
    "sglang-2026-two-ranks",
    "litellm-1-one-team",
    "triton-26-vllm-and-trtllm",
    "tgi-3-serving",
  ].map((name) => Buffer.from(recording(`${name}.prom`)));

  test.each(readers)("%s survives any page with changed bytes and never counts below zero", (_, reader) => {
    fc.assert(
      fc.property(
        fc.constantFrom(...pages),
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 15 }),
        (page, changes) => {
          const broken = Buffer.from(page);
          for (const [at, byte] of changes) broken[at % broken.length] = byte;
          const parsed = parsePage(broken);
          reader.recognises(parsed);
          for (const reading of reader.read(parsed).readings) {
            const counts = [...Object.values(reading.tokens), ...Object.values(reading.requests)];
            for (const count of counts) expect(count).toBeGreaterThanOrEqual(0);
          }
        },
      ),
      { numRuns: 25 },
    );
  });

  test("no page is recognised by two of them", () => {
    const names = readdirSync(fixtures).filter((name) => name.endsWith(".prom"));
    expect(names.length).toBeGreaterThan(20);
    for (const name of names) {
      const page = parsePage(readFileSync(`${fixtures}/${name}`));
      const takers = readers
        .filter(([, reader]) => reader.recognises(page) !== undefined)
        .map(([type]) => type);
      expect([name, takers]).toEqual([name, [expect.any(String)]]);
    }
  });

  test("llm-d is read by the newest of its names only", () => {
    const page = (...generations: string[]): string =>
      generations
        .flatMap((prefix) => [
          `${prefix}input_tokens_sum{model_name="m",target_model_name="t"} 30`,
          `${prefix}output_tokens_sum{model_name="m",target_model_name="t"} 7`,
          `${prefix}output_tokens_count{model_name="m",target_model_name="t"} 2`,
        ])
        .join("\n");
    for (const prefixes of [
      ["inference_objective_"],
      ["llm_d_router_epp_", "inference_objective_"],
      ["llm_d_epp_request_", "llm_d_router_epp_", "inference_objective_"],
    ]) {
      const parsed = parsePage(Buffer.from(`${page(...prefixes)}\n`));
      expect(llmDEpp.page.recognises(parsed)).toBe(`${prefixes[0]?.replace(/_(request_)?$/, "")}_* families`);
      expect(llmDEpp.page.read(parsed).readings).toMatchObject([
        { model: "t", tokens: { input_unsplit: 30, output: 7 }, requests: { ok: 2 } },
      ]);
    }
  });

  test("kong's tenant is the consumer where one is named, else the workspace", () => {
    const line = (consumer: string, value: number): string =>
      `kong_ai_llm_tokens_total{ai_model="m",token_type="prompt_tokens",workspace="w",consumer="${consumer}"} ${value}\n`;
    const { readings } = kong.page.read(parsePage(Buffer.from(line("c", 3) + line("", 4))));
    expect(readings.map((reading) => [reading.tenant, reading.tokens.input_unsplit])).toEqual([
      ["c", 3],
      ["w", 4],
    ]);
  });

  test("AI Gateway's model `unknown` is none", () => {
    const line =
      'gen_ai_client_token_usage_sum{gen_ai_request_model="unknown",gen_ai_token_type="output"} 5\n';
    expect(envoyAiGateway.page.read(parsePage(Buffer.from(line))).readings[0]).not.toHaveProperty("model");
  });

  test("litellm keeps unset tenants apart from named ones", () => {
    const page =
      'litellm_output_tokens_metric_total{model="m",team="None"} 1\nlitellm_output_tokens_metric_total{model="m",team="a"} 2\n';
    const readings: readonly TokenReading[] = litellm.page.read(parsePage(Buffer.from(page))).readings;
    expect(readings.map((reading) => [reading.tenant, reading.tokens.output])).toEqual([
      [undefined, 1],
      ["a", 2],
    ]);
  });
});
