// meter.ts: an interval becomes postings whose sum, without any selector, is the interval's truth.
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { allocatedStates } from "../../agent/meter/gpu-amounts.ts";
import type { MeterFacts } from "../../agent/meter/meter.ts";
import { gpuStates, Meter, postings } from "../../agent/meter/meter.ts";
import type { AnyPosting, GpuInfo, GpuInterval, SettledInterval, TokenIncrement } from "../../agent/model.ts";

const H100: GpuInfo = { uuid: "GPU-1", weight: 1, index: 0, name: "NVIDIA H100" };
const facts: MeterFacts = {
  gpus: new Map([["GPU-1", H100]]),
  servers: new Map([
    ["s", { id: "s", type: "vllm", family: "engine", address: "a", pollMs: 1000 }],
    ["gate", { id: "gate", type: "litellm", family: "gateway", address: "b", pollMs: 1000 }],
  ]),
};
const states = { token_active: 0, stalled: 0, parked: 0, other: 0, free: 0, unobserved: 0 };
const none = { token_active: 0, stalled: 0, parked: 0 };

function gpuInterval(more: Partial<GpuInterval> = {}): GpuInterval {
  return {
    gpu: "GPU-1",
    nanos: { ...states, token_active: 6e8, parked: 4e8 },
    millijoules: { ...states, token_active: 300, parked: 50, unattributed: 1 },
    busyNanos: 5e8,
    activityMethod: "counter_gpu",
    energyMethod: "counter",
    rejectedMillijoules: 0,
    residents: [
      {
        server: "s",
        nanos: { ...none, token_active: 6e8, parked: 4e8 },
        millijoules: { ...none, token_active: 300, parked: 50 },
        method: "direct",
      },
    ],
    ...more,
  };
}
function moved(more: Partial<TokenIncrement> = {}): TokenIncrement {
  return {
    server: "s",
    family: "engine",
    role: "combined",
    tokens: {},
    reasoningTokens: 0,
    requests: {},
    latencies: {},
    resets: 0,
    late: false,
    at: 1e9,
    ...more,
  };
}
function interval(
  increments: readonly TokenIncrement[],
  more: Partial<SettledInterval> = {},
): SettledInterval {
  const servers = [...new Set(increments.map((one) => one.server))];
  return {
    from: 0,
    to: 1e9,
    gpus: [gpuInterval()],
    servers: servers.map((server) => ({
      server,
      nanos: { ...none, unknown: 0 },
      activityMethod: "counter_gpu",
      increments: increments.filter((one) => one.server === server),
    })),
    lateSamples: 0,
    violations: [],
    ...more,
  };
}
function sum(posted: readonly AnyPosting[], metric: string): number {
  return posted.reduce(
    (total, one) => total + (one.metric === metric && "amount" in one ? one.amount : 0),
    0,
  );
}
function all(posted: readonly AnyPosting[], metric: string): readonly AnyPosting[] {
  return posted.filter((one) => one.metric === metric);
}

describe("postings() of uncertain tokens", () => {
  it("counts tokens that rest on an assumption beside all tokens, by the reason, and no others", () => {
    const counted = moved({ tokens: { output: 5 } });
    const guessed = moved({ tokens: { output: 7, input_unsplit: 2 }, doubt: "estimated_counters" });
    const posted = postings(interval([counted, guessed]), facts);
    expect(sum(posted, "tokenwatt.tokens")).toBe(14);
    expect(sum(posted, "tokenwatt.uncertain_tokens")).toBe(9);
    expect(all(posted, "tokenwatt.uncertain_tokens")[0]).toMatchObject({
      dimensions: { "tokenwatt.reason": "estimated_counters" },
    });
  });
});

describe("postings() of phases", () => {
  it("posts what a server's token-active time was spent on, and what of it is in doubt, beside its states", () => {
    const given = { token_active: 1e9, stalled: 0, parked: 0 };
    const share = { method: "fitted", nanos: 4e8, millijoules: 100, uncertainNanos: 1e7 } as const;
    const decode = { phase: "decode", method: "counted", nanos: 6e8, millijoules: 150 } as const;
    const none = { uncertainNanos: 0, uncertainMillijoules: 0 };
    const resident = {
      ...{
        server: "s",
        nanos: given,
        millijoules: { ...given, token_active: 250 },
        method: "direct" as const,
      },
      phases: [
        { ...share, phase: "prefill" as const, uncertainMillijoules: 3 },
        { ...decode, ...none },
      ],
    };
    const posted = postings(interval([], { gpus: [gpuInterval({ residents: [resident] })] }), facts);
    expect(sum(posted, "tokenwatt.server.phase_time")).toBe(sum(posted, "tokenwatt.server.gpu_time"));
    expect(sum(posted, "tokenwatt.server.phase_energy")).toBe(sum(posted, "tokenwatt.server.energy"));
    expect(sum(posted, "tokenwatt.server.phase_uncertain_energy")).toBe(3);
    expect(all(posted, "tokenwatt.server.phase_time")[0]).toMatchObject({
      dimensions: { "hw.model": "NVIDIA H100", "tokenwatt.phase": "prefill", "tokenwatt.method": "fitted" },
      amount: 4e8,
    });
  });
});

