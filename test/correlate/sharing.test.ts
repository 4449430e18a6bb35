// Which assumption a shared energy rests on is said: by the very evidence it was shared by.
import fc from "fast-check";
import { expect, test } from "vitest";
import { OwnPower } from "../../agent/correlate/energy/own-power.ts";
import { TurnWatts } from "../../agent/correlate/energy/turn-watts.ts";
import { WindowFit } from "../../agent/correlate/energy/window-fit.ts";
import type { Work } from "../../agent/correlate/energy/work-columns.ts";
import { WorkFit } from "../../agent/correlate/energy/work-fit.ts";
import { Presence } from "../../agent/correlate/presence.ts";
import type { Residents, Sharing } from "../../agent/correlate/sharing.ts";
import { sharingRule } from "../../agent/correlate/sharing.ts";
import { SmShare } from "../../agent/correlate/sm-share.ts";
import type { TokenStep } from "../../agent/correlate/token-step.ts";
import { WorkBlocks } from "../../agent/correlate/work-blocks.ts";
import { gpuInfo, polls, readings, repeated, rowsOf, run, second, serverInfo, sum } from "./scene.ts";

function newSharing(): Sharing {
  const workFit = new WorkFit();
  workFit.observeWindow(second, 0.3);
  const windows = { windowFit: new WindowFit(), workBlocks: new WorkBlocks() };
  return {
    smShare: new SmShare(),
    ownPower: new OwnPower(),
    turnWatts: new TurnWatts(),
    ...windows,
    workFit,
  };
}

const interval = { from: 0, to: second };

/** Two servers that both work in the second that is shared. */
function residents(): Residents {
  const step: TokenStep = {
    ...{ from: 0, to: second, inputTokens: 100, outputTokens: 20, requests: 1 },
    ...{ inFlightFrom: 1, inFlightTo: 1, progress: "step", isDoubted: false },
  };
  const servers = new Set(["one", "two"]);
  const tokens = (): number => 20;
  const given = { servers, working: servers, hasShares: false, areTogether: false };
  return { from: 0, to: second, ...given, tokens, steps: () => [step] };
}

/** Teaches what work costs, each interval off by so much, up and down in turns. */
function teach({ workFit }: Sharing, offRatio: number): void {
  for (let index = 0; index < 80; index++) {
    const [one, two]: [Work, Work] = [
      [(index * 37) % 400, (index * 13) % 90],
      [(index * 53) % 400, (index * 29) % 90],
    ];
    const joules = one[0] * 0.01 + one[1] * 2 + two[0] * 0.02 + two[1];
    workFit.observe(
      new Map(Object.entries({ one, two })),
      joules * (1 + (index % 2 === 0 ? 1 : -1) * offRatio),
    );
  }
}

test("energy that is shared by the cost of work is said to be a guess while that is not known to a tenth", () => {
  const [sure, unsure] = [newSharing(), newSharing()];
  teach(sure, 0);
  teach(unsure, 0.9);
  expect(sharingRule(sure, residents(), interval)).toMatchObject({
    method: "own_power",
    byWork: true,
    doubt: undefined,
  });
  expect(sharingRule(unsure, residents(), interval)).toMatchObject({ byWork: true, doubt: "fitted_work" });
});

test("energy that is shared with nothing learned says by what, and never passes for measured", () => {
  const rule = sharingRule(newSharing(), residents(), interval);
  expect(rule.byWork).toBeUndefined();
  expect(rule.method).toBe("token_share");
});

test("a server has beside one that comes later and never rests what it drew alone before that came", () => {
  const watts = fc.integer({ min: 60, max: 500 });
  fc.assert(
    fc.property(watts, watts, fc.integer({ min: 10, max: 40 }), (own, other, alone) => {
      const beside = 60;
      const seconds = [
        ...repeated(10, { pids: [1], shares: {} }),
        ...repeated(alone, { pids: [1], busy: 1, watts: 100 + own, shares: { 1: 1 } }),
        ...repeated(beside, {
          ...{ pids: [1, 2], busy: 1, watts: 100 + (own + other) / 2 },
          shares: { 1: 0.5, 2: 0.5 },
        }),
      ];
      const tokens = [...repeated(10, 0), ...repeated(alone + beside, 50)];
      const { intervals } = run({
        ...{ gpus: [gpuInfo("G")], samples: readings("G", seconds), seconds: seconds.length },
        servers: [serverInfo("one", { pids: [1] })],
        polls: { one: polls(tokens) },
      });
      const rows = rowsOf(intervals, "G").slice(-30);
      const of = (server: string): number =>
        sum(
          rows.flatMap(({ residents }) =>
            residents
              .filter((resident) => resident.server === server)
              .flatMap(({ millijoules }) => Object.values(millijoules)),
          ),
        ) / 30_000;
      const drawn = (own + other) / 2;
      expect(Math.abs(of("one") - 50 - own / 2)).toBeLessThan(0.06 * drawn);
      expect(Math.abs(of("unmetered") - 50 - other / 2)).toBeLessThan(0.06 * drawn);
    }),
    { numRuns: 15 },
  );
});

test("energy of servers that run at the same time is never said to be sure", () => {
  for (const offRatio of [0, 0.9]) {
    const sharing = newSharing();
    teach(sharing, offRatio);
    const inTurns = sharingRule(sharing, residents(), interval);
    const together = sharingRule(sharing, { ...residents(), areTogether: true }, interval);
    expect(together).toEqual({
      ...inTurns,
      doubt: inTurns.doubt ?? "fitted_work",
      doubtRatio: inTurns.doubt === undefined ? 0.3 : Math.max(0.3, inTurns.doubtRatio ?? 1),
    });
    const alone = { ...residents(), working: new Set(["one"]) };
    expect(sharingRule(sharing, { ...alone, areTogether: true }, interval)).toEqual(
      sharingRule(sharing, alone, interval),
    );
  }
});

test("clients of MPS are known by the last list of processes", () => {
  const presence = new Presence();
  const list = (at: number, ...types: readonly ("compute" | "mps")[]) =>
    presence.read({ gpu: "g", at, processes: types.map((type, index) => ({ pid: 1 + index, type })) });
  list(1, "compute", "compute");
  expect(presence.hasMpsClients).toBe(false);
  list(2, "mps", "mps");
  expect(presence.hasMpsClients).toBe(true);
  // One that says nothing of processes changes nothing.
  presence.read({ gpu: "g", at: 3 });
  expect(presence.hasMpsClients).toBe(true);
  list(4, "compute", "compute");
  expect(presence.hasMpsClients).toBe(false);
});
