// The driver's shares over a sliding half minute, while servers come and go.
import fc from "fast-check";
import { expect, test } from "vitest";
import { SmShare } from "../../agent/correlate/sm-share.ts";

const second = 1_000_000_000;

test("SmShare.weights() is the mean share while each worked, of those that did of late, however many came before", () => {
  const quarters = fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 40, maxLength: 40, size: "max" });
  fc.assert(
    fc.property(quarters, fc.integer({ min: 225, max: 255 }), (lengths, before) => {
      const sharing = new SmShare();
      let [at, index] = [0, 0];
      const note = (nanos: number): void => {
        at += nanos;
        sharing.noteWork(at, nanos, [`comes-${index++}`, "stays"], [0.3, 0.6]);
      };
      while (index < before) note(second / 4);
      for (const quarter of lengths) {
        note((quarter * second) / 4);
        const weights = sharing.weights(at);
        expect([weights?.has(`comes-${index - 1}`), weights?.has("stays")]).toEqual([true, true]);
        const odd = [...(weights ?? [])].filter(
          ([server, weight]) => weight !== 0 && !(Math.abs(weight - (server === "stays" ? 0.6 : 0.3)) < 1e-9),
        );
        expect(odd).toEqual([]);
      }
    }),
    { numRuns: 50 },
  );
});
