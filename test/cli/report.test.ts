// `tokenwatt report` and `verify` over a real ledger file: two days of one engine behind a gateway with two tenants.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Books } from "../../agent/meter/books.ts";
import { ledgerPath } from "../../agent/store/state-folder.ts";
import { catalogueOf } from "../fakes/catalogue.ts";
import { factsOf, intervalOf, moved, SECOND, START, unixNanos } from "../meter/fixtures.ts";
import { Bookkeeper, temporaryFolder, tokens } from "../store/ledger/fixture.ts";
import { LedgerAtOnce } from "../store/ledger/ledger-at-once.ts";
import { runCommand } from "./capture-io.ts";
import { parseCsv } from "./report/parse-csv.ts";

const { folder, remove } = temporaryFolder();
const QUARTERS = 2 * 96 + 2;

/** Every quarter of an hour: 900 s allocated, 600 of them active, 1 kJ; tenant a 300 and b 100 output tokens. */
beforeAll(() => {
  const catalogue = catalogueOf({
    version: "v",
    currency: "USD",
    gpus: [{ gpu: "H100", pricePerGpuHour: 3 }],
    tokens: [{ model: "m", kind: "output", pricePerMillionTokens: 1000 }],
  });
  const books = new Books({ start: START, unixNanos, catalogue });
  const database = new LedgerAtOnce({ folder, pid: 1, freeBytesMin: 0, agentId: "host-1" });
  const latencies = { time_to_first_token: { bounds: [0.1, 0.2], counts: [1, 1, 0], sum: 0.2, count: 2 } };
  for (let quarter = 0; quarter < QUARTERS; quarter++) {
    const [from, to] = [quarter * 900, (quarter + 1) * 900];
    const customer = (tenant: string, output: number) =>
      moved({
        server: "g",
        family: "gateway",
        tenant,
        endpoint: "chat",
        tokens: { output },
        requests: { ok: 1 },
      });
    const increments = [
      moved({ tokens: { output: 400, input_unsplit: 100 }, requests: { ok: 2 }, latencies }),
      customer("a", 300),
      customer('b,"x', 100),
    ];
    const seconds = { token_active: 600, parked: 300 };
    books.bookInterval(
      intervalOf({ from, to, seconds, joules: { token_active: 900, parked: 100 }, increments }),
      factsOf({ gateway: true }),
    );
    database.commit(books.commit(unixNanos(to * SECOND), to * SECOND).batch);
  }
  database.close();
});
afterAll(() => remove());

async function report(...words: string[]): Promise<{ stdout: string; stderr: string; exitCode: number }> {
  return runCommand(["report", "--state-dir", folder, ...words]);
}
async function lines(...words: string[]): Promise<Record<string, unknown>[]> {
  const { exitCode, stderr, stdout } = await report("--json", ...words);
  expect([exitCode, stderr]).toEqual([0, ""]);
  return (JSON.parse(stdout) as { lines: Record<string, unknown>[] }).lines;
}
const november = ["--from", "2026-11-01", "--to", "2026-11-04"];

