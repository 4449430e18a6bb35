// Hosts as they would say it: a board with two servers, one that trains, a MIG board, one that cannot be read; and any others.
import fc from "fast-check";
import type { Host } from "../../../agent/cli/top/rows.ts";
import type { View, ViewFigures, ViewGpu, ViewHistory, ViewServer } from "../../../agent/export/page/view.ts";
import type { GpuState } from "../../../agent/model.ts";
import { stateOrder } from "../../../agent/platform/state-colours.ts";

const seconds = (of: Partial<Record<GpuState, number>>): ViewFigures["state_seconds"] =>
  Object.fromEntries(stateOrder.map((state) => [state, of[state] ?? 0])) as ViewFigures["state_seconds"];

const unknown: ViewFigures = {
  state_seconds: seconds({}),
  tokens_per_second: null,
  output_tokens_per_second: null,
  tokens_per_joule: null,
  tokens_per_gpu_hour: null,
  token_active_utilization: null,
  cost_per_hour: null,
};

const gpu = (index: number, more: Partial<ViewGpu> = {}): ViewGpu => ({
  ...unknown,
  ...{
    uuid: `GPU-${index}`,
    index,
    name: "NVIDIA H100 80GB HBM3",
    parent: null,
    mig_profile: null,
    state: "free",
  },
  ...{ minute: "f".repeat(60), utilization: 0, power_watts: 71.2, power_limit_watts: 700 },
  ...{
    memory_used_bytes: 0,
    memory_total_bytes: 80 * 2 ** 30,
    temperature_celsius: 31,
    held_by: [],
    problem: null,
  },
  ...more,
});

const server = (id: string, more: Partial<ViewServer> = {}): ViewServer => ({
  ...unknown,
  ...{
    id,
    type: "vllm",
    family: "engine",
    address: "localhost:8000",
    version: "0.33",
    models: ["llama-70b"],
  },
  ...{ gpus: ["GPU-0"], share: 0.6, running: 12, waiting: 3, kv_cache_utilization: 0.81, ok: true },
  ...more,
});

/** A host with something of everything. */
export const view: View = {
  ...{ type: "view", host: "gpu-17", version: "0.1.0", unix_ms: 0, uptime_seconds: 9000, window_seconds: 60 },
  currency: "USD",
  whole: {
    ...{
      ...unknown,
      state_seconds: seconds({
        token_active: 90,
        stalled: 6,
        parked: 30,
        other: 60,
        free: 34,
        unobserved: 20,
      }),
    },
    ...{ tokens_per_second: 12_345.6, tokens_per_joule: 6.71, cost_per_hour: 12, power_watts: 1234.5 },
  },
  capacity: null,
  gpus: [
    gpu(0, {
      ...{
        state: "token_active",
        minute: `${" ".repeat(4)}${"a".repeat(30)}${"s".repeat(6)}${"a".repeat(20)}`,
      },
      ...{ utilization: 0.97, power_watts: 612.4, memory_used_bytes: 71 * 2 ** 30, temperature_celsius: 88 },
      ...{
        tokens_per_second: 12_345.6,
        tokens_per_joule: 20.2,
        tokens_per_gpu_hour: 44.4e6,
        token_active_utilization: 0.93,
      },
      held_by: [
        { kind: "server", name: "vllm:8000", share: 0.6, watts: 400 },
        { kind: "server", name: "small", share: 0.4, watts: 212 },
      ],
    }),
    gpu(1, {
      ...{ state: "other", minute: "o".repeat(60), utilization: 1, power_watts: 551 },
      held_by: [{ kind: "job", name: "4711", share: 1, watts: 551 }],
    }),
    gpu(2, {
      ...{
        index: 2,
        uuid: "MIG-2",
        parent: "GPU-2",
        mig_profile: "3g.40gb",
        state: "parked",
        minute: "p".repeat(60),
      },
    }),
    gpu(3, {
      state: "unobserved",
      minute: "u".repeat(60),
      utilization: null,
      power_watts: null,
      problem: "GPU is lost (NVML error 15)",
    }),
  ],
  servers: [
    server("vllm:8000", {
      tokens_per_second: 12_000,
      output_tokens_per_second: 3000,
      tokens_per_joule: 24,
      cost_per_hour: 1.8,
    }),
    server("small", { models: ["qwen-1b"], ok: false, running: null, waiting: null }),
    server("gate", { family: "gateway", type: "litellm", gpus: [], share: null, models: [] }),
  ],
  tenants: [
    {
      tenant: "acme",
      tokens: 1_234_567,
      tokens_per_second: 321.5,
      requests: 456,
      error_share: 0.12,
      gpu_seconds: 99.5,
      joules: 45_678,
      cost: 1.25,
    },
    {
      tenant: "名前が長い顧客",
      tokens: 9,
      tokens_per_second: null,
      requests: 1,
      error_share: 0,
      gpu_seconds: null,
      joules: null,
      cost: null,
    },
  ],
  tenants_left_out: 0,
  quotas: [
    {
      name: "acme-hour",
      key: { tenant: "acme" },
      count: "tokens",
      currency: null,
      per: "hour",
      whole_window: false,
      used: 4e6,
      limit: 5e6,
      state: "warn",
      until: "2026-11-29T07:00:00.000Z",
    },
    {
      name: "chat",
      key: {},
      count: "requests",
      currency: null,
      per: "day",
      whole_window: true,
      used: null,
      limit: 100,
      state: "unknown",
      until: "2026-11-30T00:00:00.000Z",
    },
  ],
  destinations: [{ name: "main", state: "idle", sent_points: 5000, unsent_seconds: 0, last_error: null }],
  ...{ series: 321, durable: true },
  advice: [
    {
      id: "gpu.reading",
      verdict: "fail",
      subject: "GPU 3",
      seen: "GPU is lost (NVML error 15)",
      remedy: "`tokenwatt doctor --only gpu` says what is missing",
    },
    { id: "server.counters", verdict: "warn", subject: "small", seen: "counters fell", remedy: null },
  ],
  uncertain: [
    {
      reason: "floor_assumed",
      says: "18 % of its limit is assumed",
      seconds: 6,
      share: 0.1,
      gpus: [0],
      server: null,
    },
  ],
};

