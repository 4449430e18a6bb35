// The load of a server from settled intervals: the law against sums of what was put in, and that what nothing says is absent.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { settledLoad } from "../../agent/daemon/settled-load.ts";
import { Recent } from "../../agent/meter/figures/recent.ts";
import type { GpuInterval, ServerInterval, SettledInterval } from "../../agent/model.ts";

const SECOND = 1e9;
const none = { token_active: 0, stalled: 0, parked: 0 };

/** A second of one server on `gpus` GPUs that were token-active or parked, or that nobody saw. */
interface Second {
  readonly gpus: number;
  readonly active: boolean;
  readonly watts: number;
  readonly tokens: number;
  readonly isSeen: boolean;
}

function interval(at: number, { active, gpus, isSeen, tokens, watts }: Second): SettledInterval {
  const state = active ? "token_active" : "parked";
  const held = Array.from({ length: isSeen ? gpus : 0 }, (_, index): GpuInterval => {
    const states = { ...none, other: 0, free: 0, unobserved: 0 };
    return {
      gpu: `GPU-${index}`,
      nanos: { ...states, [state]: SECOND },
      millijoules: { ...states, unattributed: 0, [state]: watts * 1000 },
      residents: [
        {
          server: "s",
          nanos: { ...none, [state]: SECOND },
          millijoules: { ...none, [state]: watts * 1000 },
        },
      ],
    } as unknown as GpuInterval;
  });
  const own = {
    server: "s",
    nanos: { ...none, unknown: 0, [isSeen ? state : "unknown"]: SECOND },
    activityMethod: "in_flight",
    increments: [{ server: "s", family: "engine", late: false, tokens: { output: tokens } }],
  } as unknown as ServerInterval;
  return { from: at, to: at + SECOND, gpus: held, servers: [own] } as unknown as SettledInterval;
}

function recentOf(seconds: readonly Second[]): Recent {
  const recent = new Recent();
  for (const [at, second] of seconds.entries()) recent.addInterval(interval(at * SECOND, second));
  return recent;
}

const second = fc.record({
  gpus: fc.integer({ min: 1, max: 4 }),
  active: fc.boolean(),
  watts: fc.integer({ min: 0, max: 700 }),
  tokens: fc.integer({ min: 0, max: 5000 }),
  isSeen: fc.boolean(),
});

describe("settledLoad()", () => {
  test("is that of the last ten seconds in which its GPUs were seen, and absent where none was", () => {
    fc.assert(
      fc.property(fc.array(second, { minLength: 1, maxLength: 30 }), (seconds) => {
        const found = settledLoad(recentOf(seconds), "s", seconds.length * SECOND);
        const seen = seconds.slice(-10).filter(({ isSeen }) => isSeen);
        if (seen.length === 0) {
          expect(found).toBeUndefined();
          return;
        }
        const sum = (of: (one: Second) => number): number => seen.reduce((all, one) => all + of(one), 0);
        const joules = sum(({ gpus, watts }) => gpus * watts);
        expect(found?.gpus).toBeCloseTo(sum(({ gpus }) => gpus) / seen.length, 4);
        expect(found?.tokenActiveRatio).toBeCloseTo(sum(({ active }) => Number(active)) / seen.length, 4);
        if (joules === 0) expect([found?.watts, found?.tokensPerJoule]).toEqual([undefined, undefined]);
        else {
          expect(found?.watts).toBeCloseTo(joules / seen.length, 1);
          expect(found?.tokensPerJoule).toBeCloseTo(sum(({ tokens }) => tokens) / joules, 3);
        }
      }),
    );
  });

  test("says nothing of a server that is not there, before the first interval, and once none settles any more", () => {
    const one: Second = { gpus: 1, active: true, watts: 300, tokens: 90, isSeen: true };
    expect(settledLoad(new Recent(), "s", 0)).toBeUndefined();
    const recent = recentOf([one, one]);
    expect(settledLoad(recent, "other", 2 * SECOND)).toBeUndefined();
    expect(settledLoad(recent, "s", 17 * SECOND)).toMatchObject({ gpus: 1, watts: 300 });
    expect(settledLoad(recent, "s", 18 * SECOND)).toBeUndefined();
  });
});
