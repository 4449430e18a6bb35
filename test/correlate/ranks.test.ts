// Data-parallel ranks behind one page: which GPU each is on, and that a rank is metered as a server of its own would be.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { placedIncrements, placeRanks, rankOfTitle } from "../../agent/correlate/rank-places.ts";
import { RankProgress } from "../../agent/correlate/ranks/progress.ts";
import type { ServerPoll, TokenIncrement } from "../../agent/model.ts";
import { gpuInfo, polls, readings, rowsOf, run, second, serverInfo, sum } from "./scene.ts";

describe("rankOfTitle()", () => {
  test.each([
    ["VLLM::EngineCore_DP3", "3"],
    ["VLLM::Worker_DP1_TP0_EP2", "1"],
    ["prod::EngineCore_DP12", "12"],
    ["sglang::scheduler_DP0_PP1_TP2", "0"],
    ["sglang::scheduler_DP7_TP14_EP14", "7"],
    ["sglang::scheduler_TP1", undefined],
    ["VLLM::EngineCore", undefined],
    ["VLLM::Worker_PP1_TP0", undefined],
    ["/usr/bin/python3 serve --name MODEL_DP4", undefined],
    [undefined, undefined],
  ])("reads %s as %s", (title, rank) => expect(rankOfTitle(title)).toBe(rank));
});

const layout = fc
  .record({
    hosts: fc.integer({ min: 1, max: 3 }),
    here: fc.integer({ min: 1, max: 5 }),
    each: fc.integer({ min: 1, max: 3 }),
  })
  .filter(({ here, hosts }) => here * hosts > 1);

describe("placeRanks()", () => {
  test("finds the ranks of this host by the names of processes, and the others elsewhere", () => {
    fc.assert(
      fc.property(layout, fc.nat(2), fc.boolean(), ({ each, here, hosts }, host, isReversed) => {
        const first = Math.min(host, hosts - 1) * here;
        const ranks = Array.from({ length: here * hosts }, (_, rank) => String(rank));
        const gpus = Array.from({ length: here * each }, (_, index) => `g${index}`);
        const rankAt = (index: number): string => String(first + Math.floor(index / each));
        const named = new Map(gpus.map((gpu, index) => [gpu, new Set([rankAt(index)])]));
        const given = isReversed ? [...ranks].reverse() : ranks;
        const places = placeRanks({ ranks: given, gpus, named, configured: undefined });
        gpus.forEach((gpu, index) => {
          expect(places.byGpu.get(gpu)).toEqual({ ranks: [rankAt(index)], isAssumed: false });
        });
        const local = new Set(gpus.map((_, index) => rankAt(index)));
        expect(places.elsewhere).toEqual(new Set(ranks.filter((rank) => !local.has(rank))));
      }),
    );
  });

  test("assumes the order of the configuration, GPUs of other hosts among them", () => {
    fc.assert(
      fc.property(layout, fc.nat(2), fc.boolean(), ({ each, here, hosts }, host, isReversed) => {
        const inOrder = Array.from({ length: here * hosts }, (_, rank) => String(rank));
        // Pages name ranks in any order, as words too.
        const ranks = isReversed ? [...inOrder].reverse() : [...inOrder].sort();
        const configured = Array.from({ length: here * hosts * each }, (_, index) => `g${index}`);
        const first = Math.min(host, hosts - 1) * here * each;
        const gpus = configured.slice(first, first + here * each);
        const places = placeRanks({ ranks, gpus: [...gpus].reverse(), named: new Map(), configured });
        for (const [index, gpu] of configured.entries())
          expect(places.byGpu.get(gpu)).toEqual(
            gpus.includes(gpu) ? { ranks: [String(Math.floor(index / each))], isAssumed: true } : undefined,
          );
        expect(places.elsewhere.size).toBe(ranks.length - here);
      }),
    );
  });

  test("says that some ranks are elsewhere where there are fewer GPUs than ranks", () => {
    const facts = { ranks: ["0", "1", "2", "3"], gpus: ["a", "b"], named: new Map(), configured: undefined };
    expect(placeRanks(facts)).toEqual({ byGpu: new Map(), elsewhere: new Set(), isUnplaced: true });
  });

  test("guesses nothing from GPUs that no number of ranks divides, or of which some have no name yet", () => {
    const uneven = { ranks: ["0", "1"], gpus: ["a", "b", "c"], named: new Map(), configured: undefined };
    expect(placeRanks(uneven).byGpu.size).toBe(0);
    const partly = placeRanks({ ...uneven, named: new Map([["a", new Set(["1"])]]) });
    expect([...partly.byGpu.keys()]).toEqual(["a"]);
    expect(partly.elsewhere.size).toBe(0);
  });
});

