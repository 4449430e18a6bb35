import { describe, expect, test } from "vitest";
import { every, systemClock, virtualClock } from "../../agent/platform/clock.ts";

/** Sources a test moves by hand. */
function hands(): { monotonic: bigint; wallMs: number } {
  return { monotonic: 5_000n, wallMs: 1_800_000_000_000 };
}

function clockOn(state: ReturnType<typeof hands>): ReturnType<typeof systemClock> {
  return systemClock({ sources: { monotonic: () => state.monotonic, wall: () => state.wallMs } });
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
    expect(clock.adjust()).toBeUndefined();
    state.wallMs += 3_600_000;
    expect(clock.adjust()).toEqual({ nanos: 3_600_900_000_000n, restarted: false });
    expect(clock.unixNanos(clock.now())).toBe(BigInt(state.wallMs) * 1_000_000n);
    expect(clock.adjust()).toBeUndefined();
  });

  test("keeps its anchor over a backward step until the wall has caught up", () => {
    const state = hands();
    const clock = clockOn(state);
    state.wallMs -= 300_000;
    for (let second = 0; second < 299; second++) {
      state.monotonic += 1_000_000_000n;
      expect(clock.adjust()).toBeUndefined();
    }
    state.wallMs += 599_000;
    expect(clock.adjust()).toBeUndefined();
    expect(clock.unixNanos(0)).toBe(1_800_000_000_000_000_000n);
  });

  test("follows a backward step after ten minutes, and says that series begin anew", () => {
    const state = hands();
    const clock = clockOn(state);
    state.wallMs -= 3_600_000;
    expect(clock.adjust()).toBeUndefined();
    state.monotonic += 601_000_000_000n;
    state.wallMs += 601_000;
    expect(clock.adjust()).toEqual({ nanos: -3_600_000_000_000n, restarted: true });
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
