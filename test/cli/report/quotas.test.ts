// Quotas beside the lines of a report: what a table, CSV and JSON show of each is the sum of the bookings of its window up to the
// end of the line's period, by an oracle that knows the bookings and the calendar alone.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { gatewaySeries } from "../../policy/fixtures.ts";
import { Bookkeeper, START } from "../../store/ledger/fixture.ts";
import { runCommand } from "../capture-io.ts";
import { parseCsv } from "./parse-csv.ts";

const folder = mkdtempSync(join(tmpdir(), "report-quotas-"));
const policy = join(folder, "policy.yaml");
const start = Number(START / 1_000_000n);
const HOUR = 3_600_000;
const ZONE = "Asia/Kathmandu";
const booked: {
  readonly at: number;
  readonly tenant: string;
  readonly model: string;
  readonly amount: number;
}[] = [];

beforeAll(() => {
  writeFileSync(
    policy,
    `version: "1"
timeZone: ${ZONE}
quotas:
  - { name: month, match: { tenant: "*" }, count: weighted, weights: { output: 0.5 }, limit: 9000, per: month }
  - { name: acme-m, match: { tenant: acme, model: m }, count: tokens, limit: 400, per: day }
  - { name: models, match: { model: "*" }, count: tokens, limit: 90000, per: week }
  - { name: all, count: tokens, limit: 1, per: day }
  - { name: quick, match: { tenant: "*" }, count: tokens, limit: 1, per: minute }
`,
  );
  const keeper = new Bookkeeper(folder);
  for (let hour = 1; hour <= 24 * 5; hour++) {
    const [tenant, model] = [hour % 3 === 0 ? "blue" : "acme", hour % 2 === 0 ? "m" : "n"];
    const amount = (hour * 37) % 101;
    booked.push({ at: start + hour * HOUR - 1, tenant, model, amount });
    keeper.post(hour * 3600, {
      metric: "tokenwatt.gateway.tokens",
      dimensions: gatewaySeries(tenant, { model }),
      amount,
    });
    if (hour % 6 === 0) keeper.beat(hour * 3600);
  }
  keeper.close();
});
afterAll(() => rmSync(folder, { recursive: true }));

const run = (...more: string[]) =>
  runCommand([
    ...["report", "--state-dir", folder, "--set", `policy=${policy}`, "--time-zone", ZONE],
    ...["--from", "2026-11-01T06:00", ...more],
  ]);

/** A local date, or its month. */
function local(at: number, length: 7 | 10): string {
  return new Intl.DateTimeFormat("en-CA", { timeZone: ZONE, dateStyle: "short" }).format(at).slice(0, length);
}

function sum(until: number, wanted: (one: (typeof booked)[number]) => boolean): number {
  return booked.filter((one) => one.at < until && wanted(one)).reduce((all, { amount }) => all + amount, 0);
}

describe("report --by tenant", () => {
  test("shows used of each quota at the end of each day, exactly", async () => {
    const { exitCode, stdout } = await run("--by", "day,tenant", "--json");
    expect(exitCode).toBe(0);
    const { lines } = JSON.parse(stdout) as {
      readonly lines: readonly {
        readonly to: string;
        readonly tenant: string;
        readonly quota: Readonly<Record<string, unknown>>;
        readonly quotas: readonly Readonly<Record<string, unknown>>[];
      }[];
    };
    expect(lines.length).toBe(12);
    for (const { quota, quotas, tenant, to } of lines) {
      const end = Date.parse(to);
      const month = quotas.find(({ name }) => name === "month");
      const inMonth = sum(end, (one) => one.tenant === tenant && local(one.at, 7) === local(end - 1, 7));
      expect([to, tenant, month?.["used"]]).toEqual([to, tenant, inMonth / 2]);
      const day = quotas.find(({ name }) => name === "acme-m");
      const today = sum(end, (one) => {
        return one.tenant === "acme" && one.model === "m" && local(one.at, 10) === local(end - 1, 10);
      });
      expect(day?.["used"]).toBe(tenant === "acme" ? today : undefined);
      expect(quota).toEqual(quotas[0]);
      const shares = quotas.map(({ share }) => Number(share));
      expect(shares).toEqual(shares.toSorted((a, b) => b - a));
    }
  });

  test("shows the fullest in a table and as CSV, and sorts by it", async () => {
    const { stdout } = await run("--by", "tenant", "--format", "csv", "--sort", "quota_share");
    const rows = parseCsv(stdout);
    const columns = [
      "tenant",
      "quota",
      "quota_window",
      "quota_unit",
      "quota_limit",
      "quota_used",
      "quota_state",
    ];
    const cells = rows.map((row) => columns.map((name) => row[name]));
    const used = (tenant: string): string =>
      String(sum(Number.POSITIVE_INFINITY, (one) => one.tenant === tenant) / 2);
    expect(cells).toEqual([
      // The month began before the ledger did: a lower bound is never ok.
      ["acme", "month", "2026-11", "weighted", "9000", used("acme"), "unknown"],
      ["blue", "month", "2026-11", "weighted", "9000", used("blue"), "unknown"],
    ]);
    const table = await run("--by", "tenant");
    expect(table.stdout).toMatch(/^total .*-$/m);
    expect(table.stdout).toMatch(
      new RegExp(`^blue .* month +2026-11 +weighted +9000 +${used("blue")} `, "m"),
    );
  });

  test("shows a quota on lines of whose keys it names every one, and on no others", async () => {
    const names = async (by: string): Promise<unknown> => {
      const { stdout } = await run("--by", by, "--json", "--source", "gateway");
      const { lines } = JSON.parse(stdout) as {
        lines: Record<string, { readonly name: string }[] | undefined>[];
      };
      return [
        ...new Set(lines.flatMap(({ quotas }) => quotas?.map(({ name }) => name) ?? ["no column"])),
      ].sort();
    };
    expect(await names("tenant,model")).toEqual(["acme-m"]);
    expect(await names("model")).toEqual(["acme-m", "models"]);
    expect(await names("tenant,kind")).toEqual(["no column"]);
  });

  test("is whole without a policy, and says so where one cannot be read", async () => {
    const without = await runCommand(["report", "--state-dir", folder, "--by", "tenant", "--format", "csv"]);
    expect(without.stdout).not.toContain("quota");
    const broken = join(folder, "broken.yaml");
    writeFileSync(broken, "quotas: 7\n");
    const { exitCode, stderr, stdout } = await run("--by", "tenant", "--set", `policy=${broken}`);
    expect([exitCode, stderr]).toEqual([0, expect.stringContaining("quotas are left out: ")]);
    expect(stdout).toContain("acme");
    expect(stdout).not.toContain("quota");
  });
});
