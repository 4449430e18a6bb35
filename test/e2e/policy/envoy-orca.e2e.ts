// The real Envoy 1.40 balances by load that real agents report out of band: two hosts (two loopback addresses), a server
// behind each agent, all told apart by authority. Traffic goes to the idle one, follows when they change places, and a
// server that cannot be read loses its weight.
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { address, TYPE } from "../envoy/envoy-parts.ts";
import { afterTest, freePort, owned, scratchFolder, until } from "../peers.ts";
import { expectToFollowLoad, HOSTS, LoadedHost, listening } from "./orca-rig.ts";
import { ask, envoy } from "./rig.ts";

const LB = "envoy.load_balancing_policies.client_side_weighted_round_robin";

/** A host whose server answers over HTTP. */
async function startHost(
  place: string,
  upstreamPort: number,
  orcaPort: number,
  cacheRatio: number,
): Promise<LoadedHost> {
  const host = new LoadedHost();
  host.cacheRatio = cacheRatio;
  const upstream = createServer((_, response) => {
    host.answered[0] = (host.answered[0] ?? 0) + 1;
    response.end("{}");
  });
  afterTest(() => upstream.closeAllConnections());
  await listening(upstream, place, upstreamPort);
  await host.start(`${place}:${orcaPort}`);
  return host;
}

function bootstrap(ports: { port: number; admin: number; upstream: number; orca: number }): object {
  const manager = {
    "@type": `${TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager`,
    stat_prefix: "http",
    http_filters: [
      {
        name: "envoy.filters.http.router",
        typed_config: { "@type": `${TYPE}.filters.http.router.v3.Router` },
      },
    ],
    route_config: {
      virtual_hosts: [
        { name: "all", domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster: "chat" } }] },
      ],
    },
  };
  const balancing = {
    "@type": `${TYPE}.load_balancing_policies.client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin`,
    enable_oob_load_report: true,
    oob_reporting_period: "1s",
    oob_reporting_config: { port_value: ports.orca, authority: "chat" },
    blackout_period: "0s",
    weight_expiration_period: "4s",
    weight_update_period: "1s",
  };
  const endpoints = HOSTS.map((host) => ({ endpoint: { address: address(ports.upstream, host) } }));
  return {
    admin: { address: address(ports.admin) },
    static_resources: {
      listeners: [
        {
          name: "http",
          address: address(ports.port),
          filter_chains: [
            { filters: [{ name: "envoy.filters.network.http_connection_manager", typed_config: manager }] },
          ],
        },
      ],
      clusters: [
        {
          name: "chat",
          type: "STATIC",
          connect_timeout: "2s",
          load_assignment: { cluster_name: "chat", endpoints: [{ lb_endpoints: endpoints }] },
          load_balancing_policy: {
            policies: [{ typed_extension_config: { name: LB, typed_config: balancing } }],
          },
        },
      ],
    },
  };
}

describe.runIf(envoy !== undefined)("Envoy's client-side weighted round robin, out of band", () => {
  test("sends to the idle server, follows when they change places, and takes no weight from one that cannot be read", async () => {
    const [port, admin, upstream, orca] = [
      await freePort(),
      await freePort(),
      await freePort(),
      await freePort(),
    ];
    const one = await startHost(HOSTS[0], upstream, orca, 0.9);
    const other = await startHost(HOSTS[1], upstream, orca, 0.1);
    const path = join(scratchFolder("envoy-orca"), "envoy.json");
    writeFileSync(path, JSON.stringify(bootstrap({ port, admin, upstream, orca })));
    const args = [
      "--config-path",
      path,
      "--concurrency",
      "1",
      "--disable-hot-restart",
      "--log-level",
      "error",
    ];
    owned(spawn(envoy as string, args, { stdio: ["ignore", "ignore", "inherit"] }));
    await until(async () => (await fetch(`http://127.0.0.1:${admin}/ready`)).ok);
    const shares = async (): Promise<readonly number[]> => {
      one.answered[0] = 0;
      for (let sent = 0; sent < 100; sent++) await ask(port);
      return [one.answered[0] / 100];
    };
    const followedSeconds = await expectToFollowLoad({ one, other, shares });
    console.log(`traffic followed within ${followedSeconds.toFixed(1)} s`);
    expect(one.answered[0]).toBeGreaterThan(80);
  });
});
