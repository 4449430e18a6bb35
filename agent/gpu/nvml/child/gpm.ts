// GPU performance monitoring, Hopper and later: activity of graphics engine, SMs, tensor cores and memory between two
// samples. Windows are 1 s or more: shorter ones read NaN or exactly 0 with code 0 when both samples fall into one
// internal refresh. Results are pre-filled and checked, because a header of another version shifts them silently.
// Under MIG each instance has samples of its own, and nothing else shows whether it works.
import { CODE } from "../codes.ts";
import type { Draft } from "../protocol.ts";
import type { Device } from "./device.ts";
import { readClocks } from "./driver-clock.ts";
import { Cell, GPM_GET, GPM_METRIC, GPM_SUPPORT, WORD } from "./layouts.ts";
import type { Nvml } from "./library.ts";

const WINDOW_NANOS = 900_000_000;
const WINDOW_NANOS_MAX = 600_000_000_000;
const MIB = 2 ** 20;
const PERCENT_MAX = 100.5;
/** More than any link: 2 TiB/s. */
const RATE_MAX = 2 * 2 ** 20;

const RATIOS = {
  1: "graphicsActiveRatio",
  2: "smActiveRatio",
  5: "tensorActiveRatio",
  10: "dramActiveRatio",
} as const;
const RATES = { 20: "pcieTransmit", 21: "pcieReceive", 60: "nvlinkReceive", 61: "nvlinkTransmit" } as const;

/** Bytes moved in the last window, by direction. */
export type Traffic = Partial<Record<(typeof RATES)[keyof typeof RATES], number>>;

/** Two sample buffers of the driver, swapped at each reading; `at` is when the first was taken. */
interface Samples {
  readonly first: number;
  readonly second: number;
  readonly at: number | undefined;
}

/** Holds two samples per device; `close` frees them, which must happen before the library is shut down. */
export class GpmReader {
  readonly #cell = new Cell(GPM_GET.size);
  readonly #word = new Cell(WORD);
  readonly #samples = new Map<Device, Samples>();
  absurd = 0;

  /** Sets the activity ratios since the call before; returns the traffic of the window where the GPU counts it. */
  read(nvml: Nvml, device: Device, wantTraffic: boolean, draft: Draft): Traffic {
    if (!device.can("gpm")) return {};
    const samples = this.#samplesOf(nvml, device);
    if (samples === undefined) return {};
    const at = readClocks().monotonicNanos;
    if (samples.at !== undefined && at - samples.at < WINDOW_NANOS) return {};
    const code =
      device.parent === undefined
        ? nvml.call("nvmlGpmSampleGet", device.handle, samples.second)
        : nvml.call("nvmlGpmMigSampleGet", device.parent.handle, device.gpuInstance ?? 0, samples.second);
    if (device.judge(nvml, "gpm", "nvmlGpmSampleGet", code) !== "ok") return {};
    const { first, second, at: before } = samples;
    this.#samples.set(device, { first: second, second: first, at });
    if (before === undefined || at - before > WINDOW_NANOS_MAX) return {};
    const values = this.#metrics(nvml, device, first, second, wantTraffic);
    return this.#take(values, draft, (at - before) / 1e9);
  }

  /** Frees the samples of devices that are gone. */
  keep(devices: ReadonlySet<Device>, nvml: Nvml): void {
    for (const [device, { first, second }] of this.#samples) {
      if (devices.has(device)) continue;
      nvml.call("nvmlGpmSampleFree", first);
      nvml.call("nvmlGpmSampleFree", second);
      this.#samples.delete(device);
    }
  }

