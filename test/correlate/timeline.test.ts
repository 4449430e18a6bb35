import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isHelper, isResident, Presence } from "../../agent/correlate/presence.ts";
import { Timeline } from "../../agent/correlate/timeline.ts";
import { WindowReader } from "../../agent/correlate/windows.ts";
import type { GpuSample } from "../../agent/model.ts";
import { ringOf } from "../tools/rings.ts";
import { gpuInfo, second } from "./scene.ts";

const ms = 1_000_000;

function timeline(samples: readonly Partial<GpuSample>[], gaps: readonly number[] = []): Timeline {
  const made = new Timeline(gpuInfo("g"), 0, 3 * second);
  for (const at of gaps) made.noteGap(at);
  for (const sample of samples) made.queueReading({ gpu: "g", at: 0, ...sample });
  while (made.takeUpNext());
  return made;
}

describe("Timeline", () => {
  test("takes readings up by time, in whatever order they came", () => {
    const samples = [3, 1, 2, 0].map((t) => ({ at: t * second, energyMillijoules: t * 100_000 }));
    const made = timeline(samples);
    expect(made.covers).toEqual([{ from: 0, to: 3 * second, observed: true }]);
    expect(made.energy.waitingUntil(3 * second)).toBe(3 * second);
    made.energy.forget(3 * second);
    expect(made.energy.curve.totalMillijoules).toBe(300_000);
  });

  test("covers no stretch with a gap in it, nor one longer than its bound", () => {
    const samples = [0, 1, 2, 6].map((t) => ({ at: t * second }));
    expect(timeline(samples, [1.5 * second]).covers).toEqual([
      { from: 0, to: second, observed: true },
      { from: second, to: 6 * second, observed: false },
    ]);
  });

  test("covers what the driver's own history reaches over, however many readings before it were lost", () => {
    const scene = fc.record({
      read: fc.array(fc.boolean(), { minLength: 5, maxLength: 60 }),
      keptWindows: fc.integer({ min: 1, max: 100 }),
      gaps: fc.array(fc.integer({ min: 0, max: 60 }), { maxLength: 5 }),
    });
    fc.assert(
      fc.property(scene, ({ gaps, keptWindows, read }) => {
        const instants = read.flatMap((isRead, index) => (isRead ? [index * second] : []));
        const ringAt = (at: number) =>
          Array.from({ length: keptWindows }, (_, back) => ({
            at: at - back * 200 * ms,
            value: 0.5,
          })).reverse();
        const made = timeline(
          instants.map((at) => ({ at, utilizationRing: ringOf(ringAt(at)) })),
          gaps.map((at) => (at + 0.5) * second),
        );
        const first = instants[0] ?? 0;
        const last = instants.at(-1) ?? 0;
        const isCovered = (at: number): boolean => {
          const to = instants.find((instant) => instant > at) as number;
          const from = instants.findLast((instant) => instant <= at) as number;
          const failed = gaps.some((gap) => (gap + 0.5) * second > from && (gap + 0.5) * second < to);
          return (!failed && to - from <= 3 * second) || at >= to - keptWindows * 200 * ms;
        };
        for (let at = first + 50 * ms; at < last; at += 100 * ms) {
          const cover = made.covers.filter(({ from, to }) => from <= at && at < to);
          expect(cover.map(({ observed }) => observed)).toEqual([isCovered(at)]);
        }
      }),
    );
  });

  test("tells repeats, late and impossible readings apart, and bounds what waits", () => {
    const made = new Timeline(gpuInfo("g"), 0, second);
    const accept = (at: number) => made.queueReading({ gpu: "g", at });
    expect([accept(1), accept(1), accept(Number.NaN), accept(Infinity)]).toEqual([
      "accepted",
      "repeated",
      "absurd",
      "absurd",
    ]);
    made.takeUpNext();
    expect([accept(0.5), accept(1)]).toEqual(["late", "repeated"]);
    for (let at = 2; at < 9000; at++) accept(at);
    expect(made.dropped).toBeGreaterThan(0);
    expect(made.dropAfter(5000)).toBe(3999);
  });
});

