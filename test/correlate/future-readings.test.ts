// Readings whose clock is ahead are dropped, whichever GPU's came first: against lists that are searched each time.
import fc from "fast-check";
import { expect, test } from "vitest";
import { Gpus } from "../../agent/correlate/gpus.ts";
import { gpuInfo, second } from "./scene.ts";

test("Gpus.dropAfter() drops what waits from after an instant, and says how many", () => {
  const gpu: fc.Arbitrary<string> = fc.constantFrom("a", "b");
  const at = fc.integer({ min: 0, max: 20 });
  const event = fc.oneof(
    fc.record({ kind: fc.constant("read" as const), gpu, at }),
    fc.record({ kind: fc.constant("drop" as const), gpu, at }),
  );
  fc.assert(
    fc.property(fc.array(event, { maxLength: 30 }), (events) => {
      const gpus = new Gpus(1000, {});
      gpus.set([gpuInfo("a"), gpuInfo("b")], 0);
      let waiting: { readonly gpu: string; readonly at: number }[] = [];
      for (const one of events) {
        const after = one.at * second;
        if (one.kind === "read") {
          if (gpus.queueReading({ gpu: one.gpu, at: after }, 0) === "accepted") waiting.push(one);
          continue;
        }
        expect(gpus.dropAfter(after)).toBe(waiting.filter((other) => other.at > one.at).length);
        waiting = waiting.filter((other) => other.at <= one.at);
      }
    }),
  );
});
