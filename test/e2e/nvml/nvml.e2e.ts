// Real driver libraries and NVIDIA's own headers: every call we bind is exported under some name, every size and offset of
// gpu/nvml/child/layouts.ts is the compiler's, and a library without a driver behind it ends cleanly. No GPU is needed.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { parseDriverVersion, throttleFields } from "../../../agent/gpu/nvml/child/driver-version.ts";
import * as layouts from "../../../agent/gpu/nvml/child/layouts.ts";
import { openLibrary } from "../../../agent/gpu/nvml/child/library.ts";
import { CODE } from "../../../agent/gpu/nvml/codes.ts";
import { nvmlBackend } from "../../../agent/gpu/nvml/index.ts";
import { systemClock } from "../../../agent/platform/clock.ts";
import { silentLog } from "../../../agent/platform/log.ts";
import { toolsFolder } from "../tools-folder.ts";

const folder = join(toolsFolder, "nvml");
const libraries = ["470", "535", "550"].map((driver) => ({
  driver,
  path: join(folder, "libraries", driver, "libnvidia-ml.so.1"),
}));
const headers = existsSync(join(folder, "headers")) ? readdirSync(join(folder, "headers")) : [];
const compiler = ["cc", "gcc", "clang"].find((name) => spawnSync(name, ["--version"]).status === 0);
for (const { driver, path } of libraries)
  if (!existsSync(path))
    console.warn(
      `SKIPPED: the library of driver ${driver}, because ${path} is not here; run test/e2e/install-tools.sh`,
    );
if (headers.length === 0)
  console.warn("SKIPPED: NVIDIA's headers, because none are here; run test/e2e/install-tools.sh");
if (compiler === undefined) console.warn("SKIPPED: NVIDIA's headers, because there is no C compiler");

/** What 470 does not have: it came with 510 and with Hopper. */
const GPM = [
  "MetricsGet",
  "MigSampleGet",
  "QueryDeviceSupport",
  "SampleAlloc",
  "SampleFree",
  "SampleGet",
].map((name) => `nvmlGpm${name}`);
const MISSING: Readonly<Record<string, readonly string[]>> = {
  "470": ["nvmlDeviceGetMemoryInfo_v2", ...GPM],
  "535": [],
  "550": [],
};

describe.each(libraries)("libnvidia-ml.so.1 of driver $driver", ({ driver, path }) => {
  const there = existsSync(path);

  test.skipIf(!there)("exports every call we make, under this or an older name", () => {
    const library = openLibrary(path);
    expect([...library.missing()].sort()).toEqual([...(MISSING[driver] ?? [])].sort());
    const processes = library.nameOf("nvmlDeviceGetComputeRunningProcesses_v3");
    console.log(`driver ${driver}: ${library.missing().length} calls missing, processes by ${processes}`);
    expect(processes).toMatch(driver === "470" ? /_v2$/ : /_v3$/);
  });

  test.skipIf(!there)("says without a driver that none is loaded, and ends cleanly", async () => {
    expect(openLibrary(path).call("nvmlInit_v2")).toBe(CODE.driverNotLoaded);
    const context = { clock: systemClock(), log: silentLog, signal: new AbortController().signal };
    const config = nvmlBackend.config.parse({ libraryPath: path });
    const found = await nvmlBackend.detect(config, context);
    expect(found).toMatchObject({
      usable: false,
      reason: expect.stringContaining("DRIVER_NOT_LOADED"),
      hint: expect.stringContaining("modprobe nvidia"),
      facts: { deaths: 0, hangs: 0, pid: undefined },
    });
  });
});

/** Our fields by the names of nvml.h; a list is a path into a nested struct. */
const STRUCTS = {
  UTILIZATION: ["nvmlUtilization_t", { gpu: "gpu", memory: "memory" }],
  MEMORY: ["nvmlMemory_t", { total: "total", free: "free", used: "used" }],
  MEMORY_V2: ["nvmlMemory_v2_t", { total: "total", reserved: "reserved", free: "free", used: "used" }],
  PCI: ["nvmlPciInfo_t", { busId: "busId", shortBusId: "busIdLegacy" }],
  PROCESS: [
    "nvmlProcessInfo_t",
    {
      pid: "pid",
      memory: "usedGpuMemory",
      gpuInstance: "gpuInstanceId",
      computeInstance: "computeInstanceId",
    },
  ],
  PROCESS_SAMPLE: ["nvmlProcessUtilizationSample_t", { pid: "pid", at: "timeStamp", sm: "smUtil" }],
  SAMPLE: ["nvmlSample_t", { at: "timeStamp", value: "sampleValue" }],
  FIELD: [
    "nvmlFieldValue_t",
    { id: "fieldId", scope: "scopeId", valueType: "valueType", code: "nvmlReturn", value: "value" },
  ],
  EVENT: [
    "nvmlEventData_t",
    { device: "device", type: "eventType", data: "eventData", gpuInstance: "gpuInstanceId" },
  ],
  GPM_METRIC: ["nvmlGpmMetric_t", { id: "metricId", code: "nvmlReturn", value: "value" }],
  GPM_GET: [
    "nvmlGpmMetricsGet_t",
    { count: "numMetrics", sample1: "sample1", sample2: "sample2", metrics: "metrics" },
  ],
  GPM_SUPPORT: ["nvmlGpmSupport_t", { supported: "isSupportedDevice" }],
  ATTRIBUTES: [
    "nvmlDeviceAttributes_t",
    {
      smCount: "multiprocessorCount",
      giSlices: "gpuInstanceSliceCount",
      ciSlices: "computeInstanceSliceCount",
      memoryMib: "memorySizeMB",
    },
  ],
} as const;

