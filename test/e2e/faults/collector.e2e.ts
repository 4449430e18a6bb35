// Every way a collector can misbehave, one after another, over real sockets. After each the oracle counts what is lost
// and what is doubled; both are 0, or the fault was a refusal for good and the refused points are counted.
import type { Server, Socket } from "node:net";
import { createServer } from "node:net";
import { afterAll, afterEach, describe, expect, test } from "vitest";
import { systemClock } from "../../../agent/platform/clock.ts";
import { status } from "../../../agent/platform/grpc.ts";
import type { Answer, FakeCollector } from "../../fakes/otlp-collector.ts";
import { startCollector } from "../../fakes/otlp-collector.ts";
import { FLAWLESS, Oracle } from "./oracle.ts";
import type { Rig } from "./rig.ts";
import { startRig } from "./rig.ts";
import { SERIES } from "./truth.ts";

const closing: (() => Promise<void> | void)[] = [];
const report: string[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});
afterAll(() => console.log(`lost and doubled tokens by fault:\n  ${report.join("\n  ")}`));

async function collector(options: Parameters<typeof startCollector>[0] = {}): Promise<FakeCollector> {
  const made = await startCollector(options);
  closing.push(() => made.close());
  return made;
}

async function rig(port: number, rest: Parameters<typeof startRig>[1] = {}): Promise<Rig> {
  const made = await startRig({ main: { target: `127.0.0.1:${port}` } }, rest);
  closing.push(() => made.close());
  return made;
}

/** Delivers the rest, then judges. */
async function judge(name: string, one: Rig, ...takers: readonly FakeCollector[]): Promise<Oracle> {
  await one.run(3);
  expect(await one.drained()).toBe(true);
  const oracle = new Oracle(one.start);
  for (const request of takers.flatMap((taker) => taker.requests)) oracle.accept(request);
  const verdict = oracle.verdict(one.beats.length, one.beats);
  report.push(
    `${name}: lost ${verdict.lostTokens}, doubled ${verdict.doubledTokens}, repeats ${oracle.repeats}`,
  );
  expect(verdict).toEqual(FLAWLESS);
  return oracle;
}

describe("a collector that comes to its senses", () => {
  const faults: Record<string, Answer> = {
    "UNAVAILABLE without RetryInfo": { kind: "error", code: status.UNAVAILABLE },
    "UNAVAILABLE with RetryInfo": { kind: "error", code: status.UNAVAILABLE, retryAfterMs: 40 },
    "RESOURCE_EXHAUSTED with RetryInfo": { kind: "error", code: status.RESOURCE_EXHAUSTED, retryAfterMs: 40 },
    ABORTED: { kind: "error", code: status.ABORTED },
    DATA_LOSS: { kind: "error", code: status.DATA_LOSS },
    "black hole": { kind: "silence" },
    "accepted but the answer lost": { kind: "taken_then_lost" },
    "slower than the deadline": { kind: "slow", ms: 400 },
    slow: { kind: "slow", ms: 60 },
  };
  test.each(Object.entries(faults))("%s", async (name, answer) => {
    let healed = false;
    const fake = await collector({ answer: () => (healed ? { kind: "ok" } : answer) });
    const one = await rig(fake.port);
    await one.run(20);
    await new Promise((resolve) => setTimeout(resolve, 700));
    healed = true;
    await judge(name, one, fake);
  });

  test("refused connections, then a restart at the same port", async () => {
    const first = await collector();
    const one = await rig(first.port);
    await one.run(5);
    await one.drained();
    await first.close();
    await one.run(20);
    const second = await collector({ listen: `127.0.0.1:${first.port}` });
    await judge("refused", one, first, second);
  });

  test("too-large messages are split", async () => {
    const fake = await collector({ receiveBytesMax: 900 });
    const one = await rig(fake.port);
    await one.run(10);
    await judge("RESOURCE_EXHAUSTED, too large", one, fake);
    expect(one.senders.get("main")?.status().splits).toBeGreaterThan(0);
  });
});

