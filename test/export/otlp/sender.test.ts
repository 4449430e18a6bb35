// The sender on a virtual clock with a scripted transport: every wait is exact and none is slept.
import { describe, expect, test } from "vitest";
import { createOtlpEncoder } from "../../../agent/export/otlp/encoder.ts";
import type { SenderOptions } from "../../../agent/export/otlp/sender.ts";
import { Sender } from "../../../agent/export/otlp/sender.ts";
import type { Delivery, Transport } from "../../../agent/export/otlp/transport.ts";
import type { VirtualClock } from "../../../agent/platform/clock.ts";
import { virtualClock } from "../../../agent/platform/clock.ts";
import { silentLog } from "../../../agent/platform/log.ts";
import { memorySpool } from "../../../agent/store/spool/memory-spool.ts";
import type { Spool } from "../../../agent/store/spool/spool.ts";
import { decode } from "../otlp-decode.ts";
import { bulk, T0 } from "../snapshots.ts";

const SECOND = 1e9;
const retry = (code = "UNAVAILABLE", delayMs?: number): Delivery => ({
  kind: "retry",
  code,
  message: "try later",
  ...(delayMs === undefined ? {} : { delayMs }),
});

interface Bench {
  readonly clock: VirtualClock;
  readonly spool: Spool;
  readonly sender: Sender;
  readonly sent: { at: number; bytes: Uint8Array }[];
  readonly parked: string[];
  /** Encodes beats at their time and lets them be sent. */
  beat(number: number, series?: number): Promise<void>;
}

function bench(
  script: (attempt: number, bytes: Uint8Array) => Delivery,
  rest: Partial<SenderOptions> = {},
): Bench {
  const clock = virtualClock(T0);
  const spool = memorySpool(["main"]);
  const sent: { at: number; bytes: Uint8Array }[] = [];
  const parked: string[] = [];
  const transport: Transport = {
    send: async (bytes) => {
      sent.push({ at: clock.now() / SECOND, bytes });
      return script(sent.length - 1, bytes);
    },
    close: () => {},
  };
  const sender = new Sender({
    destination: "main",
    transport,
    spool,
    clock,
    log: silentLog,
    random: () => 0,
    park: async (_, __, why) => void parked.push(why),
    ...rest,
  });
  sender.start();
  const encoder = createOtlpEncoder({ resource: {}, version: "0" });
  return {
    clock,
    spool,
    sender,
    sent,
    parked,
    beat: async (number, series = 4) => {
      await clock.advance(number * 10 * SECOND);
      spool.commit(await spool.append(encoder.encode(bulk(series, number))));
      await sender.settled();
    },
  };
}

/** Beats of the records sent, from the points' times. */
function beats(sent: Bench["sent"]): number[] {
  return sent.map(({ bytes }) => Number((decode(bytes).points[0]?.time ?? 0n) - T0) / 1e10);
}

