// The page of the real envoyproxy/ratelimit beside what it answered: a whole agent that reads it shows, for each limit, as
// many hits allowed, limited and let through by a shadow as callers were told, and nothing of what came before it looked.
import { isDeepStrictEqual } from "node:util";
import { describe, expect, test } from "vitest";
import type { Client } from "../../../agent/platform/grpc.ts";
import { shouldRateLimit } from "../../policy/rls-calls.ts";
import { freePort, until } from "../peers.ts";
import type { World } from "./ratelimit-rig.ts";
import { isUsable, startPeer } from "./ratelimit-rig.ts";
import { AgentProcess } from "./rig.ts";

const LIMIT = 5;
const OVER = 2;
const worlds: readonly World[] = [false, true].map((isShadow) => ({
  tenants: { count: "requests", per: "day", limit: LIMIT, isShadow },
  routes: { count: "tokens", per: "day", limit: 100, isShadow },
}));

/** Calls of one tenant, of one hit each; returns how many were told that they are over. */
async function callTenant(client: Client, domain: string, calls: number): Promise<number> {
  let over = 0;
  for (let call = 0; call < calls; call++) {
    const { code } = await shouldRateLimit(client, {
      domain,
      descriptors: [{ entries: { tenant: "acme" } }],
    });
    if (code === OVER) over++;
  }
  return over;
}

/** A call of 40 tokens at a route. */
async function callRoute(client: Client, domain: string): Promise<number> {
  const descriptors = [{ entries: { route: "chat", model: "m" }, hits: 40 }];
  return (await shouldRateLimit(client, { domain, descriptors })).code;
}

describe.runIf(isUsable)("the page of envoyproxy/ratelimit", () => {
  test("says of each limit what callers were told since the agent looks", async () => {
    const port = await freePort();
    const page = `http://127.0.0.1:${port}/metrics`;
    const flushed = {
      USE_PROMETHEUS: "true",
      PROMETHEUS_ADDR: `127.0.0.1:${port}`,
      STATS_FLUSH_INTERVAL: "1s",
    };
    const client = await startPeer(worlds, flushed);
    await callTenant(client, "w0", 2);
    await until(async () =>
      (await (await fetch(page)).text()).includes("ratelimit_service_rate_limit_within_limit"),
    );
    const agent = await AgentProcess.start(
      `  - {name: q, match: {tenant: acme}, count: tokens, limit: 1000, per: month}
limiters: [{name: edge, type: envoy-ratelimit, page: "${page}", seconds: 1}]
`,
    );
    const shown = async (): Promise<{ limits: readonly object[]; read: string | null }> => {
      const policy = await (await fetch(`http://127.0.0.1:${agent.http}/-/policy`)).json();
      const [limiter] = (policy as { limiters: readonly { limits: object[]; read: string | null }[] })
        .limiters;
      return limiter ?? { limits: [], read: null };
    };
    await until(async () => (await shown()).read !== null);
    const over = await callTenant(client, "w0", 10);
    expect(over).toBe(10 - (LIMIT - 2));
    expect(await callTenant(client, "w1", 10)).toBe(0);
    const codes = [
      await callRoute(client, "w0"),
      await callRoute(client, "w0"),
      await callRoute(client, "w0"),
    ];
    expect(codes).toEqual([1, 1, OVER]);
    const expected = [
      { limit: "w0/route/model", hits: { allow: 80, limit: 20 } },
      { limit: "w0/tenant", hits: { allow: 10 - over, limit: over } },
      { limit: "w1/tenant", hits: { allow: LIMIT, would_limit: 10 - LIMIT } },
    ];
    const byName = async (): Promise<readonly object[]> =>
      [...(await shown()).limits].sort((a, b) => JSON.stringify(a).localeCompare(JSON.stringify(b)));
    await until(async () => isDeepStrictEqual(await byName(), expected), 30).catch(() => {});
    expect(await byName()).toEqual(expected);
    const metrics = await agent.metrics();
    for (const [decision, hits] of [
      ["allow", 10 - over],
      ["limit", over],
    ] as const) {
      const labels = `[^}]*limiter_limit="w0/tenant",tokenwatt_limiter_name="edge",tokenwatt_policy_decision="${decision}"`;
      expect(metrics).toMatch(new RegExp(`^tokenwatt_limiter_hits_total\\{${labels}\\} ${hits}$`, "m"));
    }
    expect(metrics).not.toContain("tokenwatt_gateway_tokens");
    expect(await agent.quota("q")).toMatchObject({ used: 0 });
  });
});
