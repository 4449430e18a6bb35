// Every row of METERING.md 4 but MIG, scene by scene, through the Correlator.
import { describe, expect, test } from "vitest";
import type { Second } from "./scene.ts";
import {
  gpuInfo,
  polls,
  readings,
  repeated,
  rowsOf,
  run,
  second,
  serverInfo,
  shareTotals,
  sum,
  totals,
} from "./scene.ts";

const g = gpuInfo("g");
const a = serverInfo("a", { pids: [1] });
const b = serverInfo("b", { pids: [2] });

/** Both resident for 40 s: parked for 10 s at 100 W, then 30 s of work at 500 W. */
function shared(work: Partial<Second>, tokens: { a: number; b: number }, more: object = {}) {
  const seconds = [
    ...repeated(10, { watts: 100, busy: 0, pids: [1, 2] }),
    ...repeated(30, { watts: 500, busy: 1, pids: [1, 2], ...work }),
  ];
  const { intervals } = run({
    gpus: [g],
    servers: [a, b],
    samples: readings("g", seconds),
    polls: {
      a: polls([...repeated(10, 0), ...repeated(30, tokens.a)]),
      b: polls([...repeated(10, 0), ...repeated(30, tokens.b)]),
    },
    seconds: 40,
    ...more,
  });
  return rowsOf(intervals, "g");
}

describe("one server on a GPU", () => {
  test("gets all of it, by its states", () => {
    const seconds = [
      ...repeated(5, { watts: 100, pids: [1] }),
      ...repeated(5, { watts: 600, busy: 1, pids: [1] }),
    ];
    const { intervals } = run({
      gpus: [g],
      servers: [a],
      samples: readings("g", seconds),
      polls: { a: polls([...repeated(5, 0), ...repeated(5, 100)]) },
      seconds: 10,
    });
    const rows = rowsOf(intervals, "g");
    expect(totals(rows, "nanos")).toMatchObject({ parked: 5 * second, token_active: 5 * second });
    expect(totals(rows, "millijoules")).toMatchObject({
      parked: 500_000,
      token_active: 3_000_000,
      unattributed: 0,
    });
    expect(shareTotals(rows, "a", "millijoules")).toEqual({
      parked: 500_000,
      stalled: 0,
      token_active: 3_000_000,
    });
    expect(
      rows.flatMap((row) => row.residents.map(({ method, timeMethod }) => [method, timeMethod])),
    ).toEqual(repeated(10, ["direct", "direct"]));
  });

  test("gets each of its GPUs in full, and its tokens stay its own", () => {
    const seconds = repeated(6, { watts: 300, busy: 1, pids: [1] });
    const { intervals } = run({
      gpus: [g, gpuInfo("h")],
      servers: [a],
      samples: [
        ...readings("g", seconds),
        ...readings(
          "h",
          seconds.map((entry) => ({ ...entry, busy: 0.4 })),
        ),
      ],
      polls: { a: polls(repeated(6, 50)) },
      seconds: 6,
    });
    for (const uuid of ["g", "h"])
      expect(shareTotals(rowsOf(intervals, uuid), "a", "nanos")).toMatchObject({ token_active: 6 * second });
    expect(sum(intervals.flatMap(({ servers }) => servers.map(({ nanos }) => nanos.token_active)))).toBe(
      6 * second,
    );
  });
});

