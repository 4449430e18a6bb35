// LiteLLM's real proxy before an upstream of ours that reports usage: its page, and what its `otel` callback pushes.
import { isDeepStrictEqual } from "node:util";
import { describe, expect, test } from "vitest";
import { probe } from "../../../agent/cli/probe-target.ts";
import { Increments } from "../../../agent/meter/counters/increments.ts";
import type { TokenSample } from "../../../agent/model.ts";
import { openOtlp, otlp } from "../../../agent/servers/otlp/index.ts";
import { afterTest, context, until } from "../peers.ts";
import type { LitellmProxy } from "./proxy.ts";
import { program, startProxy } from "./proxy.ts";
import type { Upstream } from "./upstream.ts";
import { reported, startUpstream } from "./upstream.ts";

const models = { small: "small-1", broken: "broken", busy: "busy" };

async function start(
  callbacks: readonly string[],
  env?: Record<string, string>,
): Promise<{ readonly proxy: LitellmProxy; readonly upstream: Upstream }> {
  const upstream = await startUpstream();
  afterTest(() => upstream.close());
  return { proxy: await startProxy(upstream.url, models, callbacks, env), upstream };
}

/** What `requests` answers of the upstream come to. */
const times = (requests: number): Record<string, number> => ({
  input_uncached: requests * (reported.prompt - reported.cached),
  input_cached: requests * reported.cached,
  output: requests * reported.completion,
});

describe.runIf(program !== undefined)("LiteLLM's proxy", () => {
  test("counts what the upstream reported, by team and outcome, from a tenant's first request on", async () => {
    const { proxy, upstream } = await start(["prometheus"]);
    const source = proxy.open();
    const increments = new Increments({ agentStarted: context.clock.now() });
    const seen = new Map<string, Record<string, number>>();
    const poll = async (): Promise<TokenSample> => {
      const sample = await source.poll();
      for (const { model, tenant, tokens, requests } of increments.countSample(sample).increments) {
        const of = seen.get(`${model} ${tenant}`) ?? {};
        for (const [name, amount] of Object.entries({ ...tokens, ...requests }))
          of[name] = (of[name] ?? 0) + amount;
        seen.set(`${model} ${tenant}`, of);
      }
      return sample;
    };
    // What LiteLLM logs comes a little after its answers.
    const settle = async (expected: object): Promise<void> => {
      const settled = async (): Promise<boolean> =>
        (await poll()) !== undefined && isDeepStrictEqual(Object.fromEntries(seen), expected);
      await until(settled, 30).catch(() => {});
      expect(Object.fromEntries(seen)).toEqual(expected);
    };
    await poll();
    await poll();
    expect(await proxy.ask("sk-a", "small")).toMatchObject({ status: 200 });
    expect(await proxy.ask("sk-a", "small", { stream: true })).toMatchObject({ status: 200 });
    await settle({ "small-1 team-a": { ...times(2), ok: 2 } });
    // What the proxy itself lets the team spend, and that it found what was spent before.
    expect((await poll()).limits).toEqual([
      { tenant: "team-a", currency: "USD", limit: 25, remaining: expect.closeTo(21.5, 1) },
    ]);
    expect(await proxy.ask("sk-b", "small", { stream: true })).toMatchObject({ status: 200 });
    expect(await proxy.ask("sk-none", "small", { user: "end-1" })).toMatchObject({ status: 200 });
    expect(await proxy.ask("sk-a", "broken")).toMatchObject({ status: 500 });
    expect(await proxy.ask("sk-a", "busy")).toMatchObject({ status: 429 });
    expect(await proxy.ask("sk-wrong", "small")).toMatchObject({ status: 401 });
    await settle({
      "small-1 team-a": { ...times(2), ok: 2 },
      "small-1 team-b": { ...times(1), ok: 1 },
      "small-1 undefined": { ...times(1), ok: 1 },
      "broken team-a": { error: 1 },
      "busy team-a": { rejected: 1 },
    });
    const sample = await poll();
    expect(sample).toMatchObject({ errors: [] });
    expect(upstream.answered).toEqual(new Map([["small-1", 4]]));
    const first = sample.readings.find(
      (reading) => reading.tenant === "team-a" && reading.model === "small-1",
    );
    expect(first).toMatchObject({
      reasoningTokens: 2 * reported.reasoning,
      latencies: {
        "request_duration ok": { count: 2 },
        "time_to_first_token ok": { count: 1 },
        "queue_time ok": { count: 2 },
      },
    });
    // What failed or was refused is timed nowhere.
    const timed = sample.readings.flatMap(({ latencies = {} }) => Object.values(latencies));
    const whole = sample.readings.map(({ latencies }) => latencies?.["request_duration ok"]?.count ?? 0);
    expect(whole.reduce((sum, one) => sum + one, 0)).toBe(4);
    expect(timed.every(({ count }) => count <= 4)).toBe(true);
    await expect(probe(`${proxy.url}/metrics`)).rejects.toThrow("401");
    await proxy.restart();
    expect(await proxy.ask("sk-a", "small")).toMatchObject({ status: 200 });
    await settle({
      "small-1 team-a": { ...times(3), ok: 3 },
      "small-1 team-b": { ...times(1), ok: 1 },
      "small-1 undefined": { ...times(1), ok: 1 },
      "broken team-a": { error: 1 },
      "busy team-a": { rejected: 1 },
    });
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
      afterTest(() => receiver.close());
      let last: TokenSample | undefined;
      void receiver.run(async (reading) => {
        if (!("reason" in reading)) last = reading;
      });
      const { proxy } = await start(["otel"], {
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
