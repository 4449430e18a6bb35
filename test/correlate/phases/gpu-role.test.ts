// Which GPUs of a server do prompts alone, against servers drawn at random on two GPUs: prefill and decode apart, or both on both.
import { describe, expect, test } from "vitest";
import { Phases } from "../../../agent/correlate/phases/phases.ts";
import { PrefillPlaces } from "../../../agent/correlate/phases/prefill-places.ts";
import type { TokenStep } from "../../../agent/correlate/token-step.ts";
import type { PhaseShare } from "../../../agent/model.ts";
import { Random } from "../../simulator/random.ts";

const poll = 1_000_000_000;

/** How long each of two GPUs worked on prompts and on decode steps between two polls, s. */
interface Worked {
  readonly prefill: readonly [number, number];
  readonly decode: readonly [number, number];
}

/** The share of prefill as found on each GPU in the later half of 200 polls, its doubt, and the truth. */
function judged(random: Random, isApart: boolean) {
  const stepSeconds = random.between(0.005, 0.02);
  const perToken = stepSeconds / random.between(120, 300);
  const both = [new Phases(), new Phases()] as const;
  const places = new PrefillPlaces();
  const steps: TokenStep[] = [];
  const found = [0, 1].map(() => ({ prefill: 0, all: 0, doubt: 0, truth: 0 }));
  for (let index = 0; index < 200; index++) {
    const at = isApart ? 1 : random.whole(0, 1);
    const prompt = random.next() < 0.5 ? random.whole(200, 4000) : 0;
    const decodeSeconds = random.next() < 0.7 ? random.between(0.2, 0.9) : 0;
    const output = Math.round(decodeSeconds / stepSeconds);
    const work: Worked = { prefill: [0, 0], decode: [0, 0] };
    (work.prefill as [number, number])[isApart ? 0 : at] = Math.min(0.9, prompt * perToken);
    (work.decode as [number, number])[at] = Math.min(
      output * stepSeconds,
      1 - (isApart ? 0 : (work.prefill[at] ?? 0)),
    );
    steps.push({
      ...{
        from: index * poll,
        to: (index + 1) * poll,
        inputTokens: prompt,
        progress: "step",
        isDoubted: false,
      },
      ...{
        outputTokens: output + (prompt > 0 ? 1 : 0),
        requests: prompt > 0 ? 1 : 0,
        inFlightFrom: 1,
        inFlightTo: 1,
      },
    });
    both.forEach((phases, gpu) => {
      const [prefill, decode] = [work.prefill[gpu] as number, work.decode[gpu] as number];
      const others = (work.prefill[1 - gpu] as number) + (work.decode[1 - gpu] as number);
      const nanos = Math.round((prefill + decode) * 1e9);
      const [from, end] = [index * poll, (index + 1) * poll];
      if (nanos > 0) {
        const energy = {
          floorMillijoules: 0,
          activeMillijoules: Math.round(prefill * 400e3 + decode * 250e3),
        };
        const isPrefilledElsewhere = places.isElsewhere("server", `${gpu}`, from);
        const stretch = { from, to: from + nanos, nanos, isShared: false, isPrefilledElsewhere };
        const shares = phases.divide({ ...stretch, ...energy }, steps, (instant) => instant);
        if (index >= 100) note(found[gpu] as (typeof found)[number], shares, prefill);
      }
      phases.rest(from + nanos, end, Math.max(0, Math.min(end - from - nanos, others * 1e9)), steps);
      phases.learn(steps, end);
      places.note("server", `${gpu}`, phases.isPromptsOnly, end);
    });
  }
  return { found, isPromptsOnly: both.map((phases) => phases.isPromptsOnly) };
}

function note(
  sums: { prefill: number; all: number; doubt: number; truth: number },
  shares: readonly PhaseShare[],
  prefill: number,
): void {
  for (const { nanos, phase, uncertainNanos } of shares) {
    sums.all += nanos / 1e9;
    sums.doubt += uncertainNanos / 1e9;
    if (phase === "prefill") sums.prefill += nanos / 1e9;
  }
  sums.truth += prefill;
}

describe("a server on two GPUs", () => {
  test("does prompts alone on one where prefill and decode are apart, and no prompts on the other", () => {
    const random = new Random(5);
    for (let drawn = 0; drawn < 20; drawn++) {
      const { found, isPromptsOnly } = judged(random, true);
      expect(isPromptsOnly).toEqual([true, false]);
      for (const { all, prefill, truth } of found) expect(Math.abs(prefill - truth)).toBeLessThan(0.01 * all);
    }
  });

  test("does both on both where it has ranks that take turns", () => {
    const random = new Random(6);
    for (let drawn = 0; drawn < 20; drawn++)
      expect(judged(random, false).isPromptsOnly).toEqual([false, false]);
  });

  test("is not held to prompts on a GPU that left", () => {
    const places = new PrefillPlaces();
    places.note("server", "left", true, 5);
    expect(places.isElsewhere("server", "left", 5)).toBe(false);
    expect(places.isElsewhere("server", "stays", 5)).toBe(true);
    expect(places.isElsewhere("server", "stays", 6)).toBe(false);
  });
});
