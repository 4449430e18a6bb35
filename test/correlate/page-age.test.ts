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

test("PageAge.copyNanos is found where a copy is renewed now after one poll, now after two, and nowhere else", () => {
  const at = (poll: number, lives: number, phase: number): number => Math.floor((5 * poll + phase) / lives);
  fc.assert(
    fc.property(fc.integer({ min: 65, max: 90 }), fc.integer({ min: 0, max: 89 }), (tenths, phaseTenths) => {
      const [copied, live] = [new PageAge(), new PageAge()];
      for (let poll = 0; poll < 16; poll++) {
        const read = { at: 5 * poll * second, inputTokens: 0, inFlight: 2, progress: "step" } as const;
        copied.repeats({ ...read, outputTokens: at(poll, tenths / 10, phaseTenths / 10) });
        live.repeats({ ...read, outputTokens: 10 * poll });
      }
      expect(Math.abs((copied.copyNanos ?? 0) - (tenths / 10) * second)).toBeLessThanOrEqual(1.5 * second);
      expect(live.copyNanos).toBeUndefined();
    }),
  );
});

test("PageAge.copyNanos is the beat of changes of a server that no copy shows at work, whenever it works", () => {
  const pauses = fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 5, maxLength: 8 });
  fc.assert(
    fc.property(fc.integer({ min: 7, max: 15 }), fc.nat(14_999), pauses, (lives, phaseMs, works) => {
      const age = new PageAge();
      const at = (beats: number): number => beats * lives + (phaseMs % (1000 * lives)) / 1000;
      const changes = works.map((_, index) =>
        at(works.slice(0, index + 1).reduce((sum, one) => sum + one, 0)),
      );
      for (let poll = 0; poll <= (changes.at(-1) as number) + 1; poll++) {
        const outputTokens = 100 * changes.filter((change) => change <= poll).length;
        age.repeats({ at: poll * second, inputTokens: 0, outputTokens, inFlight: 0, progress: "step" });
      }
      // Where no renewal follows another one at once, the beat may be taken for a multiple of it.
      fc.pre(works.slice(1).includes(1));
      expect(Math.abs((age.copyNanos ?? 0) - lives * second)).toBeLessThanOrEqual(second);
    }),
  );
});

test("PageAge takes no page for a reading that is older than the one before, and says that it is a copy", () => {
  const age = new PageAge();
  const poll = { inputTokens: 0, inFlight: 1, progress: "step" } as const;
  expect(age.repeats({ ...poll, at: 0, outputTokens: 10 })).toBe(false);
  expect(age.repeats({ ...poll, at: second, outputTokens: 20 })).toBe(false);
  expect(age.isCopy).toBe(false);
  expect(age.repeats({ ...poll, at: 2 * second, outputTokens: 20, isOlder: true })).toBe(true);
  expect([age.isCopy, age.newest]).toEqual([true, 2 * second]);
  expect(age.repeats({ ...poll, at: 3 * second, outputTokens: 30 })).toBe(false);
  // Counters that stay lower for longer than any copy lives are read again: what they say is all there is.
  expect(age.repeats({ ...poll, at: 40 * second, outputTokens: 30, isOlder: true })).toBe(false);
});

