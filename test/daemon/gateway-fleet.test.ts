// Three agents and one gateway on loopback: whatever rule is in force, a sum over the fleet is what the gateway counted.

import { mkdtempSync, rmSync } from "node:fs";
import type { Server } from "node:http";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, toBinary } from "@bufbuild/protobuf";
import { afterEach, describe, expect, test } from "vitest";
import { loadConfig } from "../../agent/config/load.ts";
import type { Agent } from "../../agent/daemon/agent.ts";
import { startAgent } from "../../agent/daemon/agent.ts";
import { systemClock } from "../../agent/platform/clock.ts";
import { openChannel } from "../../agent/platform/grpc.ts";
import { silentLog } from "../../agent/platform/log.ts";
import type { GpuSource } from "../../agent/source.ts";
import { ReportUsageRequestSchema } from "../gen/tokenwatt/v1/usage_pb.ts";

const HOSTS = ["n1", "n2", "n3"] as const;
const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

const noGpus: GpuSource = {
  backend: "test",
  generation: 0,
  inventory: async () => [],
  poll: async () => ({ sent: 0, received: 0, samples: [], gaps: [] }),
  close: async () => {},
  status: () => ({}),
};

/** A page that counts: LiteLLM's, or that of a router that names upstreams. */
interface Gateway {
  readonly endpoint: string;
  page: string;
  /** Pages given so far. */
  looks: number;
}

async function gateway(page: string): Promise<Gateway> {
  const state: { page: string; looks: number } = { page, looks: 0 };
  const server: Server = createServer((_, response) => {
    state.looks++;
    response.end(state.page);
  }).listen(0, "127.0.0.1");
  closing.push(() => new Promise((resolve) => server.close(resolve).closeAllConnections()));
  await new Promise((resolve) => server.once("listening", resolve));
  return Object.assign(state, { endpoint: `127.0.0.1:${(server.address() as AddressInfo).port}` });
}

async function agentOn(host: string, type: string, entry: object): Promise<Agent> {
  const folder = mkdtempSync(join(tmpdir(), "tokenwatt-fleet-"));
  closing.push(() => rmSync(folder, { recursive: true, force: true }));
  const settings = [
    `stateDir=${folder}`,
    "export.prometheus.listen=127.0.0.1:0",
    "discovery.enabled=false",
    `resource=${JSON.stringify({ "host.name": host })}`,
    `servers.${type}=${JSON.stringify([entry])}`,
  ];
  const { config } = loadConfig({ env: {}, file: false, settings });
  const clock = systemClock({ speed: 20 });
  const agent = await startAgent({ config, clock, log: silentLog, env: {}, gpu: noGpus });
  closing.push(() => agent.stop({ flushMs: 1000 }));
  return agent;
}

