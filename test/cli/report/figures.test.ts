// Figures that say one thing only (METERING.md 1.6): tokens, seconds and money of a figure are of the same subjects over the
// same seconds, what is not known has no value, and a range is what people typed.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import type { BookFacts } from "../../../agent/meter/books.ts";
import { Books } from "../../../agent/meter/books.ts";
import type { SettledInterval } from "../../../agent/model.ts";
import { catalogueOf } from "../../fakes/catalogue.ts";
import { factsOf, intervalOf, moved, SECOND, START, unixNanos } from "../../meter/fixtures.ts";
import { LedgerAtOnce } from "../../store/ledger/ledger-at-once.ts";
import { runCommand } from "../capture-io.ts";
import { parseCsv } from "./parse-csv.ts";

const folders: string[] = [];
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

const prices = {
  version: "v",
  currency: "USD",
  gpus: [{ gpu: "H100", pricePerGpuHour: 4 }],
  tokens: [{ model: "*", kind: "output", pricePerMillionTokens: 1 }],
};

/** A ledger of these intervals, committed up to `until` seconds. */
function ledgerOf(intervals: readonly SettledInterval[], facts: BookFacts, until: number): string {
  const folder = mkdtempSync(join(tmpdir(), "figures-"));
  folders.push(folder);
  const books = new Books({ start: START, unixNanos, catalogue: catalogueOf(prices) });
  const database = new LedgerAtOnce({ folder, pid: 1, freeBytesMin: 0, agentId: "h" });
  for (const interval of intervals) books.bookInterval(interval, facts);
  database.commit(books.commit(unixNanos(until * SECOND), until * SECOND).batch);
  database.close();
  return folder;
}

interface Line {
  readonly [name: string]: unknown;
  readonly kpis: { readonly [name: string]: unknown };
}

async function run(
  folder: string,
  ...words: string[]
): Promise<{ readonly stdout: string; readonly stderr: string }> {
  const { exitCode, ...said } = await runCommand(["report", "--state-dir", folder, ...words]);
  expect(exitCode, said.stderr).toBe(0);
  return said;
}

async function lines(folder: string, ...words: string[]): Promise<readonly Line[]> {
  const { stdout } = await run(folder, "--from", "2026-11-01", "--json", ...words);
  return (JSON.parse(stdout) as { lines: readonly Line[] }).lines;
}

const active = { token_active: 900 };
const output = (tokens: number, more = {}) =>
  moved({ tokens: { output: tokens }, requests: { ok: 5 }, ...more });

