import { expect, test } from "vitest";
import { snakeCased } from "../../agent/daemon/snake-case.ts";

test("snakeCased() renames keys at any depth, leaves keys that are data and every value", () => {
  const value = {
    lastError: "noAnswer",
    byId: { "GPU-1a": { busyRatio: 0.5 }, vLLM: { busyRatio: 1 } },
    peers: [{ byCode: { NOT_FOUND: 1n } }, null, undefined],
  };
  expect(snakeCased(value, new Set(["by_id", "peers[].by_code"]))).toEqual({
    last_error: "noAnswer",
    by_id: { "GPU-1a": { busy_ratio: 0.5 }, vLLM: { busy_ratio: 1 } },
    peers: [{ by_code: { NOT_FOUND: 1n } }, null, undefined],
  });
});