interface Line {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** The committed page of an agent. */
async function linesOf(agent: Agent): Promise<Line[]> {
  await agent.exports.recorded();
  const page = await (await fetch(`http://${agent.exports.address}/metrics`)).text();
  return [...page.matchAll(/^(\w+)\{(.*)\} (\S+)$/gm)].map(([, name = "", labels = "", value]) => ({
    name,
    labels: Object.fromEntries([...labels.matchAll(/(\w+)="([^"]*)"/g)].map(([, key, text]) => [key, text])),
    value: Number(value),
  }));
}

/** Asks until `enough`, or long after: the last answer is judged either way. */
async function eventually<T>(read: () => Promise<T>, enough: (seen: T) => boolean): Promise<T> {
  let seen = await read();
  for (let round = 0; round < 100 && !enough(seen); round++) seen = await read();
  return seen;
}

async function fleetTokens(agents: readonly Agent[], tenant: string): Promise<number> {
  const pages = await Promise.all(agents.map(linesOf));
  return pages
    .flat()
    .filter(
      ({ name, labels }) =>
        name === "tokenwatt_gateway_tokens_total" && labels["tokenwatt_tenant"] === tenant,
    )
    .reduce((sum, { value }) => sum + value, 0);
}

const looked = (fleet: readonly Agent[]): Promise<boolean> =>
  eventually(
    async () => {
      const pages = await Promise.all(fleet.map(linesOf));
      return pages.every((page) => page.some(({ name }) => name === "tokenwatt_gateway_info"));
    },
    (all) => all,
  );

const litellm = (tokens: number, last: number): string =>
  [
    "process_start_time_seconds 1764000000.25",
    `litellm_input_tokens_metric_total{model="m",requested_model="m",team="a"} ${3 * tokens}`,
    `litellm_output_tokens_metric_total{model="m",requested_model="m",team="a"} ${tokens}`,
    `litellm_output_tokens_metric_total{model="m",requested_model="m",team="last"} ${last}`,
    "",
  ].join("\n");

describe("one gateway and three agents", () => {
  test("its owner alone reads it: the fleet's sum is the gateway's", async () => {
    const page = await gateway(litellm(100, 1));
    const entry = { endpoint: page.endpoint, gatewayId: "gw", owner: "n2", pollMs: 2000 };
    const fleet = await Promise.all(HOSTS.map((host) => agentOn(host, "litellm", entry)));
    expect(await looked(fleet.slice(1, 2))).toBe(true);
    page.page = litellm(1100, 1);
    const seen = await eventually(
      () => fleetTokens(fleet, "a"),
      (sum) => sum >= 4000,
    );
    // What a second reader would add comes with the same looks: the page goes on, and everyone looks again.
    page.page = litellm(1100, 2);
    await eventually(
      () => fleetTokens(fleet, "last"),
      (sum) => sum >= 1,
    );
    expect([seen, await fleetTokens(fleet, "a")]).toEqual([4000, 4000]);
    const tokens = (await Promise.all(fleet.map(linesOf)))
      .flat()
      .filter(
        ({ labels, name }) =>
          name.startsWith("tokenwatt_gateway_") && labels["tokenwatt_tenant"] !== undefined,
      );
    expect(
      new Set(tokens.map(({ labels }) => `${labels["tokenwatt_gateway_id"]} ${labels["host_name"]}`)),
    ).toEqual(new Set(["gw n2"]));
  });

  test("without a rule each counts all of it, and all show the run that is read three times", async () => {
    const page = await gateway(litellm(100, 1));
    const entry = { endpoint: page.endpoint, pollMs: 2000 };
    const fleet = await Promise.all(HOSTS.map((host) => agentOn(host, "litellm", entry)));
    expect(await looked(fleet)).toBe(true);
    page.page = litellm(1100, 1);
    expect(
      await eventually(
        () => fleetTokens(fleet, "a"),
        (sum) => sum >= 12000,
      ),
    ).toBe(12000);
    const read = async (): Promise<Line[]> =>
      (await Promise.all(fleet.map(linesOf))).flat().filter(({ name }) => name === "tokenwatt_gateway_info");
    const infos = await eventually(read, (all) => all.length === 3);
    expect(infos.map(({ labels }) => labels["tokenwatt_gateway_run"])).toEqual(
      Array(3).fill("1764000000.25"),
    );
    expect(infos.map(({ labels }) => labels["tokenwatt_gateway_scope"])).toEqual(["all", "all", "all"]);
  });

  test("each counts what its own servers answered: the sum is the page's, whoever answered", async () => {
    const router = (tokens: readonly number[]): string =>
      tokens
        .map((each, at) => `vllm:output_tokens_total{model="m",server="http://10.0.0.${at}:8000"} ${each}`)
        .join("\n")
        .concat("\n");
    const page = await gateway(router([10, 20, 30]));
    const fleet = await Promise.all(
      HOSTS.map((host, at) => {
        const upstreams = [at === 0 ? "10.0.0.0" : `10.0.0.${at}:8000`];
        const entry = { endpoint: page.endpoint, gatewayId: "router", upstreams, pollMs: 2000 };
        return agentOn(host, "vllm-production-stack", entry);
      }),
    );
    expect(await looked(fleet)).toBe(true);
    page.page = router([110, 220, 330]);
    expect(
      await eventually(
        () => fleetTokens(fleet, "unknown"),
        (sum) => sum >= 600,
      ),
    ).toBe(600);
    expect(await Promise.all(fleet.map((one) => fleetTokens([one], "unknown")))).toEqual([100, 200, 300]);
  });

  test("a feed that is pushed to all of them counts once, where its upstream is", async () => {
    const sockets = mkdtempSync(join(tmpdir(), "tokenwatt-feed-"));
    closing.push(() => rmSync(sockets, { recursive: true, force: true }));
    const socket = (host: string): string => `unix:${join(sockets, host)}`;
    const fleet = await Promise.all(
      HOSTS.map((host, at) =>
        agentOn(host, "usage-reports", {
          endpoint: socket(host),
          gatewayId: "feed",
          upstreams: [`10.0.0.${at}`],
        }),
      ),
    );
    const clock = systemClock();
    const records = [0, 1, 2, 0, 1, 9].map((upstream, at) => ({
      id: `r${at}`,
      endTimeUnixNanos: clock.unixNanos(clock.now()),
      model: "m",
      tenant: "a",
      outcome: 1,
      upstream: `10.0.0.${upstream}:8000`,
      tokens: [
        { kind: 4, tokens: BigInt(10 ** at), outcome: 0, $typeName: "tokenwatt.v1.TokenCount" as const },
      ],
    }));
    const request = create(ReportUsageRequestSchema, { source: "gw", records: records as never });
    for (const host of HOSTS) await report(socket(host), toBinary(ReportUsageRequestSchema, request));
    const own = (): Promise<number[]> => Promise.all(fleet.map((one) => fleetTokens([one], "a")));
    expect(
      await eventually(own, (sums) => sums.every((sum) => sum > 0)),
      "the one answered elsewhere is nowhere",
    ).toEqual([1001, 10010, 100]);
  });
});

async function report(target: string, request: Uint8Array): Promise<void> {
  const channel = openChannel({ target }, { "grpc.use_local_subchannel_pool": 1 });
  const bytes = (buffer: Buffer): Buffer => buffer;
  try {
    await new Promise<void>((resolve, reject) =>
      channel.waitForReady(Date.now() + 5000, (error) => (error === undefined ? resolve() : reject(error))),
    );
    await new Promise((resolve, reject) => {
      const method = "/tokenwatt.v1.UsageReports/ReportUsage";
      channel.makeUnaryRequest(method, bytes, bytes, Buffer.from(request), (error, value) =>
        error === null ? resolve(value) : reject(error),
      );
    });
  } finally {
    channel.close();
  }
}
