// Rate limiters inside of the agent, by pages on a real socket: what is posted and shown, what cannot be read, and what a
// policy that changes leaves of it. The real envoyproxy/ratelimit is in test/e2e/policy.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import { LimiterPages } from "../../agent/daemon/limiter-pages.ts";
import { virtualClock } from "../../agent/platform/clock.ts";
import type { Log } from "../../agent/platform/log.ts";
import { silentLog } from "../../agent/platform/log.ts";
import { policyWith } from "../policy/fixtures.ts";

const NOON = Date.parse("2026-12-01T12:00:00Z");
const closing: (() => unknown)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

/** A limiter's page, and the limiters of a policy that names it. */
async function start(entry: object = {}) {
  const peer = { body: "limitador_up 1\n", status: 200 };
  const server = createServer((_request, response) => {
    response.writeHead(peer.status, { "content-type": "text/plain" }).end(peer.body);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const page = `http://127.0.0.1:${(server.address() as AddressInfo).port}/metrics`;
  const clock = virtualClock(BigInt(NOON) * 1_000_000n);
  const said: string[] = [];
  const note = (message: string): void => void said.push(message);
  const limiters = new LimiterPages({ clock, log: { ...silentLog, warn: note, info: note } as Log });
  closing.push(
    () => limiters.close(),
    () => server.close(),
    () => server.closeAllConnections(),
  );
  const policy = (...more: readonly object[]) =>
    policyWith([], { limiters: [{ name: "edge", type: "limitador", page, seconds: 10, ...entry }, ...more] });
  const look = (seconds = 10): Promise<void> => clock.advance(clock.now() + seconds * 1e9);
  return { peer, limiters, policy, look, said, page };
}

const limited = (calls: number): string =>
  `limitador_up 1\nlimited_calls{limitador_namespace="llm"} ${calls}\n`;

test("posts what a limiter decided since it was first looked at, and stores what is shown", async () => {
  const { limiters, look, peer, policy } = await start();
  peer.body = limited(7);
  limiters.use(policy());
  expect(limiters.shown).toMatchObject([{ name: "edge", sinceMillis: undefined, totals: [] }]);
  await look(0);
  expect(limiters.takePostings()).toEqual([]);
  peer.body = limited(9);
  await look();
  const dimensions = {
    "tokenwatt.limiter.name": "edge",
    "tokenwatt.limiter.limit": "llm",
    "tokenwatt.policy.decision": "limit",
  };
  expect(limiters.takePostings()).toEqual([
    { metric: "tokenwatt.limiter.calls", dimensions, kept: false, amount: 2 },
  ]);
  expect(limiters.takePostings()).toEqual([]);
  expect(limiters.shown).toMatchObject([
    { sinceMillis: NOON, readMillis: NOON + 10_000, totals: [{ limit: "llm", decided: "limit", amount: 2 }] },
  ]);
  const [row] = limiters.takeRow();
  expect([row?.key, JSON.parse(row?.value ?? "")]).toEqual([
    '["limiters"]',
    JSON.parse(JSON.stringify(limiters.shown)),
  ]);
  expect(limiters.takeRow()).toEqual([]);
});

test("one that cannot be read is told of once, keeps its figures, and goes on where it was", async () => {
  const { limiters, look, peer, policy, said } = await start();
  limiters.use(policy());
  await look(0);
  peer.status = 503;
  await look();
  await look();
  expect(said).toEqual(["cannot read the rate limiter's page"]);
  expect(limiters.shown[0]?.failure).toMatch(/503/);
  Object.assign(peer, { status: 200, body: "vllm:prompt_tokens_total 3\n" });
  await look();
  expect(limiters.shown[0]?.failure).toBe("the page has no counter of limitador");
  peer.body = limited(4);
  await look();
  expect(limiters.shown[0]).toMatchObject({ failure: undefined, sinceMillis: NOON });
  expect(limiters.takePostings()).toMatchObject([{ amount: 4 }]);
  expect(said.at(-1)).toBe("the rate limiter's page is read again");
});

test("a policy that changes elsewhere changes nothing; one without the limiter, or that does not observe, ends it", async () => {
  const { limiters, look, page, peer, policy } = await start();
  limiters.use(policy());
  await look(0);
  limiters.use(policy({ name: "second", type: "envoy-ratelimit", page }));
  peer.body = limited(3);
  await look();
  expect(limiters.takePostings()).toMatchObject([{ amount: 3 }]);
  expect(limiters.shown).toMatchObject([
    { failure: undefined },
    { failure: "the page has no counter of envoy-ratelimit" },
  ]);
  const series = [...["edge", "second"].map((name) => ({ "tokenwatt.limiter.name": name })), {}];
  const asked: boolean[][] = [];
  const ledger: Parameters<LimiterPages["endGone"]>[0] = {
    endWhere: (isGone) => void asked.push(series.map((dimensions) => isGone(dimensions, ""))),
  };
  limiters.endGone(ledger);
  limiters.endGone(ledger);
  expect(asked).toEqual([[false, false, false]]);
  expect(limiters.takeRow()).toHaveLength(1);
  limiters.use({ ...policy(), observe: false });
  limiters.endGone(ledger);
  expect(asked[1]).toEqual([true, true, false]);
  expect(limiters.shown).toEqual([]);
  expect(limiters.takeRow()).toEqual([{ key: '["limiters"]', value: "" }]);
});

test("two limiters of one name, and one of no known type, are refused", () => {
  const named = (type: string) => ({ name: "a", type, page: "http://127.0.0.1:9090/metrics" });
  expect(() => policyWith([], { limiters: [named("limitador"), named("envoy-ratelimit")] })).toThrow(
    /no other limiter/,
  );
  expect(() => policyWith([], { limiters: [named("kong")] })).toThrow(/envoy-ratelimit/);
});
