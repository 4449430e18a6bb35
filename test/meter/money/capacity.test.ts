// capacity.ts: configured before catalogued before learned; learned only at the limit and with objectives met.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CapacityMeter } from "../../../agent/meter/money/capacity.ts";
import type { CapacityFacts } from "../../../agent/meter/money/capacity-window.ts";
import type { Histogram } from "../../../agent/model.ts";
import { catalogueOf } from "../../fakes/catalogue.ts";
import { factsOf, intervalOf, moved, unixNanos } from "../fixtures.ts";

const product = "NVIDIA H100 80GB HBM3";
const catalogue = catalogueOf({
  version: "v",
  currency: "USD",
  capacity: [{ gpu: "H100", model: "m", tokensPerGpuHour: 30e6 }],
});

/** Runs minutes of one GPU at a token rate; returns the capacity tokens posted and their source. */
function run(
  meter: CapacityMeter,
  options: {
    from?: number;
    minutes: number;
    tokensPerSecond: number;
    latency?: Histogram;
    soleModel?: () => string;
  } & Partial<CapacityFacts>,
): { tokens: number; sources: Set<string>; byMetric: Record<string, number> } {
  const from = (options.from ?? 0) * 60;
  const facts = {
    ...factsOf(),
    ...{ waiting: () => 1, running: () => undefined, cacheRatio: () => undefined, whole: () => true },
    ...options,
  };
  const latencies = options.latency === undefined ? {} : { time_to_first_token: options.latency };
  let tokens = 0;
  const sources = new Set<string>();
  const byMetric: Record<string, number> = {};
  for (let minute = 0; minute < options.minutes; minute++) {
    const [start, end] = [from + minute * 60, from + (minute + 1) * 60];
    const increments = [moved({ tokens: { output: options.tokensPerSecond * 60 }, latencies })];
    const interval = intervalOf({ from: start, to: end, seconds: { token_active: 60 }, increments });
    for (const posting of meter.measureInterval(interval, facts, unixNanos(interval.to), () => product)) {
      byMetric[posting.metric] = (byMetric[posting.metric] ?? 0) + posting.amount;
      if (posting.metric !== "tokenwatt.capacity_tokens") continue;
      tokens += posting.amount;
      sources.add(posting.dimensions["tokenwatt.capacity.source"] ?? "");
    }
  }
  return { tokens, sources, byMetric };
}

