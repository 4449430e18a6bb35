// The habit of a page that something keeps a copy of, learned from polls alone.
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { PageAge } from "../../agent/correlate/page-age.ts";
import { second } from "./scene.ts";

test("PageAge.copyNanos is how long a copy lives, at whatever age of it the first poll came", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 3, max: 15 }),
      fc.integer({ min: 0, max: 14_999 }),
      (renewedEach, phaseMs) => {
        const age = new PageAge();
        // A server that works all the time; the third copy tells how long the second one lived.
        for (let poll = 0; poll < 3 * renewedEach + 1; poll++) {
          const at = poll * second + (phaseMs % 1000) * 1e6;
          const renewals = Math.floor((at + phaseMs * 1e6) / (renewedEach * second));
          age.repeats({
            at,
            inputTokens: 100 * renewals,
            outputTokens: 1000 * renewals,
            inFlight: 4,
            progress: "step",
          });
        }
        expect(Math.abs((age.copyNanos ?? 0) - renewedEach * second)).toBeLessThanOrEqual(second);
      },
    ),
  );
});

test("PageAge.mayBeCopy holds from the second look to the first change, half a minute at most", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 60 }),
      fc.integer({ min: 1, max: 5 }),
      fc.boolean(),
      (changesAfter, poll, works) => {
        const age = new PageAge();
        for (let seconds = 0; seconds <= 80; seconds += poll) {
          const outputTokens = seconds >= changesAfter ? 1000 + (works ? seconds : 0) : 0;
          age.repeats({ at: seconds * second, inputTokens: 7, outputTokens, progress: "step" });
          expect(age.mayBeCopy).toBe(seconds > 0 && seconds < changesAfter && seconds <= 30);
        }
      },
    ),
  );
});
