// The `nvml` backend: NVIDIA's management library, called by a watched child process (nvml-child.ts).
// Needs libnvidia-ml.so.1 (Volta and later; energy by hardware counter) and read access to /dev/nvidia*, no root.
import { existsSync } from "node:fs";
import type { Detection, GpuBackend, GpuSource, SourceContext } from "../../source.ts";
import type { NvmlConfig } from "./config.ts";
import { config } from "./config.ts";
import { NvmlSource } from "./source.ts";

/** Reads NVIDIA GPUs through NVML. */
export const nvmlBackend: GpuBackend<typeof config> = {
  name: "nvml",
  config,
  detect,
  open: async (options, context) => {
    const source = new NvmlSource(options, context);
    await source.open();
    return source;
  },
};

/** Opens the library once, in a child: only that tells whether driver, library and device rights fit together. */
async function detect(options: NvmlConfig, context: SourceContext): Promise<Detection> {
  const devices = ["/dev/nvidiactl", "/dev/dxg"].filter((path) => existsSync(path));
  if (devices.length === 0 && options.libraryPath === undefined) {
    return { usable: false, reason: "no NVIDIA device: /dev/nvidiactl does not exist" };
  }
  const source: GpuSource & { open(): Promise<void> } = new NvmlSource(options, context);
  try {
    await source.open();
    const gpus = await source.inventory();
    const facts = source.status();
    return {
      usable: true,
      reason: `${gpus.length} GPUs through ${facts["library"]}, driver ${facts["driverVersion"]}`,
      facts: { ...facts, gpus: gpus.map(({ uuid, name }) => `${uuid} ${name}`) },
    };
  } catch (error) {
    return { usable: false, reason: (error as Error).message, facts: source.status() };
  } finally {
    await source.close();
  }
}
