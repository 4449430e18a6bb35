// Short requests beside others: what they get where windows tell, and where there are none.
import { expect, test } from "vitest";
import {
  createActivity,
  decidableUntil,
  observePoll,
  observeWindow,
  settle,
} from "../../../agent/correlate/activity/activity.ts";
import { observePeer } from "../../../agent/correlate/activity/others.ts";
import { second } from "../trace-replay.ts";

/** Short requests for a minute and a half, each second the same; active seconds by second, the last 30 without windows. */
function activeBySecond(): number[] {
  const state = createActivity({ from: 0, pollNanos: second });
  const active: number[] = [];
  for (let index = 0; index < 90; index++) {
    const now = index * second;
    for (let from = now; index < 60 && from < now + second; from += second / 5)
      observeWindow(state, { from, to: from + second / 5, busyRatio: 0.2 });
    observePeer(state, now, now + second);
    const counted = { inputTokens: 0, outputTokens: 100 * index, requests: 20 };
    observePoll(state, { at: now + second, ...counted, inFlight: index % 5 === 0 ? 1 : 0, progress: "step" });
    for (const { from, state: is, to } of settle(state, decidableUntil(state, now + second, 5 * second))) {
      const place = Math.floor(from / second);
      if (is === "active") active[place] = (active[place] ?? 0) + (to - from) / second;
    }
  }
  return active;
}

test("short requests beside others execute as much where no reading of the GPU says whether it worked", () => {
  const active = activeBySecond();
  const sum = (from: number, to: number): number =>
    active.slice(from, to).reduce((all, part) => all + part, 0);
  const [seen, blind] = [sum(40, 58), sum(64, 82)];
  expect(seen).toBeGreaterThan(1);
  expect(blind).toBeGreaterThan(seen / 2);
  expect(blind).toBeLessThan(2 * seen);
});
