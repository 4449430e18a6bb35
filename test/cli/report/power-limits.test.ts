// `report --by power_limit`: whatever limits change when, each line is that limit's tokens, seconds and joules, the lines sum
// to the whole, and nothing of it is exported. Tokens and joules of a line are of the same servers and GPUs (METERING.md 1.6).
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { Books } from "../../../agent/meter/books.ts";
import { PowerLimits } from "../../../agent/meter/power-limits.ts";
import type { GpuInterval, SettledInterval } from "../../../agent/model.ts";
import { BUCKET_NANOS } from "../../../agent/model.ts";
import { LedgerReader } from "../../../agent/store/ledger/reader.ts";
import { ledgerPath } from "../../../agent/store/state-folder.ts";
import { engine, h100, intervalOf, moved, SECOND, START, unixNanos } from "../../meter/fixtures.ts";
import { LedgerAtOnce } from "../../store/ledger/ledger-at-once.ts";
import { runCommand } from "../capture-io.ts";

const folders: string[] = [];
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

const uuids = ["GPU-1", "GPU-2", "GPU-3"];
const gpus = new Map(uuids.map((uuid, index) => [uuid, { ...h100, uuid, index }]));
type Homes = Readonly<Record<string, readonly string[]>>;

interface Step {
  readonly seconds: number;
  /** By GPU: active, parked and free shares of the interval in tenths; joules of each. */
  readonly active: readonly number[];
  readonly joules: number;
  readonly tokens: number;
  readonly late: boolean;
  /** A limit read in this interval, on one GPU. */
  readonly change: { readonly gpu: number; readonly watts: number } | undefined;
}

const steps = fc.array(
  fc.record<Step>({
    seconds: fc.integer({ min: 1, max: 700 }),
    active: fc.tuple(...uuids.map(() => fc.integer({ min: 0, max: 10 }))),
    joules: fc.integer({ min: 1, max: 9000 }),
    tokens: fc.integer({ min: 1, max: 1e6 }),
    late: fc.boolean(),
    change: fc.option(
      fc.record({ gpu: fc.nat({ max: uuids.length - 1 }), watts: fc.constantFrom(350, 500, 700) }),
      { nil: undefined },
    ),
  }),
  { minLength: 1, maxLength: 12 },
);
const placements = fc.constantFrom<Homes>(
  { a: ["GPU-1"], b: ["GPU-2"], c: ["GPU-3"] },
  { a: ["GPU-1"], b: ["GPU-2", "GPU-3"] },
  { a: ["GPU-1"], b: ["GPU-1", "GPU-2"], c: ["GPU-2", "GPU-3"] },
  { a: ["GPU-1", "GPU-2", "GPU-3"], unmetered: ["GPU-1", "GPU-2"] },
  { a: ["GPU-2"], unmetered: ["GPU-1", "GPU-2", "GPU-3"] },
);

function settled(step: Step, from: number, homes: Homes): SettledInterval {
  const servers = Object.keys(homes).filter((server) => server !== "unmetered");
  const increments = servers.map((server) =>
    moved({ server, model: "m", tokens: { output: step.tokens }, late: step.late }),
  );
  const plain = intervalOf({ from, to: from + step.seconds, increments });
  const rows = uuids.map((gpu, index): GpuInterval => {
    const tenths = step.active[index] ?? 0;
    const parts = { token_active: tenths, free: 10 - tenths };
    const share = (unit: number) =>
      Object.fromEntries(Object.entries(parts).map(([state, part]) => [state, part * unit]));
    const [row] = intervalOf({ from, to: from + step.seconds, residents: [] }).gpus as [GpuInterval];
    const none = { token_active: 0, stalled: 0, parked: 0 };
    const residents = Object.keys(homes).filter((server) => homes[server]?.includes(gpu));
    const nanos = { ...row.nanos, ...share((step.seconds * SECOND) / 10) };
    const millijoules = { ...row.millijoules, ...share(step.joules * 100) };
    return {
      ...row,
      gpu,
      nanos,
      millijoules,
      // Who gets how much is not asked here: the first server gets all.
      residents: residents.map((server, place) => ({
        server,
        nanos: place > 0 ? none : { ...none, token_active: nanos.token_active },
        millijoules: place > 0 ? none : { ...none, token_active: millijoules.token_active },
        method: "equal",
      })),
    };
  });
  return { ...plain, gpus: rows };
}

