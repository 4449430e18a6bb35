// kpis.ts against the published figures of METERING.md 6 and facts about ratios of sums.
import { describe, expect, it } from "vitest";
import { percentile } from "../../../agent/meter/counters/histograms.ts";
import type { KpiTotals } from "../../../agent/meter/figures/kpis.ts";
import { kpis } from "../../../agent/meter/figures/kpis.ts";
import type { GpuState } from "../../../agent/model.ts";

const HOUR = 3.6e12;

function totals(
  more: Partial<KpiTotals> & { nanos?: Partial<Record<GpuState, number | bigint>> } = {},
): KpiTotals {
  const zero = { token_active: 0, stalled: 0, parked: 0, other: 0, free: 0, unobserved: 0 };
  const { nanos, ...rest } = more;
  return {
    gpuNanos: { ...zero, ...nanos },
    gpuMillijoules: zero,
    inputTokens: 0,
    outputTokens: 0,
    ...rest,
  };
}

describe("kpis() of prefill and decode", () => {
  const phases = (unsplit: number): NonNullable<KpiTotals["phases"]> => ({
    prefill: { nanos: 20e9, millijoules: 8_000_000n },
    decode: { nanos: 80e9, millijoules: 24_000_000n },
    unsplit: { nanos: 0, millijoules: unsplit },
    uncertainMillijoules: 800_000n,
  });
  it("gives joules per input and per output token, and how far off each may be", () => {
    const figures = kpis(totals({ inputTokens: 100_000n, outputTokens: 20_000n, phases: phases(0) }));
    expect(figures.prefillTimeShare).toBe(0.2);
    expect(figures.joulesPerInputToken).toBe(0.08);
    expect(figures.joulesPerOutputToken).toBe(1.2);
    expect(figures.prefillUncertainShare).toBe(0.1);
    expect(figures.decodeUncertainShare).toBe(800 / 24_000);
  });
  it("doubts each phase by its part of the energy that may not have been the server's", () => {
    const known = { inputTokens: 100_000n, outputTokens: 20_000n, phases: phases(1e6) };
    const [own, doubted] = [
      kpis(totals(known)),
      kpis(totals({ ...known, uncertainMillijoules: 3_300_000n })),
    ];
    for (const share of ["prefillUncertainShare", "decodeUncertainShare"] as const) {
      expect((doubted[share] ?? 0) - (own[share] ?? 0)).toBeCloseTo(0.1, 9);
    }
  });
  it("gives none where too much is unsplit, and none without phases", () => {
    const figures = kpis(totals({ inputTokens: 100_000n, outputTokens: 20_000n, phases: phases(4e6) }));
    expect(figures).toMatchObject({ joulesPerInputToken: undefined, joulesPerOutputToken: undefined });
    expect(kpis(totals({ inputTokens: 1, outputTokens: 1 })).joulesPerInputToken).toBeUndefined();
  });
});

