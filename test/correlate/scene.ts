// Small scenes for the Correlator: GPUs read once a second with the driver's rings, servers polled once a second.

import type { CorrelatorOptions } from "../../agent/correlate/correlator.ts";
import { Correlator } from "../../agent/correlate/correlator.ts";
import type {
  GpuInfo,
  GpuInterval,
  GpuSample,
  ServerInfo,
  ServerPoll,
  SettledInterval,
} from "../../agent/model.ts";
import { ringOf } from "../tools/rings.ts";

export const second = 1_000_000_000;

export function gpuInfo(uuid: string, more: Partial<GpuInfo> = {}): GpuInfo {
  return { uuid, index: 0, name: "H100", weight: 1, powerLimitWatts: 700, ...more };
}

export function serverInfo(id: string, more: Partial<ServerInfo> = {}): ServerInfo {
  return { id, type: "vllm", family: "engine", address: "", pollMs: 1000, ...more };
}

/** What a GPU does in a second: constant watts, a busy ratio, and who is there. */
export interface Second {
  readonly watts?: number;
  readonly busy?: number;
  readonly pids?: readonly number[];
  readonly names?: Readonly<Record<number, string>>;
  readonly shares?: Readonly<Record<number, number>>;
  readonly active?: number;
}

/** One reading at the end of each second, with five ring windows in between, the counter 5 J ahead of zero. */
export function readings(gpu: string, seconds: readonly Second[], from = 0): GpuSample[] {
  let energy = 5_000_000;
  const processes = (pids: readonly number[] = [], names: Readonly<Record<number, string>> = {}) =>
    pids.map((pid) => ({
      pid,
      type: "compute" as const,
      ...(names[pid] === undefined ? {} : { name: names[pid] }),
    }));
  const first: GpuSample = {
    gpu,
    at: from,
    energyMillijoules: energy,
    processes: processes(seconds[0]?.pids, seconds[0]?.names),
    ...(seconds[0]?.shares === undefined ? {} : { processShares: [] }),
  };
  return [
    first,
    ...seconds.map((entry, index): GpuSample => {
      const at = from + (index + 1) * second;
      const { watts = 100, busy = 0, pids, names, shares, active } = entry;
      energy += watts * 1000;
      const next = seconds[index + 1];
      return {
        gpu,
        at,
        energyMillijoules: energy,
        powerWatts: watts,
        utilizationRing: ringOf(
          [4, 3, 2, 1, 0].map((back) => ({ at: at - back * 200_000_000, value: busy })),
        ),
        processes: processes((next ?? entry).pids ?? pids, (next ?? entry).names ?? names),
        ...(shares === undefined
          ? {}
          : {
              processShares: Object.entries(shares).map(([pid, smRatio]) => ({
                pid: Number(pid),
                at,
                smRatio,
              })),
            }),
        ...(active === undefined ? {} : { smActiveRatio: active }),
      };
    }),
  ];
}

/** Polls at every second; `tokens[k]` moved in second k, with as many requests in flight at its end as `flying[k]`. */
export function polls(tokens: readonly number[], flying?: readonly number[]): ServerPoll[] {
  let outputTokens = 0;
  return [0, ...tokens].map((amount, index) => {
    outputTokens += amount;
    return {
      at: index * second,
      inputTokens: 0,
      outputTokens,
      inFlight: flying?.[index - 1] ?? (amount > 0 ? 1 : 0),
      progress: "step",
    };
  });
}

export interface Scene extends Partial<CorrelatorOptions> {
  readonly gpus: readonly GpuInfo[];
  readonly servers?: readonly ServerInfo[];
  readonly samples: readonly GpuSample[];
  readonly polls?: Readonly<Record<string, readonly ServerPoll[]>>;
  readonly seconds: number;
  readonly prepare?: (correlator: Correlator) => void;
}

/** Runs a scene a second at a time, strictly, to its end. */
export function run(scene: Scene): { intervals: SettledInterval[]; correlator: Correlator } {
  const { gpus, servers = [], samples, polls: byServer = {}, seconds, prepare, ...options } = scene;
  const correlator = new Correlator({
    origin: 0,
    intervalNanos: second,
    gpuPollMs: 1000,
    strict: true,
    ...options,
  });
  correlator.setGpus(gpus, 0);
  correlator.setServers(servers, 0);
  prepare?.(correlator);
  const intervals: SettledInterval[] = [];
  for (let tick = 0; tick <= seconds; tick++) {
    const [after, now] = [(tick - 1) * second, tick * second];
    for (const sample of samples) if (sample.at > after && sample.at <= now) correlator.acceptGpu(sample);
    for (const [server, list] of Object.entries(byServer))
      for (const poll of list)
        if (poll.at > after && poll.at <= now) correlator.acceptTokens(server, poll, []);
    intervals.push(...correlator.settle(now));
  }
  intervals.push(...correlator.finish(seconds * second));
  return { intervals, correlator };
}

export function repeated<T>(count: number, value: T): T[] {
  return Array.from({ length: count }, () => value);
}

export function rowsOf(intervals: readonly SettledInterval[], gpu: string): GpuInterval[] {
  return intervals.flatMap((interval) => interval.gpus.filter((row) => row.gpu === gpu));
}

export function sum(amounts: Iterable<number>): number {
  let total = 0;
  for (const amount of amounts) total += amount;
  return total;
}

/** Totals of a field over rows, by state. */
export function totals(rows: readonly GpuInterval[], field: "nanos" | "millijoules"): Record<string, number> {
  const all: Record<string, number> = {};
  for (const row of rows)
    for (const [state, amount] of Object.entries(row[field])) all[state] = (all[state] ?? 0) + amount;
  return all;
}

/** What a server got of a GPU over rows, by state. */
export function shareTotals(
  rows: readonly GpuInterval[],
  server: string,
  field: "nanos" | "millijoules",
): Record<string, number> {
  const all: Record<string, number> = { token_active: 0, stalled: 0, parked: 0 };
  for (const row of rows)
    for (const share of row.residents)
      if (share.server === server)
        for (const [state, amount] of Object.entries(share[field])) all[state] = (all[state] ?? 0) + amount;
  return all;
}
