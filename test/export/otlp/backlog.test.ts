// A backlog that meets a second trouble: the agent was off for a day, the destination leaves again in mid-drain.
import { describe, expect, test } from "vitest";
import { createOtlpEncoder } from "../../../agent/export/otlp/encoder.ts";
import type { SenderOptions } from "../../../agent/export/otlp/sender.ts";
import { Sender } from "../../../agent/export/otlp/sender.ts";
import type { VirtualClock } from "../../../agent/platform/clock.ts";
import { virtualClock } from "../../../agent/platform/clock.ts";
import { silentLog } from "../../../agent/platform/log.ts";
import { memorySpool } from "../../../agent/store/spool/memory-spool.ts";
import type { Spool } from "../../../agent/store/spool/spool.ts";
import { decode } from "../otlp-decode.ts";
import { bulk, T0 } from "../snapshots.ts";

const SECOND = 1e9;
const encoder = createOtlpEncoder({ resource: {}, version: "0" });

async function append(spool: Spool, clock: VirtualClock, beat: number): Promise<void> {
  await clock.advance(beat * 10 * SECOND);
  spool.commit(await spool.append(encoder.encode(bulk(4, beat))));
}

interface Sent {
  readonly at: number;
  readonly beat: number;
}

function senderOf(
  spool: Spool,
  clock: VirtualClock,
  isUp: () => boolean,
  rest: Partial<SenderOptions> = {},
): { sender: Sender; sent: Sent[] } {
  const sent: Sent[] = [];
  const sender = new Sender({
    destination: "main",
    spool,
    clock,
    log: silentLog,
    random: () => 0,
    transport: {
      send: async (bytes) => {
        if (!isUp()) return { kind: "retry", code: "UNAVAILABLE", message: "away" };
        const beat = Number((decode(bytes).points[0]?.time ?? 0n) - T0) / 1e10;
        sent.push({ at: clock.now() / SECOND, beat });
        return { kind: "accepted" };
      },
      close: () => {},
    },
    ...rest,
  });
  sender.start();
  return { sender, sent };
}

describe("a backlog", () => {
  test("of an agent that was off for a day is drained at once, not at the pace of that day", async () => {
    const clock = virtualClock(T0);
    const spool = memorySpool(["main"]);
    for (let beat = 1; beat <= 180; beat++) await append(spool, clock, beat);
    await clock.advance(86_390 * SECOND);
    const { sender, sent } = senderOf(spool, clock, () => true);
    for (let beat = 8640; beat <= 8660; beat++) {
      await append(spool, clock, beat);
      await sender.settled();
    }
    expect(sent.at(-1)?.beat).toBe(8660);
    expect(sent.filter(({ beat }) => beat <= 180).length).toBeGreaterThanOrEqual(30);
    await sender.stop();
  });

  test("in parallel mode is thinned and paced after a second outage too, and live beats come first", async () => {
    const clock = virtualClock(T0);
    const spool = memorySpool(["main"]);
    let up = false;
    const { sender, sent } = senderOf(spool, clock, () => up, { backlog: "parallel" });
    const run = async (from: number, to: number): Promise<void> => {
      for (let beat = from; beat <= to; beat++) {
        await append(spool, clock, beat);
        await sender.settled();
      }
    };
    await run(1, 1000);
    up = true;
    await run(1001, 1003);
    up = false;
    await run(1004, 1400);
    up = true;
    sent.length = 0;
    await run(1401, 1405);
    const live = sent.filter(({ beat }) => beat > 1400);
    expect(live.map(({ at, beat }) => at - beat * 10 <= 10)).toEqual([true, true, true, true, true]);
    // 50 s of ten times the live rate, what is not old yet, and the first beats.
    expect(sent.length).toBeLessThan(50 + 35 + 10);
    await clock.advance(20_000 * SECOND);
    await run(2001, 2002);
    const old = sent.filter(({ beat }) => beat > 1003 && beat < 1370);
    expect(new Set(old.map(({ beat }) => Math.floor(beat / 6))).size).toBe(old.length);
    expect(spool.peek(spool.position("main"))).toBeUndefined();
    await sender.stop();
  });
});

test("one failed call in a drain is no outage: the drain goes on without a new random start", async () => {
  const clock = virtualClock(T0);
  const spool = memorySpool(["main"]);
  let up = false;
  let calls = 0;
  // From the tenth call on every tenth fails.
  const isUp = (): boolean => up && ++calls % 10 !== 0;
  const { sender, sent } = senderOf(spool, clock, isUp, { random: () => 0.99 });
  for (let beat = 1; beat <= 720; beat++) {
    await append(spool, clock, beat);
    await sender.settled();
  }
  up = true;
  await clock.advance(7200 * SECOND + 300 * SECOND + 300 * SECOND);
  // 110 thinned minutes at one a second, 12 failures of a second or two, and one start within five minutes.
  expect(sent.at(-1)?.beat).toBe(720);
  await sender.stop();
});

test("an absurd RetryInfo holds a sender back for an hour at most", async () => {
  for (const delayMs of [1e15, Number.POSITIVE_INFINITY, Number.NaN, -5]) {
    const clock = virtualClock(T0);
    const spool = memorySpool(["main"]);
    let calls = 0;
    const { sender } = senderOf(spool, clock, () => true, {
      transport: {
        send: async () =>
          calls++ === 0
            ? { kind: "retry", code: "UNAVAILABLE", message: "later", delayMs }
            : { kind: "accepted" },
        close: () => {},
      },
    });
    await append(spool, clock, 1);
    await sender.settled();
    await clock.advance(3_700 * SECOND);
    expect(sender.status()).toMatchObject({ sentRequests: 1, calls: 2 });
    await sender.stop();
  }
});

test("a warning with an accepted request is logged, and the request counts as sent", async () => {
  const warnings: unknown[] = [];
  const clock = virtualClock(T0);
  const spool = memorySpool(["main"]);
  const { sender } = senderOf(spool, clock, () => true, {
    log: { ...silentLog, warn: (event, facts) => void warnings.push([event, facts?.["cause"]]) },
    transport: {
      send: async () => ({ kind: "accepted", message: "attribute x is deprecated" }),
      close: () => {},
    },
  });
  await append(spool, clock, 1);
  await sender.settled();
  expect(warnings).toEqual([["destination warns", "attribute x is deprecated"]]);
  expect(sender.status()).toMatchObject({ sentRequests: 1, droppedPoints: {} });
  await sender.stop();
});
