// The `nvidia-smi` backend: for hosts where the library cannot be loaded but the tool works.
// 1 s utilisation and power instead of the driver's rings, no energy counter, no MIG readings.
import type { Detection, GpuBackend, SourceContext } from "../../source.ts";
import type { NvidiaSmiConfig } from "./config.ts";
import { config, programOf } from "./config.ts";
import { failureOf } from "./failures.ts";
import { tool } from "./inventory.ts";
import { NvidiaSmiSource } from "./source.ts";

/** Reads NVIDIA GPUs through one resident nvidia-smi. */
export const nvidiaSmiBackend: GpuBackend<typeof config> = {
  name: "nvidia-smi",
  config,
  detect,
  open: async (options, context) => {
    const source = new NvidiaSmiSource(options, context, programOf(options));
    await source.open();
    return source;
  },
};

async function detect(options: NvidiaSmiConfig, context: SourceContext): Promise<Detection> {
  const program = programOf(options);
  const ended = await tool(context.clock, program, ["-L"], { busy: false });
  const gpus = ended.stdout.split("\n").filter((line) => line.startsWith("GPU "));
  if (gpus.length > 0) {
    return { usable: true, reason: `${gpus.length} GPUs through ${program}`, facts: { program, gpus } };
  }
  const output = `${ended.stdout}\n${ended.stderr}\n${ended.problem ?? ""}`.trim();
  const failure = failureOf(program, output, ended.cause);
  const hint = failure.hint === undefined ? {} : { hint: failure.hint };
  return { usable: false, reason: failure.message, facts: { program }, ...hint };
}
