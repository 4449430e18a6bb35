// Usage of the fleet from a Prometheus that speaks its API on a real socket: what is asked and taken, what ages, and what is
// told where there is no answer. That a real Prometheus understands the query is judged in test/e2e/policy.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, expect, test } from "vitest";
import { FleetUsage } from "../../agent/daemon/fleet-usage.ts";
import { virtualClock } from "../../agent/platform/clock.ts";
import { silentLog } from "../../agent/platform/log.ts";
import { PolicyBook } from "../../agent/policy/book.ts";
import { fed, gatewaySeries, policyWith } from "../policy/fixtures.ts";

const NOON = Date.parse("2026-12-01T12:00:00Z");
const closing: (() => unknown)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

interface Said {
  readonly name: string;
  readonly used: number;
  readonly hosts: number;
  readonly tenant?: string;
}

/** What a Prometheus answers, and what it was asked. */
class FakePrometheus {
  said: readonly Said[] = [];
  sampled = NOON;
  /** Instead of an answer. */
  answer: { status: number; body: string } | undefined;
  readonly asked: { query: string; headers: IncomingMessage["headers"]; url: string | undefined }[] = [];
  port = 0;

  async start(): Promise<this> {
    const server = createServer(async (request, response) => {
      let body = "";
      for await (const chunk of request) body += chunk;
      const query = new URLSearchParams(body).get("query") ?? "";
      this.asked.push({ query, headers: request.headers, url: request.url });
      response.writeHead(this.answer?.status ?? 200).end(this.answer?.body ?? this.#vector());
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    closing.push(
      () => server.close(),
      () => server.closeAllConnections(),
    );
    this.port = (server.address() as AddressInfo).port;
    return this;
  }

  #vector(): string {
    const series = (of: Said, figure: string, value: number): object => ({
      metric: {
        tokenwatt_quota_name: of.name,
        ...(of.tenant === undefined || figure === "time" ? {} : { tokenwatt_tenant: of.tenant }),
        tokenwatt_fleet: figure,
      },
      value: [NOON / 1000, String(value)],
    });
    const result = this.said.flatMap((one) => [
      series(one, "used", one.used),
      series(one, "hosts", one.hosts),
      series(one, "time", this.sampled / 1000),
    ]);
    return JSON.stringify({ status: "success", data: { resultType: "vector", result } });
  }
}

const quotas = [
  { match: { tenant: "a" }, limit: 1000, hostShare: 0.5, warnAt: [0.8] },
  { match: { tenant: "*" }, limit: 100, count: "weighted", weights: { output: 0.5 }, per: "day" },
];

/** A book whose first hour is whole, and what knows of the fleet. */
function fleetOf(peer: FakePrometheus, more = {}) {
  const clock = virtualClock(BigInt(NOON) * 1_000_000n);
  const fleet = { prometheus: `http://127.0.0.1:${peer.port}/prometheus/`, seconds: 20, ...more };
  const book = new PolicyBook(policyWith(quotas, { fleet }), NOON - 90_000_000);
  book.book({
    metric: "tokenwatt.gateway.tokens",
    dimensions: gatewaySeries("a"),
    amount: 100,
    atMillis: NOON,
    own: false,
  });
  const usage = new FleetUsage({ clock, log: silentLog });
  closing.push(() => usage.close());
  usage.use(book);
  const read = (atMillis = NOON) =>
    book.commit(
      atMillis,
      () => fed,
      (...counter) => usage.read(...counter),
    ).readings;
  return { book, clock, usage, read };
}

test("what all hosts used is taken for the current window, and the state follows the fuller of host and fleet", async () => {
  const peer = await new FakePrometheus().start();
  peer.said = [
    { name: "q0", used: 850, hosts: 3, tenant: "a" },
    { name: "q1", used: 20.5, hosts: 2, tenant: "a" },
    { name: "q1", used: 7, hosts: 1, tenant: "nobody here" },
  ];
  const folder = mkdtempSync(join(tmpdir(), "tokenwatt-fleet-"));
  closing.push(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, "token"), "secret\n");
  const more = { bearerFile: join(folder, "token"), headers: { "X-Scope-OrgID": "gpu" } };
  const { read, usage } = fleetOf(peer, more);
  expect(read()[0]).toMatchObject({ state: "ok", basis: "host", fleet: undefined });
  await usage.ask();
  const [first, second] = read();
  const fleet = { used: 850n, hosts: 3, ageSeconds: 0, isFresh: true };
  expect(first).toMatchObject({ used: 100n, state: "warn", basis: "fleet", fleet });
  expect(second).toMatchObject({ used: 50_000n, basis: "host", fleet: { used: 20_500n, hosts: 2 } });
  const [{ headers, query, url } = { headers: {}, query: "", url: "" }] = peer.asked;
  expect([url, headers.authorization, headers["x-scope-orgid"]]).toEqual([
    "/prometheus/api/v1/query",
    "Bearer secret",
    "gpu",
  ]);
  expect(query).toContain(`{tokenwatt_quota_window="hour"} == ${NOON / 1000 + 3600}`);
  expect(query).toContain(`{tokenwatt_quota_window="day"} == ${NOON / 1000 + 43_200}`);
});

test("the largest answer of a window stays: a host that is gone has used what it used", async () => {
  const peer = await new FakePrometheus().start();
  const { read, usage } = fleetOf(peer);
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 0, max: 2000 }), { maxLength: 6 }), async (amounts) => {
      for (const used of amounts) {
        peer.said = [{ name: "q0", used, hosts: 1, tenant: "a" }];
        const before = read()[0]?.fleet?.used ?? 0n;
        await usage.ask();
        const after = read()[0]?.fleet?.used ?? 0n;
        expect(after).toBe(before > BigInt(used) ? before : BigInt(used));
      }
    }),
    { numRuns: 10 },
  );
});

