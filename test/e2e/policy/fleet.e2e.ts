// Usage of a fleet: two real agents, each charged by calls, and a real Prometheus that scrapes both and is asked by them.
// The state of one follows what both used together; what a host used that is gone stays used.
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { openChannel } from "../../../agent/platform/grpc.ts";
import { shouldRateLimit } from "../../policy/rls-calls.ts";
import { freePort, owned, scratchFolder, tool, until } from "../peers.ts";
import { AgentProcess } from "./rig.ts";

const prometheus = tool("prometheus", "usage of a fleet");

interface Fleet {
  readonly used: number;
  readonly limit: number;
  readonly hosts: number;
  readonly fresh: boolean;
}

interface Shown {
  readonly used: number | null;
  readonly state: string;
  readonly basis: string;
  readonly fleet: Fleet | null;
}

async function quota(agent: AgentProcess, name: string): Promise<Shown> {
  return (await agent.quota(name, "acme")) as unknown as Shown;
}

async function charge(agent: AgentProcess, hits: number): Promise<void> {
  const client = openChannel({ target: `127.0.0.1:${agent.rls}` });
  const call = { descriptors: [{ entries: { tenant: "acme" }, hits }] };
  await until(async () => (await shouldRateLimit(client, call)).code === 1);
  client.close();
}

/** Scrapes these agents each second; a series is old after 15. */
async function startPrometheus(port: number, pages: readonly number[]): Promise<void> {
  const folder = scratchFolder("fleet-prometheus");
  const targets = JSON.stringify(pages.map((page) => `127.0.0.1:${page}`));
  const file = join(folder, "prometheus.yaml");
  writeFileSync(
    file,
    `global: {scrape_interval: 1s}\nscrape_configs: [{job_name: tokenwatt, static_configs: [{targets: ${targets}}]}]\n`,
  );
  const flags = [`--storage.tsdb.path=${folder}/data`, `--web.listen-address=127.0.0.1:${port}`];
  const args = [`--config.file=${file}`, ...flags, "--query.lookback-delta=15s"];
  owned(spawn(prometheus as string, args, { stdio: "ignore" }));
  await until(async () => (await fetch(`http://127.0.0.1:${port}/-/ready`)).ok);
}

describe.skipIf(prometheus === undefined)("quotas of a fleet", () => {
  test("follow what all hosts used, and keep what a host used that is gone", async () => {
    const web = await freePort();
    const policy = `  - {name: both, match: {tenant: acme}, count: tokens, limit: 1000, per: month, hostShare: 0.5}
  - {name: each, match: {tenant: "*"}, count: weighted, weights: {output: 1}, limit: 2000, per: day}
fleet: {prometheus: "http://127.0.0.1:${web}/", seconds: 10}
`;
    const one = await AgentProcess.start(policy);
    const other = await AgentProcess.start(policy);
    const page = await (await fetch(`http://127.0.0.1:${one.http}/-/policy`)).json();
    await until(async () => {
      const { fleet_failure: failure } = (await (
        await fetch(`http://127.0.0.1:${one.http}/-/policy`)
      ).json()) as { fleet_failure: string | null };
      return failure?.includes("ECONNREFUSED") === true;
    });
    expect(page).toMatchObject({ quotas: [{ name: "both", fleet: null, basis: "host" }] });
    await startPrometheus(web, [one.http, other.http]);
    await charge(one, 100);
    await charge(other, 750);
    await until(async () => (await quota(one, "both")).fleet?.used === 850);
    expect(await quota(one, "both")).toMatchObject({
      used: 100,
      state: "warn",
      basis: "fleet",
      fleet: { used: 850, limit: 1000, hosts: 2, fresh: true },
    });
    await until(async () => (await quota(other, "both")).fleet?.used === 850);
    expect(await quota(other, "both")).toMatchObject({ used: 750, state: "over", basis: "host" });
    expect((await quota(one, "each")).fleet).toMatchObject({ used: 850, limit: 2000, hosts: 2 });
    const metrics = await one.metrics();
    expect(metrics).toMatch(/^tokenwatt_quota_used_tokens\{[^}]*quota_scope="fleet"[^}]*\} 850$/m);
    expect(metrics).toMatch(/^tokenwatt_policy_fleet_age_seconds\{[^}]*\} [0-9]/m);
    await other.kill();
    await until(async () => (await quota(one, "both")).fleet?.hosts === 1);
    expect(await quota(one, "both")).toMatchObject({ state: "warn", fleet: { used: 850, fresh: true } });
  });
});
