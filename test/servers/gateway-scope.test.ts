// Which gateway an entry reads, and which of its records: the same question for every type of source.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { virtualClock } from "../../agent/platform/clock.ts";
import { silentLog } from "../../agent/platform/log.ts";
import { isUpstream } from "../../agent/servers/entry.ts";
import { MetricsReader } from "../../agent/servers/otlp/metrics.ts";
import { SeriesTable } from "../../agent/servers/otlp/series.ts";
import { UsageTotals } from "../../agent/servers/receive/usage-totals.ts";
import { serverTypes } from "../../agent/servers/registry.ts";
import type { ServerType } from "../../agent/source.ts";
import { SourceError } from "../../agent/source.ts";
import { metricsRequest } from "./otlp-messages.ts";

const context = {
  clock: virtualClock(0n),
  log: silentLog,
  signal: new AbortController().signal,
  hostNames: ["n1"],
};
const types = serverTypes.filter(({ name }) => name !== "replay");
const typed = types.map((type) => [type.name, type] as const);
const parsed = (type: ServerType, more: object): never =>
  type.config.parse({ ...type.example, ...more }) as never;

/** What `check` says: undefined where the entry can be used. */
function refusal(type: ServerType, more: object): string | undefined {
  try {
    type.check?.(parsed(type, more));
    return undefined;
  } catch (error) {
    expect(error).toBeInstanceOf(SourceError);
    return (error as SourceError).message;
  }
}

describe.each(typed)("%s", (_, type) => {
  test("names its gateway as configured, or by its address and the host it is of", async () => {
    const names = await Promise.all(
      [{}, { gatewayId: "gw" }].map(async (more) => {
        const source = type.open(parsed(type, more), context);
        await source.close();
        return source.info.gateway;
      }),
    );
    expect(names[0]?.id).toMatch(/^[a-z-]+@n1\//);
    expect(names[1]).toEqual({ id: "gw", scope: "all" });
  });

  test("an engine has no owner and no upstreams; a gateway has both where it can tell them", () => {
    const told = { upstreams: ["10.0.0.1"] };
    const gateways = type.family === "gateway" || type.family === undefined;
    const family = type.family === undefined ? { family: "gateway" } : {};
    expect(refusal(type, { owner: "n1", ...family }) === undefined).toBe(gateways);
    if (!gateways) expect(refusal(type, told)).toMatch(/it is an engine$/);
    else if (type.page !== undefined)
      expect(refusal(type, { ...told, upstreamLabel: "worker" })).toBe(undefined);
  });
});

test("a gateway whose pages name no upstream refuses upstreams, and says what to do", () => {
  const refused = types.filter((type) => type.family === "gateway" && refusal(type, { upstreams: ["a"] }));
  expect(refused.map(({ name }) => name)).toContain("litellm");
  for (const type of refused)
    expect(refusal(type, { upstreams: ["a"] })).toMatch(/does not say who answered$/);
});

test("isUpstream() splits what was answered: every address is of exactly one host", () => {
  const host = fc.nat(3).map((at) => `10.0.0.${at}`);
  const written = fc.tuple(host, fc.constantFrom("", ":8000"), fc.constantFrom("", "http://"));
  fc.assert(
    fc.property(fc.array(written), (all) => {
      const upstreams = all.map(([name, port, scheme]) => `${scheme}${name}${port}`);
      const mine = [0, 1, 2, 3].map((at) => upstreams.filter((each) => isUpstream(each, [`10.0.0.${at}`])));
      expect(mine.flat().toSorted()).toEqual(upstreams.toSorted());
    }),
  );
  expect(isUpstream("10.0.0.10:8000", ["10.0.0.1"])).toBe(false);
  expect(isUpstream(undefined, ["10.0.0.1"])).toBe(false);
  expect(isUpstream(undefined, undefined)).toBe(true);
});

test.each([
  ["the convention's attributes", {}, { "server.address": "10.0.0.1", "server.port": "8000" }],
  ["an attribute of the operator's", { upstreamAttribute: "peer" }, { peer: "10.0.0.1:8000" }],
])("OTLP usage counts for its upstreams alone, by %s", (_, names, attributes) => {
  const totals = (upstreams: readonly string[]): number => {
    const info = { id: "r", type: "otlp", family: "gateway", address: "x", pollMs: 1000 } as const;
    const all = new UsageTotals(info, 0, "received:0", 10, upstreams);
    const reader = new MetricsReader(new SeriesTable(0), { ...names, upstreams });
    const name = "gen_ai.client.inference.usage.output_tokens";
    const point = (sum: number, more: object) => ({ sum, start: 1, time: 2, attributes: { ...more } });
    reader.take(metricsRequest([{ name, points: [point(5, attributes), point(7, {})] }]), all, () => true);
    return (all.sample(3, "gateway").usage ?? []).reduce((sum, { tokens }) => sum + (tokens.output ?? 0), 0);
  };
  expect([["10.0.0.1"], ["10.0.0.1:8000"], ["10.0.0.2"]].map(totals)).toEqual([5, 5, 0]);
});