describe("CapacityMeter.post()", () => {
  it("integrates a configured rate over allocated GPU-seconds exactly, at odd rates too", () => {
    expect(
      run(new CapacityMeter({ s: 30_000_001 }, catalogue), { minutes: 60, tokensPerSecond: 1 }),
    ).toMatchObject({
      tokens: 30_000_001,
      sources: new Set(["config"]),
    });
  });
  it("takes the catalogue's rate for model and product where none is configured", () => {
    expect(run(new CapacityMeter({}, catalogue), { minutes: 6, tokensPerSecond: 1 })).toMatchObject({
      tokens: 3_000_000,
      sources: new Set(["catalog"]),
    });
  });
  it("learns the highest 5-minute rate seen while requests queued", () => {
    const meter = new CapacityMeter({}, undefined);
    expect(run(meter, { minutes: 4, tokensPerSecond: 1000 }).tokens).toBe(0);
    run(meter, { from: 4, minutes: 6, tokensPerSecond: 1000 });
    run(meter, { from: 10, minutes: 5, tokensPerSecond: 500 });
    const rate = meter.rate("s", product, "m", unixNanos(15 * 60e9));
    expect(rate?.source).toBe("learned");
    expect(rate?.tokensPerGpuHour).toBeGreaterThan(3_599_000);
    expect(rate?.tokensPerGpuHour).toBeLessThanOrEqual(3_600_000);
  });
  it("learns between which bounds the limit lies, without a queue, in tokens of the mix served", () => {
    const meter = new CapacityMeter({}, undefined);
    // Half of 1,200 output tokens a second with 8 requests running.
    const amounts: Record<string, number> = {};
    [4, 8, 16, 32, 32].forEach((running, index) => {
      const tokensPerSecond = Math.round((1200 * running) / (running + 8));
      const facts = { waiting: () => 0, running: () => running };
      const { byMetric } = run(meter, { from: 10 * index, minutes: 10, tokensPerSecond, ...facts });
      if (index === 4) Object.assign(amounts, byMetric);
    });
    const end = unixNanos(50 * 60e9);
    const rate = meter.rate("s", product, "m", end);
    expect(rate).toMatchObject({ source: "learned", at: end, reason: "limit_not_seen" });
    expect(rate?.minutes).toBeCloseTo(50, 0);
    const [middle, doubt] = [rate?.tokensPerGpuHour ?? 0, rate?.uncertainPerGpuHour ?? 0];
    expect(middle - doubt).toBeLessThanOrEqual(960 * 3600);
    expect(middle + doubt).toBeGreaterThanOrEqual(1200 * 3600);
    // Ten minutes of it, and what was made in them: what is booked is as much, and as uncertain, as what is told.
    const booked = amounts["tokenwatt.capacity_tokens"] ?? 0;
    expect(booked / (middle / 6)).toBeCloseTo(1, 1);
    expect((amounts["tokenwatt.uncertain_capacity_tokens"] ?? 0) / booked).toBeCloseTo(doubt / middle, 1);
    expect(amounts["tokenwatt.rated_tokens"]).toBe(960 * 600);
    const facts = { ...factsOf(), waiting: () => 0, running: () => 8, whole: () => true };
    const shown = meter.gauges(facts, end + 60_000_000_000n, 0, () => product);
    expect(shown.map(({ metric, value }) => [metric, Number(value.toFixed(1))])).toEqual([
      ["tokenwatt.capacity.rate", Number(middle.toFixed(1))],
      ["tokenwatt.capacity.seen", Number((1 - doubt / middle).toFixed(1))],
      ["tokenwatt.capacity.minutes", 50],
      ["tokenwatt.capacity.age", 60],
    ]);
  });
  it("holds the true limit between its bounds, whatever the batch, and is sure of it once requests waited", () => {
    fc.assert(
      fc.property(fc.integer({ min: 16, max: 64 }), fc.integer({ min: 4, max: 16 }), (batch, half) => {
        const meter = new CapacityMeter({}, undefined);
        // No more than `batch` run at a time: with a queue that is the limit, without one it is not known.
        const at = (running: number): number => Math.round((1200 * running) / (running + half));
        [batch / 8, batch / 4, batch / 2, batch * 0.7].forEach((running, index) => {
          const facts = { waiting: () => 0, running: () => running };
          run(meter, { from: 10 * index, minutes: 10, tokensPerSecond: at(running), ...facts });
        });
        const rate = meter.rate("s", product, "m", unixNanos(40 * 60e9));
        if (rate === undefined) return;
        const limit = at(batch) * 3600;
        const doubt = rate.uncertainPerGpuHour ?? 0;
        expect(rate.tokensPerGpuHour - doubt).toBeLessThanOrEqual(limit);
        expect(rate.tokensPerGpuHour + doubt).toBeGreaterThanOrEqual(limit);
        const queued = { waiting: () => 9, running: () => batch };
        run(meter, { from: 40, minutes: 10, tokensPerSecond: at(batch), ...queued });
        const seen = meter.rate("s", product, "m", unixNanos(50 * 60e9));
        expect(seen?.reason).toBe("fitted_work");
        expect((seen?.tokensPerGpuHour ?? 0) / limit).toBeCloseTo(1, 1);
      }),
      { numRuns: 20 },
    );
  });
  it.each([
    ["nothing queued", { waiting: () => 0 }],
    ["the server cannot say what queued", { waiting: () => undefined }],
    ["part of the server is on another host", { whole: () => false }],
  ])("learns nothing while %s", (_why, facts) => {
    const meter = new CapacityMeter({}, undefined);
    run(meter, { minutes: 20, tokensPerSecond: 1000, ...facts });
    expect(meter.rate("s", product, "m", unixNanos(0))).toBeUndefined();
  });
  it.each([
    ["most requests met the objectives", [96, 4], true],
    ["too many missed one", [94, 6], false],
    ["nobody can tell", undefined, false],
  ])("learns a rate at the limit while %s: %j", (_why, counts, learned) => {
    const meter = new CapacityMeter({}, undefined, [{ name: "fast", seconds: { time_to_first_token: 0.5 } }]);
    const latency = counts === undefined ? undefined : { bounds: [0.5], counts, sum: 1, count: 100 };
    run(meter, { minutes: 5, tokensPerSecond: 1000, ...(latency === undefined ? {} : { latency }) });
    expect(meter.rate("s", product, "m", unixNanos(0)) !== undefined).toBe(learned);
  });
  it("tells nothing of a model by what another one of the same server made", () => {
    const meter = new CapacityMeter({}, undefined);
    const [small, large] = [{ soleModel: () => "small" }, { soleModel: () => "large" }];
    run(meter, { minutes: 6, tokensPerSecond: 5000, ...small });
    run(meter, { from: 6, minutes: 4, tokensPerSecond: 500, ...large });
    const at = unixNanos(10 * 60e9);
    expect(meter.rate("s", product, "large", at)).toBeUndefined();
    run(meter, { from: 10, minutes: 2, tokensPerSecond: 500, ...large });
    const learned = meter.rate("s", product, "large", at)?.tokensPerGpuHour ?? 0;
    expect(learned / (500 * 3600)).toBeCloseTo(1, 1);
    const next = new CapacityMeter({}, undefined);
    next.restore(meter.state());
    expect(next.rate("s", product, "large", at)?.tokensPerGpuHour).toBeCloseTo(learned, 6);
    expect((next.rate("s", product, "small", at)?.tokensPerGpuHour ?? 0) / (5000 * 3600)).toBeCloseTo(1, 1);
    expect(meter.rate("s", "NVIDIA L4", "large", at)).toBeUndefined();
  });
  it("tells nothing by a mix of an earlier version, which does not say what work its tokens were", () => {
    const meter = new CapacityMeter({}, undefined);
    const served = { running: () => 8, waiting: () => 3, soleModel: () => "m" };
    run(meter, { minutes: 20, tokensPerSecond: 1000, ...served });
    const state = JSON.parse(meter.state().value) as { servedMixes: [string, Record<string, number>][] };
    for (const [, mix] of state.servedMixes) {
      delete mix["prompts"];
      delete mix["outputs"];
    }
    const next = new CapacityMeter({}, undefined);
    next.restore({ ...meter.state(), value: JSON.stringify(state) });
    const told: number[] = [];
    for (const each of [meter, next]) {
      run(each, { from: 20, minutes: 1, tokensPerSecond: 1000, ...served });
      told.push(each.rate("s", product, "m", unixNanos(21 * 60e9))?.tokensPerGpuHour ?? 0);
    }
    expect(told[0]).toBeGreaterThan(0);
    expect((told[1] ?? 0) / (told[0] ?? 0)).toBeCloseTo(1, 3);
  });
  it("forgets what was served longest ago where too much is served, and not what is served still", () => {
    const meter = new CapacityMeter({}, undefined);
    const [here, once] = [{ soleModel: () => "here" }, { soleModel: () => "once" }];
    run(meter, { minutes: 5, tokensPerSecond: 1000, ...here });
    run(meter, { from: 5, minutes: 5, tokensPerSecond: 1000, ...once });
    for (let other = 0; other < 1100; other++) {
      run(meter, { from: 10 + other, minutes: 1, tokensPerSecond: 10, soleModel: () => `other-${other}` });
      if (other % 500 === 0) run(meter, { from: 10 + other, minutes: 1, tokensPerSecond: 10, ...here });
    }
    expect(meter.rate("s", product, "here", unixNanos(0))?.tokensPerGpuHour).toBeCloseTo(3_600_000, 3);
    expect(meter.rate("s", product, "once", unixNanos(0))).toBeUndefined();
  });
  it("does not promise more than requests that wait ever got: no more of them run at a time", () => {
    const learned = (waitingFrom: number): readonly number[] => {
      const meter = new CapacityMeter({}, undefined);
      [4, 8, 16, 32].forEach((batch, index) => {
        const facts = { running: () => batch, waiting: () => (batch >= waitingFrom ? 3 : 0) };
        const tokensPerSecond = (1000 * batch) / (batch + 8);
        run(meter, { from: 10 * index, minutes: 10, tokensPerSecond, ...facts });
      });
      const { tokensPerGpuHour: rate = 0, uncertainPerGpuHour: doubt = 0 } =
        meter.rate("s", product, "m", unixNanos(40 * 60e9)) ?? {};
      return [(rate - doubt) / 3600, (rate + doubt) / 3600];
    };
    expect(learned(33)[1]).toBeGreaterThan(1000);
    for (const bound of learned(32)) expect(Math.abs(bound / 800 - 1)).toBeLessThan(0.2);
  });
  it("lets an old record fade by half in 14 days, and goes on after a restart", () => {
    const meter = new CapacityMeter({}, undefined);
    run(meter, { minutes: 5, tokensPerSecond: 1000 });
    const next = new CapacityMeter({}, undefined);
    next.restore(meter.state());
    const later = unixNanos(300e9 + 14 * 86_400e9);
    expect(next.rate("s", product, "m", later)?.tokensPerGpuHour).toBeCloseTo(1_800_000, 3);
  });
});
