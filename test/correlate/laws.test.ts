import { describe, expect, test } from "vitest";
import { judge } from "../../agent/correlate/board-laws.ts";
import { broken, brokenBoard, brokenJoules, brokenServer, disowned } from "../../agent/correlate/laws.ts";
import { createMember } from "../../agent/correlate/member.ts";
import { Timeline } from "../../agent/correlate/timeline.ts";
import type { GpuInterval } from "../../agent/model.ts";
import { gpuInfo, second } from "./scene.ts";

const share = {
  server: "a",
  nanos: { token_active: 5, stalled: 0, parked: 1 },
  millijoules: { token_active: 7, stalled: 0, parked: 0 },
  method: "direct",
} as const;

const row: GpuInterval = {
  gpu: "g",
  nanos: { token_active: 6, stalled: 0, parked: 0, other: 1, free: 2, unobserved: 1 },
  millijoules: { token_active: 7, stalled: 0, parked: 0, other: 1, free: 1, unobserved: 0, unattributed: 3 },
  busyNanos: 4,
  activityMethod: "counter_gpu",
  energyMethod: "counter",
  rejectedMillijoules: 0,
  residents: [share],
};

const names = (found: readonly { law: string }[]) => found.map(({ law }) => law);

describe("broken()", () => {
  test("finds nothing in a lawful row", () => {
    expect(broken(row, 10, 0)).toEqual([]);
    expect(broken(row, 11, 1)).toEqual([]);
  });

  test("names the law and the figures", () => {
    expect(broken(row, 11, 0)).toEqual([
      { law: "states", message: "states of g sum to 10 ns, wall time is 11 ns" },
    ]);
    expect(names(broken({ ...row, residents: [] }, 10, 0))).toEqual(["shares", "shares"]);
    expect(names(broken({ ...row, busyNanos: -1 }, 10, 0))).toEqual(["sign"]);
    expect(names(broken({ ...row, busyNanos: 0.5 }, 10, 0))).toEqual(["sign"]);
    expect(names(broken({ ...row, nanos: { ...row.nanos, free: Number.NaN } }, 10, 0))).toEqual([
      "states",
      "sign",
    ]);
  });
});

test("brokenJoules(), brokenBoard() and brokenServer() judge sums", () => {
  expect(brokenJoules("g", [row, row], 24)).toEqual([]);
  expect(names(brokenJoules("g", [row], 13))).toEqual(["joules"]);
  expect(brokenBoard("g", [row, row], 20)).toEqual([]);
  expect(names(brokenBoard("g", [row], 9))).toEqual(["states"]);
  const server = {
    server: "a",
    nanos: { token_active: 1, stalled: 2, parked: 3, unknown: 4 },
    activityMethod: "counter_gpu",
    increments: [],
  } as const;
  expect(brokenServer(server, 10)).toEqual([]);
  expect(names(brokenServer(server, 11))).toEqual(["states"]);
});

test("disowned() keeps wall time and energy, and gives them to nobody", () => {
  const kept = disowned(row, 10, 12);
  expect(broken(kept, 10, 0)).toEqual([]);
  expect(brokenJoules("g", [kept], 12)).toEqual([]);
  expect([kept.nanos.unobserved, kept.millijoules.unattributed, kept.residents]).toEqual([10, 12, []]);
});

describe("judge()", () => {
  const interval = { from: 0, to: 10 };
  const settled = (rows: readonly GpuInterval[], weights: readonly number[], millijoules: number) => ({
    rows,
    parts: weights.map((weight, index) => {
      const info = gpuInfo(`g${index}`, weights.length > 1 ? { weight, parent: "board" } : { weight });
      const member = createMember(new Timeline(info, 0, second), 0);
      return { member } as Parameters<typeof judge>[1]["parts"][number];
    }),
    sliced: weights.length > 1,
    wallNanos: 10,
    millijoules,
  });

  test("lets lawful rows pass as they are", () => {
    const rows = [row];
    expect(judge("g", settled(rows, [1], 12), interval)).toEqual({ rows, violations: [] });
  });

  test("books a board that breaks a law as unattributed, wall time and joules kept", () => {
    const { rows, violations } = judge("g", settled([row], [1], 13), interval);
    expect(names(violations)).toEqual(["joules"]);
    expect(rows.map(({ nanos, millijoules }) => [nanos.unobserved, millijoules.unattributed])).toEqual([
      [10, 13],
    ]);
    const sliced = judge("board", settled([row, row, row], [0.5, 0.2], 40), interval);
    expect(sliced.violations.length).toBeGreaterThan(0);
    expect(sliced.rows.map(({ nanos, millijoules }) => [nanos.unobserved, millijoules.unattributed])).toEqual(
      [
        [5, 0],
        [2, 0],
        [3, 40],
      ],
    );
  });
});