test("placedIncrements() keeps every token, each once", () => {
  const amounts = fc.record({ input_unsplit: fc.nat(1e6), output: fc.nat(1e6) });
  fc.assert(
    fc.property(fc.array(amounts, { minLength: 1, maxLength: 6 }), fc.nat(63), (byRank, mask) => {
      const ranks = byRank.map((tokens, rank) => ({
        rank: String(rank),
        tokens,
        requests: 0,
        latencies: {},
      }));
      const total = (kind: "input_unsplit" | "output"): number => sum(byRank.map((tokens) => tokens[kind]));
      const increment: TokenIncrement = {
        ...{ server: "s", family: "engine", role: "combined", at: 1, late: false, resets: 0 },
        ...{ requests: { ok: 3 }, latencies: {}, reasoningTokens: 5, ranks },
        tokens: { input_unsplit: total("input_unsplit"), output: total("output") },
      };
      const away = new Set(ranks.map(({ rank }) => rank).filter((rank) => (mask >> Number(rank)) & 1));
      const parts = placedIncrements(
        [increment],
        { byGpu: new Map(), elsewhere: away, isUnplaced: false },
        new RankProgress(),
      );
      for (const kind of ["input_unsplit", "output"] as const) {
        expect(sum(parts.map(({ tokens }) => tokens[kind] ?? 0))).toBe(total(kind));
        const there = parts.filter(({ elsewhere }) => elsewhere).map(({ tokens }) => tokens[kind] ?? 0);
        expect(sum(there)).toBe(
          sum(byRank.map((tokens, rank) => (away.has(String(rank)) ? tokens[kind] : 0))),
        );
      }
      expect(sum(parts.map(({ requests }) => requests.ok ?? 0))).toBe(3);
      expect(sum(parts.map(({ reasoningTokens }) => reasoningTokens))).toBe(5);
    }),
  );
});

test("placedIncrements() loses no token of ranks elsewhere to rounding, however few come at a time", () => {
  const counted = fc.array(fc.nat(5), { minLength: 1, maxLength: 60 });
  fc.assert(
    fc.property(
      counted,
      fc.integer({ min: 1, max: 99 }),
      fc.integer({ min: 1, max: 99 }),
      (all, here, there) => {
        const ranks = (made: number): NonNullable<ServerPoll["ranks"]> =>
          [here, there].map((per, rank) => ({
            ...{ rank: String(rank), inputTokens: 0, outputTokens: made * per, inFlight: 1 },
          }));
        const poll = (at: number): ServerPoll => ({
          ...{ at, inputTokens: 0, outputTokens: 0, progress: "step", ranks: ranks(at) },
        });
        const progress = new RankProgress();
        progress.takePoll(poll(0), poll(1));
        const increments = all.map(
          (output, at): TokenIncrement => ({
            ...{ server: "s", family: "engine", role: "combined", at, late: false, resets: 0 },
            ...{ requests: {}, latencies: {}, reasoningTokens: 0, tokens: { output } },
          }),
        );
        const places = { byGpu: new Map(), elsewhere: new Set(["1"]), isUnplaced: false };
        const parts = increments.flatMap((one) => placedIncrements([one], places, progress));
        expect(sum(parts.map(({ tokens }) => tokens.output ?? 0))).toBe(sum(all));
        const away = sum(parts.filter(({ elsewhere }) => elsewhere).map(({ tokens }) => tokens.output ?? 0));
        expect(Math.abs(away - (sum(all) * there) / (here + there))).toBeLessThanOrEqual(0.5 + 1e-6);
      },
    ),
  );
});

const seconds = 40;
interface Work {
  readonly tokens: number;
  readonly running: number;
  readonly busy: number;
}

/**
 * What a rank does in each second: its tokens, how many it runs at the end, how busy its GPU is. While it runs any it counts
 * at every poll, and before and after, for seven polls at the least: what stands still for some polls may be a copy of a page.
 */