describe("several servers on a GPU", () => {
  test("share time equally, and the floor equally whatever they do", () => {
    const rows = shared({ shares: { 1: 0.75, 2: 0.25 } }, { a: 100, b: 100 });
    const [ofA, ofB] = ["a", "b"].map((server) => shareTotals(rows, server, "nanos"));
    expect(sum(Object.values(ofA ?? {}))).toBe(20 * second);
    expect(sum(Object.values(ofB ?? {}))).toBe(20 * second);
    expect(shareTotals(rows, "a", "millijoules")).toMatchObject({ parked: 500_000 });
  });

  test("share energy above the floor by SM share once 10 s of it are known, by tokens before", () => {
    const rows = shared({ shares: { 1: 0.75, 2: 0.25 } }, { a: 100, b: 300 });
    const methods = rows.flatMap(({ residents }) => residents.slice(0, 1).map(({ method }) => method));
    expect(new Set(methods.slice(10, 19))).toEqual(new Set(["token_share"]));
    expect(new Set(methods.slice(20))).toEqual(new Set(["sm_share"]));
    const late = rows.slice(21);
    const working = late.length * 400_000;
    expect(shareTotals(late, "a", "millijoules")["token_active"]).toBeCloseTo(
      late.length * 50_000 + working * 0.75,
      -1,
    );
    const early = rows.slice(12, 18);
    expect(shareTotals(early, "b", "millijoules")["token_active"]).toBeCloseTo(
      6 * 50_000 + 6 * 400_000 * 0.75,
      -1,
    );
  });

  test("share equally when one that works shows no tokens", () => {
    const unknown = { ...b, pids: [9] };
    const rows = shared({}, { a: 100, b: 0 }, { servers: [a, unknown] });
    const last = rows.at(-2);
    expect(last?.residents.map(({ server, method }) => [server, method])).toEqual([
      ["a", "equal"],
      ["unmetered", "equal"],
    ]);
    // The stranger rested while a was idle: for all that is known it rests beside a too, but for a little.
    const taken = shareTotals(rows.slice(15), "unmetered", "millijoules")["stalled"] as number;
    expect(taken).toBeGreaterThan(25 * 50_000);
    expect(taken).toBeLessThan(25 * (50_000 + 0.1 * 400_000));
  });

  test("a parked resident gets its time and its floor, and no active energy", () => {
    const rows = shared({}, { a: 100, b: 0 });
    const active = rows.slice(11, 39);
    expect(shareTotals(active, "b", "millijoules")).toEqual({
      token_active: 0,
      stalled: 0,
      parked: active.length * 50_000,
    });
    expect(shareTotals(active, "a", "millijoules")["token_active"]).toBe(active.length * 450_000);
    expect(shareTotals(active, "b", "nanos")).toMatchObject({ parked: (active.length * second) / 2 });
  });

  test("keep their label while nobody works", () => {
    const { intervals } = run({
      gpus: [g],
      servers: [a, b],
      samples: readings("g", [
        ...repeated(8, { watts: 400, busy: 1, pids: [1, 2] }),
        ...repeated(8, { watts: 100, busy: 0, pids: [1, 2] }),
      ]),
      polls: {
        a: polls([...repeated(8, 9), ...repeated(8, 0)]),
        b: polls([...repeated(8, 9), ...repeated(8, 0)]),
      },
      seconds: 16,
    });
    const labels = rowsOf(intervals, "g").flatMap(({ residents }) => residents.map(({ method }) => method));
    expect(new Set(labels)).toEqual(new Set(["token_share"]));
  });

  test("an input token weighs 1, an output token 2.5", () => {
    const withInput = polls(repeated(8, 0), repeated(8, 1)).map((poll, index) => ({
      ...poll,
      inputTokens: index * 250,
    }));
    const { intervals } = run({
      gpus: [g],
      servers: [a, b],
      samples: readings("g", repeated(8, { watts: 400, busy: 1, pids: [1, 2] })),
      polls: { a: withInput, b: polls(repeated(8, 300)) },
      seconds: 8,
      floors: { g: { parkedNanos: 60 * second, millijoules: 0 } },
    });
    const rows = rowsOf(intervals, "g");
    expect(rows[5]?.residents[0]?.method).toBe("token_share");
    expect(shareTotals(rows, "a", "millijoules")["token_active"]).toBeCloseTo(8 * 100_000, -1);
  });

  test("an unknown process the driver credits with nothing is parked", () => {
    const rows = shared({ shares: { 1: 0.9 } }, { a: 100, b: 0 }, { servers: [a] });
    expect(shareTotals(rows.slice(11), "unmetered", "millijoules")).toMatchObject({
      stalled: 0,
      token_active: 0,
    });
  });

  test("configured shares divide time, the rest is equal among those without one", () => {
    const rows = shared({}, { a: 100, b: 100 }, { shares: { a: 0.25 } });
    expect(sum(Object.values(shareTotals(rows, "a", "nanos")))).toBe(10 * second);
    expect(sum(Object.values(shareTotals(rows, "b", "nanos")))).toBe(30 * second);
    expect(rows[5]?.residents[0]?.timeMethod).toBe("configured");
  });

  test("a persisted floor counts from the first second on", () => {
    const floors = { g: { parkedNanos: 20 * second, millijoules: 20 * 80_000 } };
    const { intervals } = run({
      gpus: [g],
      servers: [a, b],
      samples: readings("g", repeated(4, { watts: 500, busy: 1, pids: [1, 2] })),
      polls: { a: polls(repeated(4, 10)), b: polls(repeated(4, 0)) },
      seconds: 4,
      floors,
    });
    const rows = rowsOf(intervals, "g");
    expect(shareTotals(rows, "b", "millijoules")["parked"]).toBe(4 * 40_000);
    expect(shareTotals(rows, "a", "millijoules")["token_active"]).toBe(4 * 460_000);
  });
});

describe("who holds a GPU", () => {
  const states = (entries: readonly Second[], servers = [a]) => {
    const { intervals } = run({
      gpus: [g],
      servers,
      samples: readings("g", entries),
      polls: { a: polls(repeated(entries.length, 0)) },
      seconds: entries.length,
    });
    return totals(rowsOf(intervals, "g"), "nanos");
  };

  test("nobody: free; helpers do not count", () => {
    expect(states(repeated(4, { pids: [] }))).toMatchObject({ free: 4 * second });
    expect(states(repeated(4, { pids: [8], names: { 8: "nv-hostengine" } }))).toMatchObject({
      free: 4 * second,
    });
  });

  test("unknown processes: other, never a resident's share", () => {
    expect(states(repeated(4, { pids: [77], busy: 1 }))).toMatchObject({ other: 4 * second });
  });

  test("a server without requests: parked, and stalled while the GPU works", () => {
    expect(states(repeated(4, { pids: [1] }))).toMatchObject({ parked: 4 * second });
    expect(states(repeated(6, { pids: [1], busy: 1 }))["token_active"]).toBe(0);
    expect(states(repeated(6, { pids: [1], busy: 1 }))["stalled"]).toBe(6 * second);
  });

  test("a process too short-lived to be a resident: other", () => {
    const entries = [{ pids: [] }, { pids: [1] }, ...repeated(4, { pids: [] })];
    expect(states(entries)).toMatchObject({ other: second, free: 5 * second });
  });

  test("a process from its first listing on, once it has stayed", () => {
    expect(states([{ pids: [] }, ...repeated(4, { pids: [1] })])).toMatchObject({
      free: second,
      parked: 4 * second,
    });
  });

  test("servers configured for one GPU hold it together when their processes cannot be told apart", () => {
    const { intervals } = run({
      gpus: [g],
      servers: [serverInfo("a", { gpus: ["g"] }), serverInfo("b", { gpus: ["g"] })],
      samples: readings("g", repeated(4, { pids: [51, 52] })),
      polls: { a: polls(repeated(4, 0)), b: polls(repeated(4, 0)) },
      seconds: 4,
    });
    const rows = rowsOf(intervals, "g");
    for (const server of ["a", "b"])
      expect(shareTotals(rows, server, "nanos")).toMatchObject({ parked: 2 * second });
  });
});
