// The activity estimator against measured truth: a server was active from t - e2e_s to t of each `req` line of its log.
// Traces are recording format 1 of three H100 runs; polls and windows are taken from them as `replay` does.
import { readdirSync, readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ActivitySegment, ActivityWindow, ServerPoll } from "../../agent/correlate/activity.ts";
import {
  createActivity,
  decidableUntil,
  observePeer,
  observePoll,
  observeWindow,
  settle,
} from "../../agent/correlate/activity.ts";

const second = 1_000_000_000;
type Line = Record<string, number & string> & { t: number; event: string };
type Stretch = readonly [from: number, to: number];

interface Server {
  readonly name: string;
  readonly start: number;
  readonly lines: readonly Line[];
}

interface Trace {
  readonly length: number;
  readonly gpu: readonly { readonly t: number; readonly utilization: number }[];
  readonly servers: readonly Server[];
}

function linesOf(path: URL): Line[] {
  const text = gunzipSync(readFileSync(path)).toString();
  return text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
}

function traceOf(name: string): Trace {
  const folder = new URL(`../fixtures/traces/${name}/`, import.meta.url);
  const samples = linesOf(new URL("gpu.jsonl.gz", folder)).slice(1);
  const begin = samples[0]?.t ?? 0;
  const servers = readdirSync(folder)
    .filter((file) => file.startsWith("tokens"))
    .sort();
  return {
    length: (samples.at(-1)?.t ?? 0) - begin,
    gpu: samples.map((line) => ({ t: line.t - begin, utilization: (line["gpu_util_pct"] ?? 0) / 100 })),
    servers: servers.map((file) => {
      const lines = linesOf(new URL(file, folder)).map((line) => ({ ...line, t: line.t - begin }) as Line);
      return { name: file, start: lines.find((line) => line.event === "start")?.t ?? 0, lines };
    }),
  };
}

/** Utilisation is refreshed every 200 ms, so a reading is 100 ms old on average. */
function windowsOf(trace: Trace): ActivityWindow[] {
  const windows: ActivityWindow[] = [];
  let newest = 0;
  let before: number | undefined;
  for (let t = 0; t <= trace.length; t += 0.2) {
    while ((trace.gpu[newest + 1]?.t ?? Infinity) <= t + 1e-6) newest++;
    const sample = trace.gpu[newest];
    if (sample === undefined || sample.t === before) continue;
    if (before !== undefined)
      windows.push({ from: nanos(before - 0.1), to: nanos(sample.t - 0.1), busyRatio: sample.utilization });
    before = sample.t;
  }
  return windows;
}

function pollsOf(server: Server, length: number, pollSeconds: number, offset: number): ServerPoll[] {
  const instants = [];
  for (let t = offset; t < length; t += pollSeconds) instants.push(t);
  const polls: ServerPoll[] = [];
  for (const t of [...instants, length]) {
    if (t < server.start) continue;
    let [inputTokens, outputTokens, inFlight] = [0, 0, 0];
    for (const line of server.lines) {
      if (line.t > t + 1e-6) break;
      inputTokens = line["prompt_tokens_total"] ?? inputTokens;
      outputTokens = line["generation_tokens_total"] ?? outputTokens;
      inFlight = line["requests_running"] ?? inFlight;
    }
    polls.push({ at: nanos(t), inputTokens, outputTokens, inFlight, progress: "step" });
  }
  return polls;
}

/** Feeds one second at a time, as a live host would see it arrive, and settles what is decidable. */
function estimate(trace: Trace, pollSeconds: number, offset = 0): ActivitySegment[][] {
  const windows = windowsOf(trace);
  const settleNanos = nanos(Math.min(30, 2 * pollSeconds));
  const runs = trace.servers.map((server) => ({
    from: nanos(server.start),
    polls: pollsOf(server, trace.length, pollSeconds, offset),
    activity: createActivity({
      from: nanos(server.start),
      pollNanos: nanos(pollSeconds),
      beganAtZero: true,
    }),
    segments: [] as ActivitySegment[],
  }));
  for (let tick = 1; ; tick++) {
    const end = tick >= trace.length;
    const now = nanos(Math.min(tick, trace.length));
    for (const run of runs) feed(run, runs, windows, now - second, now);
    const begun = runs.filter((run) => run.from < now);
    const until = Math.min(now, ...begun.map((run) => decidableUntil(run.activity, now, settleNanos)));
    for (const run of runs) run.segments.push(...settle(run.activity, end ? now : until));
    if (end) return runs.map((run) => run.segments);
  }
}

type Run = { from: number; polls: ServerPoll[]; activity: ReturnType<typeof createActivity> };

