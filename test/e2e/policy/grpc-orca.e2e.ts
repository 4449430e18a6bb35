// gRPC's own balancers (weighted_round_robin of grpc-go, grpc-js and grpcio, out of band) by load that real agents report. They ask on
// the connection that they send calls over, so that the host's proxy sends OpenRcaService to the agent and all else to the
// server: an Envoy with two listeners here, one for each of two hosts.
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { openChannel } from "../../../agent/platform/grpc.ts";
import { unaryServer } from "../../../agent/platform/grpc-unary.ts";
import { address, cluster, http2, TYPE } from "../envoy/envoy-parts.ts";
import { afterTest, context, freePort, owned, scratchFolder, tool, until } from "../peers.ts";
import { expectToFollowLoad, HOSTS, LoadedHost, listening } from "./orca-rig.ts";
import { envoy } from "./rig.ts";

const peers = tool("policy-peers", "load reports to grpc-go");
const python = tool("python/bin/python", "load reports to grpcio");
const PATH = "/chat.Chat/Say";

/** One proxy of a host: load reports from its agent, everything else from its server. */
function listener(host: string, port: number, name: string): object {
  const to = (prefix: string, cluster: string): object => ({
    match: { prefix },
    route: { cluster, timeout: "0s" },
  });
  const routes = [to("/xds.service.orca.v3.OpenRcaService/", `agent-${name}`), to("/", `server-${name}`)];
  const manager = {
    "@type": `${TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager`,
    stat_prefix: name,
    http_filters: [
      {
        name: "envoy.filters.http.router",
        typed_config: { "@type": `${TYPE}.filters.http.router.v3.Router` },
      },
    ],
    route_config: { virtual_hosts: [{ name: "all", domains: ["*"], routes }] },
  };
  return {
    name,
    address: address(port, host),
    filter_chains: [
      { filters: [{ name: "envoy.filters.network.http_connection_manager", typed_config: manager }] },
    ],
  };
}

/** Starts two hosts, the first of them busy, behind their proxies; returns them and the port of both. */
async function startHosts(): Promise<{ hosts: readonly [LoadedHost, LoadedHost]; port: number }> {
  const [port, admin] = [await freePort(), await freePort()];
  const listeners: object[] = [];
  const clusters: object[] = [];
  const start = async (host: string, cacheRatio: number): Promise<LoadedHost> => {
    const loaded = new LoadedHost();
    loaded.cacheRatio = cacheRatio;
    const answer = (message: Buffer): Buffer => {
      const client = message.length;
      loaded.answered[client] = (loaded.answered[client] ?? 0) + 1;
      return Buffer.alloc(0);
    };
    const calls = unaryServer({ path: PATH, answer, messageBytesMax: 1000, streamsMax: 1000 });
    const server = createServer((socket) => {
      socket.on("error", () => {});
      afterTest(() => socket.destroy());
      calls.accept(socket);
    });
    const [orca, grpc] = [await freePort(), await listening(server, "127.0.0.1")];
    await loaded.start(`127.0.0.1:${orca}`);
    listeners.push(listener(host, port, host));
    clusters.push({ ...cluster(`agent-${host}`, orca), ...http2() });
    clusters.push({ ...cluster(`server-${host}`, grpc), ...http2() });
    return loaded;
  };
  const hosts = [await start(HOSTS[0], 0.9), await start(HOSTS[1], 0.1)] as const;
  const path = join(scratchFolder("envoy-grpc-orca"), "envoy.json");
  const config = { admin: { address: address(admin) }, static_resources: { listeners, clusters } };
  writeFileSync(path, JSON.stringify(config));
  const args = ["--config-path", path, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"];
  owned(spawn(envoy as string, args, { stdio: ["ignore", "ignore", "inherit"] }));
  await until(async () => (await fetch(`http://127.0.0.1:${admin}/ready`)).ok);
  return { hosts, port };
}

/** grpc-go as a program of its own; its messages are empty. */
function startGoClient(addresses: readonly string[]): void {
  owned(spawn(peers as string, ["balance", ...addresses], { stdio: ["ignore", "ignore", "inherit"] }));
}

/** grpcio as a program of its own; its messages have two bytes. */
function startPythonClient(addresses: readonly string[]): void {
  const program = fileURLToPath(new URL("balance_orca.py", import.meta.url));
  owned(spawn(python as string, [program, ...addresses], { stdio: ["ignore", "ignore", "inherit"] }));
}

/** grpc-js in this process; its messages have one byte. */
function startJsClient(addresses: readonly string[]): void {
  const balancing = {
    enable_oob_load_report: true,
    oob_load_reporting_period: "1s",
    blackout_period: "0s",
    weight_expiration_period: "4s",
    weight_update_period: "1s",
    error_utilization_penalty: 1,
  };
  const config = { loadBalancingConfig: [{ weighted_round_robin: balancing }] };
  const client = openChannel(
    { target: `ipv4:${addresses.join(",")}` },
    { "grpc.service_config": JSON.stringify(config) },
  );
  const bytes = (value: Buffer): Buffer => value;
  let isOver = false;
  const call = (): void => {
    if (isOver) return;
    client.makeUnaryRequest(PATH, bytes, bytes, Buffer.alloc(1), () => setTimeout(call, 5));
  };
  call();
  afterTest(() => {
    isOver = true;
    client.close();
  });
}

describe.runIf(envoy !== undefined && peers !== undefined && python !== undefined)(
  "weighted_round_robin, out of band",
  () => {
    test("of grpc-go, grpc-js and grpcio sends to the idle server, follows, and takes no weight from one that cannot be read", async () => {
      const { hosts, port } = await startHosts();
      const [one, other] = hosts;
      const addresses = HOSTS.map((host) => `${host}:${port}`);
      startGoClient(addresses);
      startJsClient(addresses);
      startPythonClient(addresses);
      const clients = [0, 1, 2];
      const shares = async (): Promise<readonly number[]> => {
        for (const { answered } of hosts) answered.fill(0);
        const all = (client: number): number => (one.answered[client] ?? 0) + (other.answered[client] ?? 0);
        while (clients.some((client) => all(client) < 100)) await context.clock.sleep(20, context.signal);
        return clients.map((client) => (one.answered[client] ?? 0) / all(client));
      };
      const followedSeconds = await expectToFollowLoad({ one, other, shares });
      console.log(`traffic of all followed within ${followedSeconds.toFixed(1)} s`);
      expect(Math.min(...(await shares()))).toBeGreaterThan(0.5);
    });
  },
);