describe("a figure of tokens and GPU time", () => {
  // A quarter of an hour unobserved, whose tokens are read late, then one observed: 25 M and 6.25 M tokens.
  const outage = ledgerOf(
    [
      intervalOf({ from: 0, to: 900, seconds: { unobserved: 900 }, residents: [] }),
      intervalOf({
        ...{ from: 900, to: 1800, seconds: active },
        increments: [output(25_000_000, { late: true }), output(3_125_000)],
      }),
    ],
    factsOf(),
    1800,
  );

  test.each(["", "gpu_type", "server", "model"])(
    "leaves out tokens that met no GPU time, by %s",
    async (by) => {
      const [line] = await lines(outage, ...(by === "" ? [] : ["--by", by]));
      expect(line?.kpis["tokens_per_gpu_hour"]).toBe(12_500_000);
      // A quarter of an hour at 4 an hour, for 3.125 M tokens.
      expect(line?.kpis["cost_per_million_tokens"]).toMatchObject({ allocation: 0.32 });
      expect(line?.["tokens"]).toEqual({ output: 28_125_000 });
    },
  );

  test("takes both over closed buckets where time is shared out at their close, and says until when", async () => {
    const open = ledgerOf(
      [
        intervalOf({ from: 0, to: 900, seconds: active, increments: [output(1_000_000)] }),
        intervalOf({ from: 900, to: 1200, seconds: { token_active: 300 }, increments: [output(333_333)] }),
      ],
      factsOf(),
      1200,
    );
    const { stdout } = await run(open, "--from", "2026-11-01", "--by", "model", "--json");
    const report = JSON.parse(stdout) as { settled_until: string; lines: readonly Line[] };
    expect(report.settled_until).toBe("2026-11-01T00:15:00.000Z");
    expect(report.lines[0]).toMatchObject({
      model: "m",
      tokens: { output: 1_333_333 },
      kpis: { tokens_per_gpu_hour: 4e6 },
    });
    expect((await run(open, "--from", "2026-11-01", "--by", "model")).stderr).toContain(
      "known until 2026-11-01T00:15",
    );
  });

  test("says where nothing is closed yet, and no instant of 1970", async () => {
    const young = ledgerOf(
      [intervalOf({ from: 0, to: 300, seconds: { token_active: 300 }, increments: [output(9)] })],
      factsOf(),
      300,
    );
    const range = ["--from", "2026-11-01", "--time-zone", "UTC"];
    expect((await run(young, ...range, "--by", "model")).stderr).toContain("none of this range is yet");
    const page = (await run(young, ...range, "--format", "html")).stdout;
    expect(page).toContain("No quarter of an hour of this range is closed yet");
    expect(page).not.toContain("1970");
    // Five minutes are no zero of hours, and nothing observed by assumption is one.
    expect(page).toMatch(/data-key="gpu_seconds.token_active" data-value="300">0\.08</);
  });

  test("counts of a tenant only what this host served", async () => {
    const customer = (model: string) =>
      output(1_000_000, { server: "g", family: "gateway", tenant: "acme", model });
    const increments = [output(1_000_000), customer("m"), customer("elsewhere")];
    const folder = ledgerOf(
      [intervalOf({ from: 0, to: 900, seconds: active, increments })],
      factsOf({ gateway: true }),
      900,
    );
    const [acme] = await lines(folder, "--by", "tenant");
    expect(acme).toMatchObject({
      tenant: "acme",
      tokens: { output: 2_000_000 },
      kpis: { tokens_per_gpu_hour: 4e6 },
    });
    // Of 2 USD one was earned here, and the GPU cost one.
    expect(acme).toMatchObject({ revenue: "2", cost: "1", kpis: { gross_margin: 0 } });
  });

  test("earns only what this host made where a gateway spreads a model over hosts", async () => {
    // The gateway sent 4 M tokens of the model out, a quarter of them here: acme had 3 M of all, beta 1 M.
    const customer = (tenant: string, tokens: number) =>
      output(tokens, { server: "g", family: "gateway", tenant, model: "m" });
    const increments = [output(1_000_000), customer("acme", 3_000_000), customer("beta", 1_000_000)];
    const folder = ledgerOf(
      [intervalOf({ from: 0, to: 900, seconds: { token_active: 225 }, increments })],
      factsOf({ gateway: true }),
      900,
    );
    // 4 USD were earned in all, 1 of them here, on 0.0625 GPU-hours at 4 USD: 0.25.
    for (const by of [[], ["--by", "model"], ["--by", "server"], ["--by", "gpu_type"]]) {
      const [line] = await lines(folder, ...by);
      expect(line, by.join(" ")).toMatchObject({ revenue: "4", kpis: { gross_margin: 0.75 } });
    }
    const tenants = await lines(folder, "--by", "tenant");
    expect(tenants).toMatchObject([
      { tenant: "acme", revenue: "3", kpis: { gross_margin: 0.75, tokens_per_gpu_hour: 16e6 } },
      { tenant: "beta", revenue: "1", kpis: { gross_margin: 0.75, tokens_per_gpu_hour: 16e6 } },
    ]);
  });

  test("keeps a model of an engine that is called as one of our own words", async () => {
    const increments = ["other", "unknown", "m"].map((model, index) => output(index + 1, { model }));
    const folder = ledgerOf([intervalOf({ from: 0, to: 900, seconds: active, increments })], factsOf(), 900);
    const found = await lines(folder, "--by", "model");
    expect(found.map((line) => [line["model"], line["tokens"]])).toEqual([
      ["m", { output: 3 }],
      ["other", { output: 1 }],
      ["unknown", { output: 2 }],
    ]);
  });

  test("has no value where a metric cannot carry the group, never 0", async () => {
    const folder = ledgerOf(
      [intervalOf({ from: 0, to: 900, seconds: { token_active: 600, free: 300 }, increments: [output(9)] })],
      factsOf(),
      900,
    );
    for (const by of ["gpu", "state"]) {
      const found = await lines(folder, "--by", by);
      expect(found.map((line) => line.kpis["tokens_per_gpu_hour"])).toEqual(found.map(() => null));
    }
    const servers = await lines(folder, "--by", "server");
    expect(servers.map((line) => line["server"])).toEqual(["s", "(no server)"]);
    expect(servers[1]?.kpis).toMatchObject({ tokens_per_gpu_hour: null, gross_margin: null });
  });
});