const work: fc.Arbitrary<readonly Work[]> = fc
  .array(
    fc.record({
      length: fc.integer({ min: 7, max: 9 }),
      rest: fc.integer({ min: 1, max: 4 }),
      tokens: fc.integer({ min: 1, max: 900 }),
      running: fc.integer({ min: 1, max: 3 }),
      busy: fc.constantFrom(0, 0.4, 0.9),
    }),
    { minLength: 0, maxLength: 6 },
  )
  .map((stretches) => {
    const all = stretches.flatMap(({ busy, length, rest, running, tokens }): Work[] => [
      ...Array.from({ length }, (_, index) => ({ tokens, running: index + 1 < length ? running : 0, busy })),
      ...Array.from({ length: rest }, () => ({ tokens: 0, running: 0, busy: 0 })),
    ]);
    const idle = { tokens: 0, running: 0, busy: 0 };
    return Array.from({ length: seconds }, (_, index) => all[index] ?? idle);
  });

describe("a server of ranks that each have a GPU", () => {
  const scene = (ranks: readonly (readonly Work[])[]) => {
    const gpus = ranks.map((_, index) => gpuInfo(`g${index}`, { index }));
    const own = ranks.map((rank) =>
      polls(
        rank.map(({ tokens }) => tokens),
        rank.map(({ running }) => running),
      ),
    );
    const samples = (title: boolean) =>
      ranks.flatMap((rank, index) =>
        readings(
          `g${index}`,
          rank.map(({ busy }) => ({
            ...{ busy, pids: [index + 1], watts: 100 + 300 * busy },
            ...(title ? { names: { [index + 1]: `VLLM::EngineCore_DP${index}` } } : {}),
          })),
        ),
      );
    return { gpus, own, samples };
  };
  const together = (own: readonly (readonly ServerPoll[])[], order: readonly number[]): ServerPoll[] =>
    (own[0] ?? []).map((first, place) => {
      const all = own.map((list) => list[place] as ServerPoll);
      return {
        ...first,
        outputTokens: sum(all.map(({ outputTokens }) => outputTokens)),
        inFlight: sum(all.map(({ inFlight }) => inFlight ?? 0)),
        ranks: order.map((rank) => ({ ...(all[rank] as ServerPoll), rank: String(rank) })),
      };
    });
  const nanosOf = (intervals: Parameters<typeof rowsOf>[0], gpu: string) =>
    rowsOf(intervals, gpu).map(({ nanos }) => nanos);

  test("is metered as as many servers, where nothing works for another rank; the order on the page does not matter", () => {
    fc.assert(
      fc.property(fc.array(work, { minLength: 2, maxLength: 3 }), fc.boolean(), (ranks, isReversed) => {
        const { gpus, own: each, samples } = scene(ranks);
        const order = ranks.map((_, index) => index);
        const pids = order.map((index) => index + 1);
        const page = together(each, isReversed ? order.reverse() : order);
        const one = run({
          ...{ gpus, samples: samples(true), seconds, polls: { all: page } },
          servers: [serverInfo("all", { pids })],
        });
        const apart = run({
          ...{ gpus, samples: samples(false), seconds },
          servers: ranks.map((_, index) => serverInfo(`s${index}`, { pids: [index + 1] })),
          polls: Object.fromEntries(each.map((list, index) => [`s${index}`, list])),
        });
        for (const { uuid } of gpus)
          expect(nanosOf(one.intervals, uuid)).toEqual(nanosOf(apart.intervals, uuid));
      }),
      { numRuns: 40 },
    );
  });

  test("whose page leaves a rank out for a poll measures the other ranks as before", () => {
    const lost = fc.record({ rank: fc.nat(2), poll: fc.integer({ min: 1, max: seconds - 1 }) });
    fc.assert(
      fc.property(fc.array(work, { minLength: 2, maxLength: 3 }), lost, (ranks, { poll, rank }) => {
        const { gpus, own: each, samples } = scene(ranks);
        const order = ranks.map((_, index) => index);
        const whole = together(each, order);
        // As the counters of ranks remember it: it stands where it stood, and nothing is known to be in flight.
        const cut = whole.map((page, index) => {
          const stood = whole[index - 1]?.ranks?.find((one) => one.rank === String(rank));
          if (index !== poll || stood === undefined) return page;
          const { inFlight: _unknown, ...left } = stood;
          return { ...page, ranks: page.ranks?.map((one) => (one.rank === left.rank ? left : one)) ?? [] };
        });
        const servers = [serverInfo("all", { pids: order.map((index) => index + 1) })];
        const [before, after] = [whole, cut].map((all) =>
          run({ gpus, servers, samples: samples(true), seconds, polls: { all } }),
        );
        for (const { uuid } of gpus) {
          if (uuid === `g${rank}`) continue;
          expect(nanosOf(after?.intervals ?? [], uuid)).toEqual(nanosOf(before?.intervals ?? [], uuid));
        }
      }),
      { numRuns: 25 },
    );
  });
});

