// Joules are conserved whatever the order of inventories, readings and settles: all rows of a board together hold what its
// meter moved while the board was there, GPUs that end, come back, are sliced or are named too early or too late included.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Correlator } from "../../agent/correlate/correlator.ts";
import type { GpuInfo, SettledInterval } from "../../agent/model.ts";
import { sample } from "./any-input.ts";
import { gpuInfo, second, sum } from "./scene.ts";

const ms = 1_000_000;
const whole = [gpuInfo("g"), gpuInfo("h")];
const gone = [gpuInfo("g")];
const slices = [gpuInfo("m1", { parent: "h", weight: 3 / 7 }), gpuInfo("m2", { parent: "h", weight: 1 / 7 })];
const sliced = [...whole, ...slices];
const slicesAlone = [...gone, ...slices];

function slice(uuid: string): GpuInfo {
  return gpuInfo(uuid, { parent: "h", weight: 3 / 7 });
}

function strict(infos: readonly GpuInfo[], at = 0): Correlator {
  const made = new Correlator({ origin: 0, intervalNanos: second, gpuPollMs: 500, strict: true });
  made.setGpus(infos, at);
  return made;
}

function booked(intervals: readonly SettledInterval[], gpus: readonly string[]): number {
  const rows = intervals.flatMap((interval) => interval.gpus.filter(({ gpu }) => gpus.includes(gpu)));
  return sum(rows.flatMap((row) => Object.values(row.millijoules)));
}

/** One life of a board: its readings, and the end of the interval it is dropped with. */
interface Life {
  readonly readings: { readonly at: number; readonly millijoules: number }[];
  droppedAt?: number;
}

/** What the rows of a life must hold at least and at most: its counter is read at or around the end only. */
function boundsOf({ droppedAt = Infinity, readings }: Life): [number, number] {
  const [first] = readings;
  if (first === undefined) return [0, 0];
  const least = readings.filter(({ at }) => at <= droppedAt).at(-1) ?? first;
  const most = readings.find(({ at }) => at >= droppedAt) ?? readings.at(-1) ?? first;
  return [least.millijoules - first.millijoules, most.millijoules - first.millijoules];
}

/** Tells a correlator and remembers the lives of board `h` beside it. */
class Witness {
  readonly made = strict(whole);
  readonly intervals: SettledInterval[] = [];
  readonly lives: Life[] = [];
  #life: Life | undefined = this.#begin();
  #until: number | undefined;