test("economics tells of models and GPUs where the ledger knows no capacity, and no zero of what has no price", async () => {
  const increments = [output(1_000_000), moved({ model: "n", tokens: { input_uncached: 5 } })];
  const folder = ledgerOf([intervalOf({ from: 0, to: 900, seconds: active, increments })], factsOf(), 900);
  const words = ["economics", "--state-dir", folder, "--from", "2026-11-01", "--json"];
  const { exitCode, stderr, stdout } = await runCommand(words);
  expect([exitCode, stderr]).toEqual([
    0,
    expect.stringContaining("does not tell --capacity-tokens-per-hour"),
  ]);
  const rows = (JSON.parse(stdout) as { ledger: { rows: readonly object[] } }).ledger.rows;
  expect(rows).toMatchObject([
    { model: "m", tokens_per_gpu_hour: 4e6, revenue_per_gpu_hour: 4, cost_per_gpu_hour: 4 },
  ]);
  const known = await runCommand([...words, "--capacity-tokens-per-hour", "30e6", "--token-active", "0.5"]);
  expect(JSON.parse(known.stdout)).toMatchObject({ tokens_per_gpu_hour: 15e6, gpu_hour_price_usd: 4 });
  const swept = await runCommand([...words, "--sweep", "token-active"]);
  expect([swept.exitCode, swept.stderr]).toEqual([2, expect.stringContaining("does not tell")]);
});

describe("a rate", () => {
  test("divides by the seconds the ledger covers", async () => {
    const folder = ledgerOf(
      [
        intervalOf({
          from: 0,
          to: 60,
          seconds: { token_active: 60 },
          increments: [output(600, { requests: { ok: 300 } })],
        }),
      ],
      factsOf(),
      60,
    );
    const [line] = await lines(folder);
    expect(line).toMatchObject({ queries_per_second: 5, tokens_per_second: 10 });
  });
});

describe("a report of money", () => {
  test("keeps currencies apart, in rows of their own, and adds none", async () => {
    const folder = mkdtempSync(join(tmpdir(), "figures-"));
    folders.push(folder);
    const books = new Books({ start: START, unixNanos, catalogue: catalogueOf({ ...prices, gpus: [] }) });
    const database = new LedgerAtOnce({ folder, pid: 1, freeBytesMin: 0 });
    books.bookInterval(
      intervalOf({ from: 0, to: 60, seconds: active, increments: [output(1_000_000)] }),
      factsOf(),
    );
    books.setCatalogue(catalogueOf({ ...prices, gpus: [], version: "w", currency: "JPY" }), 60 * SECOND);
    books.bookInterval(
      intervalOf({ from: 60, to: 120, seconds: active, increments: [output(3_000_000)] }),
      factsOf(),
    );
    database.commit(books.commit(unixNanos(900 * SECOND), 900 * SECOND).batch);
    database.close();
    const rows = parseCsv(
      (await run(folder, "--from", "2026-11-01", "--by", "model", "--format", "csv")).stdout,
    );
    expect(rows.map(({ currency, model, revenue, tokens }) => [model, tokens, revenue, currency])).toEqual([
      ["m", "4000000", "3", "JPY"],
      ["m", "", "1", "USD"],
    ]);
    const [line] = await lines(folder, "--by", "model");
    expect(line).toMatchObject({ revenue: null, currency: null, kpis: { gross_margin: null } });
    expect(line?.["money"]).toEqual([
      { currency: "JPY", cost: null, revenue: "3" },
      { currency: "USD", cost: null, revenue: "1" },
    ]);
  });
});

