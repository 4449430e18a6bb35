// When devices that were released for a driver upgrade may be taken again without being told to: the driver's module was
// unloaded and is back, or too long a time has passed. Opening a device earlier would stop the driver's unloading.
import { existsSync } from "node:fs";
import type { Nanos } from "../../model.ts";

const NANOS_PER_MS = 1e6;
const DRIVER_MODULE = "/sys/module/nvidia";

/** One release. */
export class ReleasedDevices {
  readonly #since: Nanos;
  readonly #hadModule = existsSync(DRIVER_MODULE);
  #unloaded = false;

  constructor(since: Nanos) {
    this.#since = since;
  }

  /** Whether the devices may be taken again. */
  isOver(now: Nanos, mostMs: number): boolean {
    const loaded = existsSync(DRIVER_MODULE);
    if (this.#hadModule && !loaded) this.#unloaded = true;
    return (this.#unloaded && loaded) || now - this.#since > mostMs * NANOS_PER_MS;
  }
}
