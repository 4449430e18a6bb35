// What a gateway's page says it enforces: budgets as LiteLLM's real page has them, and in every form they take. None of it
// touches a counter, and what is not said is not there.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { createPageParser } from "../../../agent/page/parse.ts";
import { systemClock } from "../../../agent/platform/clock.ts";
import { silentLog } from "../../../agent/platform/log.ts";
import { litellm } from "../../../agent/servers/litellm.ts";
import { LimitPages, limitFamilies } from "../../../agent/servers/page/limits.ts";
import type { PullServerSource } from "../../../agent/source.ts";

const fixture = new URL("../../fixtures/servers/litellm-1.89.7-budgets.prom", import.meta.url);
const names = { limit: "x_max", remaining: "x_left", hours: "x_hours" };
const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

function take(page: string, tenantLabel = "team") {
  const reader = { budgets: [names], currency: "USD" };
  const { aside } = createPageParser([], limitFamilies(reader)).parse(Buffer.from(page));
  return new LimitPages(reader, { tenantLabel }).take(aside, 5e9);
}

async function serve(page: string, entry = {}): Promise<PullServerSource> {
  const server = createServer((_, response) => response.end(page));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const context = { clock: systemClock(), log: silentLog, signal: new AbortController().signal };
  const endpoint = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const source = litellm.open(litellm.config.parse({ endpoint, ...entry }), context) as PullServerSource;
  closing.push(
    () => source.close(),
    () => server.close(),
  );
  return source;
}

describe("LiteLLM's budgets", () => {
  const page = readFileSync(fixture, "utf8");

  test("are read by team: none where it is infinite, below 0 where it is overspent, and no counter suffers", async () => {
    const sample = await (await serve(page)).poll();
    expect(sample.limits).toEqual([
      { tenant: "team-a", currency: "USD", limit: 25, remaining: 21.5 },
      { tenant: "team-c", currency: "USD", limit: 1, remaining: -0.25 },
    ]);
    expect([sample.ignoredSamples, sample.errors, sample.notes]).toEqual([0, [], []]);
    const bare = page.replaceAll(/^(# \w+ )?litellm_\w*(budget)\w*.*\n/gm, "");
    const without = await (await serve(bare)).poll();
    expect(without.limits).toBeUndefined();
    const counted = (one: typeof sample): readonly object[] =>
      one.readings.map(({ epochBegan: _, ...rest }) => rest);
    expect(counted(without)).toEqual(counted(sample));
    expect(counted(sample)).toHaveLength(4);
  });

  test("are those of what the tenant is: users, where the entry says so", async () => {
    const more =
      'litellm_user_max_budget_metric{user="ann"} 3\nlitellm_user_budget_remaining_hours_metric{user="ann"} 2\n';
    const sample = await (await serve(page + more, { tenantLabel: "user" })).poll();
    const resetsAt = sample.at + 7200e9;
    expect(sample.limits).toEqual([{ tenant: "ann", currency: "USD", limit: 3, resetsAt }]);
  });
});

const amount = fc.oneof(
  fc.double({ min: -100, max: 100, noNaN: true }).map(String),
  fc.constantFrom("+Inf", "NaN", "-Inf"),
);

describe("LimitPages", () => {
  test("says what every series of a tenant says, the least of several, and never what is no number", () => {
    const series = fc.record({
      name: fc.constantFrom("x_max", "x_left", "x_hours"),
      team: fc.constantFrom("a", "b", "None", ""),
      pid: fc.integer({ min: 1, max: 3 }),
      value: amount,
    });
    fc.assert(
      fc.property(fc.array(series, { maxLength: 20 }), (all) => {
        const unique = [...new Map(all.map((one) => [`${one.name} ${one.team} ${one.pid}`, one])).values()];
        const page = unique.map(
          ({ name, pid, team, value }) => `${name}{team="${team}",pid="${pid}"} ${value}\n`,
        );
        const least = (name: string, tenant: string): number | undefined => {
          const values = unique
            .filter((one) => one.name === name && one.team === tenant && Number.isFinite(Number(one.value)))
            .map(({ value }) => Number(value));
          return values.length === 0 ? undefined : Math.min(...values);
        };
        const wanted = ["a", "b"].flatMap((tenant) => {
          const limit = least("x_max", tenant);
          if (limit === undefined || limit < 0) return [];
          return [{ tenant, limit, remaining: least("x_left", tenant), hours: least("x_hours", tenant) }];
        });
        const found = (take(page.join("")) ?? []).map(({ limit, remaining, resetsAt, tenant }) => ({
          ...{ tenant, limit, remaining },
          hours: resetsAt,
        }));
        expect(found.sort((a, b) => a.tenant.localeCompare(b.tenant))).toEqual(
          wanted.map((one) => ({
            ...one,
            hours: one.hours === undefined ? undefined : 5e9 + Math.round(one.hours * 3600e9),
          })),
        );
      }),
      { numRuns: 200 },
    );
  });

  test("keeps a bounded number, whatever a page has", () => {
    const page = Array.from({ length: 1500 }, (_, team) => `x_max{team="t${team}"} 1\n`).join("");
    expect(take(page)).toHaveLength(1000);
  });
});
