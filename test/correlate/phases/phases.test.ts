// Prefill and decode apart: exact sums, known costs found again, and the shipped recordings with the truth of their logs.
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Phases } from "../../../agent/correlate/phases/phases.ts";
import type { TokenStep } from "../../../agent/correlate/server-track.ts";
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

describe("Phases.divide()", () => {
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