describe("a range people type", () => {
  const day = 86_400;
  // A request an hour for three weeks from Sunday 2026-11-01.
  const weeks = ledgerOf(
    Array.from({ length: 21 * 24 }, (_, hour) =>
      intervalOf({
        from: hour * 3600,
        to: hour * 3600 + 60,
        seconds: { parked: 40, free: 20 },
        increments: [output(1)],
      }),
    ),
    factsOf(),
    21 * day,
  );
  const tokens = async (...words: string[]): Promise<readonly (readonly string[])[]> =>
    parseCsv((await run(weeks, "--format", "csv", ...words)).stdout).map((row) => [
      row["period"] ?? "",
      row["tokens"] ?? "",
    ]);

  test.each([
    [["--from", "7d"], [["", "168"]]],
    [["--from", "24h"], [["", "24"]]],
    [["--from", "last-week"], [["", "168"]]],
    [["--from", "this-month"], [["", "504"]]],
    [
      ["--from", "2026-11", "--by", "week"],
      [
        ["2026-W44", "24"],
        ["2026-W45", "168"],
        ["2026-W46", "168"],
        ["2026-W47", "144"],
      ],
    ],
  ] as const)("%j", async (words, wanted) => {
    expect(await tokens(...words)).toEqual(wanted);
  });

  test("says what the ledger holds where it is empty", async () => {
    const { stderr } = await run(weeks, "--from", "last-month");
    expect(stderr).toContain("the ledger holds 2026-11-01T00:00:00.000Z to 2026-11-22");
  });

  test("--waste names servers and GPUs that were held or free and made nothing", async () => {
    const rows = parseCsv((await run(weeks, "--from", "2026-11", "--waste", "--format", "csv")).stdout);
    const hours = (504 * 40) / 3600;
    expect(rows).toMatchObject([
      { server: "s", gpu: "GPU-1", parked_hours: "5.6", cost: String(hours * 4), currency: "USD" },
      { server: "(no server)", gpu: "GPU-1", free_hours: "2.8", cost: "11.2" },
    ]);
  });

  test("--waste fits a screen whatever the names, and sums its hours and each currency", async () => {
    const words = ["report", "--state-dir", weeks, "--from", "2026-11", "--waste"];
    const { stdout } = await runCommand(words, { COLUMNS: "60" });
    expect(Math.max(...stdout.split("\n").map((line) => line.length))).toBeLessThanOrEqual(60);
    expect(stdout).toMatch(/^total +5\.600 +- +-$/m);
    const report = JSON.parse((await run(weeks, "--from", "2026-11", "--waste", "--json")).stdout) as {
      total: readonly object[];
    };
    expect(report.total).toMatchObject([{ parked_hours: "5.6", cost: "33.6", currency: "USD" }]);
    const focus = await run(weeks, "--from", "2026-11", "--format", "focus", "--by", "tenant,week");
    expect(focus.stderr).toContain("--by tenant changes no row of focus");
    const one = await run(weeks, "--from", "2026-11", "--waste", "--where", "server=s", "--format", "csv");
    expect(parseCsv(one.stdout).map(({ server }) => server)).toEqual(["s"]);
    for (const refused of [
      ["--waste", "--by", "tenant"],
      ["--waste", "--format", "focus"],
      ["--format", "focus", "--top", "3"],
    ]) {
      const { exitCode, stderr } = await runCommand(["report", "--state-dir", weeks, ...refused]);
      expect([exitCode, stderr]).toEqual([2, expect.stringMatching(/^Cannot /)]);
    }
  });

  test("--where, --sort and --top choose lines, and the total stays that of all that was chosen", async () => {
    const { stdout, stderr } = await run(
      weeks,
      "--from",
      "2026-11",
      "--by",
      "day",
      "--sort",
      "tokens",
      "--top",
      "2",
      "--json",
    );
    const report = JSON.parse(stdout) as { lines: readonly Line[]; total: Line };
    expect([report.lines.length, report.total["tokens"]]).toEqual([2, { output: 504 }]);
    expect(stderr).toContain("19 more lines");
    const other = await run(weeks, "--from", "2026-11", "--by", "model", "--where", "model=n", "--json");
    expect((JSON.parse(other.stdout) as { lines: readonly Line[] }).lines).toEqual([]);
    for (const words of [
      ["--where", "colour=red"],
      ["--sort", "colour"],
      ["--top", "0"],
    ]) {
      const { exitCode, stderr: why } = await runCommand(["report", "--state-dir", weeks, ...words]);
      expect([exitCode, why]).toEqual([2, expect.stringContaining("wanted")]);
    }
  });

  test("--reprice prices what was used by another file, from the bucket its price begins", async () => {
    const path = join(weeks, "other.yaml");
    const change = "2026-11-11T12:00:00Z";
    const token = { model: "*", kind: "output" };
    const file = {
      ...{ version: "w", currency: "EUR" },
      tokens: [
        { ...token, pricePerMillionTokens: 1_000_000, to: change },
        { ...token, pricePerMillionTokens: 2_000_000, from: change },
      ],
    };
    writeFileSync(path, JSON.stringify(file));
    const [line] = await lines(weeks, "--reprice", path);
    // 252 hours before the change, 252 after it.
    expect(line).toMatchObject({ money: [{ currency: "EUR", revenue: "756" }, { currency: "USD" }] });
    expect(await lines(weeks)).toMatchObject([{ revenue: "0.000504", currency: "USD" }]);
  });

  test("a table fits the width it is given", async () => {
    const { exitCode, stdout } = await runCommand(
      ["report", "--state-dir", weeks, "--from", "2026-11", "--by", "week"],
      { COLUMNS: "80" },
    );
    expect(exitCode).toBe(0);
    expect(Math.max(...stdout.split("\n").map((line) => line.length))).toBeLessThanOrEqual(80);
    for (const line of stdout.split("\n")) if (/\bcost\b/.test(line)) expect(line).toContain("currency");
  });
});

