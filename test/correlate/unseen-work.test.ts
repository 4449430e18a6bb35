// Joules above rest in a stretch in which nobody is seen at work are somebody's work, and whose is said to be in doubt.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bookPiece, noRemainders } from "../../agent/correlate/attribution.ts";
import { emptyBooking } from "../../agent/correlate/booking.ts";
import type { Part } from "../../agent/correlate/member.ts";
import type { Piece, ResidentState } from "../../agent/correlate/pieces.ts";
import { hidesWork, ofStranger } from "../../agent/correlate/unseen-work.ts";
import { gpuInfo, polls, readings, repeated, rowsOf, run, second, serverInfo, sum } from "./scene.ts";

const parked: Piece = {
  ...{ from: 0, to: second, state: "parked", works: false },
  residents: ["a", "b", "c"].map((server): ResidentState => ({ server, state: "parked" })),
};

describe("hidesWork()", () => {
  test("is true above a quarter over the floor, of one that is assumed above what that may be off, where several hold the GPU", () => {
    const watts = fc.double({ min: 1, max: 1000, noNaN: true });
    fc.assert(
      fc.property(watts, watts, fc.boolean(), (drawn, floor, isAssumed) => {
        const most = (isAssumed ? 1.4 : 1.25) * floor;
        expect(hidesWork(parked, drawn, { watts: floor, isAssumed })).toBe(drawn > most);
        const residents = parked.residents.slice(0, 1);
        expect(hidesWork({ ...parked, residents }, drawn, { watts: floor, isAssumed })).toBe(false);
        const [one, ...others] = parked.residents as [ResidentState, ResidentState, ResidentState];
        const busy = [{ ...one, state: "token_active" } as const, ...others];
        const working: Piece = { ...parked, state: "token_active", residents: busy };
        expect(hidesWork(working, drawn, { watts: floor, isAssumed })).toBe(false);
      }),
    );
  });
});

describe("work that no reading shows", () => {
  test("is shared as what is above the floor is, and all of it is in doubt", () => {
    const joules = fc.nat(1_000_000);
    const weight = fc.double({ min: 0.01, max: 10, noNaN: true });
    fc.assert(
      fc.property(joules, joules, fc.tuple(weight, weight, weight), (floorMillijoules, active, all) => {
        const weights = new Map(parked.residents.map(({ server }, index) => [server, all[index] as number]));
        const booking = emptyBooking();
        const portion = {
          ...{ nanos: second, floorMillijoules, activeMillijoules: active },
          ...{ floorAssumed: false, isSlice: false },
        };
        bookPiece(booking, parked, portion, { method: "own_power", weights }, {}, noRemainders());
        for (const [server, own] of weights) {
          const wanted = floorMillijoules / 3 + (active * own) / sum(all);
          expect(Math.abs((booking.residents.get(server)?.millijoules.parked ?? 0) - wanted)).toBeLessThan(4);
        }
        const doubt = { reason: "coarse_windows", nanos: 0, millijoules: active };
        expect(booking.uncertain).toEqual(active > 0 ? [doubt] : []);
      }),
    );
  });

  test("goes to the server that worked before it, and rest to all alike", () => {
    const seconds = [
      ...repeated(10, { watts: 100, busy: 0, pids: [1, 2] }),
      ...repeated(30, { watts: 500, busy: 1, pids: [1, 2] }),
      ...repeated(5, { watts: 400, busy: 0, pids: [1, 2] }),
      ...repeated(15, { watts: 100, busy: 0, pids: [1, 2] }),
    ];
    const { intervals } = run({
      gpus: [gpuInfo("g")],
      servers: [serverInfo("a", { pids: [1] }), serverInfo("b", { pids: [2] })],
      samples: readings("g", seconds),
      polls: {
        a: polls([...repeated(10, 0), ...repeated(30, 100), ...repeated(20, 0)]),
        b: polls(repeated(60, 0)),
      },
      seconds: 60,
    });
    const rows = rowsOf(intervals, "g");
    const parkedBy = (server: string): number =>
      sum(
        rows.flatMap(({ residents }) =>
          residents.flatMap((one) => (one.server === server ? one.millijoules.parked : [])),
        ),
      );
    const doubts = rows.flatMap(({ uncertain = [] }) => uncertain);
    const near = (millijoules: number, wanted: number): void =>
      expect(Math.abs(millijoules - wanted)).toBeLessThan(100_000);
    // Each has half of 100 W while it is parked: the one for 30 s, the other for all 60. A level that lasts becomes the floor.
    near(parkedBy("a"), 1_500_000 + 1_500_000);
    near(parkedBy("b"), 3_000_000);
    const unseen = doubts.filter(({ reason, server }) => reason === "coarse_windows" && server === undefined);
    near(sum(unseen.map(({ millijoules }) => millijoules)), 1_500_000);
  });
});

describe("ofStranger()", () => {
  const resting: Piece = {
    ...{ from: 61 * second, to: 62 * second, state: "parked", works: false },
    residents: [
      { server: "chat", state: "parked" },
      { server: "unmetered", state: "parked" },
    ],
  };
  const seen = (sampled: boolean): Part => {
    const window = { from: 60 * second, to: 62 * second, busyRatio: 0, sampled };
    return { member: { timeline: { windows: [window], windowAfter: () => 0 } } } as unknown as Part;
  };

  test("gives a stranger what a GPU draws above rest, where no server executes and a reading is of a part of the time", () => {
    expect(ofStranger(seen(true), resting, 300, 100)?.explainedBy).toEqual(["unmetered"]);
  });

  test("leaves as it is what rests, what readings cover, what works, and what no stranger or a server may have done", () => {
    expect(ofStranger(seen(true), resting, 120, 100)).toBeUndefined();
    expect(ofStranger(seen(false), resting, 300, 100)).toBeUndefined();
    expect(ofStranger(seen(true), { ...resting, works: true }, 300, 100)).toBeUndefined();
    const [chat, stranger] = resting.residents as [ResidentState, ResidentState];
    expect(ofStranger(seen(true), { ...resting, residents: [chat] }, 300, 100)).toBeUndefined();
    const waiting = { ...chat, state: "stalled" } as const;
    expect(ofStranger(seen(true), { ...resting, residents: [waiting, stranger] }, 300, 100)).toBeUndefined();
  });
});