describe("Sender", () => {
  test("sends each committed record once and in order", async () => {
    const { beat, sent, sender, spool } = bench(() => ({ kind: "accepted" }));
    for (let number = 1; number <= 5; number++) await beat(number);
    expect(beats(sent)).toEqual([1, 2, 3, 4, 5]);
    expect(sender.status()).toMatchObject({ state: "idle", sentRequests: 5, sentPoints: 20, position: 5 });
    expect(spool.status().records).toBe(0);
  });

  test("sends nothing that is not committed", async () => {
    const { spool, sender, sent } = bench(() => ({ kind: "accepted" }));
    await spool.append(createOtlpEncoder({ resource: {}, version: "0" }).encode(bulk(4)));
    await sender.pump();
    expect(sent).toEqual([]);
  });

  test("repeats what may be retried, doubling the pause up to its bound, for as long as it takes", async () => {
    const { beat, clock, sent, sender } = bench((attempt) => (attempt < 9 ? retry() : { kind: "accepted" }));
    await beat(1);
    await clock.advance(300 * SECOND);
    const gaps = sent.slice(1).map(({ at }, i) => at - (sent[i]?.at ?? 0));
    expect(gaps).toEqual([0.5, 1, 2, 4, 8, 15, 15, 15, 15]);
    expect(sender.status()).toMatchObject({ retries: 9, sentRequests: 1, lastError: undefined });
  });

  test("waits at least as long as RetryInfo says", async () => {
    const { beat, clock, sent } = bench((attempt) =>
      attempt === 0 ? retry("UNAVAILABLE", 7_000) : { kind: "accepted" },
    );
    await beat(1);
    await clock.advance(60 * SECOND);
    expect(sent.map(({ at }) => at)).toEqual([10, 17]);
  });

  test("splits a request that is too large until its parts pass, and loses no point", async () => {
    const taken: Uint8Array[] = [];
    const { beat, sender } = bench((_, bytes) => {
      if (bytes.length > 900) return { kind: "too_large", message: "larger than max" };
      taken.push(bytes);
      return { kind: "accepted" };
    });
    await beat(1, 9);
    const ids = taken.flatMap((bytes) => decode(bytes).points).map((point) => point.attributes["hw.id"]);
    expect(new Set(ids).size).toBe(9);
    expect(ids).toHaveLength(9);
    expect(sender.status()).toMatchObject({ sentPoints: 9, droppedPoints: {} });
  });

  test("does not repeat parts that passed when a later part has to be retried", async () => {
    const taken: Uint8Array[] = [];
    let failures = 1;
    const { beat, clock } = bench((_, bytes) => {
      if (bytes.length > 900) return { kind: "too_large", message: "larger than max" };
      if (taken.length === 2 && failures-- > 0) return retry();
      taken.push(bytes);
      return { kind: "accepted" };
    });
    await beat(1, 9);
    await clock.advance(60 * SECOND);
    expect(taken.flatMap((bytes) => decode(bytes).points)).toHaveLength(9);
  });

  test("parks a single point that is too large and goes on", async () => {
    const { beat, sender, parked } = bench((attempt) =>
      attempt === 0 ? { kind: "too_large", message: "larger than max" } : { kind: "accepted" },
    );
    await beat(1, 1);
    await beat(2, 1);
    expect(parked).toEqual(["too_large"]);
    expect(sender.status()).toMatchObject({ sentPoints: 1, droppedPoints: { too_large: 1 } });
  });

  test("counts and parks a partial success and never sends it again", async () => {
    const { beat, sent, sender, parked, clock } = bench(() => ({
      kind: "partial",
      rejectedPoints: 3,
      message: "no",
    }));
    await beat(1, 10);
    await clock.advance(600 * SECOND);
    expect(sent).toHaveLength(1);
    expect(parked).toEqual(["partial"]);
    expect(sender.status()).toMatchObject({ sentPoints: 7, droppedPoints: { partial: 3 } });
  });

  test("drops what may not be retried, counts it by code and goes on with the next record", async () => {
    const { beat, sent, sender, parked } = bench((attempt) =>
      attempt === 0 ? { kind: "refused", code: "INVALID_ARGUMENT", message: "no" } : { kind: "accepted" },
    );
    await beat(1, 10);
    await beat(2, 10);
    expect(beats(sent)).toEqual([1, 2]);
    expect(parked).toEqual(["INVALID_ARGUMENT"]);
    expect(sender.status().droppedPoints).toEqual({ INVALID_ARGUMENT: 10 });
  });

  test("gives up a call at its deadline and retries", async () => {
    const clock = virtualClock(T0);
    const spool = memorySpool(["main"]);
    let calls = 0;
    const transport: Transport = {
      send: (_, signal) =>
        new Promise((resolve) => {
          if (calls++ > 0) resolve({ kind: "accepted" });
          signal.addEventListener("abort", () => resolve(retry("CANCELLED")));
        }),
      close: () => {},
    };
    const options = {
      destination: "main",
      transport,
      spool,
      clock,
      log: silentLog,
      timeoutMs: 2_000,
      random: () => 0,
    };
    const sender = new Sender(options);
    sender.start();
    spool.commit(await spool.append(createOtlpEncoder({ resource: {}, version: "0" }).encode(bulk(1))));
    await settle();
    await clock.advance(2 * SECOND);
    await settle();
    expect(sender.status().lastError).toMatch(/^DEADLINE_EXCEEDED: no answer within 2000 ms/);
    await clock.advance(4 * SECOND);
    await settle();
    expect(sender.status()).toMatchObject({ sentRequests: 1, retries: 1 });
  });

  test("flush() tries again at once and says whether all was delivered", async () => {
    const { beat, sender, sent } = bench((attempt) => (attempt === 0 ? retry() : { kind: "accepted" }));
    await beat(1);
    expect(sender.status().state).toBe("retrying");
    expect(await sender.flush(5_000)).toBe(true);
    expect(sent).toHaveLength(2);
  });

  test("stop() keeps what was not sent and stops for good", async () => {
    const { beat, clock, sender, sent, spool } = bench(() => retry());
    await beat(1);
    await sender.stop();
    await clock.advance(600 * SECOND);
    expect(sent).toHaveLength(1);
    expect(sender.status().state).toBe("stopped");
    expect(spool.status().records).toBe(1);
  });
});

