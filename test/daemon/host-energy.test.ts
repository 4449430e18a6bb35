// Facility energy is modelled from what is measured and configured.
import { expect, test } from "vitest";
import { facilityJoules } from "../../agent/daemon/facility.ts";

test("facilityJoules() prefers the node, needs what it uses, and invents nothing", () => {
  expect(facilityJoules({ nodeJoules: 1000, gpuJoules: 760 }, { pue: 1.2, hostOverhead: 2 })).toBe(1200);
  expect(facilityJoules({ gpuJoules: 760 }, { pue: 1.5, hostOverhead: 1.25 })).toBe(1425);
  expect(facilityJoules({ gpuJoules: 760 }, { pue: 1.5 })).toBeUndefined();
  expect(facilityJoules({ nodeJoules: 1000 }, {})).toBeUndefined();
});