function feed(
  run: Run,
  runs: readonly Run[],
  windows: readonly ActivityWindow[],
  after: number,
  now: number,
) {
  for (const window of windows)
    if (window.to > Math.max(after, run.from) && window.to <= now) observeWindow(run.activity, window);
  for (const [index, poll] of run.polls.entries()) {
    if (poll.at <= after && poll.at !== 0) continue;
    if (poll.at > now || !observePoll(run.activity, poll)) continue;
    const before = run.polls[index - 1] ?? { at: run.from, inputTokens: 0, outputTokens: 0, inFlight: 0 };
    const moved = poll.outputTokens > before.outputTokens || poll.inputTokens > before.inputTokens;
    if (moved || (poll.inFlight ?? 0) > 0 || (before.inFlight ?? 0) > 0)
      for (const peer of runs) if (peer !== run) observePeer(peer.activity, before.at, poll.at);
  }
}

function nanos(seconds: number): number {
  return Math.round(seconds * second);
}

function activeOf(segments: readonly ActivitySegment[]): Stretch[] {
  return segments
    .filter((segment) => segment.state === "active")
    .map((segment) => [segment.from / second, segment.to / second]);
}

function truthOf(server: Server): Stretch[] {
  return union(
    server.lines
      .filter((line) => line.event === "req")
      .map((line) => [line.t - (line["e2e_s"] ?? 0), line.t]),
  );
}

function union(stretches: readonly Stretch[]): Stretch[] {
  const joined: [number, number][] = [];
  for (const [from, to] of [...stretches].sort((left, right) => left[0] - right[0])) {
    const last = joined.at(-1);
    if (last !== undefined && from <= last[1]) last[1] = Math.max(last[1], to);
    else joined.push([from, to]);
  }
  return joined;
}

function within(stretches: readonly Stretch[], from: number, to: number): number {
  return stretches.reduce((sum, [a, b]) => sum + Math.max(0, Math.min(b, to) - Math.max(a, from)), 0);
}

function errorsOf(trace: Trace, segments: readonly ActivitySegment[][]) {
  const { length } = trace;
  const found = segments.map(activeOf);
  const truth = trace.servers.map(truthOf);
  const [all, real] = [union(found.flat()), union(truth.flat())];
  let windows = 0;
  for (let from = 0; from < length; from += 10) {
    const to = Math.min(length, from + 10);
    windows += Math.abs(within(all, from, to) - within(real, from, to));
  }
  return {
    sum: Math.abs(within(all, 0, length) - within(real, 0, length)) / length,
    windows: windows / length,
    own: Math.max(
      ...found.map(
        (own, index) => Math.abs(within(own, 0, length) - within(truth[index] ?? [], 0, length)) / length,
      ),
    ),
  };
}

const names = ["h100-solo-8b", "h100-low-load-1b", "h100-shared-8b-1b"];
const traces = new Map(names.map((name) => [name, traceOf(name)]));
const trace = (name: string) => traces.get(name) as Trace;

describe("accuracy on the measured traces (METERING.md 2)", () => {
  for (const name of names)
    for (const offset of [0, 0.13, 0.37, 0.5, 0.81])
      test(`settle() is within the bars on ${name}, polls ${offset} of an interval late`, () => {
        const fast = errorsOf(trace(name), estimate(trace(name), 1, offset));
        expect(fast.sum).toBeLessThanOrEqual(0.014);
        expect(fast.windows).toBeLessThanOrEqual(0.022);
        expect(fast.own).toBeLessThanOrEqual(0.016);
        const slow = errorsOf(trace(name), estimate(trace(name), 5, 5 * offset));
        expect(slow.sum).toBeLessThanOrEqual(0.026);
        expect(slow.windows).toBeLessThanOrEqual(0.0275);
        expect(slow.own).toBeLessThanOrEqual(0.08);
      });

  for (const name of names.slice(0, 2))
    test(`settle() finds nearly nothing in phases without tokens on ${name}`, () => {
      const { servers, length } = trace(name);
      const lines = (servers[0] as Server).lines.filter((line) => line.event === "phase");
      const active = activeOf(estimate(trace(name), 1)[0] ?? []);
      const silent = lines.flatMap((line, index) => {
        const to = lines[index + 1]?.t ?? length;
        return ["idle", "burn", "spin"].includes(line["phase"] ?? "") ? [[line.t, to] as const] : [];
      });
      expect(silent.length).toBeGreaterThanOrEqual(4);
      for (const [from, to] of silent)
        expect(within(active, from, to)).toBeLessThanOrEqual(0.015 * (to - from) + 0.5);
    });

  test("settle() says the same without phase lines, e2e_s and ttft_s", () => {
    for (const name of names) {
      const bare = trace(name).servers.map((server) => ({
        ...server,
        lines: server.lines
          .filter((line) => line.event !== "phase")
          .map((line) => {
            const { e2e_s: _latency, ttft_s: _first, ...rest } = line;
            return rest as Line;
          }),
      }));
      expect(estimate({ ...trace(name), servers: bare }, 1)).toEqual(estimate(trace(name), 1));
    }
  });
});

