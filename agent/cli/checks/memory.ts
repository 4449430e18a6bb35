// memory.limit: whether the cgroup this runs in leaves the agent enough memory.
import { judgeMemoryLimit, memoryLimitBytes } from "../../platform/memory-limit.ts";
import type { Check } from "./check.ts";

const ID = "memory.limit";

/** Judges the memory limit of this process. */
export const memoryCheck: Check = {
  ids: [ID],
  run: async () => {
    const limit = memoryLimitBytes();
    const wrong = judgeMemoryLimit(limit);
    if (wrong !== undefined) return [{ id: ID, verdict: "fail", ...wrong }];
    const seen = limit === undefined ? "no limit" : `${Math.floor(limit / 1024 / 1024)} MiB`;
    return [{ id: ID, verdict: "ok", seen }];
  },
};
