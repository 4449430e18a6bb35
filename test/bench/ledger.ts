// Accounting at the size of a large host: a tick over 16 GPUs, 32 servers and 200 tenants, beats into SQLite, and a
// month of 5,000 rows per bucket: file size, and reports against a plain sum over all rows.
// Nothing is asserted; LEDGER_BENCH_DAYS shortens the month.
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { readReport } from "../../agent/cli/report/groups.ts";
import { Books } from "../../agent/meter/books.ts";
import { periods } from "../../agent/meter/figures/calendar.ts";
import { planReport } from "../../agent/meter/figures/report-plan.ts";
import type { GpuInfo, ServerInfo, SettledInterval, TokenIncrement } from "../../agent/model.ts";
import { LedgerReader } from "../../agent/store/ledger/reader.ts";
import { LedgerStore } from "../../agent/store/ledger/store.ts";
import { ledgerPath } from "../../agent/store/state-folder.ts";

const START = 1_793_491_200_000_000_000n;
const [GPUS, SERVERS, TENANTS] = [16, 32, 200];
const days = Number(process.env["LEDGER_BENCH_DAYS"] ?? 10);
const folder = mkdtempSync(join(tmpdir(), "ledger-bench-"));

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}
function milliseconds(run: () => void): number {
  const start = performance.now();
  run();
  return performance.now() - start;
}

/** Waits for a job, and says what it took and for how long at most it kept the main thread from everything else. */
async function kept(job: Promise<unknown>): Promise<{ readonly took: number; readonly longest: number }> {
  const began = performance.now();
  let [last, longest, isDone] = [began, 0, false];
  const look = (): void => {
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
    if (!isDone) setImmediate(look);
  };
  setImmediate(look);
  await job;
  isDone = true;
  const now = performance.now();
  return { took: now - began, longest: Math.max(longest, now - last) };
}

const gpus = new Map<string, GpuInfo>();
for (let index = 0; index < GPUS; index++) {
  gpus.set(`GPU-${index}`, { uuid: `GPU-${index}`, weight: 1, index, name: "NVIDIA H100 80GB HBM3" });
}
const servers = new Map<string, ServerInfo>();
for (let index = 0; index < SERVERS; index++) {
  servers.set(`s${index}`, { id: `s${index}`, type: "vllm", family: "engine", address: "", pollMs: 1000 });
}
servers.set("gate", { id: "gate", type: "litellm", family: "gateway", address: "", pollMs: 1000 });
const facts = { gpus, servers, soleModel: (server: string) => `model-${server}` };

function increment(server: string, more: Partial<TokenIncrement>): TokenIncrement {
  return {
    server,
    family: "engine",
    model: `model-${server}`,
    role: "combined",
    tokens: { output: 100, input_uncached: 50, input_cached: 7 },
    reasoningTokens: 0,
    requests: { ok: 1 },
    latencies: {},
    resets: 0,
    late: false,
    at: 0,
    ...more,
  };
}

function interval(second: number): SettledInterval {
  const share = { token_active: 3e8, stalled: 0, parked: 2e8 };
  const states = { ...share, token_active: 6e8, parked: 4e8, other: 0, free: 0, unobserved: 0 };
  const none = { token_active: 0, stalled: 0, parked: 0, unknown: 0 };
  const names = [...servers.keys()].filter((name) => name !== "gate");
  return {
    from: second * 1e9,
    to: (second + 1) * 1e9,
    gpus: [...gpus.keys()].map((gpu, index) => ({
      gpu,
      nanos: states,
      millijoules: { ...states, token_active: 400_000, parked: 100_000, unattributed: 0 },
      busyNanos: 5e8,
      activityMethod: "counter_gpu",
      energyMethod: "counter",
      rejectedMillijoules: 0,
      residents: [names[index * 2], names[index * 2 + 1]].map((server) => ({
        server: server ?? "",
        nanos: share,
        millijoules: { token_active: 200_000, stalled: 0, parked: 50_000 },
        method: "sm_share",
      })),
    })),
    servers: [
      ...names.map((server) => ({
        server,
        nanos: none,
        activityMethod: "counter_gpu" as const,
        increments: [increment(server, {})],
      })),
      {
        server: "gate",
        nanos: none,
        activityMethod: "unknown" as const,
        increments: Array.from({ length: TENANTS }, (_, tenant) =>
          increment("gate", { family: "gateway", tenant: `t${tenant}`, model: `model-s${tenant % SERVERS}` }),
        ),
      },
    ],
    lateSamples: 0,
    violations: [],
  };
}

