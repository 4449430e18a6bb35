// The activity estimator: accuracy on three measured traces, and what each kind of source allows to say.
import { describe, expect, test } from "vitest";
import {
  createActivity,
  decidableUntil,
  observePoll,
  observeWindow,
  settle,
} from "../../../agent/correlate/activity/activity.ts";
import type { ActivitySegment, ActivityWindow } from "../../../agent/correlate/activity/evidence.ts";
import { observePeer } from "../../../agent/correlate/activity/others.ts";
import type { ServerPoll } from "../../../agent/model.ts";
import type { Line, Server, Trace } from "../trace-replay.ts";
import { activeOf, errorsOf, estimate, second, traceOf, within } from "../trace-replay.ts";

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
        expect(slow.sum).toBeLessThanOrEqual(0.015);
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
      from: index * 200_000_000,
      to: (index + 1) * 200_000_000,
      busyRatio: busy(index * 0.2) ? 0.9 : 0,
    }));
  const run = (readings: readonly ServerPoll[], activity: readonly ActivityWindow[]) => {
    const state = createActivity({ from: 0, pollNanos: second });
    for (const window of activity) observeWindow(state, window);
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
    for (const window of windows(() => true)) observeWindow(state, window);
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

  test("settle() carries the busy time of a long step back to where it began", () => {
    const spent = (at: number) => (at < 6 ? 0 : 2.6 * second);
    const readings = polls(1, (t) => t).map((poll) => ({ ...poll, activeNanos: spent(poll.at / second) }));
    const segments = run(
      readings,
      windows((t) => t >= 3.4 && t < 6),
    );
    expect(seconds(segments, "active")).toBeCloseTo(2.6, 6);
    expect(segments.find((segment) => segment.state === "active")?.from).toBeCloseTo(3.4 * second, -8);
  });

  test("settle() takes busy time beyond the work as pauses between steps", () => {
    const readings = polls(1, (t) => t).map((poll) => ({ ...poll, activeNanos: poll.at * 0.8 }));
    const segments = run(
      readings,
      windows((t) => t % 1 < 0.5),
    );
    expect(seconds(segments, "active")).toBeCloseTo(11 * 0.8, 6);
  });

  test("settle() marks work that either of two busy servers did, and neither claims, as contested", () => {
    const state = createActivity({ from: 0, pollNanos: second });
    const burst = (t: number) => (t < 5 ? 500 : 900);
    for (const window of windows((t) => t > 4.05 && t < 4.95)) observeWindow(state, window);
    observePeer(state, 4 * second, 5 * second);
    for (const poll of polls(0, burst)) observePoll(state, poll);
    const segments = run(polls(0, burst), []);
    expect(segments.some((segment) => segment.contested)).toBe(false);
    const shared = settle(state, 12 * second);
    const [own, left] = [seconds(shared, "active"), shared.filter((segment) => segment.contested)];
    expect(own).toBeGreaterThan(0.3);
    expect(own + left.reduce((sum, s) => sum + s.to - s.from, 0) / second).toBeCloseTo(0.8, 5);
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
    for (const window of windows(() => true)) observeWindow(state, window);
    expect(decidableUntil(state, 12 * second, 2 * second)).toBe(10 * second);
    expect(seconds(settle(state, 10 * second), "active")).toBeLessThanOrEqual(4);
  });
});
