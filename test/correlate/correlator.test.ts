import { describe, expect, test } from "vitest";
import { Correlator } from "../../agent/correlate/correlator.ts";
import type { GpuSample, SettledInterval } from "../../agent/model.ts";
import { ringOf } from "../tools/rings.ts";
import { incrementOf } from "./correlator-replay.ts";
import { gpuInfo, polls, readings, repeated, rowsOf, run, second, serverInfo, sum, totals } from "./scene.ts";

const g = gpuInfo("g");
const a = serverInfo("a", { pids: [1] });

function counted(server: string, at: number, output: number) {
  return incrementOf(server, at, { input: 0, output: 0, requests: 0 }, { input: 0, output, requests: 0 });
}

function outputOf({ servers }: SettledInterval): number {
  return sum(servers.flatMap(({ increments }) => increments.map(({ tokens }) => tokens.output ?? 0)));
}

/** A correlator with one GPU read every second and one server. */
function live(pollMs = 1000, more: { readonly settleMsMax?: number } = {}) {
  const options = { origin: 0, intervalNanos: second, gpuPollMs: 1000, strict: true, ...more };
  const correlator = new Correlator(options);
  correlator.setGpus([g], 0);
  correlator.setServers([{ ...a, pollMs }], 0);
  const samples = readings("g", repeated(60, { pids: [1], busy: 1, watts: 200 }));
  const gpuUntil = (t: number): void => {
    for (const sample of samples.splice(0, samples.filter(({ at }) => at <= t * second).length))
      correlator.acceptGpu(sample);
  };
  const poll = (t: number, tokens: number): void =>
    correlator.acceptTokens(
      "a",
      { at: t * second, inputTokens: 0, outputTokens: t * 100, inFlight: 1, progress: "step" },
      [counted("a", t * second, tokens)],
    );
  const settle = (t: number): number[][] =>
    correlator.settle(t * second).map(({ from, to }) => [from / second, to / second]);
  return { correlator, gpuUntil, poll, settle };
}

describe("Correlator.settle()", () => {
  test("waits until every live source has a reading at or after the end", () => {
    const { gpuUntil, poll, settle } = live();
    poll(0, 0);
    gpuUntil(2);
    poll(0.9, 10);
    expect(settle(1.2)).toEqual([]);
    poll(1.9, 10);
    expect(settle(2)).toEqual([[0, 1]]);
  });

  test("waits for a silent source no longer than twice the slowest live poll", () => {
    const { gpuUntil, poll, settle } = live();
    poll(0, 0);
    poll(0.5, 10);
    gpuUntil(2);
    expect(settle(2.9)).toEqual([]);
    gpuUntil(3);
    expect(settle(3)).toEqual([[0, 1]]);
    gpuUntil(10);
    expect(settle(10).length).toBe(9);
  });

  test("holds intervals of a slow server until its next poll, and then decides them all", () => {
    const { gpuUntil, poll, settle } = live(5000);
    poll(0, 0);
    gpuUntil(4);
    expect(settle(4)).toEqual([]);
    gpuUntil(5);
    poll(5, 500);
    // The window at the very end needs the one after it.
    expect(settle(5).length).toBe(4);
    gpuUntil(6);
    expect(settle(6).length).toBe(1);
  });

  test("waits for a server two of whose polls fail, not for one that fails again, nor for one that is gone", () => {
    const { correlator, gpuUntil, poll, settle } = live();
    poll(0, 0);
    gpuUntil(3);
    const fail = (t: number): void =>
      correlator.acceptGap({ source: "server:a", at: t * second, reason: "refused" });
    for (const t of [0.5, 0.7]) fail(t);
    expect(settle(2)).toEqual([]);
    fail(0.9);
    expect(settle(3)).toEqual([
      [0, 1],
      [1, 2],
      [2, 3],
    ]);
    correlator.setServers([], 3 * second);
    gpuUntil(4);
    expect(settle(4)).toEqual([[3, 4]]);
  });

  test("waits for a server that never answered only while its process is new", () => {
    const correlator = new Correlator({ origin: 0, intervalNanos: second, gpuPollMs: 1000, strict: true });
    correlator.setGpus([g], 0);
    correlator.setServers([{ ...a, pollMs: 4000 }], 0);
    for (const sample of readings("g", [...repeated(20, { pids: [] }), ...repeated(30, { pids: [1] })]))
      correlator.acceptGpu(sample);
    // Announced at 0 with a poll of 4 s: not expected any more at 20 s, again when its process appears.
    expect(correlator.settle(20 * second).length).toBe(19);
    expect(correlator.settle(25 * second)).toEqual([]);
    correlator.acceptTokens("a", { at: 27 * second, inputTokens: 0, outputTokens: 0, progress: "step" }, []);
    expect(correlator.settle(27.5 * second).length).toBeGreaterThanOrEqual(5);
  });

  test("waits 30 s at most, however slow a poll is", () => {
    const { correlator, gpuUntil, poll, settle } = live(120_000);
    correlator.setServers([{ ...a, pollMs: 120_000 }], 0);
    poll(0, 0);
    gpuUntil(60);
    expect(settle(30.9)).toEqual([]);
    expect(settle(31)).toEqual([[0, 1]]);
  });

  test("waits no longer than settleMsMax", () => {
    const { correlator, gpuUntil, poll, settle } = live(120_000, { settleMsMax: 5000 });
    correlator.setServers([{ ...a, pollMs: 120_000 }], 0);
    poll(0, 0);
    gpuUntil(60);
    expect(settle(5.9)).toEqual([]);
    expect(settle(6)).toEqual([[0, 1]]);
  });

  test("goes on without any source, and returns an hour per call after a long sleep", () => {
    const correlator = new Correlator({ origin: 0, intervalNanos: second, gpuPollMs: 1000 });
    expect(correlator.settle(3 * second).length).toBe(3);
    expect(correlator.settle(5000 * second).length).toBe(3600);
    expect(correlator.settle(5000 * second).length).toBe(1397);
  });

  test("ignores an instant that is none", () => {
    const { correlator } = live();
    for (const now of [Number.NaN, Infinity, -Infinity]) expect(correlator.settle(now)).toEqual([]);
  });
});

