// What doctor says of broken GPUs, through the real backends on fake libraries and tools: what was seen, and a remedy
// that fits it.
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test, vi } from "vitest";
import { judgePoll } from "../../../agent/cli/checks/backend.ts";
import type { Finding } from "../../../agent/cli/checks/check.ts";
import { judgeEnergy } from "../../../agent/cli/checks/energy.ts";
import type { GpuInfo } from "../../../agent/model.ts";
import { buildFakeNvml, FAKE_DRIVERS, fakeNvml } from "../../fakes/nvml/build.ts";
import { runCommand } from "../capture-io.ts";

vi.setConfig({ testTimeout: 30_000 });
const library = buildFakeNvml();
const fixtures = fileURLToPath(new URL("../../fixtures/gpu/", import.meta.url));
const tool = fileURLToPath(new URL("../../fakes/nvidia-smi", import.meta.url));

interface Report {
  readonly verdict: string;
  readonly findings: readonly Finding[];
}

async function doctor(...settings: string[]): Promise<Report> {
  const set = settings.flatMap((setting) => ["--set", setting]);
  const { stdout } = await runCommand([
    "doctor",
    "--only",
    "gpu",
    "--root",
    mkdtempSync(join(tmpdir(), "host-")),
    "--json",
    ...set,
  ]);
  return JSON.parse(stdout) as Report;
}

async function withNvml(...lines: string[]): Promise<Report> {
  return doctor("gpu.backend=nvml", `gpu.nvml.libraryPath=${fakeNvml(library ?? "", ...lines).path}`);
}

async function withSmi(environment: Readonly<Record<string, string>>): Promise<Report> {
  const path = join(mkdtempSync(join(tmpdir(), "nvidia-smi-")), "nvidia-smi");
  const exports = Object.entries(environment).map(([name, value]) => `export ${name}='${value}'\n`);
  writeFileSync(path, `#!/bin/sh\n${exports.join("")}exec '${tool}' "$@"\n`, { mode: 0o755 });
  return doctor("gpu.backend=nvidia-smi", `gpu.nvidia-smi.path=${path}`);
}

const of = ({ findings }: Report, id: string): readonly Finding[] =>
  findings.filter((finding) => finding.id === id);

// Each look at energy takes seconds of the driver: they are taken beside each other.
describe.skipIf(library === undefined)("nvml", { concurrent: true }, () => {
  test("a driver that is not loaded is no library to install", async () => {
    const report = await withNvml("fail nvmlInit_v2 -1 9");
    expect(of(report, "gpu.backend")).toMatchObject([
      {
        verdict: "fail",
        seen: expect.stringContaining("DRIVER_NOT_LOADED"),
        remedy: expect.stringContaining("modprobe nvidia"),
      },
    ]);
    expect(of(report, "gpu.backend")[0]?.remedy).not.toContain("install");
  });

  test("a counter that stands still, or counts more than the GPU, is doubted", async () => {
    const report = await withNvml(
      "gpus 2",
      "power 0 300000",
      "energy 0 0",
      "power 1 300000",
      "energy 1 620000",
    );
    expect(of(report, "gpu.energy")).toMatchObject([
      { verdict: "warn", seen: expect.stringContaining("0 W by the counter, 300 W by power") },
      { verdict: "warn", seen: expect.stringMatching(/6[12]\d W by the counter, 300 W by power/) },
    ]);
  });

  test("a counter that power bears out is not doubted", async () => {
    expect(of(await withNvml("gpus 1"), "gpu.energy")).toMatchObject([{ verdict: "ok" }]);
  });

  test("a GPU that is counted but cannot be opened fails by name", async () => {
    const report = await withNvml("fail nvmlDeviceGetHandleByIndex_v2 1 16");
    expect(of(report, "gpu.reading")).toMatchObject([
      {
        verdict: "fail",
        seen: expect.stringMatching(/GPU 1.*RESET_REQUIRED/),
        remedy: expect.stringContaining("--gpu-reset"),
      },
    ]);
    expect(of(report, "gpu.capabilities")).toHaveLength(1);
  });

  test("remedies match the reason a process list is missing", async () => {
    const cases = [
      ["fail nvmlDeviceGetComputeRunningProcesses_v3 0 13", /update it/],
      ["fail nvmlDeviceGetComputeRunningProcesses_v3 0 4", /hostPID/],
      ["fail nvmlDeviceGetComputeRunningProcesses_v3 0 3", /no process list/],
    ] as const;
    const reports = await Promise.all(cases.map(([line]) => withNvml("gpus 1", line)));
    for (const [index, [, remedy]] of cases.entries()) {
      expect(of(reports[index] as Report, "gpu.capabilities")).toMatchObject([
        { verdict: "warn", remedy: expect.stringMatching(remedy) },
      ]);
    }
  });

  test("driver 470 has nothing to be doubted", async () => {
    const old = fakeNvml(buildFakeNvml(FAKE_DRIVERS["470"]) ?? "", "gpus 1", "processes 0 3", "arch 6");
    const report = await doctor("gpu.backend=nvml", `gpu.nvml.libraryPath=${old.path}`);
    expect(report.verdict).toBe("ok");
  });
});