test("an answer is followed for three periods from its newest sample on, and only in its window", async () => {
  const peer = await new FakePrometheus().start();
  peer.said = [{ name: "q0", used: 900, hosts: 2, tenant: "a" }];
  peer.sampled = NOON - 30_000;
  const { clock, read, usage } = fleetOf(peer);
  await usage.ask();
  expect(read()[0]).toMatchObject({ basis: "fleet", fleet: { ageSeconds: 30, isFresh: true } });
  // It answers on, and what it answers does not move.
  await clock.advance(31e9);
  await usage.ask();
  expect(read(NOON + 31_000)[0]).toMatchObject({ state: "ok", basis: "host", fleet: { isFresh: false } });
  expect(usage.ageSeconds).toBe(61);
  expect(read(NOON + 3_600_000)[0]?.fleet).toBeUndefined();
});

test.each([
  ["an error of its own", 422, '{"status":"error","error":"query timed out"}', /422 .*query timed out/],
  ["no rights", 401, "unauthorized", /401/],
  ["a web page", 200, "<html>", /no JSON, but "<html>"/],
  ["another API", 200, '{"status":"success","data":{"resultType":"matrix","result":[]}}', /no vector/],
  [
    "nothing of ours",
    200,
    '{"status":"success","data":{"resultType":"vector","result":[]}}',
    /no series of these/,
  ],
  ["null", 200, "null", /no status/],
])("%s is told, ages what was known, and is never 0", async (_, status, body, told) => {
  const peer = await new FakePrometheus().start();
  peer.said = [{ name: "q0", used: 900, hosts: 2, tenant: "a" }];
  const { clock, read, usage } = fleetOf(peer);
  await usage.ask();
  peer.answer = { status, body };
  await clock.advance(10e9);
  await usage.ask();
  expect(usage.failure).toMatch(told);
  expect(read()[0]?.fleet).toMatchObject({ used: 900n, ageSeconds: 10, isFresh: true });
  peer.answer = undefined;
  await usage.ask();
  expect(usage.failure).toBeUndefined();
});

test("nobody who answers is no fleet of 0: the state is the host's, and the age runs from when it was asked for", async () => {
  const { clock, read, usage } = fleetOf(Object.assign(new FakePrometheus(), { port: 1 }));
  await usage.ask();
  await clock.advance(100e9);
  expect(read()[0]).toMatchObject({ state: "ok", basis: "host", fleet: undefined });
  expect([usage.ageSeconds, usage.failure]).toEqual([100, expect.stringContaining("ECONNREFUSED")]);
  usage.use(undefined);
  expect(usage.ageSeconds).toBeUndefined();
});
