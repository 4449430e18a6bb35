// What rests on an assumption is booked as uncertain: once, under one reason, and never more than there is.
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ServerPoll, Uncertain } from "../../agent/model.ts";
import { gpuInfo, polls, readings, repeated, rowsOf, run, second, serverInfo, sum } from "./scene.ts";

const g = gpuInfo("g");

function uncertainOf(rows: ReturnType<typeof rowsOf>): Uncertain[] {
  return rows.flatMap(({ uncertain }) => uncertain ?? []);
}

describe("GpuInterval.uncertain", () => {
  test("holds the time between two polls of which the later one is doubted", () => {
    const all = polls(repeated(20, 100)).map((poll) =>
      poll.at === 10 * second ? { ...poll, doubt: "partial_counters" as const } : poll,
    );
    const { intervals } = run({
      gpus: [g],
      servers: [serverInfo("a", { pids: [1] })],
      samples: readings("g", repeated(20, { pids: [1], busy: 1, watts: 300 })),
      polls: { a: all },
      seconds: 20,
    });
    const found = uncertainOf(rowsOf(intervals, "g"));
    expect(found).toEqual([{ server: "a", reason: "partial_counters", nanos: second, millijoules: 0 }]);
  });

  test("holds the doubts of all who execute at the same time, whoever is named first", () => {
    const doubts = fc.array(fc.boolean(), { minLength: 2, maxLength: 4, size: "max" });
    fc.assert(
      fc.property(doubts, (isDoubted) => {
        const servers = isDoubted.map((_, index) => `s${index}`);
        const { intervals } = run({
          gpus: [g],
          servers: servers.map((id, index) => serverInfo(id, { pids: [index + 1] })),
          samples: readings("g", repeated(20, { pids: servers.map((_, at) => at + 1), busy: 1, watts: 300 })),
          polls: Object.fromEntries(
            servers.map((id, index) => [
              id,
              polls(repeated(20, 100)).map((poll) => ({
                ...{ ...poll, inFlight: 1 },
                ...(isDoubted[index] && poll.at === 10 * second
                  ? { doubt: "partial_counters" as const }
                  : {}),
              })),
            ]),
          ),
          seconds: 20,
        });
        const found = uncertainOf(rowsOf(intervals, "g")).filter(
          ({ reason }) => reason === "partial_counters",
        );
        const count = isDoubted.filter((is) => is).length;
        for (const [index, is] of isDoubted.entries()) {
          const own = sum(found.flatMap(({ nanos, server }) => (server === `s${index}` ? [nanos] : [])));
          expect(own).toBe(is ? Math.floor(second / count) : 0);
        }
      }),
      { numRuns: 12 },
    );
  });

  test.each([
    ["until the page changes", 12, 12],
    ["for half a minute where it never does", 45, 30],
  ])("holds work beside a page that may be a copy, %s", (_name, changesAt, doubtedUntil) => {
    const moves = Array.from({ length: 45 }, (_, index) => (index >= changesAt ? 100 : 0));
    const { intervals } = run({
      gpus: [g],
      servers: [serverInfo("a", { pids: [1] })],
      samples: readings("g", repeated(45, { pids: [1], busy: 1, watts: 300 })),
      polls: { a: polls(moves).map((poll) => ({ ...poll, inFlight: 1 })) },
      seconds: 45,
    });
    const copies = rowsOf(intervals, "g").filter(({ uncertain }) =>
      uncertain?.some(({ reason }) => reason === "cached_page"),
    );
    expect(copies.length).toBeGreaterThanOrEqual(doubtedUntil - 3);
    expect(copies.length).toBeLessThanOrEqual(doubtedUntil);
  });

  test("holds the energy above the floor where residents share it by tokens", () => {
    const { intervals } = run({
      gpus: [g],
      servers: [serverInfo("a", { pids: [1] }), serverInfo("b", { pids: [2] })],
      samples: readings("g", repeated(20, { pids: [1, 2], busy: 1, watts: 300 })),
      polls: { a: polls(repeated(20, 100)), b: polls(repeated(20, 50)) },
      seconds: 20,
      floors: { g: { parkedNanos: 60 * second, millijoules: 6_000_000 } },
    });
    const found = uncertainOf(rowsOf(intervals, "g").slice(2, -2));
    expect(new Set(found.map(({ reason }) => reason))).toEqual(new Set(["token_share"]));
    expect(sum(found.map(({ nanos }) => nanos))).toBe(0);
    // 200 W above a floor of 100 W.
    expect(sum(found.map(({ millijoules }) => millijoules))).toBe(16 * 200_000);
  });

  test("holds what residents share by watts that no counter told apart: its windows were spread by who executed", () => {
    const watts = [500, 500, 200, 200, 350];
    const shares = [{ 1: 1 }, { 1: 1 }, { 2: 1 }, { 2: 1 }, { 1: 0.5, 2: 0.5 }];
    const samples = readings(
      "g",
      Array.from({ length: 100 }, (_, index) => ({
        ...{ pids: [1, 2], busy: 1, watts: watts[index % 5] as number },
        shares: shares[index % 5] as Record<number, number>,
      })),
    );
    const each5s = samples.flatMap(({ powerWatts: _, ...reading }, index) => {
      if (index % 5 !== 0) return [];
      const five = samples.slice(Math.max(0, index - 4), index + 1);
      const utilizationRing = {
        instants: five.flatMap((one) => [...(one.utilizationRing?.instants ?? [])]),
        values: five.flatMap((one) => [...(one.utilizationRing?.values ?? [])]),
      };
      const processShares = five.flatMap((one) => one.processShares ?? []);
      return [{ ...reading, utilizationRing, processShares }];
    });
    const tokensIn = (works: readonly number[]): number[] =>
      Array.from({ length: 100 }, (_, index) => (works.includes(index % 5) ? 100 : 0));
    const { intervals } = run({
      gpus: [g],
      gpuPollMs: 5000,
      servers: [serverInfo("a", { pids: [1] }), serverInfo("b", { pids: [2] })],
      samples: each5s,
      polls: { a: polls(tokensIn([0, 1, 4])), b: polls(tokensIn([2, 3, 4])) },
      seconds: 100,
      floors: { g: { parkedNanos: 60 * second, millijoules: 6_000_000 } },
    });
    const both = rowsOf(intervals.slice(60, 95), "g").filter((_, index) => index % 5 === 4);
    expect(both.length).toBe(7);
    // 250 W above a floor of 100 W, of which a draws 200 W and b 50 W: all windows are alike, and say no better than equal watts.
    for (const { uncertain } of both) {
      expect(uncertain).toEqual([expect.objectContaining({ reason: "fitted_work", nanos: 0 })]);
      expect(uncertain?.[0]?.millijoules).toBeGreaterThan(75_000);
    }
  });

  test("holds what residents share by samples of windows that no reading of power is as short as", () => {
    const shares = [
      { 1: 0.9, 2: 0.1 },
      { 1: 0.5, 2: 0.5 },
      { 1: 0.5, 2: 0.5 },
    ];
    const samples = readings(
      "g",
      Array.from({ length: 100 }, (_, index) => ({
        ...{ pids: [1, 2], busy: 1, watts: 350 + (index % 2) },
        shares: shares[index % 3] as Record<number, number>,
      })),
    ).map((reading) => ({
      ...reading,
      processShares: (reading.processShares ?? []).map((share) => ({
        ...{ ...share, at: share.at - share.pid * 200_000_000 },
      })),
    }));
    const moves = polls(repeated(100, 100));
    const { intervals } = run({
      gpus: [g],
      servers: [serverInfo("a", { pids: [1] }), serverInfo("b", { pids: [2] })],
      samples,
      polls: { a: moves, b: moves },
      seconds: 100,
      floors: { g: { parkedNanos: 60 * second, millijoules: 6_000_000 } },
    });
    for (const { uncertain } of rowsOf(intervals.slice(80, 95), "g"))
      expect(uncertain?.map(({ reason }) => reason)).toEqual(["equal_watts"]);
  });

  test.each([
    ["half_of_work", "half was taken, for want of a rate that says how much is the server's", false],
    ["shared_work", "a part was taken that tokens usually take, until the gauges say more", true],
  ])("%s: holds work of which %s", (reason, _, isGauged) => {
    const ofServer = (tokens: readonly number[]): ServerPoll[] =>
      polls(tokens).map(({ inFlight, ...poll }) => (isGauged ? { ...poll, inFlight: 0 } : poll));
    const moves = (at: number): number[] =>
      Array.from({ length: 20 }, (_, index) => (index === at ? 100 : 0));
    const { intervals } = run({
      gpus: [g],
      servers: [serverInfo("a", { pids: [1] }), serverInfo("b", { pids: [2] })],
      samples: readings(
        "g",
        repeated(20, { pids: [1, 2], busy: 0, watts: 100 }).map((rest, index) =>
          index === 10 ? { ...rest, busy: 1, watts: 300 } : rest,
        ),
      ),
      polls: { a: ofServer(moves(10)), b: ofServer(moves(10)) },
      seconds: 20,
    });
    const doubted = uncertainOf(rowsOf(intervals, "g"));
    expect(new Set(doubted.flatMap(({ nanos, reason: why }) => (nanos > 0 ? [why] : [])))).toEqual(
      new Set([reason]),
    );
    expect(sum(doubted.map(({ nanos }) => nanos))).toBeLessThanOrEqual(second);
    // Who executed is in doubt about a server, seconds and joules; by what they share is in doubt about the GPU.
    const isOfServer = ({ server }: Uncertain): boolean => server !== undefined;
    const ofActivity = doubted.filter(({ reason: why }) => why === reason);
    expect(ofActivity.every(isOfServer) && ofActivity.some(({ millijoules }) => millijoules > 0)).toBe(true);
    expect(doubted.some((doubt) => doubt.reason !== reason && isOfServer(doubt))).toBe(false);
  });

  test("holds how far off sampled power may be, and never more than a row has", () => {
    const works = (at: number): boolean => at % 37 < 19;
    const sampled = readings("g", repeated(240, { pids: [1], busy: 1 }))
      .filter(({ at }) => at % (10 * second) === 0)
      .map(({ energyMillijoules: _, ...sample }) => ({
        ...sample,
        powerWatts: works(Math.round(sample.at / second) - 1) ? 600 : 100,
      }));
    const { intervals } = run({
      gpus: [g],
      samples: sampled,
      seconds: 240,
      gpuPollMs: 10_000,
    });
    const rows = rowsOf(intervals, "g");
    const all = sum(rows.map(({ millijoules }) => sum(Object.values(millijoules))));
    const doubted = uncertainOf(rows);
    expect(new Set(doubted.map(({ reason }) => reason))).toEqual(new Set(["sampled_power"]));
    expect(sum(doubted.map(({ nanos }) => nanos))).toBe(0);
    const doubt = sum(doubted.map(({ millijoules }) => millijoules));
    expect(doubt).toBeGreaterThan(0.02 * all);
    expect(doubt).toBeLessThan(0.7 * all);
    for (const { millijoules, uncertain } of rows)
      expect(sum((uncertain ?? []).map((one) => one.millijoules))).toBeLessThanOrEqual(
        sum(Object.values(millijoules)),
      );
  });

  test("is never more than the seconds and the joules of the GPU, whatever was doubted", () => {
    const busy = fc.array(fc.constantFrom(0, 0.005, 0.1, 1), { minLength: 20, maxLength: 20 });
    const moves = fc.array(fc.constantFrom(0, 100), { minLength: 20, maxLength: 20 });
    const doubted = fc.array(fc.boolean(), { minLength: 21, maxLength: 21 });
    fc.assert(
      fc.property(busy, moves, moves, doubted, (shares, one, other, doubts) => {
        const told = polls(one).map((poll, index) =>
          doubts[index] ? { ...poll, doubt: "cached_page" as const } : poll,
        );
        const { intervals } = run({
          gpus: [g],
          servers: [serverInfo("a", { pids: [1] }), serverInfo("b", { pids: [2] })],
          samples: readings(
            "g",
            shares.map((share) => ({ pids: [1, 2], busy: share, watts: 100 + 200 * share })),
          ),
          polls: { a: told, b: polls(other) },
          seconds: 20,
        });
        for (const row of rowsOf(intervals, "g")) {
          const found = row.uncertain ?? [];
          expect(sum(found.map(({ nanos }) => nanos))).toBeLessThanOrEqual(sum(Object.values(row.nanos)));
          expect(sum(found.map(({ millijoules }) => millijoules))).toBeLessThanOrEqual(
            sum(Object.values(row.millijoules)),
          );
        }
      }),
      { numRuns: 50 },
    );
  });
});
