// Intervals and facts for the meter's tests: one H100, one engine and, where asked, a gateway.
import type { BookFacts } from "../../agent/meter/books.ts";
import type {
  AllocatedState,
  GpuInfo,
  GpuInterval,
  GpuState,
  ServerInfo,
  SettledInterval,
  TokenIncrement,
} from "../../agent/model.ts";

export const SECOND = 1e9;
/** 2026-11-01T00:00Z, on the bucket grid. */
export const START = 1_793_491_200_000_000_000n;
export const unixNanos = (at: number): bigint => START + BigInt(Math.round(at));

const gpuZero: Record<GpuState, number> = {
  token_active: 0,
  stalled: 0,
  parked: 0,
  other: 0,
  free: 0,
  unobserved: 0,
};
const zero: Record<AllocatedState, number> = { token_active: 0, stalled: 0, parked: 0 };

export const h100: GpuInfo = { uuid: "GPU-1", weight: 1, index: 0, name: "NVIDIA H100 80GB HBM3" };
export const engine: ServerInfo = { id: "s", type: "vllm", family: "engine", address: "a", pollMs: 1000 };
export const gateway: ServerInfo = {
  id: "g",
  type: "litellm",
  family: "gateway",
  address: "b",
  pollMs: 1000,
};

/** Facts of a host with one engine, and a gateway when asked. */
export function factsOf(more: Partial<BookFacts> & { gateway?: boolean; product?: string } = {}): BookFacts {
  const servers = new Map([["s", engine]]);
  if (more.gateway) servers.set("g", gateway);
  const { gateway: _gateway, product, ...rest } = more;
  return {
    gpus: new Map([["GPU-1", { ...h100, name: product ?? h100.name }]]),
    servers,
    soleModel: (server) => (server === "s" ? "m" : undefined),
    ...rest,
  };
}

/** What a server moved. */
export function moved(more: Partial<TokenIncrement> = {}): TokenIncrement {
  return {
    server: "s",
    family: "engine",
    model: "m",
    role: "combined",
    tokens: {},
    reasoningTokens: 0,
    requests: {},
    latencies: {},
    resets: 0,
    late: false,
    at: 0,
    ...more,
  };
}

/** An interval of one GPU that server `s` holds: seconds and joules by state. */
export function intervalOf(options: {
  readonly from: number;
  readonly to: number;
  readonly seconds?: Partial<Record<GpuState, number>>;
  readonly joules?: Partial<Record<GpuState | "unattributed", number>>;
  readonly increments?: readonly TokenIncrement[];
  readonly residents?: GpuInterval["residents"];
}): SettledInterval {
  const scale = <K extends string>(
    values: Partial<Record<K, number>> | undefined,
    by: number,
  ): Partial<Record<K, number>> =>
    Object.fromEntries(
      Object.entries(values ?? {}).map(([key, value]) => [key, Math.round((value as number) * by)]),
    ) as Partial<Record<K, number>>;
  const nanos = { ...gpuZero, ...scale(options.seconds, 1e9) };
  const millijoules = { ...gpuZero, unattributed: 0, ...scale(options.joules, 1e3) };
  const pick = (from: Record<string, number>): Record<AllocatedState, number> => ({
    token_active: from["token_active"] ?? 0,
    stalled: from["stalled"] ?? 0,
    parked: from["parked"] ?? 0,
  });
  const residents = options.residents ?? [
    { server: "s", nanos: pick(nanos), millijoules: pick(millijoules), method: "direct" as const },
  ];
  const increments = options.increments ?? [];
  return {
    from: options.from * SECOND,
    to: options.to * SECOND,
    gpus: [
      {
        gpu: "GPU-1",
        nanos,
        millijoules,
        busyNanos: 0,
        activityMethod: "counter_gpu",
        energyMethod: "counter",
        rejectedMillijoules: 0,
        residents,
      },
    ],
    servers: [...new Set(increments.map((one) => one.server))].map((server) => ({
      server,
      nanos: { ...zero, unknown: 0 },
      activityMethod: "counter_gpu" as const,
      increments: increments.filter((one) => one.server === server),
    })),
    lateSamples: 0,
    violations: [],
  };
}
