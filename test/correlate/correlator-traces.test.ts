// The three measured H100 traces through the Correlator: exact sums, right phases, accuracy of METERING.md 2.
import { beforeAll, describe, expect, test } from "vitest";
import type { GpuSample, SettledInterval } from "../../agent/model.ts";
import { ringOf } from "../tools/rings.ts";
import type { Recording, Replayed } from "./correlator-replay.ts";
import { recordingOf, replay, truthOf } from "./correlator-replay.ts";
import { rowsOf, second, shareTotals, sum, totals } from "./scene.ts";

const names = ["h100-solo-8b", "h100-low-load-1b", "h100-shared-8b-1b"];
const recordings = new Map<string, Recording>();
beforeAll(() => {
  for (const name of names) recordings.set(name, recordingOf(name));
});
const recording = (name: string): Recording => recordings.get(name) as Recording;

function moved({ samples }: Recording): number {
  return (samples.at(-1)?.energyMillijoules ?? 0) - (samples[0]?.energyMillijoules ?? 0);
}

/** Rows of the trace's GPU whose interval lies inside `[from, to]` seconds. */
function between({ intervals, recording: { info } }: Replayed, from: number, to: number) {
  const inside = intervals.filter((interval) => interval.from >= from * second && interval.to <= to * second);
  return rowsOf(inside, info.uuid);
}

function union(stretches: readonly (readonly [number, number])[]): [number, number][] {
  const joined: [number, number][] = [];
  for (const [from, to] of [...stretches].sort((left, right) => left[0] - right[0])) {
    const last = joined.at(-1);
    if (last !== undefined && from <= last[1]) last[1] = Math.max(last[1], to);
    else joined.push([from, to]);
  }
  return joined;
}

function within(stretches: readonly (readonly [number, number])[], from: number, to: number): number {
  return sum(stretches.map(([start, end]) => Math.max(0, Math.min(end, to) - Math.max(start, from))));
}

function ownActive(intervals: readonly SettledInterval[], id: string): number {
  const rows = intervals.flatMap(({ servers }) => servers.filter(({ server }) => server === id));
  return sum(rows.map(({ nanos }) => nanos.token_active)) / second;
}

/** The driver's ring as a reading a second brings it: every other line's utilisation, 175 ms before the line. */
function withRing({ samples }: Recording): (picked: readonly GpuSample[]) => readonly GpuSample[] {
  const points = samples
    .filter((_, index) => index % 2 === 0)
    .map(({ at, utilizationRatio = 0 }) => ({ at: at - 175_000_000, value: utilizationRatio }));
  return (picked) =>
    picked.map((sample) => ({
      ...sample,
      utilizationRing: ringOf(points.filter(({ at }) => at <= sample.at && at > sample.at - 1.5 * second)),
    }));
}