describe("what the sources can say", () => {
  const polls = (
    inFlight: number | undefined,
    tokens: (t: number) => number,
    extra: Partial<ServerPoll> = {},
  ) =>
    Array.from({ length: 12 }, (_, index): ServerPoll => {
      const base = {
        at: (index + 1) * second,
        inputTokens: 0,
        outputTokens: tokens(index + 1),
        progress: "step",
      } as const;
      return { ...base, ...(inFlight === undefined ? {} : { inFlight }), ...extra };
    });
  const windows = (busy: (t: number) => boolean) =>
    Array.from({ length: 60 }, (_, index) => ({
      from: index * 0.2 * second,
      to: (index + 1) * 0.2 * second,
      busyRatio: busy(index * 0.2) ? 0.9 : 0,
    }));
  const run = (readings: readonly ServerPoll[], activity: readonly ActivityWindow[]) => {
    const state = createActivity({ from: 0, pollNanos: second });
    for (const window of activity)
      observeWindow(state, { ...window, from: Math.round(window.from), to: Math.round(window.to) });
    for (const poll of readings) observePoll(state, poll);
    return settle(state, 12 * second);
  };
  const seconds = (segments: readonly ActivitySegment[], state: string) =>
    segments.filter((s) => s.state === state).reduce((sum, s) => sum + s.to - s.from, 0) / second;

  test("settle() calls work without tokens and requests idle", () => {
    expect(
      seconds(
        run(
          polls(0, () => 500),
          windows(() => true),
        ),
        "active",
      ),
    ).toBe(0);
  });

  test("settle() calls requests in flight on an idle GPU waiting", () => {
    const segments = run(
      polls(3, () => 500),
      windows(() => false),
    );
    expect(seconds(segments, "waiting")).toBeCloseTo(11, 1);
    expect(seconds(segments, "active")).toBe(0);
  });

  test("settle() calls work without a token for longer than stallAfterNanos waiting", () => {
    const state = createActivity({ from: 0, pollNanos: second, stallAfterNanos: 4 * second });
    for (const window of windows(() => true))
      observeWindow(state, { ...window, from: Math.round(window.from), to: Math.round(window.to) });
    for (const poll of polls(3, (t) => Math.min(t, 5))) observePoll(state, poll);
    const segments = settle(state, 12 * second);
    expect(seconds(segments, "waiting")).toBeCloseTo(3, 5);
    expect(seconds(segments, "active")).toBeCloseTo(8, 5);
  });

  test("settle() takes in flight and a working GPU where counters move at the end of a request", () => {
    const segments = run(
      polls(1, () => 0, { progress: "finish" }),
      windows((t) => t > 2 && t < 8),
    );
    expect(seconds(segments, "active")).toBeCloseTo(5.9, 0);
    expect(segments.every((segment) => segment.method === "in_flight")).toBe(true);
  });

  test("settle() claims nothing where neither step counters nor requests in flight are known", () => {
    const segments = run(
      polls(undefined, (t) => t, { progress: "finish" }),
      windows(() => true),
    );
    expect(segments).toEqual([{ from: 0, to: 12 * second, state: "idle", method: "unknown" }]);
  });

  test("settle() takes a server's own busy time exactly", () => {
    const readings = polls(1, (t) => t).map((poll) => ({ ...poll, activeNanos: poll.at * 0.3 }));
    const segments = run(
      readings,
      windows((t) => t % 1 < 0.5),
    );
    expect(seconds(segments, "active")).toBeCloseTo(11 * 0.3, 6);
    expect(segments.every((segment) => segment.method === "active_time")).toBe(true);
  });

  test("settle() goes by moving counters on a host without GPU activity", () => {
    const segments = run(
      polls(1, (t) => Math.min(t, 6) * 100),
      [],
    );
    expect(seconds(segments, "active")).toBeCloseTo(5, 6);
    expect(segments.some((segment) => segment.method === "counter_moved")).toBe(true);
  });

  test("settle() claims a cold prefill back to its first work", () => {
    const late = polls(0, (t) => (t < 6 ? 500 : 500 + t)).map((poll) => ({
      ...poll,
      inFlight: poll.at >= 6 * second ? 1 : 0,
    }));
    const segments = run(
      late,
      windows((t) => t >= 3.2),
    );
    expect(segments.find((segment) => segment.state === "active")?.from).toBeCloseTo(3.2 * second, -8);
  });

  test("decidableUntil() does not wait for a silent server longer than settleNanos", () => {
    const state = createActivity({ from: 0, pollNanos: second });
    for (const poll of polls(1, (t) => t).slice(0, 2)) observePoll(state, poll);
    for (const window of windows(() => true))
      observeWindow(state, { ...window, from: Math.round(window.from), to: Math.round(window.to) });
    expect(decidableUntil(state, 12 * second, 2 * second)).toBe(10 * second);
    expect(seconds(settle(state, 10 * second), "active")).toBeLessThanOrEqual(4);
  });
});