describe("postings() of GPUs", () => {
  it("posts each state once, with the GPU and the method, and nothing where nothing moved", () => {
    const posted = postings(interval([]), facts);
    expect(all(posted, "tokenwatt.gpu.time")).toEqual([
      {
        metric: "tokenwatt.gpu.time",
        dimensions: {
          "hw.id": "GPU-1",
          "hw.model": "NVIDIA H100",
          "tokenwatt.gpu.state": "parked",
          "tokenwatt.method": "counter_gpu",
        },
        amount: 4e8,
      },
      expect.objectContaining({ amount: 6e8 }),
    ]);
    expect(sum(posted, "tokenwatt.gpu.energy")).toBe(351);
    expect(sum(posted, "tokenwatt.gpu.busy_time")).toBe(5e8);
  });
  it("conserves seconds and joules for any interval: GPU sums are the states', server sums the shares'", () => {
    const amount = fc.nat(1e9);
    const shares = fc.record({ token_active: amount, stalled: amount, parked: amount });
    const gpu = fc.record({
      nanos: fc.record({ ...Object.fromEntries(gpuStates.map((state) => [state, amount])) }),
      millijoules: fc.record({
        ...Object.fromEntries([...gpuStates, "unattributed"].map((state) => [state, amount])),
      }),
      residents: fc.array(
        fc.record({
          server: fc.constantFrom("s", "t", "unmetered"),
          nanos: shares,
          millijoules: shares,
          method: fc.constant("equal"),
        }),
        { maxLength: 4 },
      ),
    });
    fc.assert(
      fc.property(fc.array(gpu, { maxLength: 4 }), (gpus) => {
        const intervals = gpus.map((one, index) =>
          gpuInterval({ ...(one as unknown as Partial<GpuInterval>), gpu: `GPU-${index}` }),
        );
        const posted = postings(interval([], { gpus: intervals }), facts);
        const total = (pick: (gpu: GpuInterval) => number): number =>
          intervals.reduce((sum, one) => sum + pick(one), 0);
        const over = (values: Readonly<Record<string, number>>): number =>
          Object.values(values).reduce((sum, value) => sum + value, 0);
        expect(sum(posted, "tokenwatt.gpu.time")).toBe(total((one) => over(one.nanos)));
        expect(sum(posted, "tokenwatt.gpu.energy")).toBe(total((one) => over(one.millijoules)));
        const residents = (field: "nanos" | "millijoules"): number =>
          total((one) => one.residents.reduce((sum, share) => sum + over(share[field]), 0));
        expect(sum(posted, "tokenwatt.server.gpu_time")).toBe(residents("nanos"));
        expect(sum(posted, "tokenwatt.server.energy")).toBe(residents("millijoules"));
      }),
    );
  });
  it("names the model on a server's seconds only while it serves exactly one", () => {
    const named = postings(interval([]), { ...facts, soleModel: () => "llama" });
    const keys = (posted: readonly AnyPosting[]): unknown =>
      all(posted, "tokenwatt.server.gpu_time")[0]?.dimensions["gen_ai.request.model"];
    expect(keys(named)).toBe("llama");
    expect(keys(postings(interval([]), facts))).toBeUndefined();
  });
  it("posts refused energy, late samples and broken laws", () => {
    const posted = postings(
      interval([], {
        gpus: [gpuInterval({ rejectedMillijoules: 9 })],
        lateSamples: 3,
        violations: ["states: sum to 5, wanted 6", "states: sum to 7, wanted 6"],
      }),
      facts,
    );
    expect(sum(posted, "tokenwatt.rejected_energy")).toBe(9);
    expect(sum(posted, "tokenwatt.late_samples")).toBe(3);
    expect(all(posted, "tokenwatt.invariant_violations").map((one) => one.dimensions)).toEqual([
      { "tokenwatt.law": "states" },
      { "tokenwatt.law": "states" },
    ]);
  });
});

