// `tokenwatt policy simulate` and `show --history`: a real ledger with usage that came late, voids, a day whose rows are gone;
// tables, CSV and JSON say the same, files are compared, and what cannot be answered is said.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { gatewaySeries } from "../policy/fixtures.ts";
import { Bookkeeper, START } from "../store/ledger/fixture.ts";
import { runCommand } from "./capture-io.ts";

const folder = mkdtempSync(join(tmpdir(), "tokenwatt-simulate-"));
const config = join(folder, "config.yaml");
const HOUR = 3600;
const DAY = 24 * HOUR;
const price = {
  "tokenwatt.currency": "EUR",
  "tokenwatt.price.version": "1",
  "tokenwatt.price.per_million": "2.5",
};

function policyFile(name: string, quotas: string, zone = "UTC"): string {
  const path = join(folder, name);
  writeFileSync(path, `version: "${name}"\ntimeZone: ${zone}\nquotas:\n${quotas}\n`);
  return path;
}

const acmeDay = (limit: number): string =>
  `  - { name: acme-day, match: { tenant: acme }, count: tokens, limit: ${limit}, per: day }`;

beforeAll(() => {
  writeFileSync(
    config,
    `stateDir: ${folder}\npolicy: policy.yaml\nservers: { litellm: [{ endpoint: "127.0.0.1:9" }] }\n`,
  );
  policyFile(
    "policy.yaml",
    `${acmeDay(1000)}
  - { name: each-hour, match: { tenant: "*" }, count: output, limit: 300, per: hour, warnAt: [] }
  - { name: burst, match: { tenant: acme }, count: tokens, limit: 5, per: minute }
  - { name: engines, source: engine, count: tokens, limit: 5, per: day }`,
  );
  const keeper = new Bookkeeper(folder);
  const book = (seconds: number, tenant: string, amount: number, atSeconds?: number): void => {
    const own = atSeconds === undefined ? {} : { at: START + BigInt(atSeconds) * 1_000_000_000n };
    const series = gatewaySeries(tenant, price);
    const calls = gatewaySeries(tenant);
    const { "tokenwatt.token.kind": _, ...requests } = calls;
    keeper.post(seconds, { metric: "tokenwatt.gateway.tokens", dimensions: series, amount, ...own });
    keeper.post(seconds, { metric: "tokenwatt.gateway.requests", dimensions: requests, amount: 1, ...own });
  };
  keeper.post(1, { metric: "tokenwatt.covered_time", dimensions: {}, amount: 1 });
  // The first day: 800, then over at 06:10, then 300 more.
  book(HOUR, "acme", 800);
  book(6 * HOUR + 600, "acme", 250);
  book(8 * HOUR, "acme", 300);
  const record = {
    quota: "acme-day",
    key: {},
    window: "2026-11-01T00:00:00.000Z",
    used: 1050,
    basis: "host",
  };
  keeper.books.noteAudit("quota_state", HOUR * 1e9, { ...record, from: "unknown", to: "warn", limit: 900 });
  keeper.books.noteAudit("quota_state", (6 * HOUR + 600) * 1e9, {
    ...record,
    from: "warn",
    to: "over",
    limit: 900,
  });
  keeper.beat(10 * HOUR);
  // Used at 02:00, told at 11:00 of the same day: it counts.
  book(11 * HOUR, "acme", 7, 2 * HOUR);
  keeper.beat(11 * HOUR);
  // The second day stays under; what was used on the first and told on the second counts late.
  book(DAY + 2 * HOUR, "acme", 100);
  keeper.beat(DAY + 2 * HOUR);
  book(DAY + 3 * HOUR, "acme", 40, 23 * HOUR);
  book(DAY + 3 * HOUR, "blue", 310);
  keeper.beat(DAY + 3 * HOUR);
  keeper.close();
});
afterAll(() => rmSync(folder, { recursive: true }));

interface Answer {
  readonly windows: readonly Readonly<Record<string, unknown>>[];
  readonly counters: readonly Readonly<Record<string, unknown>>[];
  readonly left_out: readonly { readonly quota: string; readonly why: string }[];
}