describe("placedIncrements()", () => {
  const increment = (ranks: readonly number[]): TokenIncrement => ({
    ...{ server: "s", family: "engine", role: "combined", at: 1, late: false, resets: 0 },
    ...{ requests: {}, latencies: {}, reasoningTokens: 0, tokens: { output: sum(ranks) } },
    ranks: ranks.map((output, rank) => ({
      rank: String(rank),
      tokens: { output },
      requests: 0,
      latencies: {},
    })),
  });
  const place = (rank: string) => ({ ranks: [rank], isAssumed: false });

  test("says which part each GPU of this host made", () => {
    const byGpu = new Map([
      ["a", place("0")],
      ["b", place("0")],
      ["c", place("1")],
    ]);
    const places = { byGpu, elsewhere: new Set(["2"]), isUnplaced: false };
    const [here, away] = placedIncrements([increment([30, 10, 60])], places, new RankProgress());
    expect(here?.onGpus).toEqual({ a: 0.375, b: 0.375, c: 0.25 });
    expect([here?.tokens, away?.tokens, away?.elsewhere]).toEqual([{ output: 40 }, { output: 60 }, true]);
    expect(away?.onGpus).toBeUndefined();
  });

  test("says nothing of a rank whose GPU is not known, and doubts the tokens where ranks must be elsewhere", () => {
    const partly = { byGpu: new Map([["a", place("0")]]), elsewhere: new Set<string>(), isUnplaced: false };
    expect(placedIncrements([increment([3, 4])], partly, new RankProgress())[0]?.onGpus).toBeUndefined();
    const lost = { byGpu: new Map(), elsewhere: new Set<string>(), isUnplaced: true };
    expect(placedIncrements([increment([3, 4])], lost, new RankProgress())[0]?.doubt).toBe("assumed_ranks");
  });
});

describe("placedIncrements() of tokens that are counted for all ranks together", () => {
  const paces = fc.array(fc.integer({ min: 0, max: 40 }), { minLength: 2, maxLength: 6 });
  const pollAt = (at: number, made: readonly number[]): ServerPoll => ({
    ...{ at: at * second, inputTokens: 0, outputTokens: 0, progress: "step" },
    ranks: made.map((count, rank) => ({ rank: String(rank), inputTokens: 3 * count, outputTokens: count })),
  });

  test("takes off what ranks elsewhere made by their progress, every token once, and says that it is estimated", () => {
    fc.assert(
      fc.property(paces, fc.nat(63), fc.integer({ min: 0, max: 1e6 }), (pace, mask, output) => {
        const progress = new RankProgress();
        for (let at = 1; at < 30; at++)
          progress.takePoll(
            pollAt(
              at - 1,
              pace.map((each) => each * (at - 1)),
            ),
            pollAt(
              at,
              pace.map((each) => each * at),
            ),
          );
        const away = new Set(pace.flatMap((_, rank) => ((mask >> rank) & 1 ? [String(rank)] : [])));
        const increment: TokenIncrement = {
          ...{ server: "s", family: "engine", role: "combined", at: 1, late: false, resets: 0 },
          ...{ requests: { ok: 2 }, latencies: {}, reasoningTokens: 0 },
          tokens: { output, input_unsplit: 2 * output },
          ranks: pace.map((_, rank) => ({ rank: String(rank), tokens: {}, requests: 0, latencies: {} })),
        };
        const byGpu = new Map(
          pace.flatMap((_, rank) =>
            away.has(String(rank)) ? [] : [[`g${rank}`, { ranks: [String(rank)], isAssumed: false }]],
          ),
        );
        const parts = placedIncrements([increment], { byGpu, elsewhere: away, isUnplaced: false }, progress);
        const elsewhere = sum(pace.filter((_, rank) => away.has(String(rank))));
        const share = sum(pace) > 0 ? elsewhere / sum(pace) : 0;
        for (const [kind, all] of [
          ["output", output],
          ["input_unsplit", 2 * output],
        ] as const) {
          expect(sum(parts.map(({ tokens }) => tokens[kind] ?? 0))).toBe(all);
          const moved = sum(parts.filter((part) => part.elsewhere).map(({ tokens }) => tokens[kind] ?? 0));
          expect(Math.abs(moved - share * all)).toBeLessThanOrEqual(1);
        }
        if (away.size > 0 && output > 0)
          expect(parts.every(({ doubt }) => doubt === "estimated_counters")).toBe(true);
        const here = sum(pace) - elsewhere;
        for (const [gpu, part] of Object.entries(parts[0]?.onGpus ?? {}))
          expect(part).toBeCloseTo((pace[Number(gpu.slice(1))] ?? 0) / here, 9);
        expect(parts[0]?.onGpus === undefined).toBe(here === 0);
      }),
    );
  });
});

