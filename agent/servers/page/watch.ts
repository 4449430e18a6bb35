// What a page says only over time: counters that stand while requests run. A vLLM whose output handler died leaves all
// counters frozen while serving goes on.
import type { Nanos, TokenReading } from "../../model.ts";
import type { Clock } from "../../platform/clock.ts";

const FROZEN_NANOS = 120 * 1e9;

/** Says so when requests run for two minutes without any counter moving. */
export function watchFrozen(
  clock: Pick<Clock, "now">,
): (readings: readonly TokenReading[]) => string | undefined {
  let total = -1;
  let moved: Nanos = clock.now();
  return (readings) => {
    let running = 0;
    let sum = 0;
    for (let place = 0; place < readings.length; place++) {
      const { progress, running: requests, tokens } = readings[place] as TokenReading;
      running += requests ?? 0;
      for (const kind in tokens) sum += tokens[kind as keyof typeof tokens] ?? 0;
      if (progress !== undefined) sum += progress.input + progress.output;
    }
    const now = clock.now();
    if (sum !== total || running === 0) moved = now;
    total = sum;
    const seconds = Math.round((now - moved) / 1e9);
    return now - moved < FROZEN_NANOS
      ? undefined
      : `counters have not moved for ${seconds} s while ${running} requests run: they may be frozen`;
  };
}
