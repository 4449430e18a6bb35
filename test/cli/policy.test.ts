// `tokenwatt policy`: what a file is blamed for, and what the ledger says of its quotas, over a real ledger without an agent.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { gatewaySeries } from "../policy/fixtures.ts";
import { Bookkeeper, START } from "../store/ledger/fixture.ts";
import { runCommand } from "./capture-io.ts";

const folder = mkdtempSync(join(tmpdir(), "tokenwatt-policy-"));
const config = join(folder, "config.yaml");
const policy = join(folder, "policy.yaml");

beforeAll(() => {
  const gateway = 'servers: { litellm: [{ endpoint: "127.0.0.1:9" }] }';
  writeFileSync(config, `stateDir: ${folder}\npolicy: policy.yaml\n${gateway}\n`);
  writeFileSync(
    policy,
    `version: "7"
quotas:
  - { name: acme-day, match: { tenant: acme }, count: tokens, limit: 1000, hostShare: 0.5, per: day }
  - { name: each-hour, match: { tenant: "*", model: m }, count: output, limit: 100, per: hour }
  - { name: engine-day, source: engine, count: tokens, limit: 5, per: day }
  - { name: burst, match: { tenant: acme }, count: tokens, limit: 5, per: minute }
`,
  );
  const keeper = new Bookkeeper(folder);
  const at = (seconds: number, tenant: string, amount: number, kind = "output"): void =>
    keeper.post(seconds, {
      metric: "tokenwatt.gateway.tokens",
      dimensions: gatewaySeries(tenant, { kind }),
      amount,
    });
  at(600, "acme", 300);
  at(4000, "acme", 90);
  at(4100, "acme", 11, "input_cached");
  at(4200, "blue", 120);
  const budget = { gateway: "litellm@a", tenant: "acme", currency: "USD", limit: 25, remaining: -0.5 };
  const differing = { ...budget, resetsMillis: 86_400_000, quota: "acme-day", differs: ["limit"], drift: 1 };
  const value = JSON.stringify([differing, { ...budget, tenant: "blue" }]);
  const limiter = {
    name: "edge",
    type: "envoy-ratelimit",
    sinceMillis: 0,
    readMillis: 60_000,
    totals: [
      { limit: "d/tenant", counted: "hits", decided: "allow", amount: 30 },
      { limit: "d/tenant", counted: "hits", decided: "limit", amount: 4 },
    ],
  };
  const unread = { name: "lost", type: "limitador", failure: "ECONNREFUSED", totals: [] };
  const state = [
    { key: '["gateway-limits"]', value },
    { key: '["limiters"]', value: JSON.stringify([limiter, unread]) },
  ];
  keeper.database.commit(keeper.books.commit(START + 4_500_000_000_000n, 4500e9, state).batch);
  keeper.close();
});
afterAll(() => rmSync(folder, { recursive: true }));

interface Page {
  readonly quotas: readonly {
    name: string;
    key: object;
    used: number | null;
    state: string;
    whole_window: boolean;
  }[];
}

async function shown(...more: string[]): Promise<Page["quotas"]> {
  const { exitCode, stdout } = await runCommand(["policy", "show", "--json", "-c", config, ...more]);
  expect(exitCode).toBe(0);
  return (JSON.parse(stdout) as Page).quotas;
}

describe("policy show", () => {
  test("sums the ledger's rows of each window, and says what it cannot know", async () => {
    const found = (await shown()).map(({ key, name, state, used }) => [name, key, used, state]);
    expect(found).toEqual([
      ["acme-day", { tenant: "acme" }, 401, "warn"],
      ["each-hour", { tenant: "acme", model: "m" }, 90, "warn"],
      ["each-hour", { tenant: "blue", model: "m" }, 120, "over"],
      ["engine-day", {}, null, "unknown"],
      ["burst", { tenant: "acme" }, 0, "unknown"],
    ]);
  });

  test("shows the quotas of one tenant", async () => {
    expect((await shown("--tenant", "blue")).map(({ name }) => name)).toEqual(["each-hour"]);
  });

  test("is a table for people, a dash for what is not known", async () => {
    const { stdout } = await runCommand(["policy", "show", "-c", config]);
    expect(stdout).toMatch(/^acme-day +acme +mirror +warn +401 +500 +80\.2 +2026-11-02T00:00:00\.000Z$/m);
    expect(stdout).toMatch(/^engine-day +all +mirror +unknown +- +5 +- /m);
  });

  test("shows what gateways enforce by themselves, as the agent stored it, beside the quota it differs from", async () => {
    const text = (await runCommand(["policy", "show", "-c", config, "--tenant", "acme"])).stdout;
    expect(text).toMatch(/litellm@a +acme +25 USD +-0.5 USD +1970-01-02T00:00:00.000Z +acme-day +limit/);
    expect(text).not.toContain("blue");
    const page = JSON.parse((await runCommand(["policy", "show", "--json", "-c", config])).stdout);
    expect(page.gateways).toMatchObject([
      { differs: ["limit"], drift: 1 },
      { tenant: "blue", differs: null },
    ]);
  });

  test("shows what rate limiters decided by themselves, and the one that was never read", async () => {
    const text = (await runCommand(["policy", "show", "-c", config])).stdout;
    expect(text).toMatch(/^edge +d\/tenant +hits +30 +4 +0 +1970-01-01T00:00:00.000Z$/m);
    expect(text).toMatch(/^lost +- +- +- +- +- +never read: ECONNREFUSED$/m);
    const page = JSON.parse((await runCommand(["policy", "show", "--json", "-c", config])).stdout);
    expect(page.limiters).toMatchObject([
      { name: "edge", failure: null, limits: [{ limit: "d/tenant", hits: { allow: 30, limit: 4 } }] },
      { name: "lost", since: null, failure: "ECONNREFUSED", limits: [] },
    ]);
  });
});