describe.each(names)("%s", (name) => {
  test.each([1, 5])("sums to wall time and to the counter exactly at %d s polls", (pollSeconds) => {
    const { intervals, correlator } = replay(recording(name), { pollSeconds });
    const { info, end, servers } = recording(name);
    const rows = rowsOf(intervals, info.uuid);
    expect(sum(Object.values(totals(rows, "nanos")))).toBe(end);
    const energy = totals(rows, "millijoules");
    expect(sum(Object.values(energy))).toBe(moved(recording(name)));
    expect(energy["unattributed"]).toBe(0);
    expect(correlator.status().energy[info.uuid]?.rejectedMillijoules).toBe(0);
    const shared = servers.map(({ id }) => sum(Object.values(shareTotals(rows, id, "millijoules"))));
    const rest = ["other", "free", "unobserved", "unattributed"].map((state) => energy[state] as number);
    expect(sum(shared) + sum(rest)).toBe(moved(recording(name)));
    for (const server of servers) {
      const last = server.lines.findLast((line) => line["generation_tokens_total"] !== undefined);
      const booked = intervals.flatMap((interval) =>
        interval.servers.filter((row) => row.server === server.id).flatMap(({ increments }) => increments),
      );
      expect(sum(booked.map(({ tokens }) => tokens.output ?? 0))).toBe(last?.["generation_tokens_total"]);
      expect(sum(booked.map(({ tokens }) => tokens.input_unsplit ?? 0))).toBe(last?.["prompt_tokens_total"]);
    }
  });

  test.each([
    [1, "plain utilisation at 200 ms", 0.02, 0.035, 0.02],
    [5, "plain utilisation at 200 ms", 0.03, 0.055, 0.08],
    [1, "the ring once a second", 0.02, 0.035, 0.02],
    [5, "the ring once a second", 0.03, 0.055, 0.08],
  ])(
    "finds token-active time within the bar at %d s polls from %s",
    (pollSeconds, source, bar, windowBar, ownBar) => {
      const ring = { gpuPollMs: 1000, alter: withRing(recording(name)) };
      const { intervals } = replay(recording(name), {
        pollSeconds,
        ...(source.startsWith("the ring") ? ring : {}),
      });
      const { info, end, servers } = recording(name);
      const length = end / second;
      const truths = servers.map(truthOf);
      const truth = union(truths.flat());
      const active = (from: number, to: number): number =>
        sum(
          intervals
            .filter((interval) => interval.from >= from * second && interval.from < to * second)
            .flatMap(({ gpus }) =>
              gpus.filter(({ gpu }) => gpu === info.uuid).map(({ nanos }) => nanos.token_active / second),
            ),
        );
      expect(Math.abs(active(0, length) - within(truth, 0, length))).toBeLessThanOrEqual(bar * length);
      let windows = 0;
      for (let from = 0; from < length; from += 10)
        windows += Math.abs(active(from, from + 10) - within(truth, from, from + 10));
      expect(windows).toBeLessThanOrEqual(windowBar * length);
      servers.forEach(({ id }, index) => {
        const error = ownActive(intervals, id) - within(truths[index] ?? [], 0, length);
        expect(Math.abs(error)).toBeLessThanOrEqual(ownBar * length);
      });
    },
  );
});

describe("h100-solo-8b, by phase", () => {
  test("before the process: free; idle: parked; burn: stalled", () => {
    const replayed = replay(recording("h100-solo-8b"));
    expect(totals(between(replayed, 0, 5), "nanos")).toMatchObject({ free: 5 * second });
    expect(totals(between(replayed, 10, 14), "nanos")).toMatchObject({ parked: 4 * second });
    expect(totals(between(replayed, 97, 102), "nanos")).toMatchObject({
      stalled: 5 * second,
      token_active: 0,
    });
    const idle = totals(between(replayed, 10, 14), "millijoules")["parked"] as number;
    expect(idle / 4000).toBeGreaterThan(118);
    expect(idle / 4000).toBeLessThan(138);
    const serve = totals(between(replayed, 20, 45), "millijoules")["token_active"] as number;
    expect(serve / 25_000).toBeGreaterThan(585);
    expect(serve / 25_000).toBeLessThan(605);
  });

  test("comes to the published figures", () => {
    const { intervals, recording: traced } = replay(recording("h100-solo-8b"));
    const rows = rowsOf(intervals, traced.info.uuid);
    const { token_active = 0, stalled = 0, parked = 0 } = totals(rows, "nanos");
    const seconds = (token_active + stalled + parked) / second;
    const energy = totals(rows, "millijoules");
    const joules = sum(["token_active", "stalled", "parked"].map((state) => energy[state] as number)) / 1000;
    const lines = traced.servers[0]?.lines ?? [];
    const output =
      lines.findLast((line) => line["generation_tokens_total"] !== undefined)?.["generation_tokens_total"] ??
      0;
    expect((output * 3600) / seconds / 10.2e6).toBeCloseTo(1, 2);
    expect(token_active / second / seconds).toBeCloseTo(0.54, 1);
    expect(output / joules / 6.7).toBeCloseTo(1, 2);
  });
});