interface Figures {
  tokens: number;
  matched: number;
  active: number;
  free: number;
  joules: number;
  activeJoules: number;
}

/** All GPUs that a GPU hangs together with by servers, itself included. */
function together(gpu: string, homes: Homes): ReadonlySet<string> {
  const found = new Set([gpu]);
  for (const one of found)
    for (const [server, held] of Object.entries(homes))
      if (server !== "unmetered" && held.includes(one)) for (const other of held) found.add(other);
  return found;
}

function oracle(all: readonly Step[], homes: Homes): Map<string, Figures> {
  const lines = new Map<string, Figures>();
  const limits = new Map<string, number>();
  const nameOf = (gpu: string): string => {
    const names = new Set([...together(gpu, homes)].map((one) => String(limits.get(one) ?? "none")));
    const [name = "none"] = names;
    return names.size > 1 || name === "none" ? "(no power_limit)" : name;
  };
  const lineOf = (name: string): Figures => {
    const line = lines.get(name) ?? { tokens: 0, matched: 0, active: 0, free: 0, joules: 0, activeJoules: 0 };
    lines.set(name, line);
    return line;
  };
  for (const { active, change, joules, late, seconds, tokens } of all) {
    if (change !== undefined) limits.set(uuids[change.gpu] ?? "", change.watts);
    for (const [index, gpu] of uuids.entries()) {
      const [line, tenths] = [lineOf(nameOf(gpu)), active[index] ?? 0];
      line.active += (seconds * tenths) / 10;
      line.free += (seconds * (10 - tenths)) / 10;
      line.joules += joules;
      line.activeJoules += (joules * tenths) / 10;
    }
    for (const [server, [gpu = ""]] of Object.entries(homes)) {
      if (server === "unmetered") continue;
      const line = lineOf(nameOf(gpu));
      line.tokens += tokens;
      line.matched += late ? 0 : tokens;
    }
  }
  return lines;
}

interface Line {
  readonly power_limit: string;
  readonly tokens: { readonly output?: number };
  readonly gpu_seconds: { readonly token_active?: number; readonly free?: number };
  readonly energy_joules: number | null;
  readonly kpis: { readonly tokens_per_joule: number | null };
}

/** Books the steps with and without limits; the folder has those with. */
function booked(all: readonly Step[], homes: Homes) {
  const folder = mkdtempSync(join(tmpdir(), "power-limits-"));
  folders.push(folder);
  const servers = new Map(Object.keys(homes).map((id) => [id, { ...engine, id }]));
  const limits = new PowerLimits();
  const powerLimit = (gpu: string, at: number) => limits.limitAt(gpu, at);
  const [books, bare] = [new Books({ start: START, unixNanos }), new Books({ start: START, unixNanos })];
  const intervals: SettledInterval[] = [];
  let now = 0;
  for (const step of all) {
    const [from, { change }] = [now, step];
    now += step.seconds;
    intervals.push(settled(step, from, homes));
    if (change !== undefined)
      limits.noteLimit(uuids[change.gpu] ?? "", change.watts, (from + step.seconds / 2) * SECOND);
  }
  // Booked when every change is known: an interval settles later than it ends.
  for (const interval of intervals) {
    books.bookInterval(interval, { gpus, servers, soleModel: () => "m", powerLimit });
    bare.bookInterval(interval, { gpus, servers, soleModel: () => "m" });
  }
  const { batch, snapshot } = books.commit(unixNanos(now * SECOND), now * SECOND);
  const database = new LedgerAtOnce({ folder, pid: 1, freeBytesMin: 0, agentId: "h" });
  database.commit(batch);
  database.close();
  return { folder, shown: [snapshot, bare.commit(unixNanos(now * SECOND), now * SECOND).snapshot] };
}