describe("tokens", () => {
  test("belong whole to the interval their poll ended in", () => {
    const { correlator, gpuUntil, poll } = live(5000);
    poll(0, 0);
    gpuUntil(11);
    poll(5, 500);
    poll(9.5, 450);
    const settled = correlator.settle(11 * second);
    expect(settled.map(outputOf).slice(0, 9)).toEqual([0, 0, 0, 0, 500, 0, 0, 0, 0]);
    expect(correlator.finish(11 * second).map(outputOf)).toEqual([450, 0]);
  });

  test("go to the open interval when theirs has settled, and are counted as late", () => {
    const { correlator, gpuUntil, poll } = live();
    gpuUntil(12);
    poll(0, 0);
    expect(correlator.settle(12 * second).length).toBeGreaterThan(5);
    const open = correlator.settledUntil / second;
    poll(2.5, 70);
    const settled = correlator.finish((open + 2) * second);
    expect(settled.map((interval) => [outputOf(interval), interval.lateSamples])).toEqual([
      [70, 1],
      [0, 0],
    ]);
  });

  test("of a last poll at the end are booked, also when everything before has settled", () => {
    const { correlator, gpuUntil, poll } = live();
    poll(0, 0);
    gpuUntil(4);
    poll(4, 20);
    expect(correlator.finish(4 * second).map(outputOf)).toEqual([0, 0, 0, 20]);
    poll(4.001, 3);
    const [last, ...none] = correlator.finish(4 * second);
    expect([last?.from, last?.to, none]).toEqual([4 * second, 4 * second, []]);
    expect(last === undefined ? 0 : outputOf(last)).toBe(3);
  });

  test("of a server nobody announced, or with a wrong clock, are booked all the same", () => {
    const { correlator, gpuUntil } = live();
    gpuUntil(3);
    correlator.acceptTokens("stranger", undefined, [counted("stranger", second / 2, 8)]);
    correlator.acceptTokens("a", undefined, [counted("a", 1e15, 5)]);
    expect(sum([...correlator.settle(3 * second), ...correlator.finish(3 * second)].map(outputOf))).toBe(13);
  });
});

