// A bar is drawn on a terminal and after two seconds, and never anywhere else.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { startProgress } from "../../agent/cli/common/progress.ts";

const SECOND = 1e9;

function drawn(
  output: { readonly isTTY?: boolean; readonly columns?: number },
  env: Readonly<Record<string, string>>,
  steps: readonly (readonly [afterNanos: number, share: number])[],
): string {
  let [now, text] = [0, ""];
  const stderr = { ...output, write: (more: string) => (text += more) };
  const progress = startProgress({ stderr, env, clock: { now: () => now } });
  for (const [after, share] of steps) {
    now += after;
    progress.at(share, "rows of 2026-11");
  }
  progress.end();
  return text;
}

describe("startProgress()", () => {
  const steps = fc.array(fc.tuple(fc.nat(3 * SECOND), fc.double({ min: -1, max: 2, noNaN: true })), {
    maxLength: 30,
  });

  test("writes nothing off a terminal, nor on one that can move no cursor", () => {
    fc.assert(
      fc.property(steps, (all) => {
        expect(drawn({}, {}, all)).toBe("");
        expect(drawn({ isTTY: true }, { TERM: "dumb" }, all)).toBe("");
      }),
    );
  });

  test("writes nothing for two seconds, fits its line, and leaves nothing behind", () => {
    fc.assert(
      fc.property(steps, fc.integer({ min: 10, max: 200 }), (all, columns) => {
        const text = drawn({ isTTY: true, columns }, {}, all);
        const whole = all.reduce((sum, [after]) => sum + after, 0);
        if (whole < 2 * SECOND) expect(text).toBe("");
        const lines = text.split("\r\u001b[K");
        expect(lines.at(-1)).toBe("");
        for (const line of lines) expect(line.length).toBeLessThan(columns);
      }),
    );
  });

  test("says how far, how long and what", () => {
    const text = drawn({ isTTY: true }, {}, [
      [SECOND, 0.1],
      [2 * SECOND, 0.5],
    ]);
    expect(text).toContain("[###############---------------]  50 % 3 s  rows of 2026-11");
    expect(text).not.toContain("10 %");
  });
});
