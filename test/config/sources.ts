// Two backends and two server types as small as they can be, so that config tests do not change with the registries.
import { z } from "zod";
import type { Sources } from "../../agent/config/load.ts";
import type { GpuBackend, ServerType } from "../../agent/source.ts";

const refuse = (): never => {
  throw new Error("not opened in these tests");
};

function backend<Schema extends z.ZodType>(name: string, config: Schema): GpuBackend {
  return { name, config, detect: async () => ({ usable: false, reason: "never" }), open: refuse };
}

function server<Schema extends z.ZodType>(name: string, config: Schema): ServerType {
  return { name, config, example: { endpoint: "localhost:8001" }, open: refuse };
}

export const sources: Sources = {
  gpuBackends: [
    backend("nvml", z.strictObject({ libraryPath: z.string().min(1).optional() })),
    backend(
      "nvidia-smi",
      z.strictObject({ path: z.string().default("nvidia-smi"), loopMs: z.number().min(100).default(1000) }),
    ),
  ],
  serverTypes: [
    server(
      "vllm",
      z.strictObject({
        id: z.string().optional(),
        endpoint: z.string().regex(/^.+:\d+$/, {
          error: "host:port\nhint: add the port, for example localhost:8000",
        }),
        headers: z.record(z.string(), z.string()).optional(),
        gpus: z.array(z.string()).optional(),
        tls: z.union([z.literal(true), z.strictObject({ caFile: z.string() })]).optional(),
      }),
    ),
    server(
      "token-counters",
      z.strictObject({ id: z.string().optional(), endpoint: z.string(), pollMs: z.int().default(1000) }),
    ),
  ],
};