describe("kpis()", () => {
  it("gives DeepSeek's published day: 17.82 M, 9.97 M and 3.86 M per GPU-hour, 0.1122 USD per million, 84.5 %", () => {
    const day = kpis(
      totals({
        nanos: { token_active: 43_536n * 3_600_000_000_000n },
        inputTokens: 608e9,
        cachedInputTokens: 342e9,
        outputTokens: 168e9,
        cost: { token_active: 87_072n * 1_000_000_000n },
        revenue: 562_027n * 1_000_000_000n,
      }),
    );
    expect((day.tokensPerGpuHour ?? 0) / 1e6).toBeCloseTo(17.82, 2);
    expect((day.uncachedTokensPerGpuHour ?? 0) / 1e6).toBeCloseTo(9.97, 2);
    expect((day.outputTokensPerGpuHour ?? 0) / 1e6).toBeCloseTo(3.86, 2);
    expect(day.costPerMillionTokens.allocation).toBeCloseTo(0.1122, 4);
    expect(day.revenuePerGpuHour).toBeCloseTo(12.91, 2);
    expect(day.grossMargin).toBeCloseTo(0.845, 3);
  });
  it("gives the seed's hour: 18 M tokens, 0.1667 USD per million, margin 15 USD, 83.3 %, 6 M tokens per USD", () => {
    const hour = kpis(
      totals({
        nanos: { token_active: 0.8 * HOUR, parked: 0.2 * HOUR },
        outputTokens: 18e6,
        capacityTokens: 30e6,
        cost: { token_active: 2.4e9, parked: 0.6e9 },
        revenue: 18e9,
      }),
    );
    expect(hour.tokensPerGpuHour).toBe(18e6);
    expect(hour.costPerMillionTokens.allocation).toBeCloseTo(1 / 6, 12);
    expect(hour.costPerMillionTokens.active).toBeCloseTo(0.8 / 6, 12);
    expect(hour.tokensPerCurrency.allocation).toBeCloseTo(6e6, 6);
    expect(hour.marginPerGpuHour).toBeCloseTo(15, 12);
    expect(hour.grossMargin).toBeCloseTo(15 / 18, 12);
    // 80 % of the time at 75 % of the sustainable rate is also 0.60.
    expect(hour.capacityUtilization).toBeCloseTo(0.6, 12);
    expect(hour.tokenActiveUtilization).toBeCloseTo(0.8, 12);
    expect(hour.intensity).toBeCloseTo(0.75, 12);
  });
  it("gives capacity utilisation of the tokens made while it was known, between its bounds", () => {
    const nanos = { token_active: HOUR };
    const rated = { outputTokens: 50e6, ratedTokens: 18e6, capacityTokens: 30e6 };
    const known = kpis(totals({ nanos, ...rated, uncertainCapacityTokens: 6e6 }));
    expect(known.capacityUtilization).toBeCloseTo(0.6, 12);
    expect(known.capacityUtilizationMin).toBeCloseTo(0.5, 12);
    expect(known.capacityUtilizationMax).toBeCloseTo(0.75, 12);
    expect(kpis(totals({ nanos, ...rated })).capacityUtilizationMax).toBeCloseTo(0.6, 12);
    const none = kpis(totals({ nanos, outputTokens: 5e6 }));
    expect([none.capacityUtilization, none.capacityUtilizationMin, none.capacityUtilizationMax]).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
  });
  it("gives no value for an empty denominator, never 0 or infinity", () => {
    const nothing = kpis(totals({ outputTokens: 5, capacityTokens: 0, revenue: 0, cost: {} }));
    for (const value of Object.values(nothing)) {
      expect(
        typeof value === "object" ? Object.values(value).filter((one) => one !== undefined) : [],
      ).toEqual([]);
      if (typeof value !== "object") expect(value).toBeUndefined();
    }
  });
  it("makes no utilisation of time whose activity nothing tells, and one of the rest", () => {
    const nanos = { parked: 2 * HOUR, token_active: HOUR };
    expect(kpis(totals({ nanos, unknownNanos: 3 * HOUR })).tokenActiveUtilization).toBeUndefined();
    expect(kpis(totals({ nanos, unknownNanos: HOUR })).tokenActiveUtilization).toBeCloseTo(0.5, 12);
  });

  it("gives no value for what is not known, and a measured 0 for 0", () => {
    const unknown = kpis(totals({ nanos: { token_active: HOUR }, outputTokens: 5 }));
    expect(unknown.costPerMillionTokens.allocation).toBeUndefined();
    expect(unknown.grossMargin).toBeUndefined();
    expect(unknown.uncachedTokensPerGpuHour).toBeUndefined();
    expect(kpis(totals({ nanos: { parked: HOUR } })).tokensPerGpuHour).toBe(0);
    expect(kpis(totals({ nanos: { parked: HOUR } })).tokenActiveUtilization).toBe(0);
  });
  it("is the ratio of the sums where the mean of the ratios would mislead", () => {
    const gpu = (tokens: number, joules: number): KpiTotals =>
      totals({
        outputTokens: tokens,
        gpuMillijoules: { ...totals().gpuMillijoules, token_active: joules * 1e3 },
      });
    const [a, b] = [kpis(gpu(1000, 10)), kpis(gpu(10, 90))];
    const both = kpis(gpu(1010, 100));
    expect(((a.tokensPerJoule ?? 0) + (b.tokensPerJoule ?? 0)) / 2).toBeCloseTo(50.06, 2);
    expect(both.tokensPerJoule).toBeCloseTo(10.1, 12);
  });
  it("leaves unmatched tokens out of efficiency and of the cost per token", () => {
    const both = kpis(
      totals({
        nanos: { token_active: HOUR },
        inputTokens: 100,
        outputTokens: 100,
        unmatchedOutputTokens: 50,
        cost: { token_active: 1e9 },
      }),
    );
    expect(both.tokensPerGpuHour).toBe(150);
    expect(both.costPerMillionTokens.fleet).toBeCloseTo(1e6 / 150, 9);
  });
  it("charges only the GPU that worked: 0.123 J per token, where summing the node would say 0.198", () => {
    const seconds = 100;
    const tokens = (305 * seconds) / 0.123;
    const one = { ...totals().gpuMillijoules, token_active: 305e3 * seconds, free: 185e3 * seconds };
    const result = kpis(totals({ outputTokens: tokens, gpuMillijoules: one }));
    expect(result.joulesPerToken).toBeCloseTo(0.123, 9);
    expect(1 / (result.fleetTokensPerJoule ?? 0)).toBeCloseTo(0.198, 3);
  });
  it("keeps units straight: 1 J per token is 0.2778 kWh per million", () => {
    const one = { ...totals().gpuMillijoules, token_active: 1000 };
    expect(kpis(totals({ outputTokens: 1, gpuMillijoules: one })).kilowattHoursPerMillionTokens).toBeCloseTo(
      0.2778,
      4,
    );
  });
  it("gives the same for bigint sums", () => {
    const nanos = { token_active: 3_600_000_000_000n };
    expect(kpis(totals({ nanos, inputTokens: 5n, outputTokens: 7n })).tokensPerGpuHour).toBe(12);
  });
});

describe("percentile()", () => {
  const histogram = { bounds: [0.1, 0.2, 0.4], counts: [10, 10, 0, 0], sum: 0, count: 20 };
  it("interpolates inside the bucket", () => {
    expect(percentile(histogram, 0.25)).toBeCloseTo(0.05, 12);
    expect(percentile(histogram, 0.75)).toBeCloseTo(0.15, 12);
    expect(percentile(histogram, 1)).toBeCloseTo(0.2, 12);
  });
  it("gives the highest bound for what lies beyond it, and nothing without observations", () => {
    expect(percentile({ ...histogram, counts: [0, 0, 0, 5] }, 0.5)).toBe(0.4);
    expect(percentile({ ...histogram, counts: [0, 0, 0, 0] }, 0.5)).toBeUndefined();
    expect(percentile({ bounds: [], counts: [5], sum: 1, count: 5 }, 0.5)).toBeUndefined();
  });
});
