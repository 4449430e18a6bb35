// When the agent reports about itself: not at the start, only to somebody, and to the end.
import { expect, test } from "vitest";
import { beatsOfReport, LoopDelays, SelfReport } from "../../agent/daemon/self-report.ts";
import type { SelfStats } from "../../agent/export/self/points.ts";
import { readSelf } from "../../agent/export/self/points.ts";
import type { Clock } from "../../agent/platform/clock.ts";
import { virtualClock } from "../../agent/platform/clock.ts";
import { silentLog } from "../../agent/platform/log.ts";
import { startCollector } from "../fakes/otlp-collector.ts";

const stats = (): SelfStats => ({
  exportedPoints: {},
  droppedPoints: {},
  exportDurations: {},
  retries: {},
  queuedRecords: 0,
  queuedBytes: 0,
  lostPoints: {},
  unsentSeconds: {},
  deadLetters: 0,
  polls: {},
  pollSeconds: {},
  gaps: {},
  sourceRestarts: {},
});
const report = {
  log: silentLog,
  resource: {},
  intervalMs: 60_000,
  firstMs: 5000,
  version: "1",
  read: () => readSelf(stats(), 1_700_000_000_000_000_000n),
};

function destination(port: number) {
  return {
    name: "main",
    target: { target: `127.0.0.1:${port}` },
    timeoutMs: 2000,
    gzip: false,
    backlog: "strict" as const,
  };
}

test("SelfReport begins 2 s after the start, and reports once more when it is stopped", async () => {
  const collector = await startCollector();
  const clock = virtualClock(0n);
  const self = new SelfReport({ ...report, clock, destination: destination(collector.port) });
  await clock.advance(1.9e9);
  expect(collector.requests).toHaveLength(0);
  await clock.advance(2.1e9);
  await self.stop();
  expect(collector.requests).toHaveLength(1);
  await collector.close();
});

test("SelfReport does not wait for its interval with the first report", async () => {
  const collector = await startCollector();
  const clock = virtualClock(0n);
  const self = new SelfReport({ ...report, clock, destination: destination(collector.port) });
  await clock.advance(6.9e9);
  expect(collector.requests).toHaveLength(0);
  await clock.advance(20e9);
  expect(collector.requests).toHaveLength(1);
  await self.stop();
  expect(collector.requests).toHaveLength(2);
  await collector.close();
});

test("own figures go out at least each minute, or with each beat where those are rarer", () => {
  for (const [exportMs, everyMs] of [
    ...[
      [1000, 6000],
      [10_000, 60_000],
      [15_000, 60_000],
      [30_000, 60_000],
      [45_000, 45_000],
    ],
    ...[
      [60_000, 60_000],
      [300_000, 300_000],
    ],
  ] as const)
    expect(beatsOfReport(exportMs) * exportMs).toBe(everyMs);
});

test("LoopDelays says the longest of the beats that a report covers", () => {
  const delays = new LoopDelays(3);
  expect(delays.longest).toBeUndefined();
  const said = [1, 5, 2, 3, 1, 0, 0].map((seconds) => {
    delays.noteBeat(seconds);
    return delays.longest;
  });
  expect(said).toEqual([1, 5, 5, 5, 3, 3, 1]);
});

test("SelfReport that is stopped before it began never begins", async () => {
  const collector = await startCollector();
  const clock = virtualClock(0n);
  const self = new SelfReport({ ...report, clock, destination: destination(collector.port) });
  await self.stop();
  await clock.advance(10e9);
  expect(collector.requests).toHaveLength(0);
  await collector.close();
});

test("SelfReport without a destination sets no timer, so that the SDK is never loaded", async () => {
  const timers: number[] = [];
  const at = (time: number): (() => void) => {
    timers.push(time);
    return () => {};
  };
  const clock: Clock = { ...virtualClock(0n), at };
  await new SelfReport({ ...report, clock, destination: undefined }).stop();
  expect(timers).toEqual([]);
  await new SelfReport({ ...report, clock, destination: destination(9) }).stop();
  expect(timers).toEqual([2e9]);
});
