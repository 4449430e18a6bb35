// Memory in use. The v2 call leaves the driver's reserve out of `used`; the v1 call of old drivers counts it as used.

import type { Draft } from "../protocol.ts";
import type { Device } from "./device.ts";
import { Cell, MEMORY, MEMORY_V2 } from "./layouts.ts";
import type { Nvml } from "./library.ts";

/** Bytes of one GPU or MIG instance. */
export interface MemoryReading {
  readonly totalBytes: number;
  readonly usedBytes: number;
}

/** Reads memory of one device after another into the same buffer. */
export class MemoryReader {
  readonly #cell = new Cell(MEMORY_V2.size);
  absurd = 0;

  /** Sets `memoryUsedBytes` where the GPU says it and it does not exceed the total. */
  read(nvml: Nvml, device: Device, draft: Draft): void {
    const reading = this.measure(nvml, device);
    if (reading !== undefined) draft.memoryUsedBytes = reading.usedBytes;
  }

  measure(nvml: Nvml, device: Device): MemoryReading | undefined {
    return this.#second(nvml, device) ?? this.#first(nvml, device);
  }

  #second(nvml: Nvml, device: Device): MemoryReading | undefined {
    if (!device.can("memory_v2")) return undefined;
    const cell = this.#cell.fresh();
    cell.setU32(0, MEMORY_V2.version);
    const code = nvml.call("nvmlDeviceGetMemoryInfo_v2", device.handle, cell);
    if (device.judge(nvml, "memory_v2", "nvmlDeviceGetMemoryInfo_v2", code) !== "ok") return undefined;
    return this.#sane(cell.u64(MEMORY_V2.total), cell.u64(MEMORY_V2.used));
  }

  #first(nvml: Nvml, device: Device): MemoryReading | undefined {
    if (!device.can("memory")) return undefined;
    const cell = this.#cell.fresh();
    const code = nvml.call("nvmlDeviceGetMemoryInfo", device.handle, cell);
    if (device.judge(nvml, "memory", "nvmlDeviceGetMemoryInfo", code) !== "ok") return undefined;
    return this.#sane(cell.u64(MEMORY.total), cell.u64(MEMORY.used));
  }

  #sane(totalBytes: number | undefined, usedBytes: number | undefined): MemoryReading | undefined {
    if (totalBytes !== undefined && usedBytes !== undefined && usedBytes <= totalBytes && totalBytes > 0) {
      return { totalBytes, usedBytes };
    }
    this.absurd++;
    return undefined;
  }
}