describe("unobserved time", () => {
  test("is what no two readings near each other enclose, and keeps its energy", () => {
    const samples = readings("g", repeated(20, { pids: [1], watts: 200 })).filter(
      ({ at }) => at <= 5 * second || at >= 15 * second,
    );
    const { intervals } = run({
      gpus: [g],
      servers: [a],
      samples,
      polls: { a: polls(repeated(20, 0)) },
      seconds: 20,
    });
    const rows = rowsOf(intervals, "g");
    // The driver's history in the reading at 15 s reaches back one second.
    expect(totals(rows, "nanos")).toMatchObject({ unobserved: 9 * second, parked: 11 * second });
    expect(totals(rows, "millijoules")).toMatchObject({
      unobserved: 1_800_000,
      parked: 2_200_000,
      unattributed: 0,
    });
  });

  test("begins at the last reading before a gap and ends at the next", () => {
    const samples = readings("g", repeated(6, { pids: [] }));
    const { intervals } = run({
      gpus: [g],
      samples: samples.map(({ utilizationRing: _, ...sample }) => sample),
      seconds: 6,
      prepare: (correlator) => correlator.acceptGap({ source: "gpu", at: 2.5 * second, reason: "hung" }),
    });
    expect(rowsOf(intervals, "g").map(({ nanos }) => nanos.unobserved / second)).toEqual([0, 0, 1, 0, 0, 0]);
  });

  test("is none where two readings in a row were lost and the next one comes late", () => {
    const samples = readings("g", repeated(12, { pids: [1], watts: 200, busy: 1 }))
      .filter(({ at }) => ![6 * second, 7 * second].includes(at))
      .map(({ utilizationRing: _, ...sample }) => sample)
      .map((sample) => (sample.at === 8 * second ? { ...sample, at: 8.04 * second } : sample));
    const { intervals } = run({
      gpus: [g],
      servers: [a],
      samples,
      polls: { a: polls(repeated(12, 5)) },
      seconds: 12,
    });
    expect(totals(rowsOf(intervals, "g"), "nanos")).toMatchObject({ unobserved: 0 });
    expect(totals(rowsOf(intervals, "g"), "millijoules")).toMatchObject({ unobserved: 0, unattributed: 0 });
  });

  test("before the first reading, and all of it without any", () => {
    const { intervals } = run({
      gpus: [g, gpuInfo("h")],
      samples: readings("g", repeated(3, { pids: [] }), second / 2),
      seconds: 4,
    });
    const unobserved = rowsOf(intervals, "g").map(({ nanos }) => nanos.unobserved);
    expect(unobserved).toEqual([second / 2, 0, 0, second / 2]);
    expect(totals(rowsOf(intervals, "h"), "nanos")["unobserved"]).toBe(4 * second);
  });
});

describe("a server's own states", () => {
  test("sum to the time it is known, unknown where no poll speaks", () => {
    const { intervals } = run({
      gpus: [g],
      servers: [a],
      samples: readings("g", repeated(8, { pids: [1] })),
      polls: { a: polls(repeated(3, 0)) },
      seconds: 8,
    });
    const own = intervals.flatMap(({ servers }) => servers.map(({ nanos }) => nanos));
    expect(own.map((nanos) => sum(Object.values(nanos)))).toEqual(repeated(8, second));
    expect(sum(own.map(({ parked }) => parked))).toBe(5 * second);
    expect(sum(own.map(({ unknown }) => unknown))).toBe(3 * second);
  });

  test("begin with the server, which may have started at zero while we watched", () => {
    const { intervals } = run({
      gpus: [g],
      servers: [a],
      samples: readings("g", [
        ...repeated(2, { pids: [] }),
        ...repeated(6, { pids: [1], busy: 1, watts: 300 }),
      ]),
      polls: { a: polls([0, 0, ...repeated(6, 40)]).slice(4) },
      seconds: 8,
    });
    const active = totals(rowsOf(intervals, "g"), "nanos")["token_active"] ?? 0;
    expect(active).toBeGreaterThanOrEqual(5 * second);
  });
});

