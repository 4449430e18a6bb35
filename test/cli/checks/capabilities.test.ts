// What doctor says about what a GPU cannot tell.
import { expect, test } from "vitest";
import { judgeCapabilities } from "../../../agent/cli/checks/capabilities.ts";
import type { GpuInfo } from "../../../agent/model.ts";

const info: GpuInfo = { uuid: "GPU-1", index: 0, name: "H100", weight: 1, powerLimitWatts: 700 };
const judge = (gpu: Partial<GpuInfo>, sample: object = {}) =>
  judgeCapabilities([{ ...info, ...gpu }], { samples: [{ gpu: "GPU-1", at: 0, ...sample }] })[0];

test("judgeCapabilities() says what is done without a reading, and is content with the rest", () => {
  expect(judge({})).toMatchObject({
    verdict: "ok",
    subject: "GPU-1",
    seen: expect.stringContaining("everything"),
  });
  expect(judge({ unsupported: { energy: "NOT_SUPPORTED (3)", throttle_power_cap: "x" } })).toMatchObject({
    verdict: "ok",
    seen: "energy: energy is integrated from power, method integrated",
  });
});

test("judgeCapabilities() warns where something can be done", () => {
  expect(judge({ unsupported: { persistence_mode: "off" } })).toMatchObject({
    verdict: "warn",
    remedy: expect.stringContaining("nvidia-persistenced"),
  });
});

test("judgeCapabilities() doubts readings that contradict each other", () => {
  expect(judge({}, { powerWatts: 600, utilizationRatio: 0 })).toMatchObject({ verdict: "warn" });
  expect(judge({}, { utilizationRatio: 0.5, processes: [] })).toMatchObject({
    verdict: "warn",
    remedy: expect.stringContaining("hostPID"),
  });
  expect(judge({}, { powerWatts: 76, utilizationRatio: 0, processes: [] })).toMatchObject({ verdict: "ok" });
});

test("judgeCapabilities() does not miss on an instance what only a board has", () => {
  expect(judge({ parent: "GPU-0", unsupported: { persistence_mode: "x" } })).toMatchObject({ verdict: "ok" });
});