describe("postings() of engines", () => {
  const tokens = { input_uncached: 10, input_cached: 5, output: 7 };
  it("books the disjoint kinds once, under server, model, GPU product, kind and role", () => {
    const posted = postings(interval([moved({ tokens, model: "m", reasoningTokens: 3 })]), facts);
    expect(sum(posted, "tokenwatt.tokens")).toBe(22);
    expect(all(posted, "tokenwatt.tokens")[0]?.dimensions).toEqual({
      "tokenwatt.server.id": "s",
      "gen_ai.request.model": "m",
      "hw.model": "NVIDIA H100",
      "tokenwatt.token.kind": "input_uncached",
      "tokenwatt.server.role": "combined",
    });
    expect(sum(posted, "tokenwatt.reasoning_tokens")).toBe(3);
    expect(sum(posted, "tokenwatt.unmatched_tokens")).toBe(0);
  });
  it("books tokens read late, or while the GPU was mostly unobserved, a second time as unmatched", () => {
    const late = postings(interval([moved({ tokens, late: true })]), facts);
    expect(sum(late, "tokenwatt.tokens")).toBe(22);
    expect(sum(late, "tokenwatt.unmatched_tokens")).toBe(22);
    const meter = new Meter();
    meter.meterInterval(interval([]), facts);
    const dark = gpuInterval({ nanos: { ...states, unobserved: 8e8, parked: 2e8 }, residents: [] });
    const blind = meter.meterInterval(interval([moved({ tokens })], { gpus: [dark] }), facts);
    expect(sum(blind, "tokenwatt.unmatched_tokens")).toBe(22);
    const [unmatched] = all(blind, "tokenwatt.unmatched_tokens");
    expect(unmatched?.dimensions).toMatchObject({
      "tokenwatt.reason": "unobserved",
      "hw.model": "NVIDIA H100",
    });
    expect(all(blind, "tokenwatt.tokens")[0]?.dimensions["hw.model"]).toBe("NVIDIA H100");
  });
  it("books tokens of ranks on other hosts a second time as unmatched, apart from those of this host", () => {
    const posted = postings(interval([moved({ tokens }), moved({ tokens, elsewhere: true })]), facts);
    expect(sum(posted, "tokenwatt.tokens")).toBe(44);
    expect(sum(posted, "tokenwatt.unmatched_tokens")).toBe(22);
    const reasons = all(posted, "tokenwatt.unmatched_tokens").map(
      (one) => one.dimensions["tokenwatt.reason"],
    );
    expect([...new Set(reasons)]).toEqual(["elsewhere"]);
  });
  it("books what is unmatched as a part of the tokens of the same names, GPU product included", () => {
    const piece = fc.record({
      ...{ model: fc.constantFrom("m", "n"), late: fc.boolean(), isPlaced: fc.boolean() },
      tokens: fc.record({ input_uncached: fc.nat(9), output: fc.nat(9) }),
    });
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 8 }), (pieces) => {
        const left = new Map<string, number>();
        for (const { isPlaced, late, model, tokens: some } of pieces) {
          const gpus = isPlaced ? {} : { gpus: [gpuInterval({ residents: [] })] };
          const posted = new Meter().meterInterval(
            interval([moved({ tokens: some, model, late })], gpus),
            facts,
          );
          for (const [metric, sign] of [
            ["tokenwatt.tokens", 1],
            ["tokenwatt.unmatched_tokens", -1],
          ] as const) {
            for (const posting of all(posted, metric)) {
              const amount = "amount" in posting ? posting.amount : 0;
              const { "tokenwatt.reason": _, "tokenwatt.server.role": __, ...names } = posting.dimensions;
              const key = JSON.stringify(Object.entries(names).sort());
              left.set(key, (left.get(key) ?? 0) + sign * amount);
            }
          }
        }
        expect([...left.values()].every((amount) => amount >= 0)).toBe(true);
      }),
      { numRuns: 50 },
    );
  });
  it("books requests by outcome, resets by source and latencies under the names of the conventions", () => {
    const histogram = { bounds: [1], counts: [1, 0], sum: 0.5, count: 1 };
    const latencies = { time_to_first_token: histogram, queue_time: histogram };
    const posted = postings(
      interval([moved({ requests: { ok: 4, error: 1 }, resets: 1, latencies })]),
      facts,
    );
    expect(sum(posted, "tokenwatt.requests")).toBe(5);
    expect(all(posted, "tokenwatt.counter_resets")[0]?.dimensions).toEqual({
      "tokenwatt.source": "server:s",
    });
    expect(all(posted, "gen_ai.server.time_to_first_token")[0]).toMatchObject({
      histogram,
      dimensions: { "gen_ai.provider.name": "vllm", "gen_ai.operation.name": "chat" },
    });
    expect(all(posted, "tokenwatt.server.queue_time")[0]).toMatchObject({ histogram });
  });
});