describe("placedIncrements() of a page that shows the ranks of this host alone", () => {
  const [length, all] = [900, 1000];
  const named = new Map([
    ["g0", new Set(["0"])],
    ["g1", new Set(["1"])],
  ]);
  const facts = { ranks: ["0", "1"], gpus: ["g0", "g1"], named };
  const counted = (tokens: number): TokenIncrement => ({
    ...{ server: "s", family: "engine", role: "combined", at: 1, late: false, resets: 0 },
    ...{ requests: {}, latencies: {}, reasoningTokens: 0, tokens: { output: tokens } },
  });
  /** Tokens taken off of `all` after 15 minutes in which the ranks here made a part of what is counted. */
  const takenOff = (part: number, configured: readonly string[] | undefined): number => {
    const progress = new RankProgress();
    const poll = (at: number): ServerPoll => ({
      ...{ at: at * second, inputTokens: 0, outputTokens: 0, progress: "step" },
      ranks: facts.ranks.map((rank) => ({ rank, inputTokens: 0, outputTokens: 50 * part * at })),
    });
    for (let at = 1; at < length; at++) {
      // Requests of before the first poll count whole.
      progress.noteCounted([counted(at < 60 ? 5000 : 100)]);
      progress.takePoll(poll(at - 1), poll(at));
    }
    const parts = placedIncrements([counted(all)], placeRanks({ ...facts, configured }), progress);
    expect(sum(parts.map(({ tokens }) => tokens.output ?? 0))).toBe(all);
    return sum(parts.filter((one) => one.elsewhere).map(({ tokens }) => tokens.output ?? 0));
  };

  test("takes off what was counted beyond their progress, where GPUs of other hosts are configured", () => {
    fc.assert(
      fc.property(fc.double({ min: 0.05, max: 0.85, noNaN: true }), (part) => {
        expect(takenOff(part, ["g0", "g1", "h0", "h1"])).toBeCloseTo((1 - part) * all, -1);
        expect(takenOff(part, undefined)).toBe(0);
      }),
      { numRuns: 15 },
    );
  });

  test("takes nothing off where they made as much as is counted, or more", () => {
    for (const part of [0.95, 1, 1.4]) expect(takenOff(part, ["g0", "g1", "h0", "h1"])).toBe(0);
  });
});

