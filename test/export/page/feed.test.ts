// Snapshots for people who look: made once for all of them, once a beat, and never while nobody looks.
import fc from "fast-check";
import { expect, test } from "vitest";
import { virtualClock } from "../../../agent/platform/clock.ts";
import { feedOf } from "./feeds.ts";

const SECOND = 1e9;
const eventOf = (message: Buffer): string =>
  /^event: (\w+)\ndata: \{.*\}\n\n$/.exec(message.toString())?.[1] ?? "?";

test("a feed makes a snapshot a beat while anybody looks, whoever comes and goes, and none while nobody does", async () => {
  const steps = fc.array(fc.constantFrom("come", "go", "beat"), { maxLength: 40 });
  await fc.assert(
    fc.asyncProperty(steps, async (acts) => {
      const clock = virtualClock(0n);
      const feed = feedOf({ clock });
      const looking: { readonly got: string[]; readonly leave: () => void; beats: number }[] = [];
      let wanted = 0;
      for (const act of acts) {
        if (act === "come") {
          if (looking.length === 0) wanted++;
          const got: string[] = [];
          looking.push({ got, leave: feed.watch((message) => got.push(eventOf(message))), beats: 0 });
        } else if (act === "go") looking.shift()?.leave();
        else {
          // Beats of a feed begin with its first looker, at a whole second here.
          await clock.advance(clock.now() + SECOND);
          if (looking.length > 0) wanted++;
          for (const one of looking) one.beats++;
        }
        expect(feed.made()[0]).toBe(wanted);
        expect(feed.lookers).toBe(looking.length);
      }
      for (const { beats, got } of looking)
        expect(got).toEqual(["history", "view", ...Array<string>(beats).fill("view")]);
    }),
  );
});

test("the hour is sent again when a cell of it is complete, and not before", async () => {
  const clock = virtualClock(0n);
  const feed = feedOf({ clock, cell: () => Math.floor(clock.now() / (3 * SECOND)) });
  const got: string[] = [];
  feed.watch((message) => got.push(eventOf(message)));
  await clock.advance(6 * SECOND);
  expect(got.join(" ")).toBe("history view view view history view view view history view");
});

test("page() is one object for all who ask within a beat", async () => {
  const clock = virtualClock(0n);
  const feed = feedOf({ clock });
  const first = feed.page();
  expect(feed.page()).toBe(first);
  expect(JSON.parse(first.bytes.toString())).toEqual({
    view: { type: "view", host: "made 1" },
    history: { type: "history", cell_seconds: 1 },
  });
  await clock.advance(SECOND);
  expect(feed.page()).not.toBe(first);
});
