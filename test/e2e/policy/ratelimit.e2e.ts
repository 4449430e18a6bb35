// envoyproxy/ratelimit on a real Redis is the oracle of our rate-limit calls: 10,000 random sequences over minutes, hours
// and days on a clock that both follow give the same codes, remaining and resets. Where ours differ by design
// (agent/policy/POLICY.md: a plain call counts requests alone, every quota that is met counts), no sequence goes.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { unfed } from "../../policy/fixtures.ts";
import type { Answered } from "../../policy/rls-calls.ts";
import { shouldRateLimit } from "../../policy/rls-calls.ts";
import type { Subject } from "./ratelimit-rig.ts";
import { callOf, isUsable, OurWorld, sequence, startPeer, world } from "./ratelimit-rig.ts";

const [SEQUENCES, WORLDS, AT_ONCE, ROUNDS] = [10_000, 20, 1000, 9];
/** Steps of the clock between rounds, seconds: none, within a minute, to the next, and over hours and a day. */
const STEPS = [0, 1, 7, 30, 61, 1800, 3600, 40_000, 86_400];

/** What both sides must say alike. Of a descriptor without a limit only the code. */
function comparable({ code, statuses }: Answered): object {
  return {
    code,
    statuses: statuses.map((one) =>
      one.limit === undefined
        ? { code: one.code }
        : {
            code: one.code,
            limit: one.limit,
            unit: one.unit,
            remaining: one.remaining ?? 0,
            resetSeconds: one.resetSeconds,
          },
    ),
  };
}

describe.runIf(isUsable)("rate-limit calls beside envoyproxy/ratelimit", () => {
  test("10,000 random sequences are answered alike", async () => {
    const seed = Date.now() % 2 ** 31;
    console.log(`sequences of seed ${seed}`);
    const worlds = fc.sample(world, { numRuns: WORLDS, seed });
    const sequences = fc.sample(sequence, { numRuns: SEQUENCES, seed });
    const steps = fc.sample(fc.constantFrom(...STEPS), { numRuns: (SEQUENCES / AT_ONCE) * ROUNDS, seed });
    const peer = await startPeer(worlds);
    let [calls, over, second] = [0, 0, Date.UTC(2026, 2, 28, 22, 58, 40) / 1000];
    const ours = worlds.map((one, index) => new OurWorld(one, `w${index}`, second * 1000));
    const overSocket = await ours[0]?.listen();
    for (let first = 0; first < SEQUENCES; first += AT_ONCE) {
      for (let round = 0; round < ROUNDS; round++) {
        second += steps.pop() ?? 0;
        for (const one of ours) {
          one.nowMillis = second * 1000;
          if (round % 3 === 0) one.book.commit(one.nowMillis, () => unfed);
        }
        const asked = sequences.slice(first, first + AT_ONCE).map(async (steps, index) => {
          const step = steps[round];
          const at = index % WORLDS;
          const our = ours[at];
          if (step === undefined || our === undefined) return;
          const subject: Subject = {
            domain: `w${at}`,
            world: worlds[at] as Subject["world"],
            subject: `s${first + index}`,
          };
          const call = callOf(step, subject);
          const answered = await (at === 0 && overSocket
            ? shouldRateLimit(overSocket, call)
            : our.call(call));
          const wanted = await shouldRateLimit(peer, call, { "unix-seconds": String(second) });
          calls++;
          if (wanted.code === 2) over++;
          const seen = { second, call, world: subject.world };
          expect(comparable(answered), JSON.stringify(seen)).toEqual(comparable(wanted));
        });
        await Promise.all(asked);
      }
    }
    console.log(`${SEQUENCES} sequences, ${calls} calls, ${over} of them over: all alike`);
    expect(over).toBeGreaterThan(SEQUENCES / 50);
  });
});
