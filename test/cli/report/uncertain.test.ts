// The share of a report that rests on an assumption (METERING.md 1.5), by server as by GPU: what is in doubt between the servers
// of a GPU is given to them by their parts, so that their lines and the total tell the same joules.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, test, vi } from "vitest";
import { Books } from "../../../agent/meter/books.ts";
import { CapacityMeter } from "../../../agent/meter/money/capacity.ts";
import type { GpuInterval, SettledInterval } from "../../../agent/model.ts";
import { catalogueOf } from "../../fakes/catalogue.ts";
import { engine, factsOf, h100, intervalOf, moved, SECOND, START, unixNanos } from "../../meter/fixtures.ts";
import { LedgerAtOnce } from "../../store/ledger/ledger-at-once.ts";
import { runCommand } from "../capture-io.ts";

const folders: string[] = [];
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

interface Held {
  readonly seconds: number;
  readonly joules: number;
  /** Of what the server did, and of what the GPU's servers share. */
  readonly doubt?: { readonly seconds: number; readonly joules: number };
}
interface Board {
  readonly servers: Readonly<Record<string, Held>>;
  readonly sharedJoules: number;
}

const allocatedOf = (value: number) => ({ token_active: value, stalled: 0, parked: 0 });

function gpuOf({ servers, sharedJoules }: Board, place: number): GpuInterval {
  const held = Object.values(servers);
  const sum = (pick: (one: Held) => number): number => held.reduce((all, one) => all + pick(one), 0);
  const row = intervalOf({
    ...{ from: 0, to: 900, seconds: { token_active: sum((one) => one.seconds) } },
    joules: { token_active: sum((one) => one.joules) },
    residents: Object.entries(servers).map(([server, { joules, seconds }]) => ({
      ...{ server, nanos: allocatedOf(seconds * 1e9), millijoules: allocatedOf(joules * 1e3) },
      method: "sm_share" as const,
    })),
  }).gpus[0] as GpuInterval;
  const own = Object.entries(servers).flatMap(([server, { doubt }]) =>
    doubt === undefined
      ? []
      : [
          {
            ...{ server, reason: "coarse_windows" as const },
            ...{ nanos: doubt.seconds * 1e9, millijoules: doubt.joules * 1e3 },
          },
        ],
  );
  const shared =
    sharedJoules > 0 ? [{ reason: "token_share" as const, nanos: 0, millijoules: sharedJoules * 1e3 }] : [];
  return { ...row, gpu: `GPU-${place}`, uncertain: [...own, ...shared] };
}

/** A ledger of these GPUs, in which some servers made 9000 tokens. */
function ledgerOf(boards: readonly Board[], making: readonly string[] = []): string {
  const folder = mkdtempSync(join(tmpdir(), "uncertain-"));
  folders.push(folder);
  const ids = [...new Set(boards.flatMap(({ servers }) => Object.keys(servers)))];
  const facts = factsOf({
    gpus: new Map(
      boards.map((_, place) => [`GPU-${place}`, { ...h100, uuid: `GPU-${place}`, index: place }]),
    ),
    servers: new Map(ids.map((id) => [id, { ...engine, id }])),
  });
  const books = new Books({ start: START, unixNanos });
  const database = new LedgerAtOnce({ folder, pid: 1, freeBytesMin: 0, agentId: "h" });
  const interval: SettledInterval = {
    ...intervalOf({
      ...{ from: 0, to: 900 },
      increments: making.map((id) => moved({ server: id, tokens: { output: 9000 } })),
    }),
    gpus: boards.map(gpuOf),
  };
  books.bookInterval(interval, facts);
  database.commit(books.commit(unixNanos(900 * SECOND), 900 * SECOND).batch);
  database.close();
  return folder;
}

interface Line {
  readonly server?: string;
  readonly gpu?: string;
  readonly energy_joules: number | null;
  readonly kpis: {
    readonly uncertain_time_share: number | null;
    readonly uncertain_energy_share: number | null;
  };
}

async function report(
  folder: string,
  ...words: string[]
): Promise<{ readonly lines: readonly Line[]; readonly total: Line }> {
  const asked = ["report", "--state-dir", folder, "--from", "2026-11-01", "--json", ...words];
  const { exitCode, stderr, stdout } = await runCommand(asked);
  expect(exitCode, stderr).toBe(0);
  return JSON.parse(stdout) as { readonly lines: readonly Line[]; readonly total: Line };
}

const pair: Board = {
  servers: {
    chat: { seconds: 600, joules: 300_000, doubt: { seconds: 60, joules: 6000 } },
    guard: { seconds: 300, joules: 100_000 },
  },
  sharedJoules: 40_000,
};
const shares = ({ kpis }: Line) => [kpis.uncertain_time_share, kpis.uncertain_energy_share];

