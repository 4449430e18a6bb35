// A month of 1,000 tenants on 5 models, each using each model in every hour: how long the ledger takes it in, how large it
// is, and in how many seconds and with how much memory it is reported, each report in a process of its own.
// Nothing is asserted; BILLS_BENCH_DAYS shortens the month.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Books } from "../../agent/meter/books.ts";
import type { ServerInfo, UsagePiece } from "../../agent/model.ts";
import { ledgerPath } from "../../agent/store/state-folder.ts";
import { LedgerAtOnce } from "../store/ledger/ledger-at-once.ts";

const START = 1_793_491_200_000_000_000n;
const HOUR = 3600e9;
const days = Number(process.env["BILLS_BENCH_DAYS"] ?? 30);
const [tenants, models] = [1000, 5];
const folder = mkdtempSync(join(tmpdir(), "bills-bench-"));
const main = fileURLToPath(new URL("../../agent/main.ts", import.meta.url));
const gateway: ServerInfo = { id: "g", type: "litellm", family: "gateway", address: "", pollMs: 1000 };

function fill(): void {
  const unixNanos = (at: number): bigint => START + BigInt(Math.round(at));
  const price = (kind: "input_uncached" | "output", perMillion: bigint) => ({
    ...{ version: "v", source: undefined, from: undefined, to: undefined },
    ...{ model: "*", kind, perMillion },
  });
  const tokens = [price("input_uncached", 250_000_000n), price("output", 1_000_000_000n)];
  const catalogue = { version: "v", currency: "USD", gpus: [], energy: [], capacity: [], tokens };
  const books = new Books({ start: START, unixNanos, catalogue });
  const database = new LedgerAtOnce({ folder, pid: 1, freeBytesMin: 0, agentId: "bench" });
  const facts = { gpus: new Map(), servers: new Map([["g", gateway]]) };
  for (let hour = 0; hour < days * 24; hour++) {
    const at = hour * HOUR + 60e9;
    const usage: UsagePiece[] = [];
    for (let tenant = 0; tenant < tenants; tenant++) {
      for (let model = 0; model < models; model++) {
        usage.push({
          ...{ tenant: `tenant-${tenant}`, model: `model-${model}`, endpoint: "chat", outcome: "ok" },
          ...{
            tokens: { input_uncached: 1000 + tenant, output: 100 + model },
            requests: 7,
            at: unixNanos(at),
          },
        });
      }
    }
    books.postUsage("gateway", usage, facts, at);
    const end = hour * HOUR + 900e9;
    database.commit(books.commit(unixNanos(end), end).batch);
  }
  database.close();
}

function report(...words: string[]): void {
  const began = performance.now();
  const code = `process.argv.splice(1, 1, ${JSON.stringify(main)}); await import(${JSON.stringify(main)});
    process.on("exit", () => console.error("PEAK", process.resourceUsage().maxRSS));`;
  const range = ["report", "--state-dir", folder, "--from", "2026-11-01", ...words];
  const { status, stderr, stdout } = spawnSync(
    process.execPath,
    ["--input-type=module", "--eval", code, "main.ts", ...range],
    { encoding: "utf8", maxBuffer: 1e9 },
  );
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  const peak = (Number(/PEAK (\d+)/.exec(stderr)?.[1] ?? Number.NaN) / 1024).toFixed(0);
  const lines = stdout.split("\n").length - 1;
  console.log(`${words.join(" ").padEnd(44)} ${seconds} s, ${peak} MiB, ${lines} lines, exit ${status}`);
}

const began = performance.now();
try {
  fill();
  const mebibytes = (statSync(ledgerPath(folder)).size / 2 ** 20).toFixed(0);
  console.log(
    `${days} days filled in ${((performance.now() - began) / 1000).toFixed(0)} s, ${mebibytes} MiB`,
  );
  report("--by", "tenant", "--format", "csv");
  report("--by", "tenant,model", "--format", "csv");
  report("--by", "month,tenant", "--time-zone", "Asia/Kathmandu", "--format", "csv");
  report("--format", "focus");
  report("--by", "day", "--format", "focus");
  report("--by", "tenant", "--sort", "revenue", "--top", "10");
  report("--by", "day", "--format", "html");
} finally {
  rmSync(folder, { recursive: true, force: true });
}