describe("h100-shared-8b-1b", () => {
  test("the server that is idle gets no active energy, and half of the time", () => {
    const replayed = replay(recording("h100-shared-8b-1b"));
    // The 1B server pauses from 4.4 s to 9.4 s, the 8B server from 20.8 s to 30.8 s.
    for (const [idle, busy, from, to] of [
      ["tokens-1b", "tokens-8b", 5, 9],
      ["tokens-8b", "tokens-1b", 22, 30],
    ] as const) {
      const rows = between(replayed, from, to);
      // It holds the GPU: half of the floor, which is assumed or hardly measured in this trace, and nothing above it.
      const { parked = 0, ...worked } = shareTotals(rows, idle, "millijoules");
      expect(worked).toEqual({ token_active: 0, stalled: 0 });
      expect(parked / 1000 / (to - from)).toBeGreaterThan(0.5 * 60);
      expect(parked / 1000 / (to - from)).toBeLessThan(0.5 * 140);
      expect(sum(Object.values(shareTotals(rows, idle, "nanos")))).toBe(((to - from) * second) / 2);
      expect(shareTotals(rows, busy, "nanos")).toMatchObject({ token_active: ((to - from) * second) / 2 });
    }
  });

  test("energy is shared by SM share once 10 s of it were seen, by each one's own power before", () => {
    const replayed = replay(recording("h100-shared-8b-1b"));
    const methods = (from: number, to: number) =>
      new Set(between(replayed, from, to).flatMap(({ residents }) => residents.map(({ method }) => method)));
    expect(methods(10, 18)).toEqual(new Set(["own_power"]));
    expect(methods(32, 34)).toEqual(new Set(["sm_share"]));
  });
});

describe("damaged traces", () => {
  const damage: Record<string, (samples: readonly GpuSample[]) => readonly GpuSample[]> = {
    "a hole of 12 s": (samples) => samples.filter(({ at }) => at < 40 * second || at > 52 * second),
    "a counter that drops to 200 J and stays": (samples) =>
      samples.map((sample) =>
        sample.at < 30 * second
          ? sample
          : {
              ...sample,
              energyMillijoules:
                (sample.energyMillijoules ?? 0) - (samples[150]?.energyMillijoules ?? 0) + 200_000,
            },
      ),
    "one absurd counter reading": (samples) =>
      samples.map((sample, index) => (index === 200 ? { ...sample, energyMillijoules: 9e12 } : sample)),
    "NaN in every third reading": (samples) =>
      samples.map((sample, index) =>
        index % 3 === 0
          ? { ...sample, energyMillijoules: Number.NaN, powerWatts: Number.NaN, utilizationRatio: Number.NaN }
          : sample,
      ),
    "every reading twice": (samples) => samples.flatMap((sample) => [sample, sample]),
    "no counter at all": (samples) => samples.map(({ energyMillijoules, ...sample }) => sample),
    "no power at all": (samples) =>
      samples.map(({ energyMillijoules, powerWatts, powerInstantWatts, ...sample }) => sample),
  };

  test.each(Object.keys(damage))("%s: the laws hold, and the total stays near the truth", (what) => {
    const alter = damage[what];
    const {
      intervals,
      correlator,
      recording: traced,
    } = replay(recording("h100-solo-8b"), alter ? { alter } : {});
    const rows = rowsOf(intervals, traced.info.uuid);
    expect(sum(Object.values(totals(rows, "nanos")))).toBe(traced.end);
    const { acceptedMillijoules, integratedMillijoules } = correlator.status().energy[traced.info.uuid] ?? {
      acceptedMillijoules: 0,
      integratedMillijoules: 0,
    };
    const booked = sum(Object.values(totals(rows, "millijoules")));
    expect(booked).toBe(acceptedMillijoules + integratedMillijoules);
    if (what === "no power at all") expect(booked).toBe(0);
    else expect(Math.abs(booked / moved(traced) - 1)).toBeLessThan(0.02);
  });

  test("a counter whose glitch is refused says so", () => {
    const alter = damage["one absurd counter reading"];
    const { intervals, recording: traced } = replay(recording("h100-solo-8b"), alter ? { alter } : {});
    const rejected = sum(
      rowsOf(intervals, traced.info.uuid).map(({ rejectedMillijoules }) => rejectedMillijoules),
    );
    expect(rejected).toBeGreaterThan(8e12);
    expect(new Set(rowsOf(intervals, traced.info.uuid).map(({ energyMethod }) => energyMethod))).toEqual(
      new Set(["counter", "integrated"]),
    );
  });
});