  #samplesOf(nvml: Nvml, device: Device): Samples | undefined {
    const known = this.#samples.get(device);
    if (known !== undefined) return known;
    if (!this.#supported(nvml, device)) return undefined;
    const [first, second] = [this.#allocate(nvml), this.#allocate(nvml)];
    if (first === undefined || second === undefined) {
      device.refuse("gpm", "nvmlGpmSampleAlloc failed", true);
      return undefined;
    }
    const samples: Samples = { first, second, at: undefined };
    this.#samples.set(device, samples);
    return samples;
  }

  #supported(nvml: Nvml, device: Device): boolean {
    const cell = new Cell(GPM_SUPPORT.size);
    cell.setU32(0, GPM_SUPPORT.version);
    const board = device.parent ?? device;
    const code = nvml.call("nvmlGpmQueryDeviceSupport", board.handle, cell);
    if (device.judge(nvml, "gpm", "nvmlGpmQueryDeviceSupport", code) !== "ok") return false;
    if (cell.u32(GPM_SUPPORT.supported) === 1) return true;
    device.refuse("gpm", "this GPU has no performance monitoring (Hopper and later have)");
    return false;
  }

  #allocate(nvml: Nvml): number | undefined {
    const code = nvml.call("nvmlGpmSampleAlloc", this.#word);
    return code === CODE.success ? this.#word.handle() : undefined;
  }

  /** Values by metric id; ids the driver refused are remembered and not asked again. */
  #metrics(nvml: Nvml, device: Device, older: number, newer: number, traffic: boolean): Map<number, number> {
    const ids = [...Object.keys(RATIOS), ...(traffic ? Object.keys(RATES) : [])]
      .map(Number)
      .filter((id) => device.can(`gpm_${id}`));
    const cell = this.#cell;
    cell.setU32(0, GPM_GET.version);
    cell.setU32(GPM_GET.count, ids.length);
    cell.setU64(GPM_GET.sample1, older);
    cell.setU64(GPM_GET.sample2, newer);
    ids.forEach((id, index) => {
      const offset = GPM_GET.metrics + index * GPM_METRIC.size;
      cell.bytes.fill(0, offset, offset + GPM_METRIC.size);
      cell.setU32(offset + GPM_METRIC.id, id);
      cell.setU32(offset + GPM_METRIC.code, 0xffff_ffff);
      cell.view.setFloat64(offset + GPM_METRIC.value, Number.NaN, true);
    });
    const values = new Map<number, number>();
    const code = nvml.call("nvmlGpmMetricsGet", cell);
    if (device.judge(nvml, "gpm", "nvmlGpmMetricsGet", code) !== "ok") return values;
    ids.forEach((id, index) => {
      const offset = GPM_GET.metrics + index * GPM_METRIC.size;
      const own = cell.u32(offset + GPM_METRIC.code);
      if (own === 0xffff_ffff || cell.u32(offset + GPM_METRIC.id) !== id) return;
      if (device.judge(nvml, `gpm_${id}`, `nvmlGpmMetricsGet metric ${id}`, own) !== "ok") return;
      const value = cell.view.getFloat64(offset + GPM_METRIC.value, true);
      // NaN with code 0 is an empty window, not an error.
      if (!Number.isNaN(value)) values.set(id, value);
    });
    return values;
  }

  #take(values: ReadonlyMap<number, number>, draft: Draft, seconds: number): Traffic {
    const ratios = Object.keys(RATIOS).map((id) => values.get(Number(id)));
    const allZero = ratios.every((value) => value === undefined || value === 0);
    // Both samples inside one refresh: every metric reads 0 although the GPU worked.
    if (allZero && worked(draft)) return {};
    for (const [id, name] of Object.entries(RATIOS)) {
      const percent = values.get(Number(id));
      if (percent === undefined) continue;
      if (percent >= 0 && percent <= PERCENT_MAX) draft[name] = Math.min(1, percent / 100);
      else this.absurd++;
    }
    const traffic: Traffic = {};
    for (const [id, name] of Object.entries(RATES)) {
      const rate = values.get(Number(id));
      if (rate === undefined) continue;
      if (rate >= 0 && rate <= RATE_MAX) traffic[name] = rate * MIB * seconds;
      else this.absurd++;
    }
    return traffic;
  }
}

/** Whether other readings of the same poll say that the GPU worked all along. */
function worked(draft: Draft): boolean {
  const ring = draft.utilizationRing;
  if (ring === undefined) return (draft.utilizationRatio ?? 0) > 0;
  for (let index = 1; index < ring.length; index += 2) if ((ring[index] ?? 0) > 0) return true;
  return false;
}
