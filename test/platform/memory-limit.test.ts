import { expect, test } from "vitest";
import { judgeMemoryLimit } from "../../agent/platform/memory-limit.ts";

test("judgeMemoryLimit() names a limit below what the agent needs, and none that is enough", () => {
  expect(judgeMemoryLimit(64 * 1024 * 1024)).toMatchObject({
    seen: "the memory limit is 64 MiB, the agent needs at least 128: it will be killed",
    remedy: expect.stringContaining("resources.limits.memory"),
  });
  expect(judgeMemoryLimit(128 * 1024 * 1024)).toBeUndefined();
  expect(judgeMemoryLimit(undefined)).toBeUndefined();
});
