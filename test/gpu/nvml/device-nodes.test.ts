import { join } from "node:path";
import { expect, test } from "vitest";
import { judgeRefusal, missingDevice } from "../../../agent/gpu/nvml/device-nodes.ts";

const NODE = "/dev/nvidiactl";

test("missingDevice() names the node that is not there, and is content with one that opens", () => {
  const absent = join(import.meta.dirname, "nvidiactl");
  expect(missingDevice([absent, `${absent}2`])).toEqual({
    reason: `no NVIDIA device: ${absent} does not exist`,
    hint: expect.stringContaining("modprobe nvidia"),
    restart: false,
  });
  expect(missingDevice([absent, "/dev/null"])).toBeUndefined();
});

test("judgeRefusal() tells a group from a cgroup, and asks for a restart only where one cures", () => {
  expect(judgeRefusal(NODE, "EACCES", true)).toMatchObject({
    reason: expect.stringContaining("not in the group"),
    restart: false,
  });
  expect(judgeRefusal(NODE, "EPERM", true)).toMatchObject({
    reason: expect.stringContaining("starts again"),
    restart: true,
  });
  // The nodes were there at the start and still are denied: another start would change nothing, and loop.
  expect(judgeRefusal(NODE, "EPERM", false)).toMatchObject({
    reason: expect.stringContaining("restart the unit or the pod"),
    restart: false,
  });
  expect(judgeRefusal(NODE, "EIO", true)).toBeUndefined();
  expect(judgeRefusal(NODE, undefined, true)).toBeUndefined();
});
