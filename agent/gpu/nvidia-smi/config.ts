// The config section of the nvidia-smi backend.
import { z } from "zod";

/** The section `gpu.nvidia-smi`. */
export const config = z.strictObject({
  /** The tool; absent = $NVIDIA_SMI, else `nvidia-smi` from PATH. */
  path: z.string().min(1).optional(),
  /** Period of the resident query. */
  intervalMs: z.int().min(100).max(60_000).default(1000),
  /** Period of the list of processes; where pmon does not work each list is a run of its own, at least 5 s apart. */
  processesMs: z.int().min(1000).max(600_000).default(2000),
});

/** The section as the backend is given it. */
export type NvidiaSmiConfig = z.output<typeof config>;

/** The tool to run. */
export function programOf(options: NvidiaSmiConfig): string {
  return options.path ?? process.env["NVIDIA_SMI"] ?? "nvidia-smi";
}