describe("the share that rests on an assumption", () => {
  test("of a server is of what it held, with its part of what its GPU's servers share", async () => {
    const folder = ledgerOf([pair, { servers: { lone: { seconds: 900, joules: 9000 } }, sharedJoules: 0 }]);
    const { lines } = await report(folder, "--by", "server");
    expect(lines.map((line) => [line.server, ...shares(line)])).toEqual([
      ["chat", 0.1, 0.12],
      ["guard", 0, 0.1],
      ["lone", 0, 0],
    ]);
    // Asked for one alone, it is the same; so it is by GPU.
    const [alone] = (await report(folder, "--by", "gpu", "--where", "server=guard")).lines;
    expect(alone && shares(alone)).toEqual([0, 0.1]);
  });

  test("is told with its reasons in words, in a table, JSON and the page", async () => {
    const folder = ledgerOf([pair]);
    const words = ["report", "--state-dir", folder, "--from", "2026-11-01"];
    const { stderr, stdout } = await runCommand([...words, "--by", "server"]);
    expect(stdout).toMatch(/\buncertain\b/);
    expect(stderr).toContain("uncertain, 0.017 GPU-h and 0.002 kWh: GPU readings are too far apart");
    expect(stderr).toContain("uncertain, 0.011 kWh: energy is shared by tokens");
    const { uncertain } = JSON.parse((await runCommand([...words, "--json"])).stdout) as {
      uncertain: unknown;
    };
    expect(uncertain).toMatchObject([
      { reason: "coarse_windows", gpu_seconds: 60, energy_joules: 6000 },
      { reason: "token_share", gpu_seconds: 0, energy_joules: 40_000 },
    ]);
    expect((await runCommand([...words, "--format", "html"])).stdout).toContain("energy is shared by tokens");
    // Of customers nothing is told of it, and nothing is claimed.
    const tenants = await runCommand([...words, "--by", "tenant", "--json"]);
    expect(JSON.parse(tenants.stdout)).toMatchObject({ uncertain: null });
  });

  test("is not known where the group says nothing of it, and never more than all", async () => {
    const folder = ledgerOf([
      {
        servers: {
          a: { seconds: 90, joules: 9, doubt: { seconds: 900, joules: 90 } },
          b: { seconds: 1, joules: 1 },
        },
        sharedJoules: 0,
      },
    ]);
    const [first] = (await report(folder, "--by", "server")).lines;
    expect(first && shares(first)).toEqual([1, 1]);
    for (const by of ["model", "server,model"])
      expect(shares((await report(folder, "--by", by)).total), by).toEqual([null, null]);
  });

  test("adds up over servers to that of their GPUs", async () => {
    const whole = (max: number) => fc.integer({ min: 1, max });
    const held = fc
      .record({ seconds: whole(300), joules: whole(100).map((one) => 1000 * one) })
      .chain((one) =>
        fc
          .record({
            seconds: fc.integer({ min: 0, max: one.seconds }),
            joules: fc.integer({ min: 0, max: Math.floor(one.joules / 2) }),
          })
          .map((doubt) => ({ ...one, doubt })),
      );
    const board = fc.record({ a: held, b: held, c: held }, { requiredKeys: ["b"] }).chain((servers) =>
      fc
        .integer({
          min: 0,
          max: Math.floor(Object.values(servers).reduce((all, one) => all + one.joules, 0) / 2),
        })
        .map((sharedJoules): Board => ({ servers: { ...servers }, sharedJoules })),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(board, { minLength: 1, maxLength: 3, size: "max" }), async (boards) => {
        const folder = ledgerOf(boards);
        const [byServer, byGpu] = [
          await report(folder, "--by", "server"),
          await report(folder, "--by", "gpu"),
        ];
        const joules = ({ lines }: { readonly lines: readonly Line[] }): number =>
          lines.reduce((all, { energy_joules, kpis }) => {
            return all + (energy_joules ?? 0) * (kpis.uncertain_energy_share ?? Number.NaN);
          }, 0);
        expect(joules(byServer)).toBeCloseTo(joules(byGpu), 1);
        expect(byServer.total.kpis.uncertain_energy_share).toBeCloseTo(
          byGpu.total.kpis.uncertain_energy_share ?? Number.NaN,
          4,
        );
        expect(byServer.total.kpis.uncertain_time_share).toBeCloseTo(
          byGpu.total.kpis.uncertain_time_share ?? Number.NaN,
          4,
        );
      }),
      { numRuns: 8 },
    );
  });
});

test("no capacity utilisation is made of tokens from before the capacity was known", async () => {
  const folder = mkdtempSync(join(tmpdir(), "rated-"));
  folders.push(folder);
  const books = new Books({ start: START, unixNanos });
  const database = new LedgerAtOnce({ folder, pid: 1, freeBytesMin: 0, agentId: "h" });
  const seconds = { token_active: 900 };
  const before = [moved({ tokens: { output: 5_000_000 } })];
  books.bookInterval(intervalOf({ from: 0, to: 900, seconds, increments: before }), factsOf());
  const rates = {
    version: "v",
    currency: "USD",
    capacity: [{ gpu: "H100", model: "*", tokensPerGpuHour: 1000 }],
  };
  books.setCatalogue(catalogueOf(rates), 900 * SECOND);
  books.bookInterval(intervalOf({ from: 900, to: 1800, seconds }), factsOf());
  database.commit(books.commit(unixNanos(1800 * SECOND), 1800 * SECOND).batch);
  database.close();
  const { total } = (await report(folder)) as unknown as { total: { kpis: Record<string, number | null> } };
  expect(total.kpis["capacity_utilization"]).toBeNull();
  expect(total.kpis["capacity_utilization_max"]).toBeNull();
});