describe("tokenwatt report", () => {
  test("sums tokens, GPU time, energy, money and key figures over a range", async () => {
    const [line] = await lines(...november);
    expect(line).toMatchObject({
      tokens: { output: 400 * QUARTERS, input_unsplit: 100 * QUARTERS },
      requests: { ok: 2 * QUARTERS },
      gpu_seconds: { token_active: 600 * QUARTERS, parked: 300 * QUARTERS },
      energy_joules: 1000 * QUARTERS,
      cost: String(0.75 * QUARTERS),
      revenue: "77.6",
      kpis: {
        tokens_per_gpu_hour: 2000,
        token_active_utilization: 2 / 3,
        tokens_per_joule: 0.5,
        cost_per_million_tokens: { allocation: 1500 },
      },
      latency_seconds: { time_to_first_token: { p50: 0.1, p99: expect.closeTo(0.198, 9) } },
    });
  });
  test("gives a local calendar's days, +05:45 included, that sum to the whole", async () => {
    const days = await lines(...november, "--by", "day", "--time-zone", "Asia/Kathmandu");
    expect(
      days.map((day) => [day["period"], (day["gpu_seconds"] as { token_active: number }).token_active / 600]),
    ).toEqual([
      ["2026-11-01", 73],
      ["2026-11-02", 96],
      ["2026-11-03", 25],
    ]);
  });
  test("reads rollups for whole UTC days and gives what the rows give", async () => {
    const rolled = await lines(...november, "--by", "day");
    expect(rolled.map((day) => (day["tokens"] as { output: number }).output / 400)).toEqual([96, 96, 2]);
    const hours = await lines("--from", "2026-11-01T23:30Z", "--to", "2026-11-02T00:30Z", "--by", "hour");
    expect(hours.map((hour) => [hour["period"], (hour["tokens"] as { output: number }).output])).toEqual([
      ["2026-11-01T23:30Z", 800],
      ["2026-11-02T00:00Z", 800],
    ]);
  });
  test("groups gateway tokens by tenant, with each tenant's share of GPU time, energy and cost", async () => {
    const tenants = await lines(...november, "--by", "tenant");
    expect(tenants.map((line) => [line["tenant"], line["tokens"], line["gpu_seconds"]])).toEqual([
      ["a", { output: 300 * QUARTERS }, { all: expect.closeTo((900 * QUARTERS * 750) / 1100, 3) }],
      ['b,"x', { output: 100 * QUARTERS }, { all: expect.closeTo((900 * QUARTERS * 250) / 1100, 3) }],
      ["(unattributed)", {}, { all: expect.closeTo((900 * QUARTERS * 100) / 1100, 3) }],
    ]);
    const all = tenants.reduce((sum, line) => sum + Number(line["cost"]), 0);
    expect(all).toBeCloseTo(0.75 * QUARTERS, 9);
  });
  test.each(["model", "gpu_type", "server", "gpu", "state", "kind", "endpoint", "month,tenant,model"])(
    "answers --by %s",
    async (by) => {
      expect((await lines(...november, "--by", by)).length).toBeGreaterThan(0);
    },
  );
  test("prints a table and RFC 4180 CSV", async () => {
    const table = await report(...november, "--by", "day,model");
    expect(table.stdout).toContain("tok/GPU-h");
    expect(table.stdout.split("\n")[1]).toMatch(/^2026-11-01 +m +192 +/);
    const { stdout } = await report(...november, "--by", "tenant", "--format", "csv");
    expect(stdout).toContain('"b,""x"');
    expect(stdout.split("\r\n")[0]).toContain("from,to,tenant,requests");
  });
  test("writes FOCUS rows whose costs sum to the revenue", async () => {
    const { stdout } = await report(...november, "--by", "day", "--format", "focus", "--source", "gateway");
    const rows = stdout.trim().split("\r\n").slice(1);
    expect(rows).toHaveLength(6);
    expect(parseCsv(stdout)[0]).toMatchObject({
      BilledCost: "28.8",
      BillingAccountId: "host-1",
      BillingCurrency: "USD",
      BillingPeriodStart: "2026-11-01T00:00:00Z",
      BillingPeriodEnd: "2026-12-01T00:00:00Z",
      ChargePeriodStart: "2026-11-01T00:00:00Z",
      ChargePeriodEnd: "2026-11-02T00:00:00Z",
      ConsumedQuantity: "28800",
      ListUnitPrice: "0.001",
      SubAccountId: "a",
    });
  });
  test("writes one CloudEvent per closed bucket row, under an id that does not change", async () => {
    const words = [
      "--from",
      "2026-11-01T00:00Z",
      "--to",
      "2026-11-01T00:30Z",
      "--format",
      "cloudevents",
      "--source",
      "gateway",
    ];
    const [first, second] = [await report(...words), await report(...words)];
    const events = first.stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(events).toHaveLength(4);
    expect(new Set(events.map((event) => event["id"])).size).toBe(4);
    expect(events[0]).toMatchObject({
      specversion: "1.0",
      subject: "a",
      data: { tokens: "300", delta: "300", revision: 0 },
    });
    expect(second.stdout).toBe(first.stdout);
  });
  test.each([
    [["--by", "colour"], /Cannot group by "colour"/],
    [["--by", "tenant", "--source", "engine"], /Cannot group engine figures by tenant/],
    [["--by", "day,month"], /day and month at once/],
    [["--from", "2026-02-30"], /Cannot read --from: got "2026-02-30"/],
    [["--from", "2026-11-01T00:07Z"], /steps of 15 minutes/],
    [["--from", "2026-11-02", "--to", "2026-11-01"], /range is empty/],
    [["--time-zone", "Mars/Olympus"], /IANA name/],
    [["--format", "xml"], /wanted one of table, csv/],
    [["--state-dir", "/nonexistent"], /there is no such file/],
  ])("refuses %j and says why", async (words, message) => {
    const { exitCode, stderr } = await report(...words);
    expect(stderr).toMatch(message);
    expect(exitCode).toBe(2);
  });
});

describe("tokenwatt report after rows were pruned", () => {
  const pruned = temporaryFolder();
  beforeAll(() => {
    const keeper = new Bookkeeper(pruned.folder, { retention: { rowDays: 1 } });
    for (let day = 0; day < 4; day++) {
      keeper.post(day * 86_400 + 100, tokens("a", 10));
      keeper.beat(day * 86_400 + 110);
    }
    keeper.database.prune(START + 3n * 86_400_000_000_000n + 200_000_000_000n);
    keeper.close();
  });
  afterAll(() => pruned.remove());
  const of = (...words: string[]) =>
    runCommand([
      "report",
      "--json",
      "--state-dir",
      pruned.folder,
      "--by",
      "day",
      "--from",
      "2026-11-01",
      ...words,
    ]);

  test("still gives whole UTC days from their rollups", async () => {
    const { lines } = JSON.parse((await of()).stdout) as { lines: { tokens: object }[] };
    expect(lines.map((line) => line.tokens)).toEqual(Array(4).fill({ output: 10 }));
  });
  test("refuses to cut a day it no longer holds in pieces", async () => {
    const { exitCode, stderr } = await of("--time-zone", "Asia/Kathmandu");
    expect([exitCode, stderr]).toEqual([2, expect.stringContaining("only whole UTC days are kept")]);
  });
});