describe("WindowReader", () => {
  const reader = () => {
    const windows = new WindowReader();
    return (sample: Partial<GpuSample>, previous?: number) =>
      windows
        .read({ gpu: "g", at: 0, ...sample }, previous)
        .map(({ from, to, busyRatio }) => [from / ms, to / ms, busyRatio]);
  };

  test("reads the ring first, each point once", () => {
    const read = reader();
    const ring = (...at: number[]) => ringOf(at.map((t) => ({ at: t * ms, value: 0.5 })));
    expect(read({ at: second, utilizationRing: ring(600, 800, 1000), utilizationRatio: 1 })).toEqual([
      [400, 600, 0.5],
      [600, 800, 0.5],
      [800, 1000, 0.5],
    ]);
    expect(read({ at: 1200 * ms, utilizationRing: ring(800, 1200, 1000) }, second)).toEqual([
      [1000, 1200, 0.5],
    ]);
  });

  test("does without a ring that is empty or silent", () => {
    const read = reader();
    read({ at: second, utilizationRing: ringOf([{ at: 900 * ms, value: 1 }]) });
    expect(read({ at: 1500 * ms, utilizationRatio: 0.7 }, second)).toEqual([]);
    expect(read({ at: 2000 * ms, utilizationRing: ringOf([]), utilizationRatio: 0 }, 1500 * ms)).toEqual([
      [900, 2000, 0],
    ]);
    expect(read({ at: 4500 * ms, utilizationRatio: 0.3 }, 4000 * ms)).toEqual([[3975, 4475, 0.3]]);
  });

  test("moves plain utilisation back to the window it describes, one per refresh of the driver", () => {
    const read = reader();
    expect(read({ at: 200 * ms, utilizationRatio: 0.4 }, 0)).toEqual([[-175, 25, 0.4]]);
    expect(read({ at: 300 * ms, utilizationRatio: 0.4 }, 200 * ms)).toEqual([]);
    expect(read({ at: 400 * ms, utilizationRatio: 0.9 }, 300 * ms)).toEqual([[25, 225, 0.9]]);
    expect(read({ at: 1400 * ms, utilizationRatio: 1 }, 400 * ms)).toEqual([[400, 1400, 1]]);
  });

  test("falls back to GPM graphics, and to nothing", () => {
    const read = reader();
    expect(read({ at: 200 * ms, graphicsActiveRatio: 0.4 }, 0)).toEqual([[0, 200, 0.4]]);
    expect(read({ at: 400 * ms }, 200 * ms)).toEqual([]);
    expect(read({ at: 600 * ms, utilizationRatio: 5, graphicsActiveRatio: Number.NaN }, 400 * ms)).toEqual(
      [],
    );
  });
});

describe("Presence", () => {
  const listed = (presence: Presence, at: number, pids: readonly number[] | undefined, memory?: number) =>
    presence.read({
      gpu: "g",
      at: at * second,
      ...(pids === undefined ? {} : { processes: pids.map((pid) => ({ pid, type: "compute" as const })) }),
      ...(memory === undefined ? {} : { memoryUsedBytes: memory }),
    });

  test("holds a process from its first listing to the first without it", () => {
    const presence = new Presence();
    listed(presence, 0, []);
    listed(presence, 1, [7]);
    listed(presence, 2, undefined);
    listed(presence, 3, [7]);
    listed(presence, 4, []);
    expect(presence.stays).toMatchObject([{ pid: 7, from: second, seenAt: 3 * second, to: 4 * second }]);
    expect(presence.stays.map(isResident)).toEqual([true]);
  });

  test("leaves undecided what is too young, and never makes a resident of what left at once", () => {
    const presence = new Presence();
    listed(presence, 1, [7]);
    expect(presence.decidedUntil()).toBe(second);
    listed(presence, 2, [7]);
    expect(presence.decidedUntil()).toBe(second);
    listed(presence, 2.5, []);
    expect(presence.decidedUntil()).toBe(Infinity);
    expect(presence.stays.map(isResident)).toEqual([false]);
  });

  test("counts what changed, and no reading that lists the same processes, or still none", () => {
    const presence = new Presence();
    const changes = [[], [], [7], [7], [7, 8], [8, 7], [8], [8], [], []].map((pids, at) => {
      listed(presence, at, pids);
      return presence.changes;
    });
    expect(changes).toEqual([0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
    presence.read({ gpu: "g", at: 10 * second, processes: [{ pid: 9, type: "compute" }] });
    presence.read({ gpu: "g", at: 11 * second, processes: [{ pid: 9, type: "compute", name: "vllm" }] });
    expect(presence.changes).toBe(6);
    presence.forget(20 * second);
    expect(presence.changes).toBe(7);
  });

  test("takes used memory for a process only while none was ever listed", () => {
    const presence = new Presence();
    listed(presence, 0, [], 6e8);
    expect(presence.stays).toEqual([]);
    listed(presence, 1, [], 40e9);
    expect(presence.stays).toMatchObject([{ pid: 0, from: second }]);
    listed(presence, 4, [7], 40e9);
    expect(presence.stays).toMatchObject([{ pid: 0, to: 4 * second }, { pid: 7 }]);
    const unlisted = new Presence();
    listed(unlisted, 0, undefined, 40e9);
    expect([unlisted.known, unlisted.stays.length]).toEqual([true, 1]);
  });
});

test("isHelper() knows what holds a GPU without being a workload", () => {
  const helpers = [
    "/usr/bin/nvidia-cuda-mps-server",
    "nv-hostengine",
    "dcgm-exporter",
    "nvidia-persistenced",
    "/usr/lib/xorg/Xorg",
  ];
  expect(helpers.filter((name) => !isHelper(name))).toEqual([]);
  expect([undefined, "python3", "/opt/dcgmless/vllm", "Xtrain"].filter(isHelper)).toEqual([]);
});