/** Its last hour. */
export const history: ViewHistory = {
  ...{ type: "history", cell_seconds: 30, until_unix_ms: 0 },
  gpus: view.gpus.map(({ index, name, uuid }) => ({
    ...{ uuid, index, name },
    cells: Array.from({ length: 119 }, (_, at) =>
      at < 20 ? [] : at % 3 === 0 ? [0, 0, 100, 0, 0, 0] : [80, 5, 15, 0, 0, 0],
    ),
  })),
  tokens_per_second: Array.from({ length: 119 }, (_, at) => (at < 20 ? null : 1000 + 100 * (at % 7))),
  tokens_per_joule: Array.from({ length: 119 }, (_, at) => (at < 20 ? null : at % 5)),
  watts: Array.from({ length: 119 }, () => null),
  joules: { ...seconds({ token_active: 1e6 }), unattributed: 0 },
};

/** Texts that come from outside: anything at all. */
const text = fc.oneof(
  fc.string({ unit: "grapheme", maxLength: 30 }),
  fc.constantFrom("\x1b[2Jx", "a\nb", "漢字", ""),
);
const value = fc.oneof(fc.constant(null), fc.double({ min: 0, max: 1e12, noNaN: true }));

const anyGpu = fc
  .record({
    index: fc.nat(99),
    name: text,
    minute: fc.string({ unit: fc.constantFrom(..." aspofu"), minLength: 60, maxLength: 60 }),
    state: fc.constantFrom(null, ...stateOrder),
    power: value,
    tokens: value,
    held: fc.array(fc.tuple(fc.constantFrom("server", "job", "pod"), text), { maxLength: 4 }),
    problem: fc.oneof(fc.constant(null), text),
  })
  .map(({ held, index, minute, name, power, problem, state, tokens }) =>
    gpu(index, {
      name,
      minute,
      state,
      power_watts: power,
      tokens_per_second: tokens,
      tokens_per_joule: power,
      problem,
      held_by: held.map(([kind, of]) => ({ kind, name: of, share: 0.5, watts: power })),
    }),
  );

/** Hosts of every kind, and some that never answered. */
export const anyHosts: fc.Arbitrary<readonly Host[]> = fc.array(
  fc
    .record({
      name: text,
      gpus: fc.array(anyGpu, { maxLength: 10 }),
      servers: fc.array(text, { maxLength: 5 }),
      tenants: fc.option(fc.array(text, { maxLength: 5 })),
      advice: fc.array(text, { maxLength: 3 }),
      isSilent: fc.boolean(),
      problem: fc.option(text),
    })
    .map(
      ({ advice, gpus, isSilent, name, problem, servers, tenants }): Host => ({
        name,
        ...(problem === null ? {} : { problem }),
        ...(isSilent
          ? {}
          : {
              history,
              view: {
                ...{ ...view, host: name, gpus, servers: servers.map((id) => server(id)) },
                tenants:
                  tenants?.map((tenant) => ({
                    ...(view.tenants?.[0] as NonNullable<View["tenants"]>[number]),
                    tenant,
                  })) ?? null,
                advice: advice.map((seen) => ({
                  id: "x",
                  verdict: "fail" as const,
                  subject: seen,
                  seen,
                  remedy: seen,
                })),
              },
            }),
      }),
    ),
  { minLength: 1, maxLength: 4 },
);