describe("laws for any input", () => {
  const scenario = fc.record({
    windows: fc.array(
      fc.record({
        length: fc.integer({ min: 1, max: 400 }),
        gap: fc.integer({ min: 0, max: 900 }),
        busy: fc.constantFrom(0, 0, 0.05, 0.5, 1),
      }),
      { maxLength: 150 },
    ),
    polls: fc.array(
      fc.record({
        after: fc.integer({ min: 1, max: 6000 }),
        tokens: fc.constantFrom(0, 0, 5, 5000),
        inFlight: fc.option(fc.integer({ min: 0, max: 2 }), { nil: undefined }),
        active: fc.integer({ min: 0, max: 7000 }),
      }),
      { maxLength: 30 },
    ),
    peers: fc.array(fc.tuple(fc.integer({ min: 0, max: 30_000 }), fc.integer({ min: 1, max: 5000 })), {
      maxLength: 4,
    }),
    progress: fc.constantFrom("step" as const, "finish" as const, "estimate" as const),
    timed: fc.boolean(),
    ticks: fc.array(fc.integer({ min: 1, max: 3000 }), { minLength: 1, maxLength: 40 }),
  });

  const build = (input: typeof scenario extends fc.Arbitrary<infer T> ? T : never) => {
    let at = 0;
    const windows = input.windows.map(({ length, gap, busy }) => {
      const from = at + gap;
      at = from + length;
      return { from: from * 1_000_000, to: at * 1_000_000, busyRatio: busy };
    });
    let [t, outputTokens, activeNanos] = [0, 0, 0];
    const polls = input.polls.map(({ after, tokens, inFlight, active }): ServerPoll => {
      t += after;
      outputTokens += tokens;
      activeNanos += active * 1_000_000;
      const base = { at: t * 1_000_000, inputTokens: 0, outputTokens, progress: input.progress };
      return {
        ...base,
        ...(inFlight === undefined ? {} : { inFlight }),
        ...(input.timed ? { activeNanos } : {}),
      };
    });
    return { windows, polls };
  };

  test("settle() covers the time exactly, in order, with active within wall time", () => {
    fc.assert(
      fc.property(scenario, (input) => {
        const { windows, polls } = build(input);
        const state = createActivity({ from: 0, pollNanos: second });
        for (const [from, length] of input.peers)
          observePeer(state, from * 1_000_000, (from + length) * 1_000_000);
        const segments: ActivitySegment[] = [];
        let now = 0;
        for (const tick of input.ticks) {
          const before = now;
          now += tick * 1_000_000;
          for (const window of windows)
            if (window.to > before && window.to <= now) observeWindow(state, window);
          for (const poll of polls) if (poll.at > before && poll.at <= now) observePoll(state, poll);
          const until = decidableUntil(state, now, 2 * second);
          expect(until).toBeLessThanOrEqual(now);
          expect(until).toBeGreaterThanOrEqual(Math.min(now, now - 2 * second));
          segments.push(...settle(state, until));
        }
        let reached = 0;
        for (const segment of segments) {
          expect(Number.isInteger(segment.from) && Number.isInteger(segment.to)).toBe(true);
          expect(segment.from).toBe(reached);
          expect(segment.to).toBeGreaterThan(segment.from);
          reached = segment.to;
        }
        expect(reached).toBe(state.decidedUntil);
        expect(state.windows.length + state.polls.length + state.peers.length).toBeLessThanOrEqual(3072);
      }),
    );
  });

  test("settle() does not depend on whether windows or polls arrived first", () => {
    fc.assert(
      fc.property(scenario, (input) => {
        const { windows, polls } = build(input);
        const [left, right] = [0, 1].map(() => createActivity({ from: 0, pollNanos: second }));
        if (left === undefined || right === undefined) return;
        for (const window of windows) observeWindow(left, window);
        for (const poll of polls) observePoll(left, poll);
        for (const poll of polls) observePoll(right, poll);
        for (const window of windows) observeWindow(right, window);
        expect(settle(left, 60 * second)).toEqual(settle(right, 60 * second));
      }),
    );
  });
});