describe("postings() of engines that name tenants", () => {
  const tenants = ["a", "b", "a"].map((tenant, index) =>
    moved({
      tenant,
      endpoint: `e${index}`,
      model: "m",
      tokens: { output: 5 },
      requests: { ok: 1 },
      late: index === 2,
    }),
  );
  const alone = {
    ...facts,
    servers: new Map([...facts.servers].filter(([, server]) => server.family === "engine")),
  };

  it("sums them in the engine's series, late ones told apart, and loses nothing", () => {
    const posted = postings(interval(tenants), facts);
    expect(all(posted, "tokenwatt.tokens").map((one) => ("amount" in one ? one.amount : 0))).toEqual([10, 5]);
    expect(sum(posted, "tokenwatt.unmatched_tokens")).toBe(5);
    expect(sum(posted, "tokenwatt.requests")).toBe(3);
    expect(sum(posted, "tokenwatt.gateway.tokens")).toBe(0);
  });
  it("gives their tenants the gateway's family where no gateway is metered", () => {
    const posted = postings(interval(tenants), alone);
    expect(sum(posted, "tokenwatt.tokens")).toBe(15);
    expect(all(posted, "tokenwatt.gateway.tokens").map((one) => one.dimensions["tokenwatt.tenant"])).toEqual([
      "a",
      "b",
      "a",
    ]);
  });
  it("keeps apart what has other latency bounds", () => {
    const latency = (bound: number) => ({
      queue_time: { bounds: [bound], counts: [1, 0], sum: bound, count: 1 },
    });
    const posted = postings(
      interval([
        moved({ tenant: "a", latencies: latency(1) }),
        moved({ tenant: "b", latencies: latency(2) }),
        moved({ tenant: "c", latencies: latency(1) }),
      ]),
      facts,
    );
    const counts = all(posted, "tokenwatt.server.queue_time").map((one) =>
      "histogram" in one ? one.histogram.count : 0,
    );
    expect(counts).toEqual([2, 1]);
  });
});

describe("postings() of gateways", () => {
  it("books them in a family of their own, each token under one outcome", () => {
    const increment = moved({
      server: "gate",
      family: "gateway",
      tenant: "acme",
      model: "m",
      tokens: { output: 10 },
      tokensByOutcome: { error: { output: 3 }, ok: { output: 7 } },
      requests: { ok: 2, rejected: 1 },
    });
    const posted = postings(interval([increment]), facts);
    expect(sum(posted, "tokenwatt.tokens")).toBe(0);
    expect(sum(posted, "tokenwatt.gateway.tokens")).toBe(10);
    expect(all(posted, "tokenwatt.gateway.tokens")).toMatchObject([
      { amount: 3, dimensions: { "tokenwatt.outcome": "error", "tokenwatt.endpoint": "unknown" } },
      { amount: 7, dimensions: { "tokenwatt.outcome": "ok", "tokenwatt.tenant": "acme" } },
    ]);
    expect(sum(posted, "tokenwatt.gateway.requests")).toBe(3);
  });
});

describe("Meter", () => {
  it("hands out the same attribute object for the same series", () => {
    const meter = new Meter();
    const [one, two] = [meter.meterInterval(interval([]), facts), meter.meterInterval(interval([]), facts)];
    expect(one.map((posting) => posting.dimensions)).toHaveLength(one.length);
    for (const [index, posting] of one.entries()) expect(two[index]?.dimensions).toBe(posting.dimensions);
  });
  it("knows a server's GPU product only while all its GPUs are alike", () => {
    const meter = new Meter();
    const two = new Map([...facts.gpus, ["GPU-2", { ...H100, uuid: "GPU-2", name: "NVIDIA B200" }]]);
    meter.meterInterval(interval([], { gpus: [gpuInterval(), gpuInterval({ gpu: "GPU-2" })] }), {
      ...facts,
      gpus: two,
    });
    expect(meter.gpuModel("s")).toBeUndefined();
    expect(allocatedStates).toHaveLength(3);
  });
});
