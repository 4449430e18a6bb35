// A page that something keeps a copy of, before anyone knows it does: what the GPU did meanwhile is the server's once a
// renewal says so, and nothing waits longer than for a copy's life.
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Correlator } from "../../agent/correlate/correlator.ts";
import type { ServerPoll, SettledInterval } from "../../agent/model.ts";
import type { Second } from "./scene.ts";
import { gpuInfo, readings, rowsOf, run, second, serverInfo, sum, totals } from "./scene.ts";

const length = 100;

interface Burst {
  readonly from: number;
  readonly to: number;
}

/** Seconds in which requests are in execution. */
function isIn(bursts: readonly Burst[], at: number): boolean {
  return bursts.some(({ from, to }) => at >= from && at < to);
}

/** What a page shows at a whole second of the server's life. */
function shown(bursts: readonly Burst[], at: number): { outputTokens: number; inFlight: number } {
  let outputTokens = 0;
  for (let before = 0; before < at; before++) if (isIn(bursts, before)) outputTokens += 100;
  return { outputTokens, inFlight: isIn(bursts, at) ? 2 : 0 };
}

/**
 * Settled intervals, each with how late it was; the server's page is renewed every `lives` seconds, by each of several keepers
 * at its own phase, which answer in turn.
 */
function metered(
  work: readonly Burst[],
  requests: readonly Burst[],
  {
    lives = 1,
    pollSeconds = 1,
    phases = [0],
  }: { lives?: number; pollSeconds?: number; phases?: readonly number[] } = {},
): { readonly intervals: SettledInterval[]; readonly delays: number[] } {
  const seconds: Second[] = Array.from({ length }, (_, at) => ({ pids: [1], busy: isIn(work, at) ? 1 : 0 }));
  const correlator = new Correlator({
    origin: 0,
    intervalNanos: second,
    gpuPollMs: 1000,
    strict: true,
  });
  correlator.setGpus([gpuInfo("g")], 0);
  correlator.setServers([serverInfo("a", { pids: [1], pollMs: 1000 * pollSeconds })], 0);
  const intervals: SettledInterval[] = [];
  const delays: number[] = [];
  const samples = readings("g", seconds);
  let newest = 0;
  for (let at = 0; at <= length; at++) {
    correlator.acceptGpu(samples[at] as (typeof samples)[number]);
    if (at % pollSeconds === 0) {
      const phase = phases[(at / pollSeconds) % phases.length] as number;
      const page = copied(requests, at, { lives, phase });
      const older = page.outputTokens < newest ? ({ isOlder: true, outputTokens: newest } as const) : {};
      newest = Math.max(newest, page.outputTokens);
      correlator.acceptTokens(
        "a",
        { at: at * second, inputTokens: 0, progress: "step", ...page, ...older },
        [],
      );
    }
    for (const interval of correlator.settle(at * second)) {
      intervals.push(interval);
      delays.push(at - interval.to / second);
    }
  }
  intervals.push(...correlator.finish(length * second));
  return { intervals, delays };
}

/** What the keeper whose turn it is shows. */
function copied(
  requests: readonly Burst[],
  at: number,
  { lives, phase }: { lives: number; phase: number },
): ReturnType<typeof shown> {
  return shown(requests, Math.max(0, at - ((at + phase) % lives)));
}

/** True where the page shows more tokens than ever at two polls in a row. */
function countsInARow(requests: readonly Burst[], lives: number, phases: readonly number[]): boolean {
  let [newest, last] = [0, -Infinity];
  for (let at = 0; at <= length; at++) {
    const { outputTokens } = copied(requests, at, { lives, phase: phases[at % phases.length] as number });
    if (outputTokens <= newest) continue;
    if (last === at - 1) return true;
    [newest, last] = [outputTokens, at];
  }
  return false;
}

const activeSeconds = (intervals: readonly SettledInterval[]): number =>
  (totals(rowsOf(intervals, "g"), "nanos")["token_active"] ?? 0) / second;