const simulate = (...more: string[]) => runCommand(["policy", "simulate", "-c", config, ...more]);

async function answered(...more: string[]): Promise<Answer> {
  const { exitCode, stdout } = await simulate("--json", "--from", "2026-11-01", ...more);
  expect(exitCode).toBe(0);
  return JSON.parse(stdout) as Answer;
}

describe("policy simulate", () => {
  test("says what would have been limited, since when, how much was above and what came after", async () => {
    const { counters, left_out, windows } = await answered();
    const [day] = windows;
    expect(day).toMatchObject({
      ...{ quota: "acme-day", key: { tenant: "acme" }, used: 1397, late: 40, limit: 1000, over: 397 },
      ...{ state: "over", ended: true, whole_window: true },
      window: { name: "2026-11-01", from: "2026-11-01T00:00Z", to: "2026-11-02T00:00Z" },
      meanwhile: { requests: 1, tokens: 250, revenue: { EUR: "0.000625" } },
      // Told at 11:00 it came when the limit was long reached.
      after: { requests: 2, tokens: 307, revenue: { EUR: "0.0007675" } },
    });
    expect(day?.["reached"]).toEqual([
      { share: 0.8, from: "2026-11-01T00:45Z", to: "2026-11-01T01:00Z" },
      { share: 0.95, from: "2026-11-01T06:00Z", to: "2026-11-01T06:15Z" },
      { share: 1, from: "2026-11-01T06:00Z", to: "2026-11-01T06:15Z" },
    ]);
    const named = (all: Answer["windows"]) =>
      all.map(({ key, quota, window }) => [
        quota,
        (key as { tenant?: string }).tenant,
        (window as { name: string }).name,
      ]);
    expect(named(windows.slice(1))).toEqual([
      ["each-hour", "acme", "2026-11-01T00:00Z"],
      // Used up to the last token is over, as the agent says it.
      ["each-hour", "acme", "2026-11-01T07:00Z"],
      ["each-hour", "blue", "2026-11-02T02:00Z"],
    ]);
    expect(counters.map(({ over, quota, unknown, windows: all }) => [quota, all, over, unknown])).toEqual([
      ["acme-day", 2, 1, 0],
      ["each-hour", 6, 2, 0],
      ["each-hour", 1, 1, 0],
      ["engines", 2, 0, 2],
    ]);
    expect(left_out).toEqual([{ quota: "burst", why: expect.stringContaining("counts minutes") }]);
  });

  test("says the same as a table and as CSV, of one tenant and one quota", async () => {
    const table = await simulate("--from", "2026-11-01", "--quota", "acme-day", "--tenant", "acme");
    expect([table.exitCode, table.stderr]).toEqual([0, expect.stringContaining("digest")]);
    expect(table.stdout).toMatch(
      /^acme-day +acme +2026-11-01 +1,397 +1,000 +139\.7 +over +2026-11-01T00:45Z +2026-11-01T06:00Z +397 +40 +2 +307 +EUR 0\.0008/m,
    );
    const { stdout } = await simulate(
      "--from",
      "2026-11-01",
      "--quota",
      "acme-day",
      "--format",
      "csv",
      "--all",
    );
    const lines = stdout
      .trimEnd()
      .split("\r\n")
      .map((line) => line.split(","));
    const column = (name: string) => lines.slice(1).map((line) => line[lines[0]?.indexOf(name) ?? -1]);
    expect(column("window")).toEqual(["2026-11-01", "2026-11-02"]);
    expect(column("used")).toEqual(["1397", "100"]);
    expect(column("ended")).toEqual(["true", "false"]);
    expect(column("over_from")).toEqual(["2026-11-01T06:00Z", ""]);
  });

  test("compares a file with the one in force, or with another", async () => {
    const file = policyFile("roomy.yaml", acmeDay(1380));
    const { stdout, exitCode } = await simulate("--from", "2026-11-01", "--file", file, "--against");
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(
      /acme-day +acme +2026-11-01 +1,397 +1,000 -> 1,380 +139\.7 -> 101\.2 +over -> warn/,
    );
    // The second day is as it was; quotas the new file has not are gone where they came to anything.
    expect(stdout).not.toContain("2026-11-02T00");
    expect(stdout).toMatch(/each-hour +blue +2026-11-02T02:00Z +310 -> none/);
    const json = await simulate("--json", "--from", "2026-11-01", "--file", file, "--against", file);
    expect(JSON.parse(json.stdout)).toMatchObject({ before: { digest: expect.any(String) }, changes: [] });
  });

  test("counts calendar days of the file's zone, and reads dates in it", async () => {
    const file = policyFile("kathmandu.yaml", acmeDay(1000), "Asia/Kathmandu");
    const { windows } = await answered("--file", file, "--all", "--from", "2026-11-01");
    expect(windows.map(({ used, window }) => [(window as { from: string }).from, used])).toEqual([
      ["2026-10-31T18:15Z", 1357],
      ["2026-11-01T18:15Z", 140],
    ]);
    // The ledger holds nothing of the evening before: of the first day it is not known.
    expect(windows.map((one) => one["whole_window"])).toEqual([false, true]);
  });

  test("says what is wrong: what, what was seen, what was wanted", async () => {
    const wrong = async (...more: string[]) => {
      const { exitCode, stderr } = await simulate(...more);
      expect(exitCode).toBe(2);
      return stderr;
    };
    expect(await wrong("--quota", "acme-days")).toContain("did you mean acme-day?");
    expect(await wrong("--format", "html")).toContain("wanted one of table, csv, json");
    expect(await wrong("--from", "tomorrow")).toContain('Cannot read --from: got "tomorrow"');
    expect(await wrong("--from", "2027-01-01", "--to", "2027-01-01")).toContain("the range is empty");
    expect(await wrong("--file", join(folder, "none.yaml"))).toContain("none.yaml");
    expect(await wrong("--file", policyFile("typo.yaml", acmeDay(1).replace("limit", "limmit")))).toContain(
      "limmit",
    );
    expect(await wrong("--state-dir", join(folder, "none"))).toContain("there is no such file");
    const unknown = await simulate("--tenant", "amce", "--from", "2026-11-01");
    expect([unknown.exitCode, unknown.stderr]).toEqual([0, expect.stringContaining("did you mean acme?")]);
    for (const range of [
      ["--from", "2026-01-01", "--to", "2026-02-01"],
      ["--from", "2027-01-01"],
    ]) {
      const { exitCode, stderr } = await simulate(...range);
      expect([exitCode, stderr]).toEqual([0, expect.stringContaining("nothing is booked in this range")]);
    }
  });
});

