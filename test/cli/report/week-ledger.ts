// The ledger of a host in one week: four GPUs of two kinds, three engines, a gateway with tenants, prices, an outage, tokens
// read late, waste. Made of settled intervals of a quarter of an hour, so that every table of a report has something in it.
import { Books } from "../../../agent/meter/books.ts";
import type { AllocatedState, GpuInterval, GpuState, ServerInfo, UsagePiece } from "../../../agent/model.ts";
import { catalogueOf } from "../../fakes/catalogue.ts";
import { engine, gateway, h100, moved } from "../../meter/fixtures.ts";
import { LedgerAtOnce } from "../../store/ledger/ledger-at-once.ts";

const QUARTER = 900;
/** Monday 2026-11-02 in Berlin. */
export const weekStart = BigInt(Date.parse("2026-11-01T23:00:00Z")) * 1_000_000n;

const boards = [
  ["GPU-5f0c2d11-7a44-4f6e-9d0c-1a2b3c4d5e6f", "NVIDIA H100 80GB HBM3", "chat", "llama-3.3-70b"],
  ["GPU-8e21aa90-1b2c-4d5e-8f90-aabbccddeeff", "NVIDIA H100 80GB HBM3", "chat", "llama-3.3-70b"],
  ["GPU-c77e0b3a-9f8e-4d7c-b6a5-102030405060", "NVIDIA L40S", "embed", "bge-m3"],
  ["GPU-d0d1d2d3-4d5e-4f60-8a9b-0c0d0e0f1011", "NVIDIA L40S", "code", "qwen3-coder-30b"],
] as const;
const tenantNames = ["acme", "Müller & Söhne <b>", "other", "=1+1", "north", "south", ""];

const catalogue = catalogueOf({
  version: "2026-11",
  currency: "EUR",
  gpus: [
    { gpu: "H100", pricePerGpuHour: "2.80" },
    { gpu: "L40S", pricePerGpuHour: "0.95" },
  ],
  tokens: [
    { model: "llama-3.3-70b", kind: "output", pricePerMillionTokens: "4.00" },
    { model: "llama-3.3-70b", kind: "input", pricePerMillionTokens: "1.60" },
    { model: "bge-m3", kind: "input", pricePerMillionTokens: "0.30" },
  ],
});

/** How busy the host is at a quarter of the week, 0 to 1: by day more than by night, at the weekend less. */
function load(quarter: number): number {
  const [day, hour] = [Math.floor(quarter / 96), (quarter % 96) / 4];
  const tide = 0.5 + 0.5 * Math.sin(((hour - 9) / 24) * 2 * Math.PI);
  return (day >= 5 ? 0.35 : 0.9) * tide;
}

function gpuOf(index: number, quarter: number): GpuInterval {
  const [gpu, , server] = boards[index] as (typeof boards)[number];
  const busy = load(quarter);
  const isOut = quarter >= 100 && quarter < 112;
  const isFree = server === "code" && quarter % 96 < 28;
  const isStuck = server === "chat" && index === 1 && quarter >= 150 && quarter < 154;
  const share: Partial<Record<GpuState, number>> = isOut
    ? { unobserved: 1 }
    : isFree
      ? { free: 0.7, other: 0.3 }
      : isStuck
        ? { stalled: 0.8, token_active: 0.2 }
        : { token_active: busy, parked: 1 - busy };
  const nanos = byState((state) => Math.round((share[state] ?? 0) * QUARTER) * 1e9);
  const watts = { token_active: 520, stalled: 300, parked: 120, other: 200, free: 70, unobserved: 0 };
  const held: Record<AllocatedState, number> = {
    token_active: nanos.token_active,
    stalled: nanos.stalled,
    parked: nanos.parked,
  };
  const isHeld = held.token_active + held.stalled + held.parked > 0;
  const millijoules = byState((state) => Math.round((nanos[state] / 1e6) * watts[state]));
  const { parked, stalled, token_active } = millijoules;
  return {
    gpu,
    nanos,
    millijoules: { ...millijoules, unattributed: 0 },
    rejectedMillijoules: 0,
    busyNanos: nanos.token_active,
    activityMethod: "counter_gpu",
    energyMethod: "counter",
    residents: isHeld
      ? [{ server, nanos: held, millijoules: { parked, stalled, token_active }, method: "direct" }]
      : [],
    uncertain:
      quarter % 7 === 0 && isHeld
        ? [{ server, reason: "coarse_windows", nanos: 30e9, millijoules: Math.round(token_active / 30) }]
        : [],
  };
}

function byState(value: (state: GpuState) => number): Record<GpuState, number> {
  return {
    token_active: value("token_active"),
    stalled: value("stalled"),
    parked: value("parked"),
    other: value("other"),
    free: value("free"),
    unobserved: value("unobserved"),
  };
}

/** Writes `days` of the week into a ledger in `folder`. */
export function fillWeek(folder: string, days = 7): void {
  const unixNanos = (at: number): bigint => weekStart + BigInt(Math.round(at));
  const books = new Books({ start: weekStart, unixNanos, catalogue });
  const database = new LedgerAtOnce({ folder, pid: 1, freeBytesMin: 0, agentId: "gpu-host-7" });
  const serverOf = (id: string): ServerInfo => ({
    ...engine,
    id,
    gpus: boards.filter(([, , server]) => server === id).map(([gpu]) => gpu),
  });
  const servers = new Map<string, ServerInfo>([["g", gateway]]);
  for (const [, , server] of boards) servers.set(server, serverOf(server));
  const models = new Map<string, string>(boards.map(([, , server, model]) => [server, model]));
  const facts = {
    gpus: new Map(boards.map(([uuid, name], index) => [uuid, { ...h100, uuid, name, index }])),
    servers,
    soleModel: (id: string) => models.get(id),
  };
  for (let quarter = 0; quarter < days * 96; quarter++) {
    const [from, to] = [quarter * QUARTER * 1e9, (quarter + 1) * QUARTER * 1e9];
    const increments = [...models].map(([server, model]) => {
      const tokens = Math.round(load(quarter) * (server === "embed" ? 9e6 : 2.1e6));
      return moved({
        ...{ server, model, late: quarter === 112 },
        tokens: { input_uncached: tokens, ...(server === "embed" ? {} : { output: Math.round(tokens / 5) }) },
        requests: { ok: Math.round(tokens / 900) },
      });
    });
    const gpus = boards.map((_, index) => gpuOf(index, quarter));
    books.bookInterval(
      {
        ...{ from, to, gpus, lateSamples: 0, violations: [] },
        servers: increments.map((one) => ({ server: one.server, activeNanos: 0, increments: [one] })),
      } as unknown as Parameters<Books["bookInterval"]>[0],
      facts,
    );
    books.postUsage("g", usageOf(quarter, unixNanos(from + 60e9)), facts, from + 60e9);
    if (quarter % 16 === 15) database.commit(books.commit(unixNanos(to), to).batch);
  }
  database.close();
}

function usageOf(quarter: number, at: bigint): readonly UsagePiece[] {
  return tenantNames.flatMap((tenant, index) =>
    boards.slice(1).map(([, , , model]): UsagePiece => {
      const tokens = Math.round((load(quarter) * 1.1e6) / (index + 2));
      return {
        ...{ tenant, model, endpoint: "chat", at },
        outcome: (quarter + index) % 11 === 0 ? "error" : "ok",
        tokens: { input_uncached: tokens, ...(model === "bge-m3" ? {} : { output: Math.round(tokens / 5) }) },
        requests: 1 + Math.round(tokens / 900),
      };
    }),
  );
}
