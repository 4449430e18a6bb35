// LiteLLM's real proxy spends by prices that the agent has too: a team's used of a quota of cost is what LiteLLM says it
// spent, to a billionth, after both were started again in the middle, and our drift from the budget it enforces is 0.
// 60 requests here, more with E2E_LITELLM_REQUESTS.
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { program, startProxy } from "../litellm/proxy.ts";
import { reported, startUpstream } from "../litellm/upstream.ts";
import { afterTest, until } from "../peers.ts";
import { AgentProcess } from "./rig.ts";

const REQUESTS = Number(process.env["E2E_LITELLM_REQUESTS"] ?? 60);
const AT_ONCE = 6;
/** US dollars for a million tokens. */
const PRICES = { input: 3, cached: 0.3, output: 12 };
const ofOne =
  ((reported.prompt - reported.cached) * PRICES.input +
    reported.cached * PRICES.cached +
    reported.completion * PRICES.output) /
  1e6;

/** What the proxy says a team spent since it was started, dollars. */
async function spent(url: string, keyFile: string, team: string): Promise<number> {
  const headers = { authorization: `Bearer ${readFileSync(keyFile, "utf8").trim()}` };
  const page = await (await fetch(`${url}/metrics/`, { headers })).text();
  return page
    .split("\n")
    .filter((line) => line.startsWith("litellm_spend_metric_total{") && line.includes(`team="${team}"`))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))), 0);
}

describe.runIf(program !== undefined)("a quota of cost beside LiteLLM's own books", () => {
  test(`${REQUESTS} requests of two teams, both started again in the middle: used is what was spent`, async () => {
    const upstream = await startUpstream();
    afterTest(() => upstream.close());
    const costs = {
      input_cost_per_token: PRICES.input / 1e6,
      cache_read_input_token_cost: PRICES.cached / 1e6,
      output_cost_per_token: PRICES.output / 1e6,
    };
    const proxy = await startProxy(upstream.url, { small: "small-1" }, ["prometheus"], {}, costs);
    const quota = `  - { name: q, match: { tenant: "*" }, count: cost, currency: USD, limit: 25, per: month }\n`;
    const agent = await AgentProcess.start(quota, {
      servers: `litellm: [{ endpoint: "${proxy.url}", bearerFile: ${proxy.keyFile} }]`,
      prices: priceFile(),
    });
    const ask = async (team: string, requests: number): Promise<void> => {
      let left = requests;
      const caller = async (): Promise<void> => {
        while (left-- > 0) expect(await proxy.ask(team, "small")).toMatchObject({ status: 200 });
      };
      await Promise.all(Array.from({ length: AT_ONCE }, caller));
    };
    const used = async (team: string): Promise<number> => (await agent.quota("q", team))?.used ?? 0;
    const settle = async (team: string, dollars: number): Promise<void> => {
      await until(async () => Math.abs((await used(team)) - dollars) < 1e-9, 60).catch(() => {});
      expect(await used(team)).toBeCloseTo(dollars, 9);
    };
    const [half, other] = [Math.floor(REQUESTS / 2), Math.floor(REQUESTS / 6)];
    // The page knows a team from its first request on.
    await ask("sk-a", half - other);
    await ask("sk-b", other);
    await settle("team-a", (half - other) * ofOne);
    await settle("team-b", other * ofOne);
    let theirs = await spent(proxy.url, proxy.keyFile, "team-a");
    await proxy.restart();
    await agent.kill();
    await ask("sk-a", other);
    await agent.begin();
    await ask("sk-a", REQUESTS - half - other);
    await settle("team-a", (REQUESTS - other) * ofOne);
    theirs += await spent(proxy.url, proxy.keyFile, "team-a");
    console.log(`spent ${theirs} by LiteLLM, used ${await used("team-a")}, ${REQUESTS} requests`);
    expect(theirs).toBeCloseTo(await used("team-a"), 9);
    expect(upstream.answered.get("small-1")).toBe(REQUESTS);
  });
});

function priceFile(): string {
  const tokens = Object.entries(PRICES).map(
    ([kind, price]) => `  - { model: "*", kind: ${kind}, pricePerMillionTokens: ${price} }\n`,
  );
  return `version: "1"\ncurrency: USD\ntokens:\n${tokens.join("")}`;
}
