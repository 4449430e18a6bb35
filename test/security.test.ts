// The promises of deploy/SECURITY.md that belong to no single room, and that its table names tests which are there.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, test } from "vitest";
import { loadConfig } from "../agent/config/load.ts";
import { startAgent } from "../agent/daemon/agent.ts";
import { systemClock } from "../agent/platform/clock.ts";
import type { Facts, Log } from "../agent/platform/log.ts";
import type { GpuSource } from "../agent/source.ts";
import { runCommand } from "./cli/capture-io.ts";

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

const root = fileURLToPath(new URL("..", import.meta.url));
const document = readFileSync(join(root, "deploy/SECURITY.md"), "utf8");

/** The rows of the threat table: who could, what stands against it, the tests. */
const threats = (document.split("## Threats")[1]?.split("\n## ")[0] ?? "")
  .split("\n")
  .filter((line) => line.startsWith("|"))
  .slice(2)
  .map((line) => line.split(/(?<!\\)\|/).map((cell) => cell.trim()));

describe("deploy/SECURITY.md", () => {
  test("has a table of threats", () => expect(threats.length).toBeGreaterThan(20));

  test.each(threats.map((row) => [row[1] ?? "", row[3] ?? ""]))("names tests that exist: %s", (_, tests) => {
    const named = [...tests.matchAll(/`([^`]+)`((?: "[^"]+",?)+)/g)];
    expect(named.length).toBeGreaterThan(0);
    for (const [, file = "", titles = ""] of named) {
      expect(existsSync(join(root, "test", file)), file).toBe(true);
      const text = readFileSync(join(root, "test", file), "utf8");
      for (const [, title = ""] of titles.matchAll(/"([^"]+)"/g))
        expect([file, text.includes(title)]).toEqual([file, true]);
    }
    // Nothing in the cell but files and titles.
    expect(tests.replaceAll(/`[^`]+`(?: "[^"]+",?)+/g, "").replaceAll(/[;\s]/g, "")).toBe("");
  });
});

describe("an agent", () => {
  const SECRET = "s3cr3t-0f-the-house";
  const noGpus: GpuSource = {
    backend: "test",
    generation: 0,
    inventory: async () => [],
    poll: async () => ({ sent: 0, received: 0, samples: [], gaps: [] }),
    close: async () => {},
    status: () => ({}),
  };
  /** Settings that hold a secret in every place one can be, none of whose peers is there. */
  const settings = (folder: string): string[] => {
    writeFileSync(join(folder, "token"), SECRET);
    const headers = { authorization: `Bearer ${SECRET}` };
    const grpc = [{ endpoint: "localhost:1", bearerFile: join(folder, "token"), headers }];
    return [
      `stateDir=${join(folder, "state")}`,
      "export.prometheus.listen=127.0.0.1:0",
      "export.otlp.endpoint=http://localhost:1",
      `export.otlp.headers=${JSON.stringify(headers)}`,
      `export.otlp.bearerFile=${join(folder, "token")}`,
      `servers.token-counters=${JSON.stringify(grpc)}`,
      `servers.vllm=${JSON.stringify([{ endpoint: "http://localhost:1/metrics", headers }, { endpoint: `http://reader:${SECRET}@localhost:1/metrics?api_key=${SECRET}` }])}`,
      `servers.usage-reports=${JSON.stringify([{ endpoint: `unix:${join(folder, "s")}`, bearerFile: join(folder, "token") }])}`,
    ];
  };

  test("tells no secret in its log, status or metrics, and its state is for its user and group", async () => {
    const folder = mkdtempSync(join(tmpdir(), "tokenwatt-secrets-"));
    closing.push(() => rmSync(folder, { recursive: true, force: true }));
    const { config } = loadConfig({ env: {}, file: false, settings: settings(folder) });
    const lines: string[] = [];
    const note = (event: string, facts: Facts = {}): void =>
      void lines.push(
        JSON.stringify([event, facts], (_, value) => (typeof value === "bigint" ? String(value) : value)),
      );
    const log: Log = { debug: note, info: note, warn: note, error: note, with: () => log };
    const agent = await startAgent({ config, clock: systemClock({ speed: 20 }), log, env: {}, gpu: noGpus });
    closing.push(() => agent.stop({ flushMs: 200 }));
    while (!lines.some((line) => line.includes("token counters lost")))
      await new Promise((next) => setImmediate(next));
    await agent.exports.recorded();
    const read = async (path: string): Promise<string> =>
      (await fetch(`http://${agent.exports.address}${path}`)).text();
    const told = [...lines, await read("/-/status"), await read("/metrics"), await read("/-/healthy")].join(
      "\n",
    );
    expect(told).toContain("localhost:1");
    expect(told).not.toContain(SECRET);
    const state = join(folder, "state");
    for (const name of [".", ...readdirSync(state, { recursive: true, encoding: "utf8" })]) {
      const facts = statSync(join(state, name));
      expect([name, facts.mode & 0o027]).toEqual([name, 0]);
      if (facts.isFile()) expect(readFileSync(join(state, name), "latin1")).not.toContain(SECRET);
    }
  });

  test("masks secrets in `config print` and `config check`", async () => {
    const folder = mkdtempSync(join(tmpdir(), "tokenwatt-secrets-"));
    closing.push(() => rmSync(folder, { recursive: true, force: true }));
    const flags = settings(folder).flatMap((one) => ["--set", one]);
    for (const command of [
      ["config", "print"],
      ["config", "print", "--json"],
      ["config", "check"],
    ]) {
      const { stdout, stderr, exitCode } = await runCommand([...command, ...flags]);
      expect(exitCode).toBe(0);
      expect(stdout + stderr).toMatch(/localhost:1|configured/);
      expect(stdout + stderr).not.toContain(SECRET);
    }
  });
});
