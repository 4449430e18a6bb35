// `tokenwatt doctor --measure`: backends held against each other, by law on made readings and whole on fakes.
import { chmodSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import * as fc from "fast-check";
import { describe, expect, test, vi } from "vitest";
import type { BackendReadings, MeasuredLine } from "../../agent/cli/measure/compare.ts";
import { compareBackends, formatLines } from "../../agent/cli/measure/compare.ts";
import type { GpuInfo, GpuSample } from "../../agent/model.ts";
import { buildFakeNvml, fakeNvml } from "../fakes/nvml/build.ts";
import { runCommand } from "./capture-io.ts";

vi.setConfig({ testTimeout: 30_000 });
const UUID = "GPU-00000000-0000-4000-8000-000000000000";
const gpu: GpuInfo = { uuid: UUID, index: 0, name: "H100", weight: 1 };

/** Eleven seconds of a backend that sees `watts`, counts `countedWatts` and a busy share. */
function readings(backend: string, watts: number, countedWatts: number, busy: number): BackendReadings {
  const samples = Array.from(
    { length: 11 },
    (_, at): GpuSample => ({
      gpu: UUID,
      at: at * 1e9,
      powerWatts: watts,
      energyMillijoules: Math.round(at * countedWatts * 1000),
      utilizationRatio: busy,
    }),
  );
  return {
    backend,
    gpus: [gpu],
    samples: new Map([[UUID, samples]]),
    seconds: 10,
    failures: [],
    processorSeconds: 0.05,
  };
}

const verdictOf = (lines: readonly MeasuredLine[], what: string): string | undefined =>
  lines.find((line) => line.what === what)?.verdict;

describe("compareBackends()", () => {
  test("fails exactly what is off by more than its bound", () => {
    const watts = fc.double({ min: 1, max: 1000, noNaN: true });
    const share = fc.double({ min: 0, max: 1, noNaN: true });
    fc.assert(
      fc.property(watts, watts, watts, share, share, (one, two, counted, busy, other) => {
        const lines = compareBackends([
          readings("nvml", one, counted, busy),
          readings("dcgm-dmon", two, counted, other),
        ]);
        const near = (left: number, right: number): string => {
          const off = Math.abs(left - right) - Math.max(5, 0.05 * Math.max(left, right));
          // Joules are rounded to millijoules: at the very edge either answer is right.
          return Math.abs(off) < 1e-3 ? "edge" : off < 0 ? "ok" : "fail";
        };
        for (const [what, wanted] of [
          ["nvml: energy counter against power", near(counted, one)],
          ["nvml against dcgm-dmon: power", near(one, two)],
          ["nvml against dcgm-dmon: energy by counter", near(counted, counted)],
        ] as const)
          if (wanted !== "edge") expect(verdictOf(lines, what), what).toBe(wanted);
        if (Math.abs(Math.abs(busy - other) - 0.05) > 1e-9)
          expect(verdictOf(lines, "nvml against dcgm-dmon: utilisation")).toBe(
            Math.abs(busy - other) <= 0.05 ? "ok" : "fail",
          );
      }),
    );
  });

  test("skips what only one side can say, and fails a reader that costs too much or polls that fail", () => {
    const { samples, ...rest } = readings("nvml", 300, 300, 0.5);
    const bare = { ...rest, samples: new Map([[UUID, [{ gpu: UUID, at: 0, utilizationRatio: 0.5 }]]]) };
    const lines = compareBackends([
      { ...bare, processorSeconds: 1, failures: ["hung"] },
      readings("nvidia-smi", 300, 300, 0.5),
    ]);
    expect(samples.size).toBe(1);
    expect(verdictOf(lines, "nvml: energy counter against power")).toBe("skip");
    expect(verdictOf(lines, "nvml against nvidia-smi: power")).toBe("skip");
    expect(verdictOf(lines, "nvml: processor time of its reader")).toBe("fail");
    expect(lines.find(({ what }) => what === "nvml: readings")).toMatchObject({
      verdict: "fail",
      seen: expect.stringContaining("hung"),
    });
    expect(compareBackends([])[0]?.verdict).toBe("skip");
    expect(formatLines(lines).split("\n")).toHaveLength(lines.length + 1);
  });
});

const library = buildFakeNvml();

describe.skipIf(library === undefined)("tokenwatt doctor --measure", { concurrent: true }, () => {
  /** An nvidia-smi beside the fake library that says the same GPU draws `watts`. */
  function settings(watts: number): string[] {
    const nvml = fakeNvml(
      library ?? "",
      "gpus 1",
      "util 0 40",
      "power 0 300000",
      "energy 0 300000",
      "processes 0 0",
    );
    const folder = dirname(nvml.path);
    writeFileSync(join(folder, "rows.csv"), `${UUID}, 40, 3, 4000, ${watts}, ${watts}, ${watts}, 50, 45\n`);
    const tool = fileURLToPath(new URL("../fakes/nvidia-smi", import.meta.url));
    const path = join(mkdtempSync(join(tmpdir(), "nvidia-smi-")), "nvidia-smi");
    writeFileSync(path, `#!/bin/sh\nexport FAKE_ROWS='${folder}/rows.csv'\nexec '${tool}' "$@"\n`);
    chmodSync(path, 0o755);
    return ["--set", `gpu.nvml.libraryPath=${nvml.path}`, "--set", `gpu.nvidia-smi.path=${path}`];
  }

  const measure = (watts: number, ...more: string[]) =>
    runCommand([
      "doctor",
      "--only",
      "gpu.backend",
      "--measure",
      "3s",
      "--root",
      mkdtempSync(join(tmpdir(), "host-")),
      ...settings(watts),
      ...more,
    ]);

  test("agrees where the paths agree, and says that no hardware was measured", async () => {
    const { stdout } = await measure(300);
    expect(stdout).toContain("no kernel driver is loaded here");
    expect(stdout).toMatch(/ok +nvml against nvidia-smi: power/);
    expect(stdout).not.toMatch(/^fail +nvml/m);
  });

  test("fails, with exit code 2, where they do not", async () => {
    const { exitCode, stdout } = await measure(450, "--json");
    const { measured, verdict } = JSON.parse(stdout);
    expect([exitCode, verdict]).toEqual([2, "fail"]);
    expect(verdictOf(measured.lines, "nvml against nvidia-smi: power")).toBe("fail");
    expect(measured).toMatchObject({
      seconds: 3,
      backends: expect.arrayContaining([{ name: "nvml", gpus: 1 }]),
    });
  });
});