describe("a network that comes to its senses", () => {
  /** A proxy that treats connections as told. */
  async function proxy(
    target: number,
    treat: (client: Socket, upstream: () => Socket) => void,
  ): Promise<Server> {
    const { connect } = await import("node:net");
    const server = createServer((client) => {
      client.on("error", () => {});
      treat(client, () => {
        const upstream = connect(target, "127.0.0.1");
        upstream.on("error", () => {});
        client.on("close", () => upstream.destroy());
        upstream.on("close", () => client.destroy());
        return upstream;
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    closing.push(() => void server.close());
    return server;
  }

  const treatments: Record<string, (client: Socket, upstream: Socket) => void> = {
    "reset in the middle of a call": (client, upstream) => {
      let passed = 0;
      client.on("data", (chunk) => {
        passed += chunk.length;
        upstream.write(chunk);
        if (passed > 3_000) client.resetAndDestroy();
      });
      upstream.pipe(client);
    },
    "answers that never come back (half open)": (client, upstream) => {
      client.pipe(upstream);
      upstream.once("data", (chunk) => client.write(chunk));
      upstream.resume();
    },
  };
  test.each(Object.entries(treatments))("%s", async (name, treat) => {
    const fake = await collector();
    let healed = false;
    const sockets = new Set<Socket>();
    const middle = await proxy(fake.port, (client, upstream) => {
      sockets.add(client);
      if (healed) client.pipe(upstream()).pipe(client);
      else treat(client, upstream());
    });
    const one = await rig((middle.address() as { port: number }).port);
    await one.run(30);
    await new Promise((resolve) => setTimeout(resolve, 700));
    healed = true;
    for (const socket of sockets) socket.destroy();
    await judge(name, one, fake);
  });
});

describe("a collector that refuses for good", () => {
  test.each([
    ["INVALID_ARGUMENT", { kind: "error", code: status.INVALID_ARGUMENT }],
    ["RESOURCE_EXHAUSTED", { kind: "error", code: status.RESOURCE_EXHAUSTED }],
    ["partial", { kind: "partial", rejected: SERIES }],
  ] as [string, Answer][])(
    "%s: counted, parked, never repeated, and the totals heal with the next beat",
    async (why, answer) => {
      let refusals = 0;
      const fake = await collector({
        answer: (index) => (index >= 3 && index < 6 && ++refusals ? answer : { kind: "ok" }),
      });
      const one = await rig(fake.port);
      for (let i = 0; i < 10; i++) {
        await one.run(1);
        await one.drained();
      }
      const seen = fake.seen();
      await one.run(1);
      await one.drained();
      expect(fake.seen()).toBe(seen + 1);
      expect(one.parked).toEqual([why, why, why]);
      expect(one.senders.get("main")?.status().droppedPoints).toEqual({ [why]: 3 * SERIES });
      const oracle = new Oracle(one.start);
      for (const request of fake.requests) oracle.accept(request);
      const verdict = oracle.verdict(one.beats.length, []);
      report.push(
        `${why}: lost ${verdict.lostTokens}, doubled ${verdict.doubledTokens}, refused points counted ${3 * SERIES}`,
      );
      expect(verdict).toEqual(FLAWLESS);
    },
  );
});

describe("a clock that jumps", () => {
  test.each([
    ["an hour forward", 3_600_000],
    ["an hour back", -3_600_000],
    ["a year forward", 31_536_000_000],
  ])("%s and back, in the middle of a backlog", async (name, jump) => {
    let offset = 0;
    const sources = { monotonic: process.hrtime.bigint, wall: () => Date.now() + offset };
    const clock = systemClock({ sources });
    let up = false;
    const fake = await collector({
      answer: () => (up ? { kind: "ok" } : { kind: "error", code: status.UNAVAILABLE }),
    });
    const limits = { thinAfterMs: 300_000, drainTimesLive: 10, jitterMs: 0 };
    const one = await rig(fake.port, { clock, sender: { limits } });
    for (const next of [jump, 0, jump]) {
      await one.run(10);
      offset = next;
      const step = clock.pendingStep();
      if (step !== undefined) clock.follow(step);
    }
    up = true;
    await one.run(3);
    expect(await one.drained()).toBe(true);
    const oracle = new Oracle(one.start);
    for (const request of fake.requests) oracle.accept(request);
    // What looks an hour old may be thinned: totals and order are judged, not the presence of each beat.
    const verdict = oracle.verdict(one.beats.length, []);
    report.push(`clock ${name}: lost ${verdict.lostTokens}, doubled ${verdict.doubledTokens}`);
    expect(verdict).toEqual(FLAWLESS);
    expect(one.spool.status().losses).toEqual([]);
  });
});

describe("two destinations", () => {
  test("one dead: the other gets every beat at once, the dead one its whole backlog when it is back", async () => {
    const alive = await collector();
    const dead = await collector();
    await dead.close();
    const made = await startRig({
      alive: { target: `127.0.0.1:${alive.port}` },
      dead: { target: `127.0.0.1:${dead.port}` },
    });
    closing.push(() => made.close());
    await made.run(40);
    expect(await made.drained("alive")).toBe(true);
    expect(alive.requests).toHaveLength(40);
    const back = await collector({ listen: `127.0.0.1:${dead.port}` });
    await judge("two destinations, the dead one", made, back);
    const oracle = new Oracle(made.start);
    for (const request of alive.requests) oracle.accept(request);
    expect(oracle.verdict(made.beats.length, made.beats)).toEqual(FLAWLESS);
    expect(made.spool.status().losses).toEqual([]);
  });
});