const books = new Books({
  start: START,
  unixNanos: (at) => START + BigInt(Math.round(at)),
  tenantsMax: 1000,
});
const store = await LedgerStore.open({ folder, pid: process.pid, freeBytesMin: 0 });
const [ticks, commits, stores, steps]: number[][] = [[], [], [], []];
for (let second = 0; second < 300; second++) {
  const settled = interval(second);
  ticks?.push(milliseconds(() => books.bookInterval(settled, facts)));
  if (second % 10 !== 9) continue;
  let beat: ReturnType<Books["commit"]> | undefined;
  commits?.push(
    milliseconds(() => (beat = books.commit(START + BigInt(second + 1) * 1_000_000_000n, second * 1e9))),
  );
  if (beat === undefined) continue;
  const { longest, took } = await kept(store.commit(beat.batch));
  stores?.push(took);
  steps?.push(longest);
}
console.log(`${GPUS} GPUs, ${SERVERS} servers, ${TENANTS} tenants: ${books.ledger.size} series`);
console.log(
  `tick ${median(ticks ?? []).toFixed(2)} ms of 1000; beat ${median(commits ?? []).toFixed(1)} ms on the main thread`,
);
console.log(
  `stored in ${median(stores ?? []).toFixed(1)} ms of 10000, the main thread kept for ` +
    `${median(steps ?? []).toFixed(1)} ms at most, once for ${Math.max(...(steps ?? [])).toFixed(1)} ms`,
);
await store.close();

// A month of full buckets, written as the agent writes them: rows, seal, audit record, rollup at midnight.
const month = mkdtempSync(join(tmpdir(), "ledger-bench-"));
const big = await LedgerStore.open({ folder: month, pid: process.pid, freeBytesMin: 0 });
const ROWS = 5000;
const first = Number(START / 900_000_000_000n);
const began = performance.now();
const kepts: number[] = [];
for (let bucket = 0; bucket < days * 96; bucket++) {
  const time = String(START + BigInt(bucket + 1) * 900_000_000_000n);
  const commit = big.commit({
    sequence: bucket,
    time,
    series: Array.from({ length: bucket === 0 ? ROWS : 0 }, (_, id) => ({
      series: id + 1,
      metric:
        id % 5 === 0 ? "tokenwatt.tokens" : id % 5 === 1 ? "tokenwatt.gpu.time" : `tokenwatt.other${id % 5}`,
      dimensions: {
        "tokenwatt.server.id": `server-${id}`,
        "gen_ai.request.model": `model-${id % 20}`,
        "tokenwatt.token.kind": "output",
        "tokenwatt.gpu.state": "parked",
      },
      start: String(START),
      total: "0",
      announced: 1,
    })),
    removed: [],
    state: [],
    rows: Array.from({ length: ROWS }, (_, id) => ({
      bucket: first + bucket,
      series: id + 1,
      revision: 0,
      amount: BigInt(900_000_000_000 - ((id * 7919 + bucket * 104_729) % 1_000_000_007)),
    })),
    closed: [
      {
        bucket: first + bucket,
        revision: 0,
        quality: {
          observedNanos: 1n,
          expectedNanos: 1n,
          estimatedMillijoules: 0n,
          millijoules: 1n,
          resets: 0,
        },
        figures: {},
      },
    ],
    audit: [],
  });
  kepts.push((await kept(commit)).longest);
}
const written = performance.now() - began;
await big.close();
const rows = days * 96 * ROWS;
const bytes = statSync(ledgerPath(month)).size;
console.log(
  `\nbuckets sealed and days rolled up: the main thread kept for ${median(kepts).toFixed(1)} ms at most, ` +
    `once for ${Math.max(...kepts).toFixed(1)} ms`,
);
console.log(
  `${days} days of ${ROWS} rows a bucket: ${(rows / 1e6).toFixed(1)} M rows in ${(written / 1000).toFixed(0)} s`,
);
console.log(
  `file ${(bytes / 1e6).toFixed(0)} MB, ${(bytes / rows).toFixed(1)} bytes a row, 30 days ${(((bytes / days) * 30) / 1e6).toFixed(0)} MB`,
);

const reader = new LedgerReader(ledgerPath(month));
const from = Number(START / 1_000_000n);
const to = from + days * 86_400_000;
const timed = (
  name: string,
  groups: readonly ("model" | "server")[],
  pieces: ReturnType<typeof periods>,
): void => {
  let lines = 0;
  const took = milliseconds(
    () =>
      (lines = readReport(reader, {
        plan: planReport(groups, "engine"),
        groups,
        where: [],
        periods: pieces,
      }).entries.length),
  );
  console.log(`${name}: ${lines} lines in ${took.toFixed(0)} ms`);
};
timed("report --by model, the month", ["model"], [{ from, to, name: "" }]);
timed("report --by day,model, UTC days", ["model"], periods(from, to, "day", "UTC"));
timed("report --by day,model, Asia/Kathmandu", ["model"], periods(from, to, "day", "Asia/Kathmandu"));
reader.close();
const plain = new DatabaseSync(ledgerPath(month), { readOnly: true });
const all = milliseconds(
  () => void plain.prepare("SELECT series, sum(amount) FROM rows GROUP BY series").all(),
);
console.log(`for comparison, a sum over every row: ${all.toFixed(0)} ms`);
plain.close();
for (const used of [folder, month]) rmSync(used, { recursive: true, force: true });
