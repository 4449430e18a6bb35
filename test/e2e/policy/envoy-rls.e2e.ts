// The real Envoy 1.40 asks the real agent: limits by the minute and month, what shadow does, what passes without an answer,
// without usage and without a tenant, how far callers at the edge get, and that ledger, calls and upstream agree.
import { describe, expect, test } from "vitest";
import { until } from "../peers.ts";
import { AgentProcess, ask, envoy, startEnvoy, startUpstream } from "./rig.ts";

const day = (limit: number, more = "mode: local"): string =>
  `  - { name: q, match: { tenant: "*" }, count: tokens, limit: ${limit}, per: day, ${more} }\n`;

/** Waits until a charge of a tenant has come: Envoy sends it when the stream is over. */
async function charged(agent: AgentProcess, tenant: string, tokens: number): Promise<void> {
  await until(async () => (await agent.quota("q", tenant))?.used === tokens);
}

describe.runIf(envoy !== undefined)("Envoy's ratelimit filter", () => {
  test("refuses once the limit is used, with retry-after, and shadow never", async () => {
    const upstream = await startUpstream(40);
    const agent = await AgentProcess.start(day(100));
    const { port } = await startEnvoy({ upstream: upstream.port, rls: agent.rls, logs: agent.logs });
    const statuses: number[] = [];
    for (let sent = 1; sent <= 5; sent++) {
      statuses.push((await ask(port, "acme")).status);
      await charged(agent, "acme", Math.min(sent, 3) * 40);
    }
    expect(statuses).toEqual([200, 200, 200, 429, 429]);
    // What calls charged is what the access log says: both are there, and agree.
    await until(async () => (await agent.quota("q", "acme"))?.drift === 0);
    const refused = await ask(port, "acme");
    expect(Number(refused.headers["retry-after"])).toBeGreaterThan(0);
    expect(refused.headers["x-ratelimit-limit"]).toContain("100");
    expect((await ask(port, "blue")).status).toBe(200);
    agent.writePolicy(day(100, "mode: shadow"));
    await until(async () => (await ask(port, "acme")).status === 200);
    await until(async () => /decision="would_limit"[^}]*\} [1-9]/.test(await agent.metrics()));
  });

  test("lets pass what names no tenant, says no usage, or finds no service; the ledger sees what calls do not", async () => {
    const upstream = await startUpstream(40);
    const agent = await AgentProcess.start(day(100));
    const { admin, port } = await startEnvoy({ upstream: upstream.port, rls: agent.rls, logs: agent.logs });
    for (let sent = 0; sent < 5; sent++) expect((await ask(port)).status).toBe(200);
    for (let sent = 0; sent < 5; sent++) expect((await ask(port, "quiet", "none")).status).toBe(200);
    // Without usage Envoy charges nothing: only the ledger could see it, and it says no tokens either.
    expect((await agent.quota("q", "quiet"))?.used ?? 0).toBe(0);
    for (let sent = 0; sent < 3; sent++) await ask(port, "acme");
    await charged(agent, "acme", 120);
    expect((await ask(port, "acme")).status).toBe(429);
    await agent.kill();
    expect((await ask(port, "acme")).status).toBe(200);
    const stats = await (await fetch(`http://127.0.0.1:${admin}/stats?filter=failure_mode_allowed`)).text();
    expect(stats).toMatch(/failure_mode_allowed: [1-9]/);
    await agent.begin();
    await until(async () => (await ask(port, "acme")).status === 429);
  });

  test("with 1,000 requests at once admits at most limit + c x m, and ledger, calls and upstream agree to the token", async () => {
    const [limit, tokens, callers] = [20_000, 40, 50];
    const upstream = await startUpstream(tokens, 5);
    const agent = await AgentProcess.start(day(limit));
    const { port } = await startEnvoy({ upstream: upstream.port, rls: agent.rls, logs: agent.logs });
    let sent = 0;
    let refused = 0;
    const caller = async (): Promise<void> => {
      while (sent++ < 1000) if ((await ask(port, "acme")).status === 429) refused++;
    };
    await Promise.all(Array.from({ length: callers }, caller));
    expect(refused).toBeGreaterThan(0);
    expect(upstream.tokens("acme")).toBeGreaterThanOrEqual(limit);
    expect(upstream.tokens("acme")).toBeLessThanOrEqual(limit + callers * tokens);
    await charged(agent, "acme", upstream.tokens("acme"));
    await until(async () => (await agent.quota("q", "acme"))?.drift === 0);
    console.log(`limit ${limit}, admitted ${upstream.tokens("acme")}, ${refused} refused, drift 0`);
  });
});