describe("policy show --history", () => {
  test("shows the last windows of each quota, the running one last, and what came late", async () => {
    const { exitCode, stdout, stderr } = await runCommand(["policy", "show", "--history", "2", "-c", config]);
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(
      /^acme-day +acme +2026-11-01 +over +1,397 +1,000 +139\.7 +40 +over 2026-11-01T06:10Z, limit then 900$/m,
    );
    expect(stdout).toMatch(/^acme-day +acme +2026-11-02 so far +ok +100 +1,000 +10\.0 +- +-$/m);
    expect(stdout).toMatch(/^each-hour +blue +2026-11-02T02:00Z +over +310 /m);
    expect(stderr).toContain("of minutes the ledger keeps no past: burst");
    const json = await runCommand([
      "policy",
      "show",
      "--history",
      "1",
      "--json",
      "--tenant",
      "blue",
      "-c",
      config,
    ]);
    expect(JSON.parse(json.stdout)).toMatchObject({
      windows: [{ quota: "each-hour", used: 310, on_record: null }],
    });
  });

  test("refuses a number of windows that is none", async () => {
    const { exitCode, stderr } = await runCommand(["policy", "show", "--history", "many", "-c", config]);
    expect([exitCode, stderr]).toEqual([2, expect.stringContaining("wanted a number of windows")]);
  });
});
