// Running average power limit counters in /sys/class/powercap: microjoules of each CPU package and its memory.
// `energy_uj` is readable by root only since Linux 5.10 (CVE-2020-8694); systemd/drop-ins/40-host-power.conf grants it.
// Counters wrap at max_energy_range_uj. Cores and uncore are parts of their package, psys is another boundary: left out.
import { readdirSync, readFileSync } from "node:fs";
import type { MeterFound } from "./meter.ts";

interface Zone {
  readonly path: string;
  readonly range: number;
  last: number;
  joules: number;
}

/** The sum of packages and memory, or why it cannot be read. */
export function raplMeter(sysfs: string): MeterFound {
  const root = `${sysfs}/class/powercap`;
  const zones: Zone[] = [];
  try {
    for (const name of readdirSync(root)) {
      if (!/^intel-rapl(:\d+)+$/.test(name)) continue;
      const path = `${root}/${name}`;
      if (!/^(package-\d+|dram)$/.test(text(`${path}/name`))) continue;
      const last = microjoules(path);
      zones.push({ path, range: Number(text(`${path}/max_energy_range_uj`)), last, joules: 0 });
    }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === "EACCES") {
      return { missing: `${root} is readable by root only; systemd/drop-ins/40-host-power.conf grants it` };
    }
    return { missing: code === "ENOENT" ? `${root} does not exist` : message };
  }
  if (zones.length === 0) return { missing: `${root} has no package zone` };
  return {
    method: "rapl",
    read: async () => {
      for (const zone of zones) {
        const now = microjoules(zone.path);
        const moved = now - zone.last + (now < zone.last ? zone.range : 0);
        zone.last = now;
        if (moved > 0) zone.joules += moved / 1e6;
      }
      return { joules: zones.reduce((sum, { joules }) => sum + joules, 0) };
    },
  };
}

function microjoules(zone: string): number {
  const value = Number(text(`${zone}/energy_uj`));
  if (!Number.isFinite(value) || value < 0) throw new Error(`Cannot read ${zone}/energy_uj: not a number`);
  return value;
}

function text(path: string): string {
  return readFileSync(path, "latin1").trim();
}