describe("a server whose GPUs change", () => {
  const gpus = [0, 1, 2, 3].map((index) => gpuInfo(`g${index}`, { index }));
  const seconds = 24;
  const busy = (rank: number, index: number): boolean => (index >> 1) % 2 === rank;
  const page = polls(
    Array.from({ length: seconds }, () => 100),
    Array.from({ length: seconds }, () => 1),
  ).map((poll, index): ServerPoll => {
    const told = [0, 1].map((rank) => ({
      rank: String(rank),
      inputTokens: 0,
      outputTokens: 100 * Array.from({ length: index }, (_, at) => at).filter((at) => busy(rank, at)).length,
      inFlight: index > 0 && busy(rank, index - 1) ? 1 : 0,
    }));
    return { ...poll, ranks: told };
  });

  test("has its ranks on the GPUs that it has now, in their order", () => {
    const samples = gpus.flatMap(({ uuid }, gpu) =>
      readings(
        uuid,
        Array.from({ length: seconds }, (_, index) => ({
          pids: index < 12 === gpu < 2 ? [gpu + 1] : [],
          busy: index < 12 === gpu < 2 && busy(gpu % 2, index) ? 0.9 : 0,
        })),
      ),
    );
    const servers = [serverInfo("all", { pids: [1, 2, 3, 4] })];
    const { correlator, intervals } = run({ gpus, servers, samples, seconds, polls: { all: page } });
    expect(correlator.status().ranks.map(({ gpus: own, rank }) => [rank, own])).toEqual([
      ["0", ["g2"]],
      ["1", ["g3"]],
    ]);
    for (const [rank, gpu] of ["g2", "g3"].entries())
      expect(rowsOf(intervals, gpu).map(({ nanos }) => nanos.token_active / second)).toEqual(
        Array.from({ length: seconds }, (_, index) => (index >= 12 && busy(rank, index) ? 1 : 0)),
      );
  });

  test("counts its own busy time on when its ranks become known", () => {
    // Three GPUs say nothing of the order of two ranks; the names of their processes come later.
    const timed = page.map((poll, index): ServerPoll => {
      const ranks = (poll.ranks ?? []).map((one) => ({ ...one, activeNanos: one.outputTokens * 10_000_000 }));
      return { ...poll, activeNanos: index * second, ranks };
    });
    const three = gpus.slice(0, 3);
    const samples = three.flatMap(({ uuid }, gpu) =>
      readings(
        uuid,
        Array.from({ length: seconds }, (_, index) => ({
          pids: [gpu + 1],
          ...(index < 12 || gpu === 2 ? {} : { names: { [gpu + 1]: `VLLM::EngineCore_DP${gpu}` } }),
          busy: gpu < 2 && busy(gpu, index) ? 0.9 : 0,
        })),
      ),
    );
    const servers = [serverInfo("all", { pids: [1, 2, 3] })];
    const { intervals } = run({ gpus: three, servers, samples, seconds, polls: { all: timed } });
    const known = Array.from({ length: seconds }, (_, index) => index).slice(11);
    for (const [rank, uuid] of ["g0", "g1"].entries()) {
      const rows = rowsOf(intervals, uuid).slice(11);
      expect(rows.map(({ nanos }) => nanos.token_active / second)).toEqual(
        known.map((index) => (busy(rank, index) ? 1 : 0)),
      );
    }
  });
});

describe("a server whose GPUs are in another order than its ranks", () => {
  const length = 90;
  const gpus = [0, 1].map((index) => gpuInfo(`g${index}`, { index }));
  /** The second rank works more, and at other times. */
  const works = (rank: number, index: number): boolean => (rank === 0 ? index % 12 < 4 : index % 12 >= 5);
  const counted = (rank: number, until: number): number =>
    100 * Array.from({ length: until }, (_, index) => index).filter((index) => works(rank, index)).length;
  const page = polls(
    Array.from({ length }, () => 100),
    Array.from({ length }, () => 1),
  ).map((poll, index): ServerPoll => {
    const told = [0, 1].map((rank) => ({
      ...{ rank: String(rank), inputTokens: 0, outputTokens: counted(rank, index) },
      inFlight: index > 0 && works(rank, index - 1) ? 1 : 0,
    }));
    return { ...poll, ranks: told };
  });
  const samples = gpus.flatMap(({ uuid }, gpu) =>
    readings(
      uuid,
      Array.from({ length }, (_, index) => ({ pids: [gpu + 1], busy: works(1 - gpu, index) ? 0.9 : 0 })),
    ),
  );
  const { correlator, intervals } = run({
    ...{ gpus, samples, polls: { all: page }, seconds: length },
    servers: [serverInfo("all", { pids: [1, 2] })],
  });
  const activeOn = (gpu: string): readonly number[] =>
    rowsOf(intervals, gpu).map(({ nanos }) => nanos.token_active / second);

  test("has its ranks where what they do says so, and says that it is not the order", () => {
    expect(correlator.status().ranks).toEqual([
      { server: "all", rank: "0", gpus: ["g1"], place: "learned", isOutOfOrder: true },
      { server: "all", rank: "1", gpus: ["g0"], place: "learned", isOutOfOrder: true },
    ]);
  });

  test("is metered by them from then on, and doubts what was booked before", () => {
    for (const [gpu, { uuid }] of gpus.entries()) {
      const truth = Array.from({ length }, (_, index) => (works(1 - gpu, index) ? 1 : 0));
      expect(activeOn(uuid).slice(30)).toEqual(truth.slice(30));
      expect(rowsOf(intervals, uuid).every(({ nanos }) => nanos.stalled === 0)).toBe(true);
      const doubted = rowsOf(intervals, uuid).map(
        ({ uncertain = [] }) => sum(uncertain.map(({ nanos }) => nanos)) / second,
      );
      for (let index = 0; index < 30; index++) {
        const off = Math.abs((activeOn(uuid)[index] as number) - (truth[index] as number));
        expect(off).toBeLessThanOrEqual((doubted[index] as number) + 0.25);
      }
      expect(sum(doubted.slice(30))).toBe(0);
    }
  });
});