describe("Sender and the clock", () => {
  test("delivers in order whatever the times in the records: an hour ahead, an hour back", async () => {
    const { spool, sender, sent, clock } = bench(() => ({ kind: "accepted" }));
    const encoder = createOtlpEncoder({ resource: {}, version: "0" });
    await clock.advance(3_600 * SECOND);
    for (const number of [360, 720, 361, 0, 362])
      spool.commit(await spool.append(encoder.encode(bulk(4, number))));
    await sender.settled();
    await clock.advance(3_700 * SECOND);
    expect(beats(sent)).toEqual([360, 720, 361, 0, 362]);
  });
});

describe("Sender after an outage", () => {
  test("sends oldest first, one record per minute of what is older than five minutes, then every beat", async () => {
    let up = false;
    const { beat, clock, sent } = bench(() => (up ? { kind: "accepted" } : retry()));
    for (let number = 1; number <= 90; number++) await beat(number);
    up = true;
    sent.length = 0;
    await clock.advance(1200 * SECOND);
    const got = beats(sent);
    expect(got).toEqual([...got].sort((a, b) => a - b));
    expect(got.at(-1)).toBe(90);
    const minutes = got.map((number) => Math.floor(number / 6));
    const old = minutes.filter((minute) => minute < 9);
    expect(new Set(old).size).toBe(old.length);
    expect(got.length).toBeLessThan(60);
  });

  test("drains at ten times the live rate, beginning at a random moment within five minutes", async () => {
    let up = false;
    const { beat, clock, sent } = bench(() => (up ? { kind: "accepted" } : retry()), { random: () => 0.5 });
    for (let number = 1; number <= 720; number++) await beat(number);
    up = true;
    sent.length = 0;
    await clock.advance(7200 * SECOND + 600 * SECOND);
    const [probe, second] = sent;
    const jitter = (second?.at ?? 0) - (probe?.at ?? 0);
    expect(jitter).toBeGreaterThanOrEqual(150);
    expect(jitter).toBeLessThan(152);
    const old = sent
      .slice(1)
      .filter(({ bytes }) => Number((decode(bytes).points[0]?.time ?? 0n) - T0) / 1e9 < 6800);
    const span = (old.at(-1)?.at ?? 0) - (old[0]?.at ?? 0);
    expect(span).toBeGreaterThan(old.length * 0.95 - 2);
    expect(span).toBeLessThan(old.length * 1.1);
  });

  test("in parallel mode live beats come through while the backlog drains, and none is sent twice", async () => {
    let up = false;
    const options: Partial<SenderOptions> = { backlog: "parallel", random: () => 0.9 };
    const { beat, sent, sender } = bench(() => (up ? { kind: "accepted" } : retry()), options);
    for (let number = 1; number <= 100; number++) await beat(number);
    up = true;
    sent.length = 0;
    for (let number = 101; number <= 160; number++) {
      await beat(number);
      if (number > 104) expect(beats(sent)).toContain(number);
    }
    const got = beats(sent);
    expect(new Set(got).size).toBe(got.length);
    for (let number = 95; number <= 160; number++) expect(got).toContain(number);
    expect(sender.status().position).toBe(160);
  });

  test("in skip mode only what is live is sent and the rest is counted", async () => {
    let up = false;
    const { beat, sent, sender, spool } = bench(() => (up ? { kind: "accepted" } : retry()), {
      backlog: "skip",
    });
    for (let number = 1; number <= 100; number++) await beat(number);
    up = true;
    sent.length = 0;
    await beat(104);
    expect(Math.min(...beats(sent))).toBeGreaterThan(70);
    const { skippedPoints } = sender.status();
    expect(skippedPoints).toBeGreaterThan(200);
    expect(spool.status().losses).toEqual([
      expect.objectContaining({
        why: "skipped",
        destination: "main",
        points: skippedPoints,
        from: T0 + 10n ** 10n,
      }),
    ]);
  });

  test("never thins a record in which a series begins or ends", async () => {
    let up = false;
    const { clock, sent, spool, sender } = bench(() => (up ? { kind: "accepted" } : retry()));
    const encoder = createOtlpEncoder({ resource: {}, version: "0" });
    for (let number = 1; number <= 120; number++) {
      await clock.advance(number * 10 * SECOND);
      const fresh = bulk(4, number, number === 3);
      spool.commit(await spool.append(encoder.encode(fresh)));
      await sender.settled();
    }
    up = true;
    sent.length = 0;
    await clock.advance(3000 * SECOND);
    const zeros = sent
      .flatMap(({ bytes }) => decode(bytes).points)
      .filter((point) => point.value === 0 || point.value === 0n);
    expect(zeros).toHaveLength(4);
  });
});

/** Lets promises that are ready run. */
async function settle(): Promise<void> {
  for (let i = 0; i < 20; i++) await Promise.resolve();
}
