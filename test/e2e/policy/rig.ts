// What tests of quotas with the real Envoy are made of: an upstream that counts what it answered, Envoy with its ratelimit
// filter before it (a check at the request, a charge when the stream is over), and the real agent as rate-limit service
// and as receiver of Envoy's access log.
import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  accessLogService,
  address,
  cluster,
  http2,
  NAMESPACE,
  TYPE,
  usageMetadata,
} from "../envoy/envoy-parts.ts";
import { afterTest, freePort, owned, scratchFolder, tool, until } from "../peers.ts";

/** The real Envoy. */
export const envoy = tool("envoy/bin/envoy", "quotas with Envoy");

const root = fileURLToPath(new URL("../../../", import.meta.url));
/** Where usage is in an answer, by the key it goes under. */
const USAGE = {
  llm_input_token: "usage.prompt_tokens",
  llm_output_token: "usage.completion_tokens",
  llm_total_token: "usage.total_tokens",
};

/** An upstream, and the tokens it said it used. */
export interface Upstream {
  readonly port: number;
  tokens(tenant: string): number;
}

/** Answers every request with usage of `tokens`; `x-ask: none` leaves the usage out. `delayMs`: how long an answer takes. */
export async function startUpstream(tokens: number, delayMs = 0): Promise<Upstream> {
  const used = new Map<string, number>();
  const server = createServer((incoming, response) => {
    const tenant = String(incoming.headers["x-tenant"] ?? "");
    setTimeout(() => {
      const hasUsage = incoming.headers["x-ask"] !== "none";
      used.set(tenant, (used.get(tenant) ?? 0) + tokens);
      const usage = { prompt_tokens: 1, completion_tokens: tokens - 1, total_tokens: tokens };
      response.writeHead(200, { "content-type": "application/json" });
      response.end(JSON.stringify({ model: "m", ...(hasUsage ? { usage } : {}) }));
    }, delayMs);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  afterTest(() => {
    server.close();
    server.closeAllConnections();
  });
  return { port: (server.address() as AddressInfo).port, tokens: (tenant) => used.get(tenant) ?? 0 };
}

/** Starts Envoy; returns its port and that of its admin page. */
export async function startEnvoy(ports: {
  upstream: number;
  rls: number;
  logs: number;
}): Promise<{ port: number; admin: number }> {
  const [port, admin] = [await freePort(), await freePort()];
  const path = join(scratchFolder("envoy-policy"), "envoy.json");
  writeFileSync(path, JSON.stringify(bootstrap({ ...ports, port, admin })));
  const args = ["--config-path", path, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"];
  owned(spawn(envoy as string, args, { stdio: ["ignore", "ignore", "inherit"] }));
  await until(async () => (await fetch(`http://127.0.0.1:${admin}/ready`)).ok);
  return { port, admin };
}

function bootstrap(ports: {
  upstream: number;
  rls: number;
  logs: number;
  port: number;
  admin: number;
}): object {
  return {
    node: { id: "gateway", cluster: "gateways" },
    admin: { address: address(ports.admin) },
    static_resources: {
      listeners: [
        { name: "http", address: address(ports.port), filter_chains: [{ filters: [connectionManager()] }] },
      ],
      clusters: [
        cluster("upstream", ports.upstream),
        { ...cluster("rls", ports.rls), ...http2() },
        { ...cluster("logs", ports.logs), ...http2() },
      ],
    },
  };
}

function connectionManager(): object {
  const actions = [{ request_headers: { header_name: "x-tenant", descriptor_key: "tenant" } }];
  const total = `%DYNAMIC_METADATA(${NAMESPACE}:llm_total_token)%`;
  const rateLimits = [
    { actions, hits_addend: { number: 0 } },
    { actions, hits_addend: { format: total }, apply_on_stream_done: true },
  ];
  // Hits other than 1 are taken from the filter's own configuration of a route, and ignored in the route's `rate_limits`.
  const perRoute = {
    "@type": `${TYPE}.filters.http.ratelimit.v3.RateLimitPerRoute`,
    rate_limits: rateLimits,
  };
  const route = {
    name: "chat",
    match: { prefix: "/" },
    route: { cluster: "upstream", timeout: "0s" },
    typed_per_filter_config: { "envoy.filters.http.ratelimit": perRoute },
  };
  return {
    name: "envoy.filters.network.http_connection_manager",
    typed_config: {
      "@type": `${TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager`,
      stat_prefix: "http",
      access_log: [accessLogService()],
      http_filters: [usageMetadata(USAGE), rateLimit(), router()],
      route_config: {
        virtual_hosts: [{ name: "all", domains: ["*"], routes: [route] }],
      },
    },
  };
}

function rateLimit(): object {
  return {
    name: "envoy.filters.http.ratelimit",
    typed_config: {
      "@type": `${TYPE}.filters.http.ratelimit.v3.RateLimit`,
      domain: "tokenwatt",
      timeout: "0.5s",
      failure_mode_deny: false,
      enable_x_ratelimit_headers: "DRAFT_VERSION_03",
      rate_limit_service: {
        transport_api_version: "V3",
        grpc_service: { envoy_grpc: { cluster_name: "rls" } },
      },
    },
  };
}

function router(): object {
  return {
    name: "envoy.filters.http.router",
    typed_config: { "@type": `${TYPE}.filters.http.router.v3.Router` },
  };
}

/** The real agent in a process of its own, with a policy. */
export class AgentProcess {
  readonly rls: number;
  readonly logs: number;
  readonly http: number;
  readonly folder: string;
  #stop: () => Promise<void> = async () => {};
  #child: ReturnType<typeof spawn> | undefined;

  private constructor(rls: number, logs: number, http: number) {
    [this.rls, this.logs, this.http] = [rls, logs, http];
    this.folder = scratchFolder("agent-policy");
  }

  /** With these lines of quotas; Envoy's access log is its feed unless other servers are given, and it has no prices. */
  static async start(
    quotas: string,
    other: { servers?: string; prices?: string } = {},
  ): Promise<AgentProcess> {
    const agent = new AgentProcess(await freePort(), await freePort(), await freePort());
    agent.writePolicy(quotas);
    const {
      prices,
      servers = `envoy-access-log: [{ endpoint: "127.0.0.1:${agent.logs}", tenantHeader: x-tenant }]`,
    } = other;
    if (prices !== undefined) writeFileSync(join(agent.folder, "prices.yaml"), prices);
    const config = `stateDir: ${agent.folder}/state
policy: policy.yaml
gpu: { backend: nvidia-smi }
discovery: { enabled: false, kubernetes: "off" }
servers: { ${servers} }
export: { prometheus: { listen: "127.0.0.1:${agent.http}", tenants: true } }
rates: { exportMs: 1000 }
${prices === undefined ? "" : "prices: prices.yaml"}
`;
    writeFileSync(join(agent.folder, "config.yaml"), config);
    await agent.begin();
    return agent;
  }

  writePolicy(quotas: string): void {
    const rls = `rls: { listen: "127.0.0.1:${this.rls}" }`;
    writeFileSync(join(this.folder, "policy.yaml"), `version: "1"\n${rls}\nquotas:\n${quotas}`);
  }

  async begin(): Promise<void> {
    const args = [join(root, "agent/main.ts"), "run", "--config", join(this.folder, "config.yaml")];
    this.#child = spawn(process.execPath, args, { stdio: ["ignore", "ignore", "ignore"] });
    this.#stop = owned(this.#child);
    await until(async () => (await fetch(`http://127.0.0.1:${this.http}/-/policy`)).ok);
  }

  /** As power does it. */
  async kill(): Promise<void> {
    this.#child?.kill("SIGKILL");
    await this.#stop();
  }

  stop(): Promise<void> {
    return this.#stop();
  }

  /** Used and drift of a quota as `/-/policy` says. */
  async quota(name: string, tenant?: string): Promise<Shown | undefined> {
    const page = await (await fetch(`http://127.0.0.1:${this.http}/-/policy`)).json();
    return (page as { quotas: Shown[] }).quotas.find(
      (one) => one.name === name && (tenant === undefined || one.key["tenant"] === tenant),
    );
  }

  async metrics(): Promise<string> {
    return (await fetch(`http://127.0.0.1:${this.http}/metrics`)).text();
  }

  /** Memory of the process, bytes. */
  residentBytes(): number {
    const status = readFileSync(`/proc/${this.#child?.pid}/status`, "utf8");
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) * 1024;
  }
}

/** One quota of `/-/policy`. */
export interface Shown {
  readonly name: string;
  readonly key: Readonly<Record<string, string>>;
  readonly used: number | null;
  readonly drift: number | null;
  readonly method: string;
  readonly state: string;
}

/** What came back of one request. */
export interface Reply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

/** Sends a request through Envoy; without a tenant no header names one. */
export function ask(port: number, tenant?: string, what = ""): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const headers = { ...(tenant === undefined ? {} : { "x-tenant": tenant }), "x-ask": what };
    const sent = request({ host: "127.0.0.1", port, method: "POST", headers }, (response) => {
      response.on("end", () => resolve({ status: response.statusCode ?? 0, headers: response.headers }));
      response.resume();
    });
    sent.on("error", reject);
    sent.end();
  });
}
