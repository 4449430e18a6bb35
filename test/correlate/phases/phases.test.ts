// Prefill and decode apart: exact sums, known costs found again, and the shipped recordings with the truth of their logs.
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Phases } from "../../../agent/correlate/phases/phases.ts";
import type { TokenStep } from "../../../agent/correlate/token-step.ts";
import type { Phase, PhaseShare } from "../../../agent/model.ts";
import type { RecordedServer, Replayed } from "../correlator-replay.ts";
import { recordingOf, replay } from "../correlator-replay.ts";
import { gpuInfo, polls, readings, repeated, rowsOf, run, serverInfo } from "../scene.ts";

const second = 1_000_000_000;

function stepOf(index: number, inputTokens: number, outputTokens: number): TokenStep {
  return {
    ...{ from: index * second, to: (index + 1) * second, inputTokens, outputTokens, requests: 0 },
    ...{ inFlightFrom: 1, inFlightTo: 1, progress: "step", isDoubted: false },
  };
}

function total(shares: readonly PhaseShare[], phase: Phase, key: "nanos" | "millijoules"): number {
  return shares.filter((share) => share.phase === phase).reduce((sum, share) => sum + share[key], 0);
}

interface OneByOne {
  readonly prompt: number;
  readonly output: number;
  readonly pause: number;
}

/**
 * Requests that a server executes one by one, as its polls and the GPU show them: a prompt counts when it is done. Returns
 * the share of prefill in what was split, as found and in truth, and how far off it may be.
 */
function phasesOneByOne(requests: readonly OneByOne[], pollMs: number, isGauged: boolean) {
  const [promptMs, stepMs] = [0.025, 10];
  const executed: { from: number; first: number; to: number; prompt: number; output: number }[] = [];
  let at = 100;
  for (const { output, pause, prompt } of requests) {
    const first = at + prompt * promptMs;
    executed.push({ from: at, first, to: first + (output - 1) * stepMs, prompt, output });
    at = first + (output - 1) * stepMs + pause;
  }
  const within = (from: number, to: number, left: number, right: number): number =>
    Math.max(0, Math.min(to, right) - Math.max(from, left));
  const phases = new Phases();
  const steps: TokenStep[] = [];
  const found: PhaseShare[] = [];
  let [prefill, active] = [0, 0];
  for (let from = 0; from < at; from += pollMs) {
    const to = from + pollMs;
    const made = (ms: number, { first, output }: { first: number; output: number }): number =>
      ms < first ? 0 : Math.min(output, 1 + Math.floor((ms - first) / stepMs));
    const sum = (pick: (one: (typeof executed)[number]) => number): number =>
      executed.reduce((all, one) => all + pick(one), 0);
    const flying = (ms: number): number => sum((one) => (one.from <= ms && ms < one.to ? 1 : 0));
    steps.push({
      ...{ from: from * 1e6, to: to * 1e6, progress: "step", isDoubted: false },
      inputTokens: sum(({ first, prompt }) => (from < first && first <= to ? prompt : 0)),
      outputTokens: sum((one) => made(to, one) - made(from, one)),
      requests: sum((one) => (from < one.to && one.to <= to ? 1 : 0)),
      inFlightFrom: isGauged ? flying(from) : undefined,
      inFlightTo: isGauged ? flying(to) : undefined,
    });
    for (const one of executed) {
      const [left, right] = [Math.max(from, one.from), Math.min(to, one.to)];
      if (right <= left) continue;
      const nanos = Math.round((right - left) * 1e6);
      const stretch = { from: left * 1e6, to: right * 1e6, nanos, isShared: false };
      const amounts = { floorMillijoules: 0, activeMillijoules: Math.round(right - left) };
      const shares = phases.divide({ ...stretch, ...amounts }, steps, (instant) => instant);
      if (total(shares, "unsplit", "nanos") > 0) continue;
      found.push(...shares);
      prefill += within(one.from, one.first, left, right);
      active += right - left;
    }
    phases.learn(steps, to * 1e6);
  }
  const all = sum(executed.map(({ from, to }) => to - from));
  return {
    found: total(found, "prefill", "nanos") / 1e6 / active,
    doubt: found.reduce((sum, { uncertainNanos }) => sum + uncertainNanos, 0) / 1e6 / active,
    truth: prefill / active,
    split: active / all,
  };
}

function sum(amounts: readonly number[]): number {
  return amounts.reduce((all, amount) => all + amount, 0);
}

