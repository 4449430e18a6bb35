// A report as a page: the figures of its tables are those of the JSON reports of the same groupings, exactly; it is one file
// that asks for nothing and runs nothing, and what comes from outside stays text.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { htmlReport } from "../../../agent/cli/report/html/page.ts";
import { readRange } from "../../../agent/cli/report/range.ts";
import { LedgerReader } from "../../../agent/store/ledger/reader.ts";
import { ledgerPath } from "../../../agent/store/state-folder.ts";
import { runCommand } from "../capture-io.ts";
import { figuresOf } from "./page-figures.ts";
import { parseCsv } from "./parse-csv.ts";
import { fillWeek } from "./week-ledger.ts";

const folder = mkdtempSync(join(tmpdir(), "page-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const range = ["--from", "2026-11-02", "--to", "2026-11-04", "--time-zone", "Europe/Berlin"];
let page = "";

beforeAll(async () => {
  fillWeek(folder, 2);
  const quotas = [
    "{ name: each-day, match: { tenant: '*' }, count: output, limit: 1000000, per: day }",
    "{ name: mueller, match: { tenant: 'Müller & Söhne <b>' }, count: cost, currency: EUR, limit: 0.5, per: week }",
  ];
  const policy = join(folder, "policy.yaml");
  writeFileSync(policy, `version: "1"\ntimeZone: Europe/Berlin\nquotas: [${quotas.join(", ")}]\n`);
  page = (await run(...range, "--format", "html")).stdout;
});

async function run(...words: string[]): Promise<{ readonly stdout: string; readonly stderr: string }> {
  const { exitCode, ...said } = await runCommand([
    ...["report", "--state-dir", folder, "--set", `policy=${join(folder, "policy.yaml")}`],
    ...words,
  ]);
  expect(exitCode, said.stderr).toBe(0);
  return said;
}

type Json = { readonly [key: string]: unknown };

async function json(...words: string[]): Promise<{ readonly lines: readonly Json[]; readonly total: Json }> {
  return JSON.parse((await run(...range, "--json", ...words)).stdout) as never;
}

function partOf(id: string): string {
  const from = page.indexOf(`id="${id}"`);
  expect(from, id).toBeGreaterThan(0);
  return page.slice(from, page.indexOf("</table>", from));
}

/** What a JSON line has at a key of the page. */
function valueAt(line: Json, key: string): unknown {
  const [path = "", currency] = key.split(" ");
  if (currency === undefined)
    return path.split(".").reduce<unknown>((at, word) => (at as Json)?.[word], line);
  const money = line["money"] as readonly Json[];
  return money.find((one) => one["currency"] === currency)?.[path];
}

function expectSame(shown: readonly (readonly [string, string])[], line: Json, where: string): void {
  expect(shown.length, where).toBeGreaterThan(0);
  for (const [key, value] of shown) expect(value, `${where} ${key}`).toBe(String(valueAt(line, key)));
}

describe("report --format html", () => {
  test("says how far it is: from the first grouping to the last, never backwards", () => {
    const reader = new LedgerReader(ledgerPath(folder));
    const shares: number[] = [];
    const asked = { from: "2026-11-02", to: "2026-11-04", timeZone: "Europe/Berlin" };
    htmlReport(reader, {
      range: readRange(asked, undefined, Date.UTC(2026, 10, 4)),
      ...{ unit: undefined, where: [], progress: (share) => void shares.push(share) },
    });
    reader.close();
    expect(shares.length).toBeGreaterThan(8);
    expect(shares).toEqual(shares.toSorted((one, other) => one - other));
    expect(shares[0]).toBe(0);
    expect(shares.at(-1)).toBeGreaterThanOrEqual(7 / 8);
    expect(shares.at(-1)).toBeLessThanOrEqual(1);
  });

  test("says in its totals what the JSON report says", async () => {
    const { total } = await json();
    const part = page.slice(page.indexOf('id="totals"'), page.indexOf("</dl>"));
    const shown = [...figuresOf(part).values()].flat().filter(([key]) => key !== "total_requests");
    expect(shown.map(([key]) => key)).toContain("kpis.tokens_per_gpu_hour");
    expectSame(shown, total, "totals");
    expect(shown.length).toBe(10);
  });

  test.each([
    ["models", "model,gpu_type"],
    ["money", "model,gpu_type"],
    ["tenants", "tenant"],
    ["boards", "gpu,gpu_type"],
    ["states", "state"],
  ])("has in its table of %s the figures by %s", async (id, by) => {
    const { lines, total } = await json("--by", by);
    const shown = figuresOf(partOf(id));
    const groups = by.split(",");
    let rows = 0;
    for (const line of lines) {
      const name = JSON.stringify(groups.map((group) => line[group]));
      const own = shown.get(name);
      if (id === "models" && line["total_tokens"] === null) expect(own).toBeUndefined();
      else {
        expectSame(own ?? [], line, `${id} ${name}`);
        rows++;
      }
    }
    expect([...shown.keys()].filter((name) => name.startsWith("[")).length).toBe(rows);
    if (shown.has("total")) expectSame(shown.get("total") ?? [], total, `${id} total`);
  });

  test("stacks each day of the calendar from the figures by day and state", async () => {
    const { lines } = await json("--by", "day,state");
    const from = page.indexOf('aria-label="GPU-hours by state and day"');
    const shown = figuresOf(page.slice(from, page.indexOf("</svg>", from)));
    const wanted = new Map(
      lines.map((line) => {
        const [day, state] = [line["period"], String(line["state"])];
        return [JSON.stringify([day, state]), (line["gpu_seconds"] as Json)[state]];
      }),
    );
    expect(
      new Map([...shown].filter(([row]) => row !== "").map(([row, [one]]) => [row, Number(one?.[1])])),
    ).toEqual(wanted);
  });

  test("names the waste of --waste, and its sum", async () => {
    const csv = parseCsv((await run(...range, "--waste", "--format", "csv")).stdout);
    const shown = figuresOf(partOf("waste"));
    for (const row of csv) {
      const own = shown.get(JSON.stringify([row["server"], row["gpu"], row["gpu_type"]])) ?? [];
      expect(own.length).toBeGreaterThan(0);
      for (const [key, value] of own) expect(value).toBe(row[key.split(" ")[0] ?? ""]);
    }
    const sum = csv.reduce((all, row) => all + Number(row["cost"]), 0);
    const told = (shown.get(JSON.stringify(["all", "", ""])) ?? []).find(([key]) => key === "cost EUR");
    expect(Number(told?.[1])).toBeCloseTo(sum, 6);
  });

  test("is one file that asks for nothing and runs nothing, with names as text", () => {
    expect(page).not.toMatch(
      /<script|<link|<img|<iframe|\bsrc=|\bhref=|@import|url\((?!#)|https?:\/\/|\son\w+=/i,
    );
    expect(page).toContain("default-src 'none'");
    expect(page).not.toContain("<b>");
    expect(page).toContain("Müller &amp; Söhne &lt;b&gt;");
    expect(page.length).toBeLessThan(100_000);
    for (const tag of ["table", "tr", "td", "th", "section", "svg", "dl", "div", "span", "figure"])
      expect(page.split(`<${tag}`).length, tag).toBe(
        page.split(`</${tag}>`).length + (tag === "th" ? page.split("<thead").length - 1 : 0),
      );
    expect(page).toMatch(/tokens of customers have no price/);
    expect(page).toContain("capacity not known");
  });

  test("says what it does not cover", async () => {
    const beyond = await run(
      "--from",
      "2026-11-02",
      "--to",
      "2026-11-09",
      "--time-zone",
      "Europe/Berlin",
      "--format",
      "html",
    );
    expect(beyond.stdout).toContain("The ledger ends at 2026-11-03T23:00Z");
    const empty = await run("--from", "2027-01-01", "--to", "2027-01-02", "--format", "html");
    expect(empty.stdout).toContain("Nothing is booked in this range");
    for (const words of [["--by", "tenant"], ["--top", "3"], ["--waste"], ["--source", "engine"]]) {
      const { exitCode, stderr } = await runCommand([
        "report",
        "--state-dir",
        folder,
        "--format",
        "html",
        ...words,
      ]);
      expect([exitCode, stderr]).toEqual([2, expect.stringContaining("html")]);
    }
  });

  test("-o writes a file when it is whole, and names where it cannot", async () => {
    const path = join(folder, "week.html");
    const { stdout, stderr } = await run(...range, "--format", "html", "-o", path);
    expect([stdout, readFileSync(path, "utf8")]).toEqual(["", page]);
    expect(stderr).toContain(`wrote ${path}`);
    const missing = join(folder, "nowhere", "week.html");
    const { exitCode, stderr: why } = await runCommand(["report", "--state-dir", folder, "-o", missing]);
    expect([exitCode, why]).toEqual([2, expect.stringContaining(`Cannot write --output ${missing}`)]);
  });
});
