// What was learned of the places of ranks is a guess once their server is started again, or the agent: nothing that was seen
// before speaks against other places.
import { describe, expect, test } from "vitest";
import type { ActivityWindow } from "../../../agent/correlate/activity/evidence.ts";
import { RankFinder } from "../../../agent/correlate/ranks/finder.ts";
import type { ServerPoll } from "../../../agent/model.ts";
import { gpuInfo, readings, run, second, serverInfo } from "../scene.ts";

const gpus = ["g0", "g1"];
const facts = { ranks: ["0", "1"], gpus, named: new Map(), configured: undefined };

/** Ranks take turns of five seconds, the second one first. */
function worksAt(rank: number, at: number): boolean {
  return (Math.floor(at / 5) + rank) % 2 === 1;
}

function pollAt(at: number, startedAt = 0): ServerPoll {
  const counted = (rank: number): number => {
    let tokens = 0;
    for (let before = startedAt; before < at; before++) if (worksAt(rank, before)) tokens += 50;
    return tokens;
  };
  const ranks = [0, 1].map((rank) => ({
    ...{ rank: String(rank), inputTokens: 0, outputTokens: counted(rank) },
    inFlight: worksAt(rank, at) && worksAt(rank, at - 1) ? 1 : 0,
  }));
  const outputTokens = counted(0) + counted(1);
  return { at: at * second, inputTokens: 0, outputTokens, inFlight: 1, progress: "step", ranks };
}

/** Follows a server for some seconds, whose processes appeared at `since`; `order`: the rank of each GPU. */
function follow(finder: RankFinder, from: number, to: number, since: number, order: readonly number[]): void {
  const lists = gpus.map((_, index) =>
    Array.from({ length: to }, (_, at): ActivityWindow => {
      const busyRatio = worksAt(order[index] as number, at) ? 0.9 : 0;
      return { from: at * second, to: (at + 1) * second, busyRatio };
    }),
  );
  for (let at = from + 1; at <= to; at++) {
    finder.find(facts, since * second);
    finder.takePoll(pollAt(at - 1), pollAt(at));
    finder.weigh(new Map(gpus.map((gpu, index) => [gpu, lists[index]?.slice(0, at) ?? []])), () => false);
  }
  finder.find(facts, since * second);
}

describe("RankFinder", () => {
  const placesOf = ({ places }: RankFinder) => gpus.map((gpu) => places?.byGpu.get(gpu)?.ranks[0]);
  const areLearned = ({ places }: RankFinder) =>
    gpus.map((gpu) => places?.byGpu.get(gpu)?.isLearned === true);

  test("takes what it learned for a guess once the server was started again", () => {
    const finder = new RankFinder();
    follow(finder, 0, 120, 0, [1, 0]);
    expect([placesOf(finder), areLearned(finder)]).toEqual([
      ["1", "0"],
      [true, true],
    ]);
    finder.find(facts, 121 * second);
    expect([placesOf(finder), areLearned(finder)]).toEqual([
      ["1", "0"],
      [false, false],
    ]);
  });

  test("learns another order after a start as if nothing had been seen before it", () => {
    const finder = new RankFinder();
    follow(finder, 0, 300, 0, [1, 0]);
    follow(finder, 300, 340, 300, [0, 1]);
    expect([placesOf(finder), areLearned(finder)]).toEqual([
      ["0", "1"],
      [true, true],
    ]);
  });
});

describe("RankFinder.order", () => {
  test("is what an earlier run learned until all is learned again, and where ranks are meanwhile, as a guess", () => {
    const first = new RankFinder();
    expect(first.order).toBeUndefined();
    follow(first, 0, 120, 0, [1, 0]);
    expect(first.order).toEqual({ g0: "1", g1: "0" });
    const second = new RankFinder(first.order);
    expect(second.order).toEqual(first.order);
    second.find(facts, 0);
    expect([...(second.places?.byGpu ?? [])]).toEqual([
      ["g0", { ranks: ["1"], isAssumed: true }],
      ["g1", { ranks: ["0"], isAssumed: true }],
    ]);
    follow(second, 0, 120, 0, [0, 1]);
    expect(second.order).toEqual({ g0: "0", g1: "1" });
  });

  test.each([[{ g0: "1", g2: "0" }], [{ g0: "1" }], [{ g0: "1", g1: "7" }], [{}]])(
    "is no guess where GPUs or ranks are others than %j names",
    (before) => {
      const finder = new RankFinder(before);
      finder.find(facts, 0);
      expect([...(finder.places?.byGpu ?? [])].map(([gpu, { ranks }]) => [gpu, ...ranks])).toEqual([
        ["g0", "0"],
        ["g1", "1"],
      ]);
    },
  );
});

test("processes that appear again on the GPUs of a server make the places of its ranks a guess", () => {
  const [length, restart] = [140, 120];
  const order = [1, 0];
  const pid = (index: number, at: number): number => (at < restart ? 1 : 11) + index;
  const samples = gpus.flatMap((gpu, index) =>
    readings(
      gpu,
      Array.from({ length }, (_, at) => ({
        ...{ busy: worksAt(order[index] as number, at) ? 0.9 : 0, watts: 200 },
        pids: [pid(index, at)],
      })),
    ),
  );
  const found: string[] = [];
  const servers = [serverInfo("a", { pids: [1, 2, 11, 12] })];
  for (const seconds of [restart - 2, restart + 6]) {
    const { correlator } = run({
      gpus: gpus.map((gpu, index) => gpuInfo(gpu, { index })),
      ...{ servers, samples, seconds },
      polls: { a: Array.from({ length }, (_, at) => pollAt(at)) },
    });
    found.push(...correlator.status().ranks.map(({ gpus: on, place, rank }) => `${rank} ${on} ${place}`));
  }
  expect(found.sort()).toEqual(["0 g1 assumed", "0 g1 learned", "1 g0 assumed", "1 g0 learned"]);
});
