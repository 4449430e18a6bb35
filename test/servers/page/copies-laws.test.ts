// Pages of one server behind keepers of copies, by law: whichever of its last pages each look is answered with, and whatever
// restarts or renames itself behind them, no token is booked twice, and the newest page at the end loses none.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Identity } from "./page-oracle.ts";
import { Agent, Process, pageOf } from "./page-oracle.ts";

/** One look: what each series made before it, how old the page is that answers, and whether the process is another by then. */
interface Look {
  readonly made: readonly number[];
  readonly pagesOld: number;
  readonly restarts: boolean;
}

const looksOf = (restart: fc.Arbitrary<boolean>): fc.Arbitrary<Look[]> =>
  fc.array(
    fc.record({
      made: fc.array(fc.oneof(fc.constant(0), fc.nat({ max: 3000 })), { minLength: 4, maxLength: 4 }),
      pagesOld: fc.nat(4),
      restarts: restart,
    }),
    { maxLength: 40 },
  );

/**
 * What was booked of what was made, by the looks, after the newest page was shown as often as it takes to be believed. The first
 * `born` of four series are on the pages from the beginning, the others when they made something.
 */
function booked(
  identity: Identity,
  bornAtZero: boolean,
  looks: readonly Look[],
  born = 4,
): { agent: Agent; made: number } {
  const agent = new Agent({ bornAtZero });
  let process = new Process(agent.unix - 5000);
  const users = ["a", "b", "c", "d"] as const;
  for (const user of users.slice(0, born)) process.make(user, 100_000, agent.unix - 4000);
  const pages = [pageOf(process, identity, {})];
  agent.look(pages[0] as string);
  let made = 0;
  for (const { made: tokens, pagesOld, restarts } of looks) {
    agent.now += 5;
    if (restarts) {
      process = new Process(agent.unix);
      agent.fail();
    }
    for (const [place, user] of users.entries()) {
      if (place < born || tokens[place] !== 0) process.make(user, tokens[place] as number, agent.unix);
      made += tokens[place] as number;
    }
    pages.push(pageOf(process, identity, {}));
    agent.look(pages[Math.max(0, pages.length - 1 - pagesOld)] as string);
    expect(agent.booked).toBeLessThanOrEqual(made);
  }
  for (let again = 0; again < 6; again++) {
    agent.now += 5;
    agent.look(pages.at(-1) as string);
  }
  return { agent, made };
}

describe("pages from copies of any age", () => {
  test.each(["start", "created", "none"] as const)(
    "of a process known by %s are counted exactly",
    (identity) => {
      fc.assert(
        fc.property(looksOf(fc.constant(false)), fc.boolean(), (looks, bornAtZero) => {
          const { agent, made } = booked(identity, bornAtZero, looks);
          expect(agent.booked).toBe(made);
        }),
      );
    },
  );

  test.each(["start", "created"] as const)(
    "of processes known by %s book nothing twice over restarts",
    (identity) => {
      fc.assert(
        fc.property(looksOf(fc.boolean()), fc.boolean(), (looks, bornAtZero) => {
          const { agent, made } = booked(identity, bornAtZero, looks);
          expect(agent.booked).toBeLessThanOrEqual(made);
        }),
      );
    },
  );

  test.each(["start", "created"] as const)(
    "of a process known by %s, once seen to be copies, book nothing twice of series that begin meanwhile",
    (identity) => {
      fc.assert(
        fc.property(looksOf(fc.constant(false)), fc.boolean(), (looks, bornAtZero) => {
          const copied = [
            { made: [10, 0, 0, 0], pagesOld: 0, restarts: false },
            { made: [0, 0, 0, 0], pagesOld: 2, restarts: false },
          ];
          const { agent, made } = booked(identity, bornAtZero, [...copied, ...looks], 1);
          expect(agent.booked).toBeLessThanOrEqual(made);
          if (bornAtZero && identity === "start") expect(agent.booked).toBe(made);
        }),
        { numRuns: 300 },
      );
    },
  );
});
