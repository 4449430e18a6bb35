// The section `host`: how the host's own power is read, and the factors of its site.
import { z } from "zod";
import { hostPowerConfig } from "./power.ts";

/** The section `host`. */
export const hostConfig = z.strictObject({
  power: hostPowerConfig.prefault({}),
  /** Power usage effectiveness of the site; absent = no facility energy. */
  pue: z.number().min(1).max(10).optional(),
  /** Node energy per GPU energy, used where the node itself is not measured. */
  hostOverhead: z.number().min(1).max(10).optional(),
});

export type HostConfig = z.output<typeof hostConfig>;