describe("policy explain", () => {
  test("says which quotas match and why not, and from which rows they are counted", async () => {
    const { exitCode, stdout } = await runCommand(["policy", "explain", "--tenant", "acme", "-c", config]);
    expect(exitCode).toBe(0);
    expect(stdout).toContain("acme-day: matches, every key matches");
    expect(stdout).toContain("390 from tokenwatt.gateway.tokens");
    expect(stdout).toContain("11 from tokenwatt.gateway.tokens");
    expect(stdout).toContain("each-hour: does not match, it matches by model and none is given");
    const other = await runCommand(["policy", "explain", "--tenant", "blue", "--model", "m", "-c", config]);
    expect(other.stdout).toContain("acme-day: does not match, its tenant is acme");
    expect(other.stdout).toContain("blue m: used 120 of 100 output since");
  });
});

describe("policy check", () => {
  test("accepts a file, warns of what nothing feeds, and tells every problem with its line", async () => {
    const fine = await runCommand(["policy", "check", "-c", config]);
    expect([fine.exitCode, fine.stderr]).toEqual([0, expect.stringContaining("fine, 4 quotas, version 7")]);
    expect(fine.stderr).toContain("warning: quota engine-day counts from engines and none is configured");
    const one = join(folder, "one.yaml");
    writeFileSync(one, 'version: "1"\nquotas:\n  - { name: a, count: input, limit: 1, per: day }\n');
    expect((await runCommand(["policy", "check", one, "-c", config])).stderr).toContain(
      "fine, 1 quota, version",
    );
    const broken = join(folder, "broken.yaml");
    writeFileSync(broken, 'version: "1"\nquotas:\n  - { name: A, count: token, limit: -1, per: year }\n');
    const { exitCode, stderr } = await runCommand(["policy", "check", broken, "-c", config]);
    expect(exitCode).toBe(2);
    for (const key of ["name", "count", "limit", "per"]) expect(stderr).toContain(`quotas[0].${key}`);
    const json = await runCommand(["policy", "check", broken, "--json", "-c", config]);
    expect(JSON.parse(json.stdout)).toMatchObject({ valid: false, file: broken });
  });

  test("warns of names the ledger has no usage of, and config check of what nothing can feed", async () => {
    const typo = join(folder, "typo.yaml");
    const quota = "{ name: q, match: { tenant: amce }, count: tokens, limit: 5, per: day }";
    writeFileSync(typo, `version: "1"\nquotas: [${quota}]\n`);
    const { exitCode, stderr } = await runCommand(["policy", "check", typo, "-c", config]);
    expect(exitCode).toBe(0);
    expect(stderr).toContain(
      'warning: quota q: the ledger has no usage of tenant "amce": did you mean acme?',
    );
    const checked = await runCommand(["config", "check", "-c", config, "--json"]);
    expect(JSON.parse(checked.stdout)).toMatchObject({
      valid: true,
      warnings: [expect.stringContaining("quota engine-day counts from engines and none is configured")],
    });
  });

  test("accepts the example, and what it has as comments", async () => {
    const text = readFileSync(new URL("../../deploy/config/policy.example.yaml", import.meta.url), "utf8");
    const example = join(folder, "example.yaml");
    for (const written of [text, text.replaceAll(/^# (rls|orca):/gm, "$1:")]) {
      writeFileSync(example, written);
      const { exitCode, stderr } = await runCommand(["policy", "check", example, "-c", config]);
      expect([exitCode, stderr]).toEqual([0, expect.stringContaining("fine, 3 quotas")]);
    }
  });

  test("refuses calls in the clear beyond this host, and limits without calls", async () => {
    const open = join(folder, "open.yaml");
    const quota = "{ name: q, count: tokens, limit: 5, per: day, mode: local }";
    writeFileSync(open, `version: "1"\nquotas: [${quota}]\nrls: { listen: "0.0.0.0:9467" }\n`);
    const { exitCode, stderr } = await runCommand(["policy", "check", open, "-c", config]);
    expect([exitCode, stderr]).toEqual([2, expect.stringContaining("rls.listen")]);
    writeFileSync(open, `version: "1"\nquotas: [${quota}]\n`);
    const without = await runCommand(["policy", "check", open, "-c", config]);
    expect([without.exitCode, without.stderr]).toEqual([2, expect.stringContaining("local without `rls`")]);
  });

  test("says so where the configuration names no policy", async () => {
    const { exitCode, stderr } = await runCommand(["policy", "show", "--set", `stateDir=${folder}`]);
    expect([exitCode, stderr]).toEqual([2, expect.stringContaining("the configuration names none")]);
  });
});