describe("nvidia-smi", { concurrent: true }, () => {
  test("a GPU that requires a reset fails, quoted, with the way to reset it", async () => {
    const report = await withSmi({ FAKE_ROWS: `${fixtures}smi-gpu-requires-reset.query-gpu.csv` });
    expect(of(report, "gpu.reading")).toMatchObject([
      {
        verdict: "fail",
        seen: expect.stringContaining("GPU requires reset"),
        remedy: expect.stringContaining("--gpu-reset"),
      },
    ]);
    expect(JSON.stringify(of(report, "gpu.capabilities"))).not.toContain("GPU-00000001");
  });

  test("instantaneous power alone gives joules", async () => {
    const report = await withSmi({
      FAKE_ROWS: `${fixtures}smi-power-draw-only.query-gpu.csv`,
      FAKE_APPS: `${fixtures}smi-insufficient-permissions.compute-apps.csv`,
    });
    expect(report).toMatchObject({ verdict: "ok" });
  });

  test("a tool that says the driver is not loaded is believed over tools that are not installed", async () => {
    const report = await withSmi({ FAKE_MODE: "nodriver" });
    expect(of(report, "gpu.backend")[0]?.remedy).toContain("modprobe nvidia");
  });
});

test("dcgm-exporter: the share of an instance that is not known is a warning", async () => {
  const body = readFileSync(`${fixtures}dcgm-mig-null-profile.prom`, "utf8");
  const server = createServer((_, answer) => answer.setHeader("content-type", "text/plain").end(body));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/metrics`;
  const report = await doctor("gpu.backend=dcgm-exporter", `gpu.dcgm-exporter.url=${url}`);
  server.closeAllConnections();
  server.close();
  expect(of(report, "gpu.capabilities")).toMatchObject([
    {
      verdict: "warn",
      seen: expect.stringContaining("is not known"),
      remedy: expect.stringContaining("GPU_I_PROFILE"),
    },
  ]);
});

test("a control node that only the library made is no GPU to be opened", async () => {
  const root = mkdtempSync(join(tmpdir(), "host-"));
  mkdirSync(join(root, "dev"));
  writeFileSync(join(root, "dev/nvidiactl"), "");
  const { stdout } = await runCommand(["doctor", "--only", "gpu.devices", "--root", root, "--json"]);
  expect(JSON.parse(stdout)).toMatchObject({ findings: [{ id: "gpu.devices", verdict: "skip" }] });
});

test("judgePoll() names the GPUs that are not read, not just the first", () => {
  const gpus: GpuInfo[] = [0, 1, 2, 3, 4].map((index) => ({
    uuid: `GPU-${index}`,
    index,
    name: "H100",
    weight: 1,
  }));
  const gaps = gpus.map(({ uuid }) => ({
    source: `gpu:${uuid}`,
    at: 0,
    reason: `${uuid} is lost`,
    hint: "reboot",
  }));
  const { remedy, seen } = judgePoll(gpus, { sent: 0, received: 1, samples: [], gaps }, {});
  expect(seen).toMatch(/GPU-0 is lost.*GPU-1 is lost.*GPU-2 is lost and 2 more/);
  expect(remedy).toBe("reboot");
});

test("judgeEnergy() says nothing over too short a time, or of a GPU that has only one of the two", () => {
  const gpu: GpuInfo = { uuid: "GPU-1", index: 0, name: "x", weight: 1 };
  const at = (
    seconds: number,
    sample: object,
  ): { sent: number; received: number; samples: never[]; gaps: never[] } =>
    ({ sent: 0, received: 0, gaps: [], samples: [{ gpu: "GPU-1", at: seconds * 1e9, ...sample }] }) as never;
  const short = [
    at(0, { energyMillijoules: 0, powerWatts: 300 }),
    at(1, { energyMillijoules: 0, powerWatts: 300 }),
  ];
  expect(judgeEnergy([gpu], short)).toEqual([]);
  expect(judgeEnergy([gpu], [at(0, { energyMillijoules: 0 }), at(5, { energyMillijoules: 5 })])).toEqual([]);
  expect(judgeEnergy([gpu], [at(0, { powerWatts: 3 }), at(5, { powerWatts: 3 })])).toEqual([]);
});
