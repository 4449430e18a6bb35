// The npm package in a fresh folder with nothing but Node and npm, and no network: `npx tokenwatt demo` meters the recorded
// H100, the driver's library is looked for through the bundled addon, and a Node that is too old is told so.
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { MALLOC, NODE_FLAGS } from "../../deploy/pack/runtime.ts";
import { freePort, pack, processesOf, programOf, whyNoPacking } from "../tools/packed.ts";

const why = whyNoPacking("npm");
if (why !== undefined) console.warn(`SKIPPED: the npm package: ${why}`);
const folder = mkdtempSync(join(tmpdir(), "tokenwatt-npm-"));
const place = join(folder, "fresh");
const environment = {
  PATH: [dirname(process.execPath), "/usr/local/bin", "/usr/bin", "/bin"].join(delimiter),
  HOME: folder,
  NO_COLOR: "1",
  npm_config_offline: "true",
  npm_config_update_notifier: "false",
};
const run = (program: string, ...words: string[]) =>
  spawnSync(program, words, { cwd: place, env: environment, encoding: "utf8", timeout: 120_000 });

afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe.skipIf(why !== undefined)("the npm package", () => {
  let archive = "";
  beforeAll(() => {
    pack(folder, { kinds: ["npm"], architectures: "x64,arm64" });
    archive = join(folder, readdirSync(folder).find((name) => name.endsWith(".tgz")) ?? "");
    mkdirSync(place);
    const installed = run("npm", "install", archive);
    expect(installed.status, installed.stderr).toBe(0);
  });

  test("is run by npx from its file, without being installed", () => {
    const { status, stderr, stdout } = run("npx", "--yes", `--package=${archive}`, "tokenwatt", "--version");
    expect([status, stdout], stderr).toEqual([0, expect.stringMatching(/^\d+\.\d+\.\d+\n$/)]);
  });

  test("runs the demo, on Node started as every other artefact starts it", async () => {
    const listen = `127.0.0.1:${await freePort()}`;
    const child = spawn("npx", ["tokenwatt", "demo", "--json"], {
      cwd: place,
      env: { ...environment, TOKENWATT_EXPORT_PROMETHEUS_LISTEN: listen },
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    let said = "";
    let rates: readonly number[] = [];
    // The first lines may come before the first tokens do.
    for await (const text of child.stdout) {
      said += String(text);
      const lines = said.split("\n").slice(0, -1);
      rates = lines.map((line) => (JSON.parse(line) as { tokens_per_second: number }).tokens_per_second);
      if (rates.length >= 20 || (rates.length >= 3 && Math.max(...rates) > 0)) break;
    }
    const [agent] = processesOf(child.pid as number).filter((pid) => programOf(pid) === "main.mjs");
    expect(readFileSync(`/proc/${agent}/cmdline`, "utf8").split("\0")).toEqual(
      expect.arrayContaining([...NODE_FLAGS]),
    );
    expect(readFileSync(`/proc/${agent}/environ`, "utf8").split("\0")).toEqual(
      expect.arrayContaining(Object.entries(MALLOC).map(([name, value]) => `${name}=${value}`)),
    );
    process.kill(-(child.pid as number), "SIGTERM");
    expect(Math.max(...rates)).toBeGreaterThan(0);
  });

  test("brings the addon that reads GPUs, of its own architecture", () => {
    const { stdout } = run("npx", "tokenwatt", "doctor", "--json");
    const { findings } = JSON.parse(stdout) as { findings: { id: string; seen: string }[] };
    const backend = findings.find(({ id }) => id === "gpu.backend");
    // With a driver it names GPUs; without one the library is what could not be loaded, not the addon.
    expect(backend?.seen).not.toMatch(/koffi/);
    expect(backend?.seen).toMatch(/nvml/);
  });

  test("tells a Node that is too old what it wants", () => {
    const path = join(place, "node_modules/tokenwatt/package.json");
    const text = readFileSync(path, "utf8");
    writeFileSync(path, text.replace(/"node": ">=[^"]+"/, '"node": ">=99.1.0"'));
    const { status, stderr } = run("npx", "tokenwatt", "demo");
    writeFileSync(path, text);
    expect([status, stderr]).toEqual([2, expect.stringContaining("wanted 99.1.0 or newer\nhint: ")]);
  });

  test("starts on a later Node too, which need not know the flags", () => {
    const installed = join(place, "node_modules/tokenwatt");
    const paths = [join(installed, "package.json"), join(installed, "bin/runtime.json")] as const;
    const [manifest, runtime] = paths.map((path) => readFileSync(path, "utf8")) as [string, string];
    writeFileSync(paths[1], JSON.stringify({ ...JSON.parse(runtime), flags: ["--no-such-flag"] }));
    const now = run("npx", "tokenwatt", "--version");
    writeFileSync(paths[0], manifest.replace(/"node": ">=[^"]+"/, '"node": ">=23.0.0"'));
    const later = run("npx", "tokenwatt", "--version");
    writeFileSync(paths[0], manifest);
    writeFileSync(paths[1], runtime);
    expect(now.stderr).toContain("--no-such-flag");
    expect([later.status, later.stdout]).toEqual([0, expect.stringMatching(/^\d+\.\d+\.\d+\n$/)]);
  });
});
