// The real Envoy 1.40 balances by load that real agents report out of band: two hosts (two loopback addresses), a server
// behind each agent, all told apart by authority. Traffic goes to the idle one, follows when they change places, and a
// server that cannot be read loses its weight.
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import type { Server } from "node:http";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { afterTest, context, freePort, owned, scratchFolder, until } from "../peers.ts";
import { ask, envoy } from "./rig.ts";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const HOSTS = ["127.0.0.1", "127.0.0.2"] as const;
const LB = "envoy.load_balancing_policies.client_side_weighted_round_robin";
const TYPE = "type.googleapis.com/envoy.extensions";

async function listening(server: Server, host: string, port = 0): Promise<number> {
  await new Promise<void>((resolve) => server.listen(port, host, resolve));
  afterTest(() => {
    server.close();
    server.closeAllConnections();
  });
  return (server.address() as AddressInfo).port;
}

/** One host: a server's page, the upstream Envoy sends to, and the agent that reports the load. */
class Host {
  cacheRatio = 0.5;
  isReadable = true;
  answered = 0;
  #began = Date.now();

  async start(address: string, upstreamPort: number, orcaPort: number): Promise<void> {
    const page = createServer((_, response) => {
      if (!this.isReadable) response.writeHead(503);
      response.end(this.isReadable ? this.#page() : "");
    });
    const upstream = createServer((_, response) => {
      this.answered++;
      response.end("{}");
    });
    await listening(upstream, address, upstreamPort);
    await this.#startAgent(await listening(page, "127.0.0.1"), `${address}:${orcaPort}`);
  }

  #page(): string {
    const done = Math.floor((Date.now() - this.#began) / 100);
    return `# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{model_name="m",engine="0"} 4
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{model_name="m",engine="0"} 0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{model_name="m",engine="0"} ${this.cacheRatio}
# TYPE vllm:prompt_tokens counter
vllm:prompt_tokens_total{model_name="m",engine="0"} ${done * 10}
# TYPE vllm:generation_tokens counter
vllm:generation_tokens_total{model_name="m",engine="0"} ${done * 10}
# TYPE vllm:request_success counter
vllm:request_success_total{model_name="m",engine="0",finished_reason="stop"} ${done}
`;
  }

  async #startAgent(pagePort: number, orca: string): Promise<void> {
    const [folder, http] = [scratchFolder("agent-orca"), await freePort()];
    writeFileSync(
      join(folder, "policy.yaml"),
      `version: "1"\norca: { listen: "${orca}", minimumSeconds: 1 }\n`,
    );
    writeFileSync(
      join(folder, "config.yaml"),
      `stateDir: ${folder}/state
policy: policy.yaml
gpu: { backend: nvidia-smi }
discovery: { enabled: false, kubernetes: "off" }
servers: { vllm: [{ id: chat, endpoint: "127.0.0.1:${pagePort}" }] }
export: { prometheus: { listen: "127.0.0.1:${http}" } }
rates: { exportMs: 1000 }
`,
    );
    const args = [join(root, "agent/main.ts"), "run", "--config", join(folder, "config.yaml")];
    owned(spawn(process.execPath, args, { stdio: "ignore" }));
    await until(async () => (await fetch(`http://127.0.0.1:${http}/-/ready`)).ok);
  }
}

function bootstrap(ports: { port: number; admin: number; upstream: number; orca: number }): object {
  const at = (address: string, port_value: number): object => ({ socket_address: { address, port_value } });
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
  const endpoints = HOSTS.map((host) => ({ endpoint: { address: at(host, ports.upstream) } }));
  return {
    admin: { address: at("127.0.0.1", ports.admin) },
    static_resources: {
      listeners: [
        {
          name: "http",
          address: at("127.0.0.1", ports.port),
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
    const [one, other] = [new Host(), new Host()];
    [one.cacheRatio, other.cacheRatio] = [0.9, 0.1];
    await one.start(HOSTS[0], upstream, orca);
    await other.start(HOSTS[1], upstream, orca);
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
    /** Share of the next hundred requests that the first server gets. */
    const share = async (): Promise<number> => {
      [one.answered, other.answered] = [0, 0];
      for (let sent = 0; sent < 100; sent++) await ask(port);
      return one.answered / 100;
    };
    await until(async () => (await share()) < 0.2, 60);
    [one.cacheRatio, other.cacheRatio] = [0.1, 0.9];
    const changed = context.clock.now();
    await until(async () => (await share()) > 0.8, 60);
    console.log(`traffic followed within ${((context.clock.now() - changed) / 1e9).toFixed(1)} s`);
    // Without a report its weight expires, and it is given the mean of the others: an even share, no zero.
    one.isReadable = false;
    await until(async () => Math.abs((await share()) - 0.5) < 0.1, 60);
    one.isReadable = true;
    await until(async () => (await share()) > 0.8, 60);
    expect(one.answered).toBeGreaterThan(80);
  });
});
