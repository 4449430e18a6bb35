// The `nvml` backend: NVIDIA's management library, called by a watched child process (child/).
// Needs libnvidia-ml.so.1 (Volta and later; energy by hardware counter) and read access to /dev/nvidia*, no root.
import type { Detection, GpuBackend, GpuSource, SourceContext } from "../../source.ts";
import { SourceError } from "../../source.ts";
import type { NvmlConfig } from "./config.ts";
import { config } from "./config.ts";
import type { MissingDevice } from "./device-nodes.ts";
import { missingDevice } from "./device-nodes.ts";
import { NvmlSource } from "./source.ts";

/** Reads NVIDIA GPUs through NVML. */
export const nvmlBackend: GpuBackend<typeof config> = {
  name: "nvml",
  config,
  detect,
  open: async (options, context) => {
    const device = missing(options);
    if (device !== undefined) {
      const { hint, reason, restart } = device;
      throw new SourceError(restart ? "restart" : "absent", `Cannot read GPUs: ${reason}`, { hint });
    }
    const source = new NvmlSource(options, context);
    await source.open();
    return source;
  },
};

/** Opens the library once, in a child: only that shows whether driver, library and device rights fit together. */
async function detect(options: NvmlConfig, context: SourceContext): Promise<Detection> {
  const device = missing(options);
  if (device !== undefined) return { usable: false, reason: device.reason, hint: device.hint };
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
    const { hint, message } = error as SourceError;
    const facts = source.status();
    return { usable: false, reason: message, facts, ...(hint === undefined ? {} : { hint }) };
  } finally {
    await source.close();
  }
}

/** A configured library is believed to know better than the device nodes. */
function missing(options: NvmlConfig): MissingDevice | undefined {
  return options.libraryPath === undefined ? missingDevice() : undefined;
}
