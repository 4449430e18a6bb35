import fc from "fast-check";
import { afterEach, describe, expect, test, vi } from "vitest";
import type { ClockStep } from "../../agent/platform/clock.ts";
import { every, systemClock, virtualClock } from "../../agent/platform/clock.ts";

/** Sources a test moves by hand. */
function hands(): { monotonic: bigint; wallMs: number; upSeconds: number } {
  return { monotonic: 5_000n, wallMs: 1_800_000_000_000, upSeconds: 7777.77 };
}

function clockOn(state: ReturnType<typeof hands>): ReturnType<typeof systemClock> {
  return systemClock({
    sources: {
      monotonic: () => state.monotonic,
      wall: () => state.wallMs,
      // Monotonic time is part of the time since boot.
      uptime: () => state.upSeconds + Number(state.monotonic) / 1e9,
    },
  });
}

describe("systemClock()", () => {
  test("agent time is the wall anchor plus monotonic time, whatever the wall does meanwhile", () => {
    const state = hands();
    const clock = clockOn(state);
    state.monotonic += 2_000_000_000n;
    state.wallMs -= 3_600_000;
    expect(clock.now()).toBe(2e9);
    expect(clock.unixNanos(clock.now())).toBe(1_800_000_002_000_000_000n);
    expect(clock.instant(clock.unixNanos(123))).toBe(123);
  });

  test("follows a forward step of over a second at once", () => {
    const state = hands();
    const clock = clockOn(state);
    state.wallMs += 900;
    expect(clock.pendingStep()).toBeUndefined();
    state.wallMs += 3_600_000;
    const step = clock.pendingStep();
    expect(step).toEqual({ nanos: 3_600_900_000_000n, restarted: false, slept: false });
    clock.follow(step as ClockStep);
    expect(clock.unixNanos(clock.now())).toBe(BigInt(state.wallMs) * 1_000_000n);
    expect(clock.pendingStep()).toBeUndefined();
  });

  test("keeps its anchor over a backward step until the wall has caught up", () => {
    const state = hands();
    const clock = clockOn(state);
    state.wallMs -= 300_000;
    for (let second = 0; second < 299; second++) {
      state.monotonic += 1_000_000_000n;
      expect(clock.pendingStep()).toBeUndefined();
    }
    state.wallMs += 599_000;
    expect(clock.pendingStep()).toBeUndefined();
    expect(clock.unixNanos(0)).toBe(1_800_000_000_000_000_000n);
  });

  test("follows a backward step after ten minutes, and says that series begin anew", () => {
    const state = hands();
    const clock = clockOn(state);
    state.wallMs -= 3_600_000;
    expect(clock.pendingStep()).toBeUndefined();
    state.monotonic += 601_000_000_000n;
    state.wallMs += 601_000;
    expect(clock.pendingStep()).toEqual({ nanos: -3_600_000_000_000n, restarted: true, slept: false });
  });

  test("tells sleep from a step of the wall clock, whatever the wall says after it", () => {
    const state = hands();
    const clock = clockOn(state);
    expect(clock.booted()).toBe(clock.unixNanos(clock.now()) - 7_777_770_005_000n);
    // An hour of sleep; the wall clock came back two hours later than it went.
    state.upSeconds += 3600;
    state.wallMs += 7_200_000;
    const sleep = clock.pendingStep() as ClockStep;
    expect(sleep).toEqual({ nanos: 3_600_000_000_000n, restarted: false, slept: true });
    clock.follow(sleep);
    const step = clock.pendingStep() as ClockStep;
    expect(step).toEqual({ nanos: 3_600_000_000_000n, restarted: false, slept: false });
    clock.follow(step);
    expect(clock.pendingStep()).toBeUndefined();
    expect(clock.unixNanos(clock.now())).toBe(BigInt(state.wallMs) * 1_000_000n);
  });
});

describe("takeDelay()", () => {
  afterEach(() => vi.useRealTimers());

  test("is the longest a timer was late or held up the others, since it was asked", () => {
    vi.useFakeTimers();
    fc.assert(
      fc.property(
        fc.array(fc.record({ after: fc.nat(5000), late: fc.nat(3000), busy: fc.nat(3000) }), {
          maxLength: 8,
        }),
        (timers) => {
          const state = hands();
          const clock = clockOn(state);
          const moved = (ms: number): void => {
            state.monotonic += BigInt(ms) * 1_000_000n;
          };
          let longest = 0;
          for (const { after, busy, late } of timers) {
            clock.at(clock.now() + after * 1e6, () => moved(busy));
            moved(after + late);
            vi.runAllTimers();
            longest = Math.max(longest, late, busy);
          }
          expect(clock.takeDelay?.()).toBe(longest * 1e6);
          expect(clock.takeDelay?.()).toBe(0);
        },
      ),
    );
  });

  test("counts nothing for a timer whose time had passed when it was set, nor for one that was cancelled", () => {
    vi.useFakeTimers();
    const state = hands();
    const clock = clockOn(state);
    state.monotonic += 9_000_000_000n;
    clock.at(1e9, () => {});
    clock.at(10e9, () => {})();
    vi.runAllTimers();
    expect(clock.takeDelay?.()).toBe(0);
  });

  test("a clock that is not the system's has none", () => {
    expect(virtualClock(0n).takeDelay).toBeUndefined();
  });
});

describe("virtualClock()", () => {
  test("runs timers in order of time, then of being set, awaiting each", async () => {
    const clock = virtualClock(0n);
    const ran: string[] = [];
    clock.at(20, async () => {
      await Promise.resolve();
      ran.push(`b ${clock.now()}`);
    });
    clock.at(10, () => void ran.push(`a ${clock.now()}`));
    clock.at(20, () => void ran.push(`c ${clock.now()}`));
    await clock.advance(30);
    expect(ran).toEqual(["a 10", "b 20", "c 20"]);
    expect(clock.now()).toBe(30);
  });

  test("every() keeps to start + k x period and skips beats missed while it was busy", async () => {
    const clock = virtualClock(0n);
    const beats: number[] = [];
    const cancel = every(clock, 1, async () => {
      beats.push(clock.now());
      if (beats.length === 2) await clock.advance(clock.now() + 2_500_000);
    });
    await clock.advance(8_000_000);
    cancel();
    await clock.advance(20_000_000);
    expect(beats).toEqual([1e6, 2e6, 5e6, 6e6, 7e6, 8e6]);
  });
});
