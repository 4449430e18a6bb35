// What tests of balancing are made of: the page of a server, the agent that reads it and reports its load, and who follows.
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo, Server } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterTest, freePort, owned, scratchFolder, until } from "../peers.ts";

const root = fileURLToPath(new URL("../../../", import.meta.url));

/** Two hosts of loopback. */
export const HOSTS = ["127.0.0.1", "127.0.0.2"] as const;

/** Listens until the test is over; returns the port. */
export async function listening(server: Server, host: string, port = 0): Promise<number> {
  await new Promise<void>((resolve) => server.listen(port, host, resolve));
  afterTest(() => server.close());
  return (server.address() as AddressInfo).port;
}

/** One host: a server's page, and the agent that reports its load. Tests say what the page shows. */
export class LoadedHost {
  cacheRatio = 0.5;
  isReadable = true;
  /** Calls that its server answered, by client; the test counts them. */
  readonly answered = [0, 0, 0];
  readonly #began = Date.now();

  /** Starts the page, and the agent with load reports at `orca` and these lines of configuration more. */
  async start(orca: string, more = ""): Promise<void> {
    const page = createServer((_, response) => {
      if (!this.isReadable) response.writeHead(503);
      response.end(this.isReadable ? this.#page() : "");
    });
    afterTest(() => page.closeAllConnections());
    const pagePort = await listening(page, "127.0.0.1");
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
${more}`,
    );
    const args = [join(root, "agent/main.ts"), "run", "--config", join(folder, "config.yaml")];
    owned(spawn(process.execPath, args, { stdio: "ignore" }));
    await until(async () => (await fetch(`http://127.0.0.1:${http}/-/ready`)).ok);
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
}

/** Two hosts that calls are balanced over; `shares` measures what the first gets of each client's calls. */
export interface Balanced {
  readonly one: LoadedHost;
  readonly other: LoadedHost;
  readonly shares: () => Promise<readonly number[]>;
}

/**
 * Traffic of every client goes to the idle host, follows when they change places, and a server that cannot be read loses its
 * weight: with Envoy, grpc-go and grpcio it then has the mean of the others, an even share, with grpc-js a weight of 1, never zero.
 * Returns the seconds in which traffic followed.
 */
export async function expectToFollowLoad({ one, other, shares }: Balanced): Promise<number> {
  const all = (holds: (share: number) => boolean): Promise<void> =>
    until(async () => (await shares()).every(holds), 60);
  await all((share) => share < 0.2);
  [one.cacheRatio, other.cacheRatio] = [0.1, 0.9];
  const changed = Date.now();
  await all((share) => share > 0.8);
  const followedSeconds = (Date.now() - changed) / 1000;
  one.isReadable = false;
  await all((share) => share < 0.65);
  one.isReadable = true;
  await all((share) => share > 0.8);
  return followedSeconds;
}