describe("a server that was started again on another GPU", () => {
  const [length, movedAt] = [30, 12];
  const at = <T>(value: (index: number) => T): T[] => Array.from({ length }, (_, index) => value(index));
  /** Server `a` on GPU `h`, from the start or moved there from `g`, which server `b` has then. */
  const scene = (isMoved: boolean, isPeerBusy: boolean, isTimed: boolean) => {
    const before = isMoved ? { g: [1], h: [] } : { g: [2], h: [3] };
    const isOld = (index: number): boolean => index < movedAt;
    const busyOnG = isPeerBusy ? 0.9 : 0;
    const ring = (sample: GpuSample): GpuSample => ({
      ...sample,
      utilizationRing: ringOf(
        [4, 3, 2, 1, 0].map((back) => ({
          at: sample.at - back * (second / 5),
          value: back === 3 && sample.at > movedAt * second ? 0.5 : 0,
        })),
      ),
    });
    const onG = at((index) => ({ pids: isOld(index) ? before.g : [2], busy: isOld(index) ? 0 : busyOnG }));
    const onH = at((index) => ({ pids: isOld(index) ? before.h : [3] }));
    const tokens = (amount: number): number[] => at((index) => (isOld(index) ? 0 : amount));
    const own = polls(tokens(20), repeated(length, 0)).map((poll, index) => ({
      ...poll,
      ...(isTimed ? { activeNanos: Math.max(0, index - movedAt) * (second / 2) } : {}),
    }));
    const { intervals } = run({
      gpus: [g, gpuInfo("h", { index: 1 })],
      servers: [serverInfo("a", { pids: [1, 3] }), serverInfo("b", { pids: [2] })],
      samples: [...readings("g", onG), ...readings("h", onH).map(ring)],
      seconds: length,
      polls: { a: own, b: polls(tokens(isPeerBusy ? 500 : 0)) },
    });
    const later = intervals.slice(movedAt);
    return {
      own: later.map(({ servers }) => servers.map(({ nanos, server }) => [server, nanos])),
      gpus: later.map(({ gpus }) => gpus.map(({ gpu, nanos, uncertain }) => [gpu, nanos, uncertain])),
    };
  };

  test.each([
    [false, false],
    [true, false],
    [false, true],
  ])("is where it is now, and no peer where it was (peer busy: %s, own busy time: %s)", (isBusy, isTimed) => {
    expect(scene(true, isBusy, isTimed)).toEqual(scene(false, isBusy, isTimed));
  });
});

describe("status()", () => {
  test("drops no poll of a gateway, whose states nobody asks for, however long it runs", () => {
    const correlator = new Correlator({ origin: 0, intervalNanos: second, gpuPollMs: 1000 });
    const gateway = { id: "g", type: "litellm", family: "gateway", address: "g:1", pollMs: 1000 } as const;
    correlator.setServers([gateway], 0);
    for (let t = 1; t <= 5000; t++) {
      const moved = {
        server: "g",
        family: "gateway",
        role: "combined",
        at: t * second,
        tokens: { output: 1 },
      } as const;
      const rest = { requests: {}, latencies: {}, reasoningTokens: 0, resets: 0, late: false };
      const poll = { at: t * second, inputTokens: 0, outputTokens: t, progress: "finish" } as const;
      correlator.acceptTokens("g", poll, [{ ...moved, ...rest }]);
      const booked = correlator.settle(t * second).flatMap(({ servers }) => servers);
      expect(booked.flatMap(({ increments }) => increments)).toHaveLength(1);
    }
    expect(correlator.status().refused).toMatchObject({ dropped: 0, repeated: 0 });
    const again = { at: 5000 * second, inputTokens: 0, outputTokens: 5000, progress: "finish" } as const;
    correlator.acceptTokens("g", again, []);
    expect(correlator.status().refused.repeated).toBe(1);
  });

  test("tells placements with their rung, what was refused, and energy", () => {
    const { correlator } = run({
      gpus: [g],
      servers: [a],
      samples: [
        ...readings("g", repeated(4, { pids: [1, 9] })),
        { gpu: "nobody", at: 0 },
        { gpu: "g", at: second },
      ],
      seconds: 4,
    });
    correlator.acceptGpu({ gpu: "g", at: Number.NaN });
    correlator.acceptGpu({ gpu: "g", at: 0.1 * second });
    const { placements, refused, energy, settledUntil } = correlator.status();
    expect(placements.map(({ pid, server, rung }) => [pid, server, rung])).toEqual([
      [1, "a", 1],
      [9, undefined, undefined],
    ]);
    expect(refused).toMatchObject({ unknown: 1, repeated: 1, absurd: 1, late: 1 });
    expect([energy["g"]?.acceptedMillijoules, settledUntil]).toEqual([400_000, 4 * second]);
  });

  test("placement may come from hints and host facts, and later", () => {
    const { correlator } = run({
      gpus: [g],
      servers: [serverInfo("a", { address: "127.0.0.1:8000", port: 8000 }), serverInfo("b")],
      samples: readings("g", repeated(6, { pids: [1, 2] })),
      seconds: 6,
      prepare: (made) => {
        made.setServerHints("b", { pids: [2] });
        made.setProcessFacts([{ pid: 1, listening: [{ port: 8000 }] }]);
      },
    });
    expect(correlator.status().placements.map(({ server, rung }) => [server, rung])).toEqual([
      ["a", 3],
      ["b", 1],
    ]);
  });
});
