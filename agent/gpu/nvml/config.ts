// The config section of the nvml backend.
import { existsSync } from "node:fs";
import { z } from "zod";
import type { OpenOptions } from "./protocol.ts";

/** The section `gpu.nvml`. */
export const config = z.strictObject({
  /** Path of libnvidia-ml.so.1; absent = the dynamic loader, then the places drivers install it to. */
  libraryPath: z.string().min(1).optional(),
  /** Longest silence of the reader while it reads one GPU. */
  callTimeoutMs: z.int().min(100).max(60_000).default(3000),
  /** Longest driver initialisation: 30 s have been seen without persistence mode. */
  openTimeoutMs: z.int().min(100).max(600_000).default(40_000),
  /** Period of clocks, temperatures, throttle time and GPM; error and traffic counters every fifth time. */
  slowMs: z.int().min(100).max(60_000).default(2000),
  /** Count XID and other driver events. */
  events: z.boolean().default(true),
  /**
   * A failure only a new container can cure ends the agent with exit code 75 after this long, 0 = never; absent =
   * 5 minutes in a container, never outside.
   */
  restartAfterMs: z.int().min(0).optional(),
  /** First wait before a GPU that hung or was lost is tried again; doubles up to 10 minutes. */
  retryGpuMs: z.int().min(100).max(600_000).default(10_000),
  /** Devices released for a driver upgrade are taken again when the driver was reloaded, or after this long. */
  releaseMaxMs: z.int().min(1000).default(900_000),
});

/** The section as the backend is given it. */
export type NvmlConfig = z.output<typeof config>;

/** What every reader is opened with. */
export function openOptions({ libraryPath, slowMs, events }: NvmlConfig): OpenOptions {
  return { slowMs, events, ...(libraryPath === undefined ? {} : { libraryPath }) };
}

/** How long a failure that only a new container can cure is endured; 0 = for ever. */
export function restartAfterMs(options: NvmlConfig): number {
  if (options.restartAfterMs !== undefined) return options.restartAfterMs;
  const inContainer =
    process.env["KUBERNETES_SERVICE_HOST"] !== undefined ||
    existsSync("/.dockerenv") ||
    existsSync("/run/.containerenv");
  return inContainer ? 300_000 : 0;
}
