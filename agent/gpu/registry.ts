// Every GPU backend, in the order `gpu.backend: auto` tries them. Adding one is a file (or folder) and a line here.
import type { GpuBackend } from "../source.ts";
import { dcgmDmonBackend } from "./dcgm-dmon/index.ts";
import { dcgmExporterBackend } from "./dcgm-exporter.ts";
import { nvidiaSmiBackend } from "./nvidia-smi/index.ts";
import { nvmlBackend } from "./nvml/index.ts";
import { replayBackend } from "./replay.ts";

/** The backends by name; a name is a file of this folder and the key of its section under `gpu`. */
export const gpuBackends: readonly GpuBackend[] = [
  nvmlBackend,
  nvidiaSmiBackend,
  dcgmDmonBackend,
  dcgmExporterBackend,
  replayBackend,
];
