// The memory the agent may use, by its cgroup (a pod's limit, systemd's MemoryMax). Too little of it ends in the kernel's
// SIGKILL, which says nothing: so it is said before. 96 MiB was enough for 8 simulated GPUs and nothing else.

/** Below this the agent is killed sooner or later: at 64 MiB it does not live to its first export. */
const MEMORY_BYTES_LEAST = 128 * 1024 * 1024;

/** The limit in bytes, undefined where there is none. */
export function memoryLimitBytes(): number | undefined {
  const limit = process.constrainedMemory();
  // cgroup 1 has a number near 2^63 for "none", cgroup 2 and no cgroup at all have 0.
  return limit > 0 && limit < 2 ** 43 ? limit : undefined;
}

/** What is wrong with a limit, undefined when nothing is. */
export function judgeMemoryLimit(bytes: number | undefined): { seen: string; remedy: string } | undefined {
  if (bytes === undefined || bytes >= MEMORY_BYTES_LEAST) return undefined;
  const mebibytes = Math.floor(bytes / 1024 / 1024);
  return {
    seen: `the memory limit is ${mebibytes} MiB, the agent needs at least ${MEMORY_BYTES_LEAST / 1024 / 1024}: it will be killed`,
    remedy: "raise resources.limits.memory or MemoryMax=: 320 MiB fit 8 GPUs and 16 servers",
  };
}