/** How long a server with a copied page executes beside one that always does, the driver crediting who works. */
function creditedSeconds(requests: readonly Burst[], kept: { lives: number; phase: number }): number {
  const always = [{ from: 1, to: length }];
  const seconds = Array.from({ length }, (_, at): Second => {
    if (!isIn(always, at)) return { pids: [1, 2], busy: 0, shares: {} };
    return { pids: [1, 2], busy: 1, shares: isIn(requests, at) ? { 1: 0.5, 2: 0.5 } : { 2: 1 } };
  });
  const pollsOf = (work: readonly Burst[], copy: { lives: number; phase: number }): ServerPoll[] =>
    Array.from({ length: length + 1 }, (_, at) => ({
      at: at * second,
      inputTokens: 0,
      progress: "step",
      ...copied(work, at, copy),
    }));
  const { intervals } = run({
    gpus: [gpuInfo("g")],
    servers: [serverInfo("a", { pids: [1] }), serverInfo("b", { pids: [2] })],
    samples: readings("g", seconds),
    polls: { a: pollsOf(requests, kept), b: pollsOf(always, { lives: 1, phase: 0 }) },
    seconds: length,
  });
  const own = intervals.flatMap(({ servers }) => servers.filter(({ server }) => server === "a"));
  return sum(own.map(({ nanos }) => nanos.token_active)) / second;
}

/** Bursts of requests, with a pause before each and after the last. */
const bursts = fc
  .array(fc.record({ pause: fc.integer({ min: 3, max: 14 }), length: fc.integer({ min: 1, max: 8 }) }), {
    minLength: 1,
    maxLength: 4,
  })
  .map((all) => {
    let reached = 2;
    return all.map((one): Burst => {
      const from = reached + one.pause;
      reached = from + one.length;
      return { from, to: reached };
    });
  })
  .filter((all) => (all.at(-1) as Burst).to < length - 25);

describe("a page that may be a copy", () => {
  test("hides no execution, from the first copy on", () => {
    fc.assert(
      fc.property(
        bursts,
        fc.integer({ min: 2, max: 20 }),
        fc.nat(19),
        fc.constantFrom(1, 1, 5),
        (requests, lives, phase, pollSeconds) => {
          // A copy that lives for less than a poll and a fifth passes for the page itself.
          fc.pre(lives <= pollSeconds || lives >= 1.2 * pollSeconds);
          const { intervals } = metered(requests, requests, { lives, phases: [phase], pollSeconds });
          let wanted = 0;
          for (const { from, to } of requests) wanted += to - from;
          expect(Math.abs(activeSeconds(intervals) - wanted)).toBeLessThanOrEqual(1);
          const stalled = (totals(rowsOf(intervals, "g"), "nanos")["stalled"] ?? 0) / second;
          expect(stalled).toBeLessThanOrEqual(lives * requests.length);
        },
      ),
      { numRuns: 60 },
    );
  });

  test("hides no execution where several keep one each and take turns", () => {
    const phases = fc.array(fc.nat(14), { minLength: 2, maxLength: 3 });
    fc.assert(
      fc.property(bursts, fc.integer({ min: 4, max: 14 }), phases, (requests, lives, each) => {
        // A page that counts more at one poll after the other passes for the page itself.
        fc.pre(!countsInARow(requests, lives, each));
        const { intervals } = metered(requests, requests, { lives, phases: each });
        let wanted = 0;
        for (const { from, to } of requests) wanted += to - from;
        expect(Math.abs(activeSeconds(intervals) - wanted)).toBeLessThanOrEqual(1);
      }),
      { numRuns: 100 },
    );
  });

  test("hides no execution beside another server where the driver credits it, and adds none", () => {
    const drawn = fc.sample(fc.tuple(bursts, fc.integer({ min: 4, max: 14 }), fc.nat(13)), { numRuns: 24 });
    let [executed, off] = [0, 0];
    for (const [requests, lives, phase] of drawn) {
      const wanted = sum(requests.map(({ from, to }) => to - from));
      executed += wanted;
      off += Math.abs(creditedSeconds(requests, { lives, phase }) - wanted);
    }
    expect(off).toBeLessThan(0.2 * executed);
  }, 20_000);

  test("holds nothing open for longer than a copy lives, and others' work only once", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 30 }), (from) => {
        const { delays, intervals } = metered([{ from, to: length }], []);
        expect(activeSeconds(intervals)).toBe(0);
        expect(Math.max(...delays)).toBeLessThanOrEqual(34);
        expect(Math.max(...delays.slice(-20))).toBeLessThanOrEqual(2);
      }),
      { numRuns: 15 },
    );
  });

  test.each<[string, readonly Burst[]]>([
    ["the GPU rests", []],
    ["it shows the work at each poll", [{ from: 3, to: 90 }]],
  ])("holds nothing open where %s", (_name, requests) => {
    const { delays } = metered(requests, requests);
    expect(Math.max(...delays)).toBeLessThanOrEqual(1);
  });
});