test("capacity utilisation is of the tokens made while a capacity was known, with its source", async () => {
  const folder = mkdtempSync(join(tmpdir(), "figures-"));
  folders.push(folder);
  const capacity = [{ gpu: "H100", model: "m", tokensPerGpuHour: 3600 }];
  const books = new Books({ start: START, unixNanos, catalogue: catalogueOf({ ...prices, capacity }) });
  const database = new LedgerAtOnce({ folder, pid: 1, freeBytesMin: 0, agentId: "h" });
  for (const [quarter, model] of ["x", "m"].entries()) {
    const [from, to] = [900 * quarter, 900 * (quarter + 1)];
    const increments = [output(quarter === 0 ? 100_000 : 450, { model })];
    const facts = { ...factsOf(), soleModel: () => model };
    books.bookInterval(intervalOf({ from, to, seconds: active, increments }), facts);
  }
  database.commit(books.commit(unixNanos(1800 * SECOND), 1800 * SECOND).batch);
  database.close();
  const [all] = await lines(folder);
  const of = { capacity_utilization: 0.5, capacity_utilization_min: 0.5, capacity_utilization_max: 0.5 };
  expect(all).toMatchObject({ capacity_source: "catalog", kpis: of });
  const [m, x] = await lines(folder, "--by", "model");
  expect(m).toMatchObject({ model: "m", capacity_source: "catalog", kpis: of });
  expect(x).toMatchObject({ model: "x", capacity_source: null, kpis: { capacity_utilization: null } });
});

test("tokens have no price from the start at which the host has no price file any more, those of before keep theirs", async () => {
  const folder = mkdtempSync(join(tmpdir(), "figures-"));
  folders.push(folder);
  const facts = factsOf({ gateway: true });
  for (const [run, catalogue] of [catalogueOf(prices), undefined].entries()) {
    const database = new LedgerAtOnce({ folder, pid: 1, freeBytesMin: 0, agentId: "h" });
    const start = unixNanos(run * 1800 * SECOND);
    const options = { start, unixNanos, ...(catalogue === undefined ? {} : { catalogue }) };
    const books = new Books(options, run === 0 ? undefined : database.opened.restored);
    const used = (at: number, tokens: number) => ({
      ...{ model: "m", tenant: "acme", outcome: "ok" as const, requests: 1, tokens: { output: tokens } },
      ...{ at: unixNanos(at * SECOND), countedAt: unixNanos((run * 1800 + 60) * SECOND) },
    });
    const all = run === 0 ? [used(30, 1_000_000)] : [used(40, 2_000_000), used(1830, 4_000_000)];
    books.postUsage("g", all, facts, (run * 1800 + 60) * SECOND);
    const end = (run + 1) * 1800 * SECOND;
    database.commit(books.commit(unixNanos(end), end).batch);
    database.close();
  }
  const [line] = await lines(folder, "--by", "tenant");
  expect(line).toMatchObject({ tenant: "acme", tokens: { output: 7_000_000 }, revenue: "3" });
});