/** What is found of a step of both phases after a second in which the GPU worked without a token: for its prompt, or for other ranks. */
function afterSilence(isLent: boolean, isActive: boolean): readonly PhaseShare[] {
  const phases = new Phases();
  const moves = Array.from({ length: 20 }, (_, index): readonly [number, number] => [
    500 * (1 + (index % 7)),
    20 + (index % 5),
  ]);
  const steps = [...moves, [0, 0] as const, [4000, 30] as const].map(([input, output], index) =>
    index === moves.length && isLent
      ? ({ ...stepOf(index, input, output), isLent: true } as const)
      : stepOf(index, input, output),
  );
  let shares: readonly PhaseShare[] = [];
  for (const { from, inputTokens, outputTokens } of steps) {
    const isSilent = inputTokens + outputTokens === 0;
    if (isSilent && !isActive) continue;
    const took = isSilent ? 300_000_000 : inputTokens * 100_000 + outputTokens * 10_000_000;
    const stretch = { from, to: from + took, nanos: took, floorMillijoules: 0, isShared: false };
    shares = phases.divide({ ...stretch, activeMillijoules: took / 1e6 }, steps, (at) => at);
    if (!isSilent) phases.learn(steps, from);
  }
  return shares;
}

describe("Phases.divide()", () => {
  test("takes off a prompt what the GPU did for it before, and nothing of what it did for other ranks", () => {
    expect(afterSilence(true, true)).toEqual(afterSilence(true, false));
    expect(total(afterSilence(false, true), "prefill", "nanos")).toBeLessThan(
      total(afterSilence(false, false), "prefill", "nanos"),
    );
  });

  test("gives every nanosecond and millijoule of a stretch to one phase", () => {
    const tokens = fc.integer({ min: 0, max: 5000 });
    fc.assert(
      fc.property(
        fc.array(fc.tuple(tokens, tokens, fc.boolean(), fc.integer({ min: 0, max: 999 })), {
          minLength: 1,
          maxLength: 40,
        }),
        (moves) => {
          const phases = new Phases();
          const steps = moves.map(([input, output], index) => stepOf(index, input, output));
          moves.forEach(([, , isShared, part], index) => {
            const from = index * second;
            const nanos = second - part * 1_000_000;
            const stretch = { from, to: from + nanos, nanos, floorMillijoules: part, isShared };
            const shares = phases.divide({ ...stretch, activeMillijoules: 3 * part }, steps, (at) => at);
            const phasesOf = ["prefill", "decode", "unsplit"] as const;
            const sum = (key: "nanos" | "millijoules"): number =>
              phasesOf.reduce((all, phase) => all + total(shares, phase, key), 0);
            expect(sum("nanos")).toBe(nanos);
            expect(sum("millijoules")).toBe(4 * part);
            for (const share of shares) expect(share.uncertainNanos).toBeLessThanOrEqual(nanos);
            phases.learn(steps, from + second);
          });
        },
      ),
      { numRuns: 100 },
    );
  });

  test("finds what prompt tokens and decode steps cost, and what they draw", () => {
    // 50 us a prompt token at 400 W, 8 ms a decode step at 250 W.
    const phases = new Phases();
    const found: PhaseShare[] = [];
    let [time, energy] = [0, 0];
    const steps: TokenStep[] = [];
    for (let index = 0; index < 200; index++) {
      const prefill = index % 3 === 0 ? ((index * 7) % 10) / 20 : 0;
      const busy = 0.9;
      const step = stepOf(index, Math.round(prefill / 50e-6), Math.round((busy - prefill) / 8e-3));
      steps.push(step);
      const joules = prefill * 400 + (busy - prefill) * 250;
      const stretch = { from: step.from, to: step.from + busy * second, isShared: false };
      const amounts = { nanos: busy * second, floorMillijoules: 0 };
      const shares = phases.divide(
        { ...stretch, ...amounts, activeMillijoules: Math.round(joules * 1000) },
        steps,
        (at) => at,
      );
      phases.learn(steps, step.to);
      if (index < 20) continue;
      found.push(...shares);
      time += prefill;
      energy += prefill * 400;
    }
    expect(total(found, "prefill", "nanos") / 1e9 / time).toBeCloseTo(1, 1);
    expect(total(found, "prefill", "millijoules") / 1e3 / energy).toBeCloseTo(1, 1);
  });

  test("takes what prompts took over several polls off the interval in which they end", () => {
    const request = fc.record({
      // Of 25 us a prompt token and 10 ms a decode step: 0.5 to 8 s, then 0.1 to 2 s.
      prompt: fc.integer({ min: 20_000, max: 320_000 }),
      output: fc.integer({ min: 11, max: 200 }),
      pause: fc.integer({ min: 50, max: 3000 }),
    });
    const drawn = fc.record({
      requests: fc.array(request, { minLength: 12, maxLength: 12 }),
      pollMs: fc.constantFrom(500, 1000, 2000),
      isGauged: fc.boolean(),
    });
    let [within, twice, wide] = [0, 0, 0];
    const cases = fc.sample(drawn, { numRuns: 150, seed: 7 });
    for (const { isGauged, pollMs, requests } of cases) {
      const { doubt, found, split, truth } = phasesOneByOne(requests, pollMs, isGauged);
      expect(split).toBeGreaterThan(0.5);
      const off = Math.abs(found - truth);
      if (off <= doubt) within++;
      if (off <= 2 * doubt) twice++;
      if (doubt > 0.05) wide++;
    }
    expect(within).toBeGreaterThanOrEqual(0.68 * cases.length);
    expect(twice).toBeGreaterThanOrEqual(0.95 * cases.length);
    // A prompt that begins in the poll in which another answer ends is seen by its time alone, and half of that is in doubt.
    expect(wide).toBeLessThanOrEqual(0.36 * cases.length);
  });

  test("says how far off a share of nothing may be", () => {
    const phases = new Phases();
    const steps: TokenStep[] = [];
    let doubt = 0;
    // Times in which prompts cost nothing that could be told from the noise of decode steps.
    for (let index = 0; index < 12; index++) {
      const step = stepOf(index, index % 2 === 0 ? 3000 : 0, 100);
      steps.push(step);
      const nanos = index % 4 === 1 ? 0.9 * second : 0.6 * second;
      const stretch = { from: step.from, to: step.from + nanos, nanos, isShared: false };
      const shares = phases.divide(
        { ...stretch, floorMillijoules: 0, activeMillijoules: 0 },
        steps,
        (at) => at,
      );
      phases.learn(steps, step.to);
      const isNothing = index > 4 && step.inputTokens > 0 && total(shares, "prefill", "nanos") === 0;
      if (isNothing) doubt = Math.max(doubt, ...shares.map(({ uncertainNanos }) => uncertainNanos));
    }
    expect(doubt).toBeGreaterThan(0);
  });

  test("says unsplit where counters move at the end of a request", () => {
    const stretch = { from: 0, to: second, nanos: second, floorMillijoules: 10, activeMillijoules: 20 };
    const step: TokenStep = { ...stepOf(0, 100, 100), progress: "finish" };
    const shares = new Phases().divide({ ...stretch, isShared: false }, [step], (at) => at);
    expect(shares).toMatchObject([{ phase: "unsplit", method: "unknown", nanos: second, millijoules: 30 }]);
  });
});