test("PageAge takes a page of two keepers for a reading where it shows news, and nowhere else", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 6, max: 14 }),
      fc.integer({ min: 1, max: 13 }),
      fc.nat(1),
      (lives, apart, first) => {
        fc.pre(apart < lives);
        const age = new PageAge();
        let [shown, longest, newsAt] = [0, 0, 0];
        for (let poll = 0; poll < 8 * lives; poll++) {
          // Each keeper answers every other poll with what was so when its copy was made.
          const phase = (poll + first) % 2 === 0 ? 0 : apart;
          const madeAt = Math.max(0, phase + lives * Math.floor((poll - phase) / lives));
          const isOlder = madeAt < shown;
          const isNews = madeAt > shown;
          shown = Math.max(shown, madeAt);
          const read = { at: poll * second, inputTokens: 0, outputTokens: 10 * shown, inFlight: 2 };
          const repeats = age.repeats({ ...read, progress: "step", ...(isOlder ? { isOlder } : {}) });
          if (isNews && newsAt > 0) longest = Math.max(longest, poll - newsAt);
          if (isNews) newsAt = poll;
          if (poll < 4 * lives) continue;
          expect(repeats).toBe(!isNews);
          expect(age.copyNanos ?? 0).toBeLessThanOrEqual(longest * second);
        }
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

/** What a page shows at polls a second apart: a change, or what the one before it showed. */
function shownAt(age: PageAge, changes: readonly boolean[], from = 0): void {
  changes.forEach((_, index) => {
    const outputTokens = from + changes.slice(0, index + 1).filter(Boolean).length;
    age.repeats({ at: (from + index) * second, inputTokens: 1, outputTokens, inFlight: 0, progress: "step" });
  });
}

test("PageAge.shownFrom is undefined from six changes in a row on: every poll shows the page itself", () => {
  // Pauses of one poll: longer ones keep a beat by chance.
  const runs = fc.array(fc.integer({ min: 1, max: 8 }), { minLength: 1, maxLength: 6 });
  fc.assert(
    fc.property(runs, (lengths) => {
      const changes = [false, ...lengths.flatMap((length) => [...Array(length).fill(true), false])];
      for (let count = 1; count <= changes.length; count++) {
        const age = new PageAge();
        shownAt(age, changes.slice(0, count));
        const isLive = changes.slice(0, count).join().includes(Array(6).fill(true).join());
        expect(age.shownFrom === undefined).toBe(isLive);
      }
    }),
  );
});

test("a page that showed itself is doubted again once it is seen to be a copy", () => {
  const age = new PageAge();
  shownAt(age, [false, ...Array(8).fill(true)]);
  expect(age.shownFrom).toBeUndefined();
  const renewed = Array.from({ length: 12 * 9 }, (_, index) => index % 12 === 0);
  shownAt(age, renewed, 9);
  expect(age.copyNanos).toBe(12 * second);
  const last = (9 + renewed.length - 1) * second;
  expect(age.shownFrom).toBeLessThan(last);
});

test("a page whose gauge goes to and fro while no counter moves is one of several, if it counts each step", () => {
  const isCopy = (
    progress: "step" | "finish",
    shown: readonly (readonly [outputTokens: number, inFlight: number])[],
  ): boolean => {
    const age = new PageAge();
    for (const [poll, [outputTokens, inFlight]] of shown.entries())
      age.repeats({ at: poll * second, inputTokens: 0, outputTokens, inFlight, progress });
    return age.isCopy;
  };
  const toAndFro = [
    [0, 0],
    [0, 2],
    [0, 0],
    [0, 2],
  ] as const;
  expect(isCopy("step", toAndFro)).toBe(true);
  expect(
    isCopy(
      "step",
      toAndFro.map(([, inFlight], poll) => [poll, inFlight]),
    ),
  ).toBe(false);
  // A request that ends uncounted, or one that counts only then, may leave it as it was.
  expect(isCopy("finish", toAndFro)).toBe(false);
  const once = toAndFro.slice(0, 3);
  expect(isCopy("step", [...once, ...once.map(([, inFlight]) => [100, inFlight] as const)])).toBe(false);
});

test("PageAge.blurNanos() is half of what a page takes that answers late, and none of one that answers in time", () => {
  const took = fc.integer({ min: 1, max: 8000 });
  fc.assert(
    fc.property(fc.constantFrom(1, 5), took, fc.nat(100), (configured, tookMs, jitterMs) => {
      const age = new PageAge();
      const apartMs = Math.max(configured * 1000, tookMs);
      for (let poll = 0; poll < 20; poll++) {
        const at = (poll * apartMs + (poll % 3) * jitterMs) * 1e6;
        age.repeats({ at, inputTokens: poll, outputTokens: poll, progress: "step" });
      }
      const blur = age.blurNanos(configured * second);
      if (apartMs + 2 * jitterMs <= 1250 * configured) expect(blur).toBe(0);
      if (apartMs - 2 * jitterMs > 1250 * configured) {
        expect(Math.abs(blur - apartMs * 5e5)).toBeLessThanOrEqual(jitterMs * 1e6);
      }
    }),
  );
});