async function report(folder: string, ...by: string[]): Promise<{ lines: Line[]; total: Line }> {
  const words = ["report", "--state-dir", folder, "--from", "2026-11-01", "--json", ...by];
  const { exitCode, stderr, stdout } = await runCommand(words);
  expect(exitCode, stderr).toBe(0);
  return JSON.parse(stdout) as { lines: Line[]; total: Line };
}

describe("a report by power limit", () => {
  test("gives each limit what was made and used under it, and sums to the whole", async () => {
    await fc.assert(
      fc.asyncProperty(steps, placements, async (all, homes) => {
        const { folder, shown } = booked(all, homes);
        const wanted = oracle(all, homes);
        const { lines, total } = await report(folder, "--by", "power_limit");
        expect(lines.map((line) => line.power_limit).sort()).toEqual([...wanted.keys()].sort());
        for (const line of lines) {
          const name = line.power_limit;
          const { active, activeJoules, free, joules, matched, tokens } = wanted.get(name) as Figures;
          expect(line.tokens.output ?? 0).toBe(tokens);
          expect(line.gpu_seconds.token_active ?? 0).toBeCloseTo(active, 6);
          expect(line.gpu_seconds.free ?? 0).toBeCloseTo(free, 6);
          expect(line.energy_joules ?? 0).toBeCloseTo(joules, 3);
          const isKnown = name !== "(no power_limit)" && tokens > 0 && activeJoules > 0;
          if (isKnown) expect(line.kpis.tokens_per_joule).toBeCloseTo(matched / activeJoules, 6);
          else expect(line.kpis.tokens_per_joule).toBeNull();
        }
        expect({ ...total, kpis: {} }).toMatchObject(wholeOf(await report(folder)));
        const servers = await report(folder, "--by", "server,power_limit");
        expect(servers.total).toMatchObject(wholeOf(await report(folder, "--by", "server")));
        const exported = shown.map(({ points }) =>
          points.map(({ dimensions, metric, value }) => [metric, dimensions, value]),
        );
        expect(exported[0]).toEqual(exported[1]);
        expect((await runCommand(["verify", "--state-dir", folder])).exitCode).toBe(0);
      }),
      { numRuns: 40 },
    );
  }, 120_000);

  test("adds rows in the buckets of a change only", async () => {
    const step = { active: [4, 4, 4], joules: 900, tokens: 10, late: false };
    const quiet = (count: number) =>
      Array.from({ length: count }, () => ({ ...step, seconds: 450, change: undefined }));
    const change = (watts: number) => ({ ...step, seconds: 450, change: { gpu: 0, watts } });
    const homes = { a: ["GPU-1"], b: ["GPU-2", "GPU-3"] };
    // From the middle of the second quarter of an hour the limit is known; it is changed in the middle of the third.
    const { folder } = booked([...quiet(3), change(700), ...quiet(1), change(500), ...quiet(2)], homes);
    const { lines } = await report(folder, "--by", "power_limit", "--where", "gpu=GPU-1");
    expect(lines.map((line) => [line.power_limit, line.gpu_seconds.token_active])).toEqual([
      ["500", 540],
      ["700", 360],
      ["(no power_limit)", 540],
    ]);
    const reader = new LedgerReader(ledgerPath(folder));
    const from = Number(START / BUCKET_NANOS);
    const rows = Array.from({ length: 4 }, (_, index) =>
      [...reader.rows(from + index, from + index + 1, "tokenwatt.gpu.time")].filter(
        ({ dimensions }) => dimensions["hw.id"] === "GPU-1",
      ),
    );
    reader.close();
    // Two states: without a limit, without and with one, under two, under one.
    expect(rows.map((bucket) => bucket.length)).toEqual([2, 4, 4, 2]);
    const models = await report(folder, "--by", "model,gpu_type,power_limit", "--where", "power_limit=500");
    // The model's seconds and joules are those of the servers under this limit alone.
    expect(models.lines).toMatchObject([
      { power_limit: "500", tokens: { output: 30 }, energy_joules: 1080, kpis: { tokens_per_joule: 1 / 36 } },
    ]);
  });
});

function wholeOf({ total }: { readonly total: Line }): Partial<Line> {
  const { energy_joules, gpu_seconds, tokens } = total;
  return { energy_joules, gpu_seconds, tokens };
}