describe("residents", () => {
  test("have phases that sum to their token-active time and energy", () => {
    const { intervals } = run({
      gpus: [gpuInfo("g")],
      servers: [serverInfo("a", { pids: [1] }), serverInfo("b", { pids: [2] })],
      samples: readings("g", repeated(20, { pids: [1, 2], busy: 0.7, watts: 300 })),
      polls: { a: polls(repeated(20, 100)), b: polls(repeated(20, 50)) },
      seconds: 20,
    });
    const residents = rowsOf(intervals, "g").flatMap((row) => row.residents);
    expect(residents.some(({ nanos }) => nanos.token_active > 0)).toBe(true);
    for (const { millijoules, nanos, phases = [] } of residents) {
      expect(phases.reduce((sum, part) => sum + part.nanos, 0)).toBe(nanos.token_active);
      expect(phases.reduce((sum, part) => sum + part.millijoules, 0)).toBe(millijoules.token_active);
    }
  });
});

/** Time to the first token over the time of a batch, as the recorded servers logged them. */
function truthOf({ lines }: RecordedServer): number {
  const sum = (key: string): number =>
    lines.reduce((all, line) => all + ((line as Record<string, number | undefined>)[key] ?? 0), 0);
  return sum("ttft_s") / sum("e2e_s");
}

