// Quotas inside of an agent: a policy that is replaced or broken, one that is gone, and a restart with another.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { LoadedPolicy } from "../../agent/config/policy.ts";
import { readPolicy } from "../../agent/config/policy.ts";
import { PolicyDesk } from "../../agent/daemon/policy-desk.ts";
import { Books } from "../../agent/meter/books.ts";
import type { LedgerBatch, LedgerSnapshot, StateRow } from "../../agent/model.ts";
import { virtualClock } from "../../agent/platform/clock.ts";
import { silentLog } from "../../agent/platform/log.ts";
import type { QuotaFeed } from "../../agent/policy/states.ts";
import { fed, gatewaySeries } from "../policy/fixtures.ts";

const START = BigInt(Date.parse("2026-12-01T00:00:00Z")) * 1_000_000n;
const stored = { stored: "all", waitingRows: 0, lostRows: 0, head: { length: 0, hash: "" } } as const;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tokenwatt-desk-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** The books and the quotas of one agent, beat by beat. */
class Desk {
  readonly books: Books;
  readonly desk: PolicyDesk;
  readonly #clock = virtualClock(START);
  #seconds: number;

  constructor(policy: LoadedPolicy | undefined, seconds = 0, state: readonly StateRow[] = [], sequence = 0) {
    this.#seconds = seconds;
    const restored = { sequence, time: String(START), nextSeries: 1, series: [], state, rows: [] };
    this.desk = new PolicyDesk({
      policy,
      clock: this.#clock,
      log: silentLog,
      store: undefined,
      restored,
      outdated: undefined,
      hasPrices: false,
      everyMs: 10_000,
      aliases: {},
    });
    const unixNanos = (at: number): bigint => START + BigInt(Math.round(at));
    this.books = new Books(
      { start: START, unixNanos, onBooked: (booking) => this.desk.count(booking) },
      restored,
    );
  }