test("of a learned capacity both ends are told in every format, with the source", async () => {
  const folder = mkdtempSync(join(tmpdir(), "bounds-"));
  folders.push(folder);
  const learned = { tokensPerGpuHour: 4_000_000, source: "learned", minutes: 20, at: START } as const;
  const rate = vi
    .spyOn(CapacityMeter.prototype, "rate")
    .mockReturnValue({ ...learned, uncertainPerGpuHour: 1_000_000, reason: "limit_not_seen" });
  const books = new Books({ start: START, unixNanos });
  const database = new LedgerAtOnce({ folder, pid: 1, freeBytesMin: 0, agentId: "h" });
  const increments = [moved({ tokens: { output: 600_000 } })];
  books.bookInterval(intervalOf({ from: 0, to: 900, seconds: { token_active: 900 }, increments }), factsOf());
  database.commit(books.commit(unixNanos(900 * SECOND), 900 * SECOND).batch);
  database.close();
  rate.mockRestore();
  // 600 k tokens of a million, that may be 750 k or 1.25 M.
  const words = ["report", "--state-dir", folder, "--from", "2026-11-01", "--by", "server"];
  const figures = {
    capacity_utilization: 0.6,
    capacity_utilization_min: 0.48,
    capacity_utilization_max: 0.8,
  };
  expect((await report(folder, "--by", "server")).lines).toMatchObject([
    { server: "s", capacity_source: "learned", kpis: figures },
  ]);
  const table = (await runCommand(words)).stdout;
  expect(table).toMatch(/of capacity {2}at least {2}at most {2}capacity by/);
  expect(table).toMatch(/0\.600 +0\.480 +0\.800 +learned/);
  const csv = (await runCommand([...words, "--format", "csv"])).stdout;
  expect(csv).toContain(
    "capacity_utilization,capacity_utilization_min,capacity_utilization_max,capacity_source",
  );
  expect(csv).toContain(",0.6,0.48,0.8,learned,");
  const page = (await runCommand([...words.slice(0, 5), "--format", "html"])).stdout;
  expect(page).toContain("48.0 % to 80.0 % of capacity (learned)");
});

test("no figure per joule is given of GPUs of which one has no energy, and no zero of the one", async () => {
  const board = (joules: number): Board => ({
    servers: { [joules === 0 ? "dark" : "lit"]: { seconds: 900, joules } },
    sharedJoules: 0,
  });
  const folder = ledgerOf([board(90_000), board(0)], ["dark", "lit"]);
  const { lines, total } = await report(folder, "--by", "server");
  const perJoule = (line: Line) => (line.kpis as Record<string, unknown>)["tokens_per_joule"];
  expect(lines.map((line) => [line.server, line.energy_joules, perJoule(line)])).toEqual([
    ["dark", null, null],
    ["lit", 90_000, 0.1],
  ]);
  expect([perJoule(total), total.kpis.uncertain_energy_share]).toEqual([null, null]);
  const [whole] = (await report(folder)).lines;
  expect(whole && perJoule(whole)).toBeNull();
});

test("no share and no zero is told of a server that says only when requests end", async () => {
  const row = intervalOf({ from: 0, to: 900, seconds: { stalled: 900 }, joules: { stalled: 900 } });
  const gpus = row.gpus.map((one) => ({ ...one, activityMethod: "unknown" as const }));
  const folder = mkdtempSync(join(tmpdir(), "finish-only-"));
  folders.push(folder);
  const books = new Books({ start: START, unixNanos });
  const database = new LedgerAtOnce({ folder, pid: 1, freeBytesMin: 0, agentId: "h" });
  const servers = [
    {
      server: "s",
      activityMethod: "unknown" as const,
      increments: [],
      nanos: { ...allocatedOf(0), unknown: 0 },
    },
  ];
  books.bookInterval({ ...row, gpus, servers }, factsOf());
  database.commit(books.commit(unixNanos(900 * SECOND), 900 * SECOND).batch);
  database.close();
  for (const by of ["server", "gpu", "gpu_type"]) {
    const { lines } = await report(folder, "--by", by);
    const known = lines.map(({ kpis }) => kpis as Record<string, unknown>);
    expect(known.map((kpis) => [kpis["token_active_utilization"], kpis["intensity"]])).toEqual([
      [null, null],
    ]);
  }
  const table = (
    await runCommand(["report", "--state-dir", folder, "--from", "2026-11-01", "--by", "server"])
  ).stdout;
  expect(table).not.toContain("active share");
  const page = await runCommand([
    "report",
    "--state-dir",
    folder,
    "--from",
    "2026-11-01",
    "--format",
    "html",
  ]);
  expect(page.stdout).not.toMatch(/data-key="kpis.token_active_utilization" data-value="0"/);
});
