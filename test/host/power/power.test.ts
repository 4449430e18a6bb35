// Host power over a fake sysfs tree and a fake ipmitool.
import { chmodSync, mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseDcmi } from "../../../agent/host/power/ipmi.ts";
import type { HostPower } from "../../../agent/host/power/power.ts";
import { hostPowerConfig, openHostPower } from "../../../agent/host/power/power.ts";
import { systemClock, virtualClock } from "../../../agent/platform/clock.ts";
import { silentLog } from "../../../agent/platform/log.ts";

const SECOND = 1e9;

function tree(files: Record<string, string>): string {
  const root = mkdtempSync(join(tmpdir(), "sysfs-"));
  put(root, files);
  return root;
}

function put(root: string, files: Record<string, string>): void {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(join(root, path, ".."), { recursive: true });
    writeFileSync(join(root, path), `${text}\n`);
  }
}

function rapl(zone: string, name: string, microjoules: number): Record<string, string> {
  const folder = `class/powercap/${zone}`;
  return {
    [`${folder}/name`]: name,
    [`${folder}/energy_uj`]: String(microjoules),
    [`${folder}/max_energy_range_uj`]: "262143328850",
  };
}

async function open(source: string, sysfs: string, options: Record<string, unknown> = {}) {
  const clock = virtualClock(0n);
  const context = { clock, log: silentLog, signal: new AbortController().signal };
  const config = hostPowerConfig.parse({ source, ...options });
  const power = (await openHostPower(config, context, sysfs)) as HostPower;
  return { power, clock };
}

describe("host power", () => {
  test("RAPL adds packages and their memory, takes wraps out and never falls", async () => {
    const root = tree({
      ...rapl("intel-rapl:0", "package-0", 262_143_000_000),
      ...rapl("intel-rapl:0:0", "dram", 1_000_000),
      ...rapl("intel-rapl:0:1", "core", 5),
      ...rapl("intel-rapl:1", "psys", 5),
    });
    const { power, clock } = await open("rapl", root);
    expect(await power.read()).toMatchObject({ joules: 0, method: "rapl" });
    await clock.advance(10 * SECOND);
    put(root, {
      ...rapl("intel-rapl:0", "package-0", 999_671_150),
      ...rapl("intel-rapl:0:0", "dram", 51_000_000),
    });
    const reading = await power.read();
    expect(reading?.joules).toBeCloseTo(1050, 1);
    expect(reading?.watts).toBeCloseTo(105, 1);
  });

  test("RAPL that root alone may read says how to grant it", async () => {
    const root = tree(rapl("intel-rapl:0", "package-0", 1));
    chmodSync(join(root, "class/powercap/intel-rapl:0/energy_uj"), 0);
    const { power } = await open("rapl", root);
    // root reads it all the same.
    if (process.getuid?.() !== 0) {
      expect(power).toMatchObject({ missing: { rapl: expect.stringContaining("40-host-power.conf") } });
    }
    expect((await open("rapl", tree({}))).power).toMatchObject({
      missing: { rapl: expect.stringContaining("does not exist") },
    });
  });

  test("a power meter's watts are integrated, over a gap not", async () => {
    const meter = (microwatts: number): Record<string, string> => ({
      "class/hwmon/hwmon3/name": "power_meter",
      "class/hwmon/hwmon3/device/power1_average": String(microwatts),
      "class/hwmon/hwmon0/name": "coretemp",
    });
    const root = tree(meter(400e6));
    const { power, clock } = await open("auto", root, { ipmitool: "/nonexistent/ipmitool" });
    expect(await power.read()).toMatchObject({ method: "meter", watts: 400, joules: 0 });
    await clock.advance(10 * SECOND);
    put(root, meter(600e6));
    expect(await power.read()).toMatchObject({ watts: 600, joules: 5000 });
    await clock.advance(100 * SECOND);
    expect(await power.read()).toMatchObject({ watts: 600, joules: 5000 });
  });

  test("of Grace's rails only the modules count", async () => {
    const rails = [
      "Module Power Socket 0",
      "Grace Power Socket 0",
      "CPU Power Socket 0",
      "Module Power Socket 1",
    ];
    const files = rails.flatMap((label, index) => [
      [`class/hwmon/hwmon${index}/name`, "power_meter"],
      [`class/hwmon/hwmon${index}/power1_average`, String((index + 1) * 100e6)],
      [`class/hwmon/hwmon${index}/power1_oem_info`, label],
    ]);
    const { power } = await open("meter", tree(Object.fromEntries(files)));
    expect(await power.read()).toMatchObject({ watts: 500 });
  });

  test("IPMI reads the BMC, or says why not", async () => {
    const tool = join(mkdtempSync(join(tmpdir(), "ipmi-")), "ipmitool");
    const answer =
      "    Instantaneous power reading:                   220 Watts\n    Power reading state is:                   activated";
    writeFileSync(tool, `#!/bin/sh\ncat <<'T'\n${answer}\nT\n`, { mode: 0o755 });
    const context = { clock: systemClock(), log: silentLog, signal: new AbortController().signal };
    const power = await openHostPower(hostPowerConfig.parse({ ipmitool: tool }), context, tree({}));
    expect(await (power as HostPower).read()).toMatchObject({ method: "ipmi", watts: 220 });
    writeFileSync(tool, "#!/bin/sh\necho 'Could not open device at /dev/ipmi0' >&2\nexit 1\n", {
      mode: 0o755,
    });
    expect(await openHostPower(hostPowerConfig.parse({ source: "ipmi", ipmitool: tool }), context)).toEqual({
      missing: { ipmi: "Could not open device at /dev/ipmi0" },
    });
    expect(parseDcmi(answer.replace("activated", "deactivated"))).toBeUndefined();
  });

  test("whatever the meter says, energy never falls and no reading is negative", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.double(), { maxLength: 12 }), async (values) => {
        const root = tree({
          "class/hwmon/hwmon0/name": "power_meter",
          "class/hwmon/hwmon0/power1_average": "1",
        });
        const { power, clock } = await open("meter", root);
        let joules = 0;
        for (const value of values) {
          put(root, { "class/hwmon/hwmon0/power1_average": String(value * 1e6) });
          await clock.advance(clock.now() + 10 * SECOND);
          const reading = await power.read();
          expect(reading?.joules ?? joules).toBeGreaterThanOrEqual(joules);
          expect(reading?.watts ?? 0).toBeGreaterThanOrEqual(0);
          joules = reading?.joules ?? joules;
        }
      }),
      { numRuns: 30 },
    );
  });
});