  name(infos: readonly GpuInfo[], at: number): void {
    const from = Math.max(at, this.made.settledUntil);
    this.made.setGpus(infos, at);
    if (infos === gone) {
      if (this.#life !== undefined) this.#until = Math.min(this.#until ?? from, from);
    } else {
      this.#life ??= this.#begin();
      this.#until = undefined;
    }
    if (this.#life !== undefined && this.#until !== undefined) {
      // The end of the first interval that is not settled yet and reaches the end of the GPU.
      const next = Math.floor(this.made.settledUntil / second) * second + second;
      this.#life.droppedAt = Math.max(next, Math.ceil(this.#until / second) * second);
    } else if (this.#life !== undefined) delete this.#life.droppedAt;
  }

  read(at: number, millijoules: number): void {
    this.#life?.readings.push({ at, millijoules });
    this.made.acceptGpu({ gpu: "h", at, energyMillijoules: millijoules });
    this.made.acceptGpu({ gpu: "g", at });
  }

  take(intervals: readonly SettledInterval[]): void {
    this.intervals.push(...intervals);
    if ((this.#life?.droppedAt ?? Infinity) > this.made.settledUntil) return;
    this.#life = undefined;
    this.#until = undefined;
  }

  #begin(): Life {
    const life: Life = { readings: [] };
    this.lives.push(life);
    return life;
  }
}

const anyInventory = fc.constantFrom(whole, gone, sliced, slicesAlone);
const offset = fc.integer({ min: -3000, max: 3000 });
const steps = fc.array(
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({ after: fc.integer({ min: 1, max: 1800 }), watts: fc.nat({ max: 700 }) }),
    },
    { weight: 2, arbitrary: fc.record({ infos: fc.constantFrom(whole, gone, sliced), offset }) },
    { weight: 2, arbitrary: fc.constant("settle" as const) },
  ),
  { maxLength: 60, size: "max" },
);

describe("with inventories at any time", () => {
  test("the rows of a board hold what its counter moved while it was there", () => {
    fc.assert(
      fc.property(steps, fc.boolean(), (told, mayBeSliced) => {
        const witness = new Witness();
        let [now, millijoules] = [0, 1000];
        witness.read(now, millijoules);
        for (const step of told) {
          if (step === "settle") witness.take(witness.made.settle(now));
          else if ("after" in step) {
            now += step.after * ms;
            millijoules += step.watts * step.after;
            witness.read(now, millijoules);
            // Instances that are named for later and end before have no part in the law of one board's ends.
          } else if (mayBeSliced) witness.name(step.infos, now + Math.min(0, step.offset) * ms);
          else witness.name(step.infos === sliced ? whole : step.infos, now + step.offset * ms);
        }
        witness.take(witness.made.finish(Math.ceil(now / second + 4) * second));
        const bounds = witness.lives.map(boundsOf);
        const joules = booked(witness.intervals, ["h", "m1", "m2"]);
        expect(joules).toBeGreaterThanOrEqual(sum(bounds.map(([least]) => least)));
        expect(joules).toBeLessThanOrEqual(sum(bounds.map(([, most]) => most)));
      }),
      { numRuns: 300 },
    );
  });

  test("no law breaks, whatever is read and named in whatever order", () => {
    const early = fc.integer({ min: -1000, max: 6000 }).map((at) => at * ms);
    const reading = fc.tuple(sample, early).map(([given, at]) => ({ ...given, at }));
    const told = fc.oneof(
      {
        weight: 6,
        arbitrary: reading.map((given) => ({ at: given.at, tell: (to: Correlator) => to.acceptGpu(given) })),
      },
      {
        weight: 2,
        arbitrary: fc
          .record({ infos: anyInventory, at: early })
          .map(({ infos, at }) => ({ at, tell: (to: Correlator) => to.setGpus(infos, at) })),
      },
      { weight: 1, arbitrary: early.map((at) => ({ at, tell: (to: Correlator) => to.settle(at) })) },
    );
    fc.assert(
      fc.property(fc.array(told, { maxLength: 40, size: "max" }), anyInventory, early, (steps, infos, at) => {
        const made = strict(infos, at);
        const intervals = steps.flatMap(({ tell }) => tell(made) ?? []);
        intervals.push(...made.finish(10 * second));
        for (const { violations } of intervals) expect(violations).toEqual([]);
      }),
      { numRuns: 300 },
    );
  });

  test("a GPU that ended where all is settled has a row without time for what its meter moved", () => {
    const made = strict(whole);
    made.acceptGpu({ gpu: "h", at: 0, energyMillijoules: 0 });
    made.acceptGpu({ gpu: "h", at: 1 * ms, energyMillijoules: 50 });
    made.setGpus(gone, 0);
    const [interval] = made.finish(second);
    const row = interval?.gpus.find(({ gpu }) => gpu === "h");
    expect([sum(Object.values(row?.nanos ?? {})), row?.millijoules.unattributed]).toEqual([0, 50]);
    expect(made.finish(3 * second).flatMap(({ gpus }) => gpus.map(({ gpu }) => gpu))).toEqual(["g", "g"]);
  });

  test("a GPU that ended and did not move has no row", () => {
    const made = strict(whole);
    made.acceptGpu({ gpu: "h", at: 0, energyMillijoules: 7 });
    made.setGpus(gone, 0);
    expect(made.finish(second).flatMap(({ gpus }) => gpus.map(({ gpu }) => gpu))).toEqual(["g"]);
  });

  test("what a GPU moves before inventory says it is there is on its rows", () => {
    const made = strict([]);
    made.setGpus([gpuInfo("h")], 5 * second);
    for (let at = 0; at <= 8; at++)
      made.acceptGpu({ gpu: "h", at: at * second, energyMillijoules: at * 100_000 });
    const intervals = made.finish(8 * second);
    expect(booked(intervals, ["h"])).toBe(800_000);
    expect(intervals.map(({ gpus: [row] }) => row?.millijoules.unattributed)).toEqual([
      ...Array.from({ length: 5 }, () => 100_000),
      ...[0, 0, 0],
    ]);
  });

  test("a counter that is read under another instance from some instant on loses nothing in between", () => {
    const made = strict([slice("m1")]);
    const read = (gpu: string, ...instants: number[]): void => {
      for (const at of instants) made.acceptGpu({ gpu, at: at * ms, energyMillijoules: at * 100 });
    };
    read("m1", 0, 500, 1000, 1500, 2000, 2250);
    const intervals = [...made.settle(2 * second)];
    made.setGpus([slice("m2")], 2300 * ms);
    read("m2", 2250, 2750, 3250, 3750, 4250, 4750, 5000);
    intervals.push(...made.finish(5 * second));
    expect(booked(intervals, ["h", "m1", "m2"])).toBe(500_000);
  });
});
