// Who only scrapes /metrics has alerts too: a Prometheus with the shipped alerts scrapes an agent whose destination is
// away. Every alert evaluates on the scraped set, every series of the agent's own that alerts ask for is there, and the alert
// on a destination that takes nothing sees it.
import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { prometheusName } from "../../agent/export/metrics/prometheus-names.ts";
import { selfMetrics } from "../../agent/export/self/names.ts";
import { namesIn, rulesOf } from "../deploy/promql-names.ts";
import { ended, freePort, inherited, main, ready } from "./deploy-fleet-rig.ts";
import { deployFolder, deployTool } from "./deploy-tools.ts";

const prometheus = deployTool("prometheus");
const alerts = rulesOf("alerts.yaml").filter(({ alert }) => alert !== undefined);
/** Begin with the first loss: an agent that lost nothing has none. */
const ONLY_WITH_LOSSES = ["tokenwatt_agent_lost_points_total"];

describe.skipIf(prometheus === undefined)("a Prometheus that only scrapes", () => {
  const folder = mkdtempSync(join(tmpdir(), "scrape-"));
  const children: ChildProcess[] = [];
  let query: (expr: string) => Promise<readonly unknown[]>;

  beforeAll(async () => {
    const [web, page, nobody] = await Promise.all([freePort(), freePort(), freePort()]);
    for (const file of ["recording-rules.yaml", "alerts.yaml"])
      copyFileSync(join(deployFolder, "prometheus", file), join(folder, file));
    writeFileSync(
      join(folder, "prometheus.yaml"),
      `global: {scrape_interval: 1s, evaluation_interval: 5s}
rule_files: [recording-rules.yaml, alerts.yaml]
scrape_configs: [{job_name: tokenwatt, static_configs: [{targets: ["127.0.0.1:${page}"]}]}]
`,
    );
    const start = (path: string, args: string[], env: Record<string, string> = {}): ChildProcess => {
      const child = spawn(path, args, { env: { ...inherited, ...env }, stdio: ["ignore", "ignore", "pipe"] });
      children.push(child);
      return child;
    };
    const agent = start(process.execPath, [main, "demo", "--json"], {
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${nobody}`,
      TOKENWATT_EXPORT_PROMETHEUS_LISTEN: `127.0.0.1:${page}`,
      TOKENWATT_RATES_EXPORT_MS: "1000",
    });
    agent.stderr?.resume();
    const flags = ["prometheus.yaml", "data"].map((name) => join(folder, name));
    await ready(
      start(prometheus ?? "", [
        `--config.file=${flags[0]}`,
        `--storage.tsdb.path=${flags[1]}`,
        `--web.listen-address=127.0.0.1:${web}`,
      ]),
      /Server is ready to receive web requests/,
    );
    query = async (expr) => {
      const url = `http://127.0.0.1:${web}/api/v1/query?query=${encodeURIComponent(expr)}`;
      const answer = (await (await fetch(url)).json()) as { data?: { result: unknown[] }; error?: string };
      if (answer.data === undefined) throw new Error(`${expr}: ${answer.error}`);
      return answer.data.result;
    };
    // Attempts at a destination that is away, the first before the first scrape, and pauses that grow.
    for (let tries = 0; tries < 120; tries++) {
      await sleep(500);
      if ((await query("rate(tokenwatt_agent_export_retries_total[10m]) > 0")).length > 0) break;
    }
  });
  afterAll(async () => {
    for (const child of children.toReversed()) await ended(child);
    rmSync(folder, { recursive: true, force: true });
  });

  test.each(alerts.map(({ alert, expr }) => [alert ?? "", expr] as const))(
    "%s evaluates",
    async (_, expr) => {
      await query(expr);
    },
  );

  test("has every series of the agent's own that alerts ask for", async () => {
    const own = new Set(Object.values(selfMetrics).map(prometheusName));
    const asked = [...new Set(alerts.flatMap(({ expr }) => namesIn(expr).series))].filter((name) =>
      own.has(name),
    );
    expect(asked.length).toBeGreaterThan(4);
    const missing: string[] = [];
    for (const name of asked) {
      // Points that were taken or refused begin with the first answer, and nobody answers here.
      const isDue = !ONLY_WITH_LOSSES.includes(name);
      if (isDue && (await query(name)).length === 0) missing.push(name);
    }
    expect(missing).toEqual([]);
  });

  test("sees the destination that takes nothing", async () => {
    const failing = alerts.find(({ alert }) => alert === "TokenwattExportFailing");
    expect(await query(failing?.expr ?? "")).toMatchObject([
      { metric: { job: "tokenwatt", tokenwatt_destination: expect.any(String) } },
    ]);
  });
});