describe("tokenwatt economics with a ledger", () => {
  const economics = (...words: string[]) =>
    runCommand(["economics", "--json", "--state-dir", folder, "--from", "2026-11-01", ...words]);

  test("takes price, utilisation and token price from the ledger and the rest from flags", async () => {
    const { exitCode, stdout } = await economics(
      "--capacity-tokens-per-hour",
      "3200",
      "--token-active",
      "0.5",
    );
    expect(exitCode).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      gpu_hour_price_usd: 3,
      utilization: 1,
      price_usd_per_million: 1000,
      token_usd_per_gpu_hour: 1.6,
      ledger: {
        currency: "USD",
        gpu_hours: QUARTERS / 4,
        cost: 0.75 * QUARTERS,
        revenue: 77.6,
        billable_tokens: 400 * QUARTERS,
      },
    });
  });
  test("asks for what neither tells instead of assuming it", async () => {
    const asked = expect.stringContaining("--capacity-tokens-per-hour, --token-active");
    const { exitCode, stderr, stdout } = await economics();
    expect([exitCode, stderr]).toEqual([0, asked]);
    // What is known of models and GPUs is shown, and nothing that would need the rest.
    expect(JSON.parse(stdout)).toMatchObject({
      token_usd_per_year: null,
      ledger: { rows: [{ model: "m" }] },
    });
    const swept = await economics("--sweep", "token-active");
    expect([swept.exitCode, swept.stderr]).toEqual([2, asked]);
  });
});

describe("tokenwatt verify", () => {
  const verify = (...words: string[]) => runCommand(["verify", "--state-dir", folder, ...words]);

  test("proves a sound ledger and gives the head to compare with later", async () => {
    const { exitCode, stdout } = await verify("--json");
    expect(exitCode).toBe(0);
    const verdict = JSON.parse(stdout) as { sound: boolean; head: { length: number } };
    expect(verdict).toMatchObject({ sound: true, problems: [] });
    const heads = join(folder, "heads.jsonl");
    writeFileSync(heads, stdout);
    expect((await verify("--against", heads)).exitCode).toBe(0);
    writeFileSync(heads, JSON.stringify({ length: 3, hash: "f".repeat(64) }));
    const rewritten = await verify("--against", heads);
    expect([rewritten.exitCode, rewritten.stdout]).toEqual([1, expect.stringContaining("rewritten")]);
    writeFileSync(heads, "no json");
    expect((await verify("--against", heads)).exitCode).toBe(2);
  });
  test("prints the head alone, and takes heads as the agent exports them", async () => {
    const printed = await verify("--print-head");
    expect(printed.exitCode).toBe(0);
    const head = JSON.parse(printed.stdout) as { length: number; hash: string };
    expect(head.hash).toMatch(/^[0-9a-f]{64}$/);
    const heads = join(folder, "exported.jsonl");
    const exported = Number.parseInt(head.hash.slice(0, 13), 16);
    for (const [line, exitCode] of [
      [head, 0],
      [{ length: head.length, head: exported }, 0],
      [{ length: head.length, head: exported + (exported % 2 === 0 ? 1 : -1) }, 1],
      [{ length: head.length - 1, head: exported }, 1],
      [{ length: head.length + 1, head: exported }, 1],
      [{ length: head.length, hash: head.hash.slice(0, 6) }, 2],
      [{ length: head.length, hash: "" }, 2],
      [{ length: head.length, head: 0.5 }, 2],
    ] as const) {
      writeFileSync(heads, JSON.stringify(line));
      expect([line, (await verify("--against", heads)).exitCode]).toEqual([line, exitCode]);
    }
  });
  test("names the row that was changed and exits 1", async () => {
    const database = new DatabaseSync(ledgerPath(folder));
    database.exec(
      "UPDATE closed_rows SET amount = amount + 1 WHERE (bucket, series) = (SELECT bucket, series FROM closed_rows WHERE amount = 300 LIMIT 1)",
    );
    database.close();
    const { exitCode, stdout } = await verify();
    expect(exitCode).toBe(1);
    expect(stdout).toMatch(
      /bucket 2026-11-01T00:00Z, series \d+ tokenwatt\.gateway\.tokens .*was changed: reads 301/,
    );
  });
});
