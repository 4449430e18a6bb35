// Who holds a GPU is remembered while nobody comes or goes: what is remembered is what the lists of processes say now.
import fc from "fast-check";
import { expect, test } from "vitest";
import { Placement } from "../../agent/correlate/placement.ts";
import { Tenure } from "../../agent/correlate/tenancy.ts";
import { Timeline } from "../../agent/correlate/timeline.ts";
import { gpuInfo, second, serverInfo } from "./scene.ts";

/** What happens in a second: a reading of the GPU, another placement of its processes, or nothing. */
type Step =
  | { readonly pids: readonly number[]; readonly name: string }
  | { readonly placed: readonly number[]; readonly isHelper: boolean }
  | "forget";

const pid = fc.integer({ min: 1, max: 3 });
const pids = fc.uniqueArray(pid);
const steps: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ pids, name: fc.constantFrom("python", "Xorg") }) },
  fc.record({ placed: pids, isHelper: fc.boolean() }),
  fc.constant("forget" as const),
);
/** The same step several times: processes become residents. */
const lasting = fc
  .array(fc.tuple(steps, fc.integer({ min: 1, max: 4 })), { maxLength: 20, size: "max" })
  .map((list) => list.flatMap(([step, times]) => Array.from({ length: times }, () => step)));

test("Tenure.in() finds the holders that one finds who remembers nothing", () => {
  fc.assert(
    fc.property(lasting, (list) => {
      const timeline = new Timeline(gpuInfo("g"), 0, 3 * second);
      const placement = new Placement();
      const tenure = new Tenure();
      list.forEach((step, index) => {
        const [from, to] = [index * second, (index + 1) * second];
        if (step === "forget") timeline.presence.forget(from);
        else if ("pids" in step) {
          const processes = step.pids.map((each) => ({
            pid: each,
            type: "compute" as const,
            name: step.name,
          }));
          timeline.queueReading({ gpu: "g", at: from + second / 2, processes });
          timeline.takeUpNext();
        } else {
          placement.setFacts(step.placed.map((each) => ({ pid: each, name: step.isHelper ? "Xorg" : "sh" })));
          placement.setServers([serverInfo("a", { pids: step.placed })], new Map());
        }
        expect(tenure.in(timeline, placement, from, to)).toEqual(
          new Tenure().in(timeline, placement, from, to),
        );
      });
    }),
  );
});
