// What the driver's shares per process say of a server's execution beside others.
import { describe, expect, test } from "vitest";
import { creditedIn, pollIntervals } from "../../../agent/correlate/activity/intervals.ts";
import type { ServerPoll } from "../../../agent/model.ts";
import { Random } from "../../simulator/random.ts";

const second = 1_000_000_000;
const poll = (at: number, outputTokens: number): ServerPoll => ({
  ...{ at: at * second, inputTokens: 0, outputTokens, inFlight: 0, progress: "step" },
});

/** Execution in seconds by readings of a second, of which those marked credit the server with a share. */
function credited(pattern: string, ratio = 0.98): number | undefined {
  const credits = [...pattern].map((mark, index) => ({
    ...{
      from: index * second,
      to: (index + 1) * second,
      credited: mark === "x",
      ratio: mark === "x" ? ratio : 0,
    },
  }));
  const to = pattern.length * second;
  const run = { from: 0, to: 10 * second, seen: true };
  const peers = [{ from: 0, to: run.to, stranger: true }];
  const [interval] = pollIntervals([poll(0, 0), poll(10, 100)], "step", [run], peers, run.to, credits);
  if (interval === undefined) throw new Error(`no interval over ${to}`);
  const found = creditedIn(interval, credits);
  return found === undefined ? undefined : found.nanos / second;
}

describe("creditedIn()", () => {
  test.each([
    ["..xxxx....", 3, "a stretch begins and ends half a reading inside"],
    ["..xx.xx...", 4, "one reading without a credit between two with one is chance"],
    ["..xx..xx..", 2, "two of them are not"],
    ["xxxxxxxxxx", 10, "what reaches over both polls counts whole"],
    ["..........", 0, "no credit is no execution"],
  ])("%s = %d s: %s", (pattern, seconds) => {
    const edges = 0.12 * (pattern.match(/\.x/g)?.length ?? 0);
    expect(Math.abs((credited(pattern) ?? -1) - seconds)).toBeLessThanOrEqual(edges);
  });
  test("is not known where readings are missing", () => {
    expect(credited("..xxx")).toBeUndefined();
  });

  test.each([0.33, 0.5, 0.8])(
    "is right on average where a window is credited to the server at odds of %d",
    (odds) => {
      const random = new Random(7);
      let [found, truth] = [0, 0];
      for (let index = 0; index < 400; index++) {
        const from = 2 + random.next();
        const length = 2 + 3 * random.next();
        let pattern = "";
        for (let at = 0; at < 10; at++) {
          let isCredited = false;
          for (let window = at; window < at + 0.999; window += 0.2) {
            const inside = Math.max(0, Math.min(window + 0.2, from + length) - Math.max(window, from));
            // A window that it fills in part is credited to it as seldom.
            if (random.next() < (odds * inside) / 0.2) isCredited = true;
          }
          pattern += isCredited ? "x" : ".";
        }
        found += credited(pattern, odds) ?? Number.NaN;
        truth += length;
      }
      expect(found / truth).toBeGreaterThan(0.93);
      expect(found / truth).toBeLessThan(1.07);
    },
  );
});
