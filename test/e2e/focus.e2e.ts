// `tokenwatt report --format focus` before the FinOps Foundation's own validator (PyPI focus-validator, FOCUS 1.2): tenants
// with names that need quoting, prices that change, free models, failed requests, two billing months of a local calendar.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { Books } from "../../agent/meter/books.ts";
import type { UsagePiece } from "../../agent/model.ts";
import { runCommand } from "../cli/capture-io.ts";
import { catalogueOf } from "../fakes/catalogue.ts";
import { factsOf, START, unixNanos } from "../meter/fixtures.ts";
import { LedgerAtOnce } from "../store/ledger/ledger-at-once.ts";
import { deployTool, runTool } from "./deploy-tools.ts";

const python = deployTool("focus/bin/python");
const folder = mkdtempSync(join(tmpdir(), "focus-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** 30 hours around the end of October in Kathmandu: a request every quarter of an hour. */
function fillLedger(): void {
  const catalogue = catalogueOf({
    version: "2026",
    currency: "EUR",
    tokens: [
      { model: "m", kind: "output", pricePerMillionTokens: "1.25", to: "2026-11-01T06:30:00Z" },
      { model: "m", kind: "output", pricePerMillionTokens: 2, from: "2026-11-01T06:30:00Z" },
      { model: "m", kind: "input", pricePerMillionTokens: "0.075" },
      { model: "free", kind: "output", pricePerMillionTokens: 0 },
    ],
  });
  const start = START - 30n * 3_600_000_000_000n;
  const books = new Books({ start, unixNanos, catalogue });
  const database = new LedgerAtOnce({ folder, pid: 1, freeBytesMin: 0, agentId: "host-1" });
  const tenants = ["acme", 'b,"x', "=1+1", "other", "", "unpriced"];
  for (let quarter = -120; quarter < 60; quarter++) {
    const at = quarter * 900e9;
    const pieces = tenants.map(
      (tenant, index): UsagePiece => ({
        tenant,
        model: index === 3 ? "free" : index === 5 ? "without a price" : "m",
        endpoint: "chat",
        outcome: quarter % 7 === 0 ? "error" : "ok",
        tokens: { output: 1000 + index, ...(index === 3 ? {} : { input_uncached: 333 }) },
        requests: 1,
        at: unixNanos(at),
      }),
    );
    books.postUsage("gateway", pieces, factsOf({ gateway: true }), at);
    database.commit(books.commit(unixNanos(at + 900e9), at + 900e9).batch);
  }
  database.close();
}

/** Rules that fail by the validator's verdict, on a data set written to `path`. */
function failingRules(path: string): {
  readonly failed: readonly string[];
  readonly passed: number;
  readonly text: string;
} {
  const where =
    "import focus_validator, os; print(os.path.dirname(os.path.dirname(focus_validator.__file__)))";
  const site = runTool(python ?? "", ["-c", where]).text.trim();
  // Its rules are read from where it is run.
  const command = `cd "${site}" && "${python}" -m focus_validator.main --data-file "${path}" --validate-version 1.2.0.1 --block-download --focus-dataset CostAndUsage`;
  const { text } = runTool("sh", ["-c", command]);
  const failed = [...text.matchAll(/^\S+ ([A-Za-z]+-[CD]-\d+-[MOC]): FAIL/gm)].map((match) => match[1] ?? "");
  return { failed, passed: (text.match(/: PASS/g) ?? []).length, text };
}

describe.skipIf(python === undefined)("tokenwatt report --format focus", () => {
  test.each(["UTC", "Asia/Kathmandu"])("passes the official validator, days of %s", async (zone) => {
    rmSync(folder, { recursive: true, force: true });
    fillLedger();
    const words = [
      "report",
      "--state-dir",
      folder,
      "--from",
      "2026-10-30",
      "--by",
      "day",
      "--time-zone",
      zone,
    ];
    const { exitCode, stderr, stdout } = await runCommand([...words, "--format", "focus"]);
    expect([exitCode, stderr]).toEqual([
      0,
      expect.stringContaining("(without a price) have no price and are left out"),
    ]);
    const path = join(folder, "focus.csv");
    writeFileSync(path, stdout);
    const { failed, passed, text } = failingRules(path);
    expect(passed, text).toBeGreaterThan(100);
    expect(text).toMatch(/InvoiceId-C-003-C: PASS/);
    // Null or not null, by whether an invoice was issued: the validator tries both, and -003 passes as one of them does.
    expect(failed, text).toEqual(["InvoiceId-C-005-C"]);
  });
});