  use(tenant: string, amount: number): void {
    const posting = { metric: "tokenwatt.gateway.tokens", dimensions: gatewaySeries(tenant), amount };
    this.books.ledger.postUntil([posting], START + BigInt(this.#seconds + 1) * 1_000_000_000n);
  }

  async beat(
    feed: QuotaFeed = fed,
    seconds = 10,
  ): Promise<{ batch: LedgerBatch; snapshot: LedgerSnapshot; state: readonly StateRow[] }> {
    this.#seconds += seconds;
    const time = START + BigInt(this.#seconds) * 1_000_000_000n;
    const at = this.#seconds * 1e9;
    const rows = this.desk.beforeCommit({ books: this.books, time, at, feedOf: () => feed });
    const { batch, snapshot } = this.books.commit(time, at);
    const state = [...rows, ...this.desk.beatRow(batch.sequence)];
    await this.desk.stored(stored);
    return { batch, snapshot, state };
  }

  used(): readonly (readonly [string, number | null, string])[] {
    const page = this.desk.page(true) as { quotas: { name: string; used: number | null; state: string }[] };
    return page.quotas.map(({ name, state, used }) => [name, used, state] as const);
  }
}

function policyFile(quotas: string): LoadedPolicy {
  const path = join(folder, "policy.yaml");
  writeFileSync(path, `version: "1"\nquotas:\n${quotas}`);
  return readPolicy(path, { hasPrices: false });
}

const acme = "  - { name: acme, match: { tenant: acme }, count: tokens, limit: 100, per: month }\n";
const blue = "  - { name: blue, match: { tenant: blue }, count: tokens, limit: 100, per: month }\n";

function value(snapshot: LedgerSnapshot, metric: string, quota?: string): number | undefined {
  const point = snapshot.points.find(
    (one) => one.metric === metric && !one.ended && one.dimensions["tokenwatt.quota.name"] === quota,
  );
  return point === undefined ? undefined : Number(point.value);
}

describe("PolicyDesk", () => {
  test("shows nothing that was not committed", async () => {
    const one = new Desk(policyFile(acme));
    one.use("acme", 30);
    expect(one.used()).toEqual([]);
    await one.beat();
    expect(one.used()).toEqual([["acme", 30, "unknown"]]);
    one.use("acme", 30);
    expect(one.used()).toEqual([["acme", 30, "unknown"]]);
  });

  test("takes a file that changed with the next beat, counts on, and puts it on record", async () => {
    const one = new Desk(policyFile(acme));
    one.use("acme", 30);
    const first = await one.beat();
    expect(value(first.snapshot, "tokenwatt.quota.charged_tokens", "acme")).toBe(30);
    policyFile(acme.replace("100", "10") + blue);
    one.use("acme", 5);
    const second = await one.beat();
    expect(one.used()).toEqual([
      ["acme", 35, "over"],
      ["blue", 0, "unknown"],
    ]);
    const records = second.batch.audit.filter(({ kind }) => kind === "policy").map(({ body }) => body);
    expect(records).toMatchObject([{ added: ["blue"], changed: ["acme"], removed: [] }]);
    expect(second.batch.audit.filter(({ kind }) => kind === "quota_state")).toMatchObject([
      { body: { quota: "acme", from: "unknown", to: "over", used: 35, limit: 10 } },
    ]);
  });

  test("keeps the last good policy while the file is broken, says so, and takes the mended one", async () => {
    const one = new Desk(policyFile(acme));
    one.use("acme", 30);
    await one.beat();
    writeFileSync(join(folder, "policy.yaml"), "version: [");
    one.use("acme", 30);
    const broken = await one.beat();
    expect(one.used()).toEqual([["acme", 60, "unknown"]]);
    expect(value(broken.snapshot, "tokenwatt.policy.refused")).toBe(1);
    expect(one.desk.page(true)?.["refused"]).toContain("Cannot read YAML");
    rmSync(join(folder, "policy.yaml"));
    await one.beat();
    expect(one.desk.page(true)?.["refused"]).toContain("there is no such file");
    policyFile(acme);
    const mended = await one.beat();
    expect(value(mended.snapshot, "tokenwatt.policy.refused")).toBe(0);
    expect(one.desk.page(true)?.["refused"]).toBeNull();
    expect(one.used()).toEqual([["acme", 60, "unknown"]]);
  });

  test("says on record and in a metric that a feed is silent, and that it is back; never ok by what it had", async () => {
    const one = new Desk(policyFile(acme.replace("month", "minute") + blue.replace("month", "minute")));
    one.use("acme", 90);
    await one.beat(fed, 70);
    expect(one.used()[1]).toEqual(["blue", 0, "ok"]);
    const failing = { isFed: true, failingSince: Number(START / 1_000_000n) + 70_000 };
    const early = await one.beat(failing, 299);
    expect(value(early.snapshot, "tokenwatt.policy.silent_keys", "acme")).toBe(0);
    expect(one.used()[0]).toEqual(["acme", 0, "ok"]);
    const late = await one.beat(failing, 1);
    expect(value(late.snapshot, "tokenwatt.policy.silent_keys", "acme")).toBe(1);
    expect(one.used()[0]).toEqual(["acme", 0, "unknown"]);
    const since = "2026-12-01T00:01:10.000Z";
    const told = late.batch.audit.filter(({ kind }) => kind === "policy").map(({ body }) => body);
    expect(told).toEqual([
      { quota: "acme", feed: "silent", since, method: "none", keys: 1 },
      { quota: "blue", feed: "silent", since, method: "none", keys: 1 },
    ]);
    expect((await one.beat(failing)).batch.audit).toEqual([]);
    const back = await one.beat(fed);
    expect(back.batch.audit.map(({ body }) => body)).toContainEqual({
      quota: "acme",
      feed: "back",
      method: "ledger",
    });
    expect(value(back.snapshot, "tokenwatt.policy.silent_keys", "acme")).toBe(0);
  });

  test("ends the series of rate limiters that no policy names, and keeps those of one that it does", async () => {
    const limiters = `limiters: [{ name: edge, type: limitador, page: "http://127.0.0.1:9/metrics" }]\n`;
    const one = new Desk(policyFile(acme + limiters));
    const post = (name: string): void => {
      const dimensions = {
        "tokenwatt.limiter.name": name,
        "tokenwatt.limiter.limit": "llm",
        "tokenwatt.policy.decision": "limit",
      };
      const posting = { metric: "tokenwatt.limiter.calls", dimensions, kept: false, amount: 3 } as const;
      one.books.ledger.postUntil([posting], START + 1n);
    };
    const live = ({ points }: LedgerSnapshot): readonly unknown[] =>
      points.flatMap((point) => (point.ended ? [] : (point.dimensions["tokenwatt.limiter.name"] ?? [])));
    post("edge");
    post("before");
    expect(live((await one.beat()).snapshot)).toEqual(["edge"]);
    one.desk.take(undefined);
    expect(live((await one.beat()).snapshot)).toEqual([]);
    one.desk.close();
  });

  test("ends the series of quotas that are gone, and of all where the policy is", async () => {
    const one = new Desk(policyFile(acme + blue));
    one.use("acme", 30);
    one.use("blue", 40);
    await one.beat();
    policyFile(blue);
    const second = await one.beat();
    expect(value(second.snapshot, "tokenwatt.quota.charged_tokens", "acme")).toBeUndefined();
    expect(value(second.snapshot, "tokenwatt.quota.charged_tokens", "blue")).toBe(40);
    one.desk.take(undefined);
    const third = await one.beat();
    expect(
      third.snapshot.points.filter(({ ended, metric }) => !ended && metric.startsWith("tokenwatt.quota")),
    ).toEqual([]);
    expect(third.state.every(({ value: text }) => text === "")).toBe(true);
    expect(one.desk.page(true)).toBeUndefined();
  });

  test("restores counters of the last beat only: those of an earlier one lack what was used since", async () => {
    const policy = policyFile(acme);
    const one = new Desk(policy);
    one.use("acme", 130);
    const { batch, state } = await one.beat();
    const next = new Desk(policy, 10, state, batch.sequence);
    const recorded = await next.beat();
    expect(next.used()).toEqual([["acme", 130, "over"]]);
    expect(recorded.batch.audit.map(({ kind }) => kind)).toEqual(["policy"]);
    const late = new Desk(policy, 10, state, batch.sequence + 5);
    await late.beat();
    expect(late.used()).toEqual([["acme", 0, "unknown"]]);
  });

  test("leaves the levels of tenants out that have no series of their own, and conserves their totals", async () => {
    const each = '  - { name: each, match: { tenant: "*" }, count: tokens, limit: 100, per: month }\n';
    const one = new Desk(policyFile(each));
    for (let tenant = 0; tenant < 130; tenant++) one.use(`t${tenant}`, 10);
    const { snapshot } = await one.beat();
    const of = (metric: string) => snapshot.points.filter((point) => point.metric === metric);
    const charged = of("tokenwatt.quota.charged_tokens").reduce((sum, point) => sum + Number(point.value), 0);
    expect(charged).toBe(1300);
    expect(of("tokenwatt.quota.used_tokens")).toHaveLength(100);
    expect(one.used()).toHaveLength(130);
  });
});
