// The packed program, not its sources: the demo's numbers, the daemon with a driver, a collector and a ledger, its own
// metrics, its licences. The artefacts it comes in are judged by pack-artefacts.e2e.ts.
import { spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { decodeAll } from "../export/otlp-decode.ts";
import { buildFakeNvml, fakeNvml } from "../fakes/nvml/build.ts";
import { startCollector } from "../fakes/otlp-collector.ts";
import {
  footprint,
  freePort,
  packFolder,
  processesOf,
  programOf,
  startPacked,
  whyNoPacking,
} from "../tools/packed.ts";

const project = fileURLToPath(new URL("../..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "tokenwatt-pack-"));
/** A bare host's environment: no npm, no Node, nothing inherited. */
const bare = { PATH: "/usr/bin:/bin", NO_COLOR: "1" };
const noPacking = whyNoPacking("folder");
if (noPacking !== undefined) console.warn(`SKIPPED: the packed program, because ${noPacking}`);
let program = "";
/** The default port may be somebody's on this machine. */
let listen = "";

beforeAll(async () => {
  if (noPacking !== undefined) return;
  listen = `127.0.0.1:${await freePort()}`;
  // Moved away from the project, so that nothing can be found there by accident.
  program = join(folder, "elsewhere");
  cpSync(packFolder(join(folder, "dist")), program, { recursive: true });
});
afterAll(() => rmSync(folder, { recursive: true }));

function tokenwatt(...words: string[]): {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
} {
  return spawnSync(join(program, "bin/tokenwatt"), words, {
    encoding: "utf8",
    env: { ...bare, TOKENWATT_EXPORT_PROMETHEUS_LISTEN: listen },
    cwd: "/",
  });
}

/** A memory cgroup of either version for processes to enter, undefined where none can be made. */
function memoryGroup(): { folder: string; limit(mebibytes: number): void; remove(): void } | undefined {
  for (const [parent, file] of [
    ["/sys/fs/cgroup/memory", "memory.limit_in_bytes"],
    ["/sys/fs/cgroup", "memory.max"],
  ] as const) {
    const group = join(parent, `tokenwatt-test-${process.pid}`);
    try {
      mkdirSync(group);
    } catch {
      continue;
    }
    const remove = (): void => rmdirSync(group);
    if (existsSync(join(group, file))) {
      const limit = (mebibytes: number): void =>
        writeFileSync(join(group, file), String(mebibytes * 1_048_576));
      return { folder: group, limit, remove };
    }
    remove();
  }
  return undefined;
}

describe.skipIf(noPacking !== undefined)("the packed program", () => {
  test("plays the demo, its numbers those of the recording", () => {
    const { status, stdout } = tokenwatt("demo", "--scene", "solo", "--duration", "15s", "--json");
    expect(status).toBe(0);
    const check = join(project, "test/tools/check-demo.ts");
    const verdict = spawnSync(process.execPath, [check], { input: stdout, encoding: "utf8" });
    console.log(verdict.stdout.trim());
    expect(verdict).toMatchObject({ status: 0, stderr: "" });
  });

  test("answers every command's help, and each from its own chunk", () => {
    const { stdout } = tokenwatt("--help");
    const commands = [...stdout.matchAll(/^ {2}([a-z]+) /gm)].map((match) => match[1] as string);
    expect(commands.length).toBeGreaterThan(10);
    for (const command of commands)
      expect([command, tokenwatt(command, "--help").status]).toEqual([command, 0]);
  });

  test("has one byte for each character of a chunk, and of telemetry what it sends with", () => {
    const chunks = readdirSync(join(program, "app")).filter((name) => name.endsWith(".mjs"));
    const texts = chunks.map((name) => readFileSync(join(program, "app", name), "utf8"));
    const wide = texts.filter((text) => /[\u0100-\uffff]/.test(text) && !text.includes("String.raw"));
    expect(wide).toEqual([]);
    const packages = JSON.parse(readFileSync(join(program, "sbom.cdx.json"), "utf8")).components.map(
      ({ group = "", name }: { group?: string; name: string }) => `${group}/${name}`,
    );
    expect(packages.join(" ")).toMatch(/sdk-node/);
    expect(packages.join(" ")).not.toMatch(
      /zipkin|exporter-(trace|logs|prometheus)|opentelemetry\/configuration/,
    );
  });

  test("replays, checks a configuration and diagnoses", () => {
    expect(tokenwatt("replay", join(program, "deploy/demo/h100-solo-8b"), "--json").status).toBe(0);
    expect(tokenwatt("config", "check", "--config", join(program, "share/config.yaml")).status).toBe(0);
    expect(
      tokenwatt("config", "check", "--config", join(program, "share/example.yaml")).stderr,
    ).not.toContain("nknown key");
    const doctor = tokenwatt("doctor", "--json", "--set", `stateDir=${join(folder, "doctor")}`);
    expect(doctor.stdout).toContain("nvml");
  });

  test("reads GPUs in its child, keeps its ledger in its worker, and its own metrics arrive", async () => {
    const library = buildFakeNvml();
    if (library === undefined) return;
    const collector = await startCollector();
    const state = join(folder, "state");
    const daemon = await startPacked(program, await freePort(), {
      TOKENWATT_GPU_BACKEND: "nvml",
      TOKENWATT_GPU_NVML_LIBRARY_PATH: fakeNvml(library, "gpus 2").path,
      TOKENWATT_STATE_DIR: state,
      TOKENWATT_RATES_EXPORT_MS: "1000",
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${collector.port}`,
      // What the bundle leaves out of the SDK, asked for by what may stand in the environment of any host.
      OTEL_PROPAGATORS: "b3,tracecontext",
      OTEL_TRACES_EXPORTER: "zipkin",
      OTEL_METRICS_EXPORTER: "prometheus",
      OTEL_LOGS_EXPORTER: "otlp",
    });
    try {
      const names = (): Set<string> => new Set(decodeAll(collector.requests).map((point) => point.metric));
      for (let tries = 0; tries < 300 && !names().has("process.memory.usage"); tries++) await sleep(100);
      expect([...names()]).toContain("process.memory.usage");
      expect([...names()]).toContain("hw.gpu.utilization");
      expect((await daemon.get("/metrics")).body).toMatch(/hw_id="GPU-/);
      // Half a minute after the start each process gives back the pages of Node that only starting needed.
      const pids = processesOf(daemon.child.pid as number).filter((pid) =>
        ["main.mjs", "gpu-nvml-child-main.mjs"].includes(programOf(pid)),
      );
      expect(pids).toHaveLength(2);
      const fileMb = (): number[] => pids.map((pid) => footprint(pid).fileMb);
      const started = fileMb();
      const few = (): boolean => fileMb().every((mb, index) => mb < 0.9 * (started[index] ?? 0));
      for (let tries = 0; tries < 60 && !few(); tries++) await sleep(1000);
      console.log(`file pages at start ${started.map(Math.round)} MB, later ${fileMb().map(Math.round)} MB`);
      expect(few()).toBe(true);
    } finally {
      expect(await daemon.stop()).toBe(0);
      await collector.close();
    }
    expect(daemon.log()).not.toMatch(/"level":50/);
    expect(tokenwatt("verify", "--set", `stateDir=${state}`)).toMatchObject({ status: 0 });
  });

  test("says that the memory limit is too small before the kernel kills it", ({ skip }) => {
    const group = memoryGroup();
    if (group === undefined) {
      console.warn("SKIPPED: a memory limit, because no memory cgroup can be made here");
      return skip();
    }
    const inside = (mebibytes: number, ...words: string[]) => {
      group.limit(mebibytes);
      const script = `echo $$ >'${group.folder}/cgroup.procs'; exec "$@"`;
      const command = ["-c", script, "sh", join(program, "bin/tokenwatt"), ...words];
      const environment = {
        ...bare,
        TOKENWATT_STATE_DIR: join(folder, "narrow"),
        TOKENWATT_EXPORT_PROMETHEUS_LISTEN: listen,
      };
      return spawnSync("sh", command, { encoding: "utf8", env: environment, timeout: 60_000 });
    };
    try {
      const { signal, stderr } = inside(40, "run", "--duration", "30s");
      expect([signal, stderr]).toEqual(["SIGKILL", expect.stringContaining('"memory limit is too small"')]);
      expect(stderr).toContain("the memory limit is 40 MiB, the agent needs at least 128: it will be killed");
      expect(inside(96, "doctor", "--only", "memory").stdout).toMatch(
        /^fail +memory\.limit +the memory limit is 96/,
      );
      expect(inside(320, "doctor", "--only", "memory").stdout).toMatch(/^ok +memory\.limit +320 MiB/);
    } finally {
      group.remove();
    }
  });

  test("carries its licences, its SBOM and no path of the machine that made it", () => {
    const sbom = JSON.parse(readFileSync(join(program, "sbom.cdx.json"), "utf8"));
    expect(sbom.components.length).toBeGreaterThan(20);
    // A package that ships no text has a line with what it declares.
    const index = readFileSync(join(program, "licenses/INDEX.txt"), "utf8");
    for (const { name } of sbom.components) {
      const isTold = index
        .split("\n")
        .some((line) => line.startsWith(`${name} `) && line.includes("no text"));
      expect([name, isTold || existsSync(join(program, "licenses", name))]).toEqual([name, true]);
    }
    // Everything that is not the bundle: node, and each package that lies beside it.
    const named = new Set(sbom.components.map((one: { name: string }) => one.name));
    const beside = readdirSync(join(program, "node_modules"), { recursive: true, encoding: "utf8" })
      .filter((path) => path.endsWith("package.json"))
      .map((path) => path.replace("/package.json", ""));
    expect(beside.length).toBeGreaterThan(0);
    expect(["node", ...beside].filter((name) => !named.has(name))).toEqual([]);
    const found = readdirSync(join(program, "app")).filter((name) =>
      readFileSync(join(program, "app", name), "utf8").includes(project),
    );
    expect(found).toEqual([]);
  });
});