const FIELDS: Readonly<Record<string, string>> = {
  memoryTemperature: "MEMORY_TEMP",
  powerAverage: "POWER_AVERAGE",
  powerInstant: "POWER_INSTANT",
  nvlinkTransmitKib: "NVLINK_THROUGHPUT_DATA_TX",
  nvlinkReceiveKib: "NVLINK_THROUGHPUT_DATA_RX",
  pcieTransmitBytes: "PCIE_COUNT_TX_BYTES",
  pcieReceiveBytes: "PCIE_COUNT_RX_BYTES",
  violationPower: "PERF_POLICY_POWER",
  violationThermal: "PERF_POLICY_THERMAL",
  violationSync: "PERF_POLICY_SYNC_BOOST",
  violationBoard: "PERF_POLICY_BOARD_LIMIT",
  violationLowUtilization: "PERF_POLICY_LOW_UTILIZATION",
  violationReliability: "PERF_POLICY_RELIABILITY",
};
const THROTTLE = {
  softwareThermal: "SW_THERM_SLOWDOWN",
  hardwareThermal: "HW_THERM_SLOWDOWN",
  powerBrake: "HW_POWER_BRAKE_SLOWDOWN",
} as const;

/** Sizes, offsets and field ids as the compiler sees them; what a header does not have is left out. */
function compiled(version: string): Readonly<Record<string, number>> {
  const lines = Object.values(STRUCTS).flatMap(([struct, fields]) => [
    `printf("${struct} %zu\\n", sizeof(${struct}));`,
    ...Object.values(fields).map(
      (field) => `printf("${struct}.${field} %zu\\n", offsetof(${struct}, ${field}));`,
    ),
  ]);
  const ids = [
    ...Object.values(FIELDS),
    ...Object.values(THROTTLE).map((name) => `CLOCKS_EVENT_REASON_${name}`),
  ];
  const defines = ids.map(
    (id) => `#ifdef NVML_FI_DEV_${id}\nprintf("${id} %d\\n", NVML_FI_DEV_${id});\n#endif`,
  );
  const work = mkdtempSync(join(tmpdir(), "nvml-header-"));
  writeFileSync(
    join(work, "sizes.c"),
    `#include <stddef.h>\n#include <stdio.h>\n#include "nvml.h"\nint main(void) {\n${[...lines, ...defines].join("\n")}\nreturn 0;\n}\n`,
  );
  const built = spawnSync(
    compiler ?? "cc",
    ["-I", join(folder, "headers", version), "-o", join(work, "sizes"), join(work, "sizes.c")],
    { encoding: "utf8" },
  );
  expect(built.stderr).toBe("");
  const { stdout } = spawnSync(join(work, "sizes"), { encoding: "utf8" });
  return Object.fromEntries(
    stdout
      .trim()
      .split("\n")
      .map((line) => [line.split(" ")[0], Number(line.split(" ")[1])]),
  );
}

/** A driver of a header's release. */
const DRIVERS: Readonly<Record<string, string>> = { "12.9": "575.57.08", "13.0": "580.95.05" };

describe.skipIf(compiler === undefined).each(headers)("nvml.h %s", (version) => {
  const seen = compiler === undefined ? {} : compiled(version);

  const known = new Map<string, unknown>(Object.entries(layouts));

  test("has the sizes and offsets of layouts.ts", () => {
    for (const [ours, [struct, fields]] of Object.entries(STRUCTS)) {
      const layout = known.get(ours) as Readonly<Record<string, number>>;
      if (ours === "GPM_GET") expect(seen[struct]).toBeLessThanOrEqual(layout["size"] ?? 0);
      else expect(seen[struct], struct).toBe(layout["size"]);
      for (const [field, name] of Object.entries(fields))
        expect(layout[field], `${struct}.${name}`).toBe(seen[`${struct}.${name}`]);
    }
  });

  test("has the field ids we ask for", () => {
    for (const [ours, name] of Object.entries(FIELDS))
      if (seen[name] !== undefined)
        expect(layouts.FIELD_ID[ours as keyof typeof layouts.FIELD_ID], name).toBe(seen[name]);
    const release = version.split(".").slice(0, 2).join(".");
    const driver = DRIVERS[release] ?? (release.startsWith("13.") ? "590.48.01" : "570.124.06");
    const fields = throttleFields(parseDriverVersion(driver));
    for (const [ours, name] of Object.entries(THROTTLE))
      expect("absent" in fields ? undefined : fields[ours as keyof typeof THROTTLE]).toBe(
        seen[`CLOCKS_EVENT_REASON_${name}`],
      );
  });
});