function foundIn({ intervals }: Replayed, id: string): { share: number; doubt: number; unsplit: number } {
  const shares = intervals
    .flatMap(({ gpus }) => gpus.flatMap(({ residents }) => residents))
    .filter(({ server }) => server === id)
    .flatMap(({ phases }) => phases ?? []);
  const [prefill, decode] = [total(shares, "prefill", "nanos"), total(shares, "decode", "nanos")];
  const doubt = shares.reduce((sum, share) => sum + share.uncertainNanos, 0);
  const unsplit = total(shares, "unsplit", "nanos");
  const split = prefill + decode;
  return { share: prefill / split, doubt: doubt / split, unsplit: unsplit / (split + unsplit) };
}

describe("prefill of the shipped recordings", () => {
  test.each([
    ["h100-solo-8b", 1],
    ["h100-solo-8b", 5],
    ["h100-low-load-1b", 1],
    ["h100-shared-8b-1b", 1],
  ])("%s, polled each %d s: within 0.035 of its log, or two standard errors", (name, pollSeconds) => {
    const recording = recordingOf(name);
    const replayed = replay(recording, { pollSeconds });
    for (const server of recording.servers) {
      const { doubt, share, unsplit } = foundIn(replayed, server.id);
      expect(Math.abs(share - truthOf(server))).toBeLessThanOrEqual(Math.max(0.035, 2 * doubt));
      expect(unsplit).toBeLessThan(0.15);
    }
  });
});

test("output that takes longer than its steps do hides a prompt under way, and only that", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 8 }),
      fc.integer({ min: 5, max: 30 }),
      fc.array(fc.integer({ min: 1, max: 1000 }), { minLength: 30, maxLength: 30, size: "max" }),
      fc.integer({ min: 25, max: 60 }),
      (running, stepMs, amounts, tenths) => {
        const phases = new Phases();
        const steps: TokenStep[] = [];
        const divided = (
          inputTokens: number,
          output: number,
          milliseconds: number,
        ): readonly PhaseShare[] => {
          const from = steps.length * 1000 * second;
          const gauge = { inFlightFrom: running, inFlightTo: running };
          steps.push({
            ...stepOf(0, inputTokens, output),
            ...gauge,
            from,
            to: from + Math.round(milliseconds * 1e6),
          });
          const { to } = steps.at(-1) as TokenStep;
          const stretch = { from, to, nanos: to - from, floorMillijoules: 0, activeMillijoules: 1000 };
          const shares = phases.divide({ ...stretch, isShared: false }, steps, (at) => at);
          phases.learn(steps, to);
          return shares;
        };
        const took = (prompts: number, output: number): number =>
          0.05 * prompts + (output / running) * stepMs;
        for (const [index, amount] of amounts.entries()) {
          const prompts = index % 3 === 0 ? 10 * amount : 0;
          const shares = divided(prompts, 40 * running + amount, took(prompts, 40 * running + amount));
          if (prompts === 0) expect(total(shares, "prefill", "nanos")).toBe(0);
        }
        // In steps with output alone there was room for as much again, and more: chunks of a long prompt.
        const output = 60 * running;
        const whole = (took(0, output) * tenths) / 10;
        const long = divided(0, output, whole);
        const prefill = total(long, "prefill", "nanos") / (whole * 1e6);
        const truth = 1 - 10 / tenths;
        expect(Math.abs(prefill - truth)).toBeLessThanOrEqual(0.1);
        const doubt = long.reduce((sum, { uncertainNanos }) => sum + uncertainNanos, 0) / (whole * 1e6);
        expect(doubt).toBeGreaterThan(0.25 * truth);
        // It taught nothing of the steps: the next one of usual length is decode.
        expect(total(divided(0, output, took(0, output)), "prefill", "nanos")).toBe(0);
      },
    ),
    { numRuns: 60 },
  );
});

/** Output of `running` requests that end one by one, each step `stepMs`; every other ends `apart` steps later. */
function thinning(running: number, apart: number): { readonly output: number; readonly steps: number } {
  let output = 0;
  for (let left = running; left > 0; left--) output += left * apart;
  return { output, steps: running * apart };
}

