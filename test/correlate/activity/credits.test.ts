// What the driver's shares per process say of a server's execution beside others.
import { describe, expect, test } from "vitest";
import { creditedNanos, pollIntervals } from "../../../agent/correlate/activity/intervals.ts";
import type { ServerPoll } from "../../../agent/model.ts";

const second = 1_000_000_000;
const poll = (at: number, outputTokens: number): ServerPoll => ({
  ...{ at: at * second, inputTokens: 0, outputTokens, inFlight: 0, progress: "step" },
});

function credited(pattern: string): number | undefined {
  const credits = [...pattern].map((mark, index) => ({
    ...{ from: index * second, to: (index + 1) * second, credited: mark === "x" },
  }));
  const to = 10 * second;
  const run = { from: 0, to, seen: true };
  const peers = [{ from: 0, to, stranger: true }];
  const [interval] = pollIntervals([poll(0, 0), poll(10, 100)], "step", [run], peers, to, credits);
  return interval === undefined ? undefined : creditedNanos(interval, credits);
}

describe("creditedNanos()", () => {
  test.each([
    ["..xxxx....", 3, "a stretch begins and ends half a reading inside"],
    ["..xx.xx...", 4, "one reading without a credit between two with one is chance"],
    ["..xx..xx..", 2, "two of them are not"],
    ["xxxxxxxxxx", 10, "what reaches over both polls counts whole"],
    ["..........", 0, "no credit is no execution"],
  ])("%s = %d s: %s", (pattern, seconds) => {
    expect(credited(pattern)).toBe(seconds * second);
  });
  test("is not known where readings are missing", () => {
    expect(credited("..xxx")).toBeUndefined();
  });
});
