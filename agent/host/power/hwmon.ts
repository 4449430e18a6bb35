// Power meters in /sys/class/hwmon: `power_meter` is ACPI's (the whole node on servers; on Grace one per rail, named
// by power1_oem_info). `power1_average` is in microwatts, a mean over the meter's own interval (Documentation/hwmon).
// Of Grace's rails only "Module Power" is taken, which holds CPU, GPU and I/O; without it "Grace Power".
import { readdirSync, readFileSync } from "node:fs";
import type { MeterFound } from "./meter.ts";

interface Rail {
  readonly path: string;
  readonly label: string;
}

/** The node's meter, or why there is none. */
export function hwmonMeter(sysfs: string): MeterFound {
  const root = `${sysfs}/class/hwmon`;
  const rails = meters(root);
  const chosen = choose(rails);
  if (chosen.length === 0) return { missing: `${root} has no ACPI power meter` };
  const read = (): number => chosen.reduce((sum, { path }) => sum + microwatts(path), 0) / 1e6;
  try {
    read();
  } catch (error) {
    return { missing: (error as Error).message };
  }
  return { method: "meter", read: async () => ({ watts: read() }) };
}

function meters(root: string): readonly Rail[] {
  try {
    return readdirSync(root).flatMap((name) => {
      const path = `${root}/${name}`;
      if (text(`${path}/name`) !== "power_meter") return [];
      // The attributes are the device's own on older kernels.
      const folder = [path, `${path}/device`].find((place) => text(`${place}/power1_average`) !== undefined);
      if (folder === undefined) return [];
      return [{ path: `${folder}/power1_average`, label: text(`${folder}/power1_oem_info`) ?? "" }];
    });
  } catch {
    return [];
  }
}

function choose(rails: readonly Rail[]): readonly Rail[] {
  for (const wanted of [/^Module Power/i, /^Grace Power/i]) {
    const matching = rails.filter(({ label }) => wanted.test(label));
    if (matching.length > 0) return matching;
  }
  // Several unlabelled meters would be parts of something unknown: only a single one is the node.
  return rails.length === 1 ? rails : [];
}

function microwatts(path: string): number {
  const value = Number(text(path) ?? Number.NaN);
  if (!Number.isFinite(value)) throw new Error(`Cannot read ${path}`);
  return value;
}

function text(path: string): string | undefined {
  try {
    return readFileSync(path, "latin1").trim();
  } catch {
    return undefined;
  }
}