/** A server of known costs that is well known: one that divides its next steps, so many milliseconds long. */
function wellKnown(running: number, stepMs: number, prompt: number) {
  const phases = new Phases();
  const steps: TokenStep[] = [];
  const divided = (step: Partial<TokenStep>, milliseconds: number): readonly PhaseShare[] => {
    const from = steps.length * 1000 * second;
    const nanos = Math.round(milliseconds * 1e6);
    steps.push({ ...stepOf(0, 0, 0), ...step, from, to: from + nanos });
    const { to } = steps.at(-1) as TokenStep;
    const stretch = { from, to, nanos, floorMillijoules: 0, activeMillijoules: 1000 };
    const shares = phases.divide({ ...stretch, isShared: false }, steps, (at) => at);
    phases.learn(steps, to);
    return shares;
  };
  for (let index = 0; index < 20; index++) {
    const inputTokens = index % 4 === 0 ? running * (prompt + index) : 0;
    const took = (stepMs / 300) * inputTokens + 50 * stepMs;
    const gauge = { inFlightFrom: running, inFlightTo: running };
    divided({ inputTokens, outputTokens: 50 * running, ...gauge }, took);
  }
  return divided;
}

const served = [
  fc.integer({ min: 2, max: 40 }),
  fc.integer({ min: 1, max: 5 }),
  fc.integer({ min: 5, max: 20 }),
  fc.integer({ min: 100, max: 600 }),
] as const;

test("requests that end one after the other hide no prompt", () => {
  fc.assert(
    fc.property(...served, (running, apart, stepMs, prompt) => {
      const divided = wellKnown(running, stepMs, prompt);
      const { output, steps: made } = thinning(running, apart);
      const ended = { inFlightFrom: running, inFlightTo: 0, requests: running };
      expect(total(divided({ outputTokens: output, ...ended }, made * stepMs), "prefill", "nanos")).toBe(0);
      const allButOne = { ...ended, inFlightTo: 1, requests: running - 1 };
      const shares = divided({ outputTokens: output, ...allButOne }, made * stepMs);
      expect(total(shares, "prefill", "nanos")).toBe(0);
    }),
    { numRuns: 100 },
  );
});

test("a prompt is under way only in what is in flight, and where requests ended no longer than prompts take", () => {
  fc.assert(
    fc.property(...served, fc.integer({ min: 20, max: 60 }), (running, apart, stepMs, prompt, times) => {
      const divided = wellKnown(running, stepMs, prompt);
      const took = times * apart * running * stepMs;
      const step = { outputTokens: apart * running, inFlightFrom: running, requests: running - 1 };
      const longest = (stepMs / 300) * running * (prompt + 16) * 1e6;
      const found = total(divided({ ...step, inFlightTo: 1 }, took), "prefill", "nanos");
      // What a prompt costs is known from few: give or take a tenth of the step.
      expect(found).toBeLessThanOrEqual(1.5 * longest + took * 1e5);
      expect(total(divided({ ...step, inFlightTo: 0 }, took), "prefill", "nanos")).toBe(0);
    }),
    { numRuns: 100 },
  );
});

test("a first step of both kinds is split by what GPUs make of it, and twice its error covers what they do", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 110, max: 600 }),
      fc.double({ min: 1.2, max: 2.5, noNaN: true }),
      fc.integer({ min: 1, max: 30 }),
      fc.integer({ min: 50, max: 2000 }),
      fc.integer({ min: 20, max: 400 }),
      (ratio, watts, running, prompt, decoded) => {
        const prefill = (running * prompt) / ratio;
        const step = {
          ...stepOf(0, running * prompt, running * decoded),
          inFlightFrom: running,
          inFlightTo: running,
        };
        const stretch = { from: step.from, to: step.to, nanos: second, floorMillijoules: 0, isShared: false };
        const phases = new Phases();
        const shares = phases.divide({ ...stretch, activeMillijoules: 1_000_000 }, [step], (at) => at);
        expect(total(shares, "unsplit", "nanos")).toBe(0);
        const truth = {
          nanos: prefill / (prefill + decoded),
          millijoules: (watts * prefill) / (watts * prefill + decoded),
        };
        const doubts = shares.reduce(
          (all, one) => ({
            nanos: all.nanos + one.uncertainNanos / second,
            millijoules: all.millijoules + one.uncertainMillijoules / 1e6,
          }),
          { nanos: 0, millijoules: 0 },
        );
        const found = {
          nanos: total(shares, "prefill", "nanos") / second,
          millijoules: total(shares, "prefill", "millijoules") / 1e6,
        };
        for (const key of ["nanos", "millijoules"] as const)
          expect(Math.abs(found[key] - truth[key])).toBeLessThanOrEqual(2 * doubts[key] + 0.002);
      },
    ),
    { numRuns: 300 },
  );
});
