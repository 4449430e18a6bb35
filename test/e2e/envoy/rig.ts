// What the tests around Envoy are made of: an upstream that reports usage, Envoy before it, a Collector behind it, and
// receivers of ours.
import { execFileSync, spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import { connect } from "node:net";
import { join } from "node:path";
import type { TokenReading, TokenSample } from "../../../agent/model.ts";
import type { ReceiverSource } from "../../../agent/servers/receive/receiver.ts";
import { afterTest, freePort, owned, scratchFolder, tool, until } from "../peers.ts";
import type { EnvoyConfig } from "./envoy-config.ts";
import { envoyConfig } from "./envoy-config.ts";

/** The programs, where they are installed. */
export const program = tool("envoy/envoy", "Envoy");
export const collector = tool("otelcol-deploy", "Envoy's logs through a Collector");

/** What the upstream reports of every answer. */
const USAGE = {
  prompt_tokens: 500,
  completion_tokens: 20,
  prompt_tokens_details: { cached_tokens: 300 },
  completion_tokens_details: { reasoning_tokens: 5 },
};
/** What `answers` of them come to. */
export const times = (answers: number): TokenReading["tokens"] => ({
  input_uncached: answers * 200,
  input_cached: answers * 300,
  output: answers * 20,
});

/** Answers with usage; `x-ask` asks for a status, to stop in the middle ("hang", "break") or to take a second ("slow"). */
function answer(incoming: IncomingMessage, response: ServerResponse): void {
  const ask = incoming.headers["x-ask"] ?? "200";
  const status = Number(ask) || 200;
  const streams = ask === "hang" || ask === "break" || ask === "slow";
  // Envoy's filter holds a JSON answer back until it is whole.
  response.writeHead(status, { "content-type": streams ? "text/event-stream" : "application/json" });
  if (streams) {
    response.write("data: {}");
    if (ask === "break") setImmediate(() => response.destroy());
    if (ask === "slow") setTimeout(() => response.end(), 1000);
    return;
  }
  response.end(JSON.stringify(status === 200 ? { model: "m-1", usage: USAGE } : { error: "no" }));
}

/** A running Envoy. */
export interface Gateway {
  readonly config: EnvoyConfig;
  stop(): Promise<void>;
}

async function startUpstream(): Promise<number> {
  const server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  afterTest(() => {
    server.close();
    server.closeAllConnections();
  });
  return (server.address() as AddressInfo).port;
}

/** Envoy before an upstream of its own, or the one given. */
export async function startEnvoy(
  given: Pick<EnvoyConfig, "logs" | "tls"> & Partial<EnvoyConfig>,
): Promise<Gateway> {
  const upstreamPort = given.upstreamPort ?? (await startUpstream());
  const config = { port: await freePort(), adminPort: await freePort(), ...given, upstreamPort };
  const path = join(scratchFolder("envoy"), "envoy.json");
  writeFileSync(path, envoyConfig(config));
  const args = ["--config-path", path, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"];
  const stop = owned(spawn(program as string, args, { stdio: "ignore" }));
  await until(async () => (await fetch(`http://127.0.0.1:${config.adminPort}/ready`)).ok);
  return { config, stop };
}

/** A counter of Envoy's own. */
export async function stat({ config }: Gateway, name: string): Promise<number> {
  const page = await (await fetch(`http://127.0.0.1:${config.adminPort}/stats?filter=^${name}$`)).text();
  return Number(/: (\d+)/.exec(page)?.[1] ?? 0);
}

/** Sends a request through the gateway; "hang" is given up by the client once the answer has begun. */
export function ask({ config }: Gateway, tenant: string, what = "200"): Promise<number> {
  return new Promise((resolve) => {
    const headers = { "x-tenant": tenant, "x-ask": what };
    const sent = request({ host: "127.0.0.1", port: config.port, method: "POST", headers }, (response) => {
      const status = response.statusCode ?? 0;
      response.on("error", () => resolve(status));
      response.on("end", () => resolve(status));
      if (what === "hang") {
        sent.destroy();
        resolve(status);
      } else response.resume();
    });
    sent.on("error", () => resolve(0));
    sent.end();
  });
}

/** A receiver of ours, and what it has counted. */
export interface Receiver {
  readonly port: number;
  readings(): readonly TokenReading[];
  /** Requests of any outcome so far. */
  requests(): number;
  close(): Promise<void>;
}

/** Runs a receiver until the end of the test. */
export async function receive(source: ReceiverSource): Promise<Receiver> {
  let last: TokenSample | undefined;
  void source.run(async (reading) => {
    if (!("reason" in reading)) last = reading;
  });
  afterTest(() => source.close());
  const readings = (): readonly TokenReading[] => last?.readings ?? [];
  const requests = (): number =>
    readings()
      .flatMap((reading) => Object.values(reading.requests))
      .reduce((sum, each) => sum + each, 0);
  return { port: await source.listening, readings, requests, close: () => source.close() as Promise<void> };
}

/** A Collector that passes logs on to `port` and asks again until they are taken; returns its own port. */
export async function startCollector(port: number): Promise<number> {
  const [own, path] = [await freePort(), join(scratchFolder("collector"), "config.yaml")];
  const retry = { enabled: true, initial_interval: "200ms", max_interval: "500ms", max_elapsed_time: "0s" };
  const config = {
    receivers: { otlp: { protocols: { grpc: { endpoint: `127.0.0.1:${own}` } } } },
    exporters: {
      otlp_grpc: { endpoint: `127.0.0.1:${port}`, tls: { insecure: true }, retry_on_failure: retry },
    },
    service: {
      telemetry: { metrics: { level: "none" } },
      pipelines: { logs: { receivers: ["otlp"], exporters: ["otlp_grpc"] } },
    },
  };
  writeFileSync(path, JSON.stringify(config));
  owned(spawn(collector as string, ["--config", path], { stdio: "ignore" }));
  await until(() => listens(own));
  return own;
}

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.on("error", () => resolve(false));
    socket.on("connect", () => {
      socket.destroy();
      resolve(true);
    });
  });
}

/** An authority of this name, and a certificate signed by it for either end. */
export function authority(path: string, name: string): void {
  const openssl = (...args: string[]): unknown => execFileSync("openssl", args, { cwd: path, stdio: "pipe" });
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", `/CN=${name}`];
  openssl("req", "-x509", ...key, "-days", "2", "-keyout", `${name}-ca.key`, "-out", `${name}-ca.pem`);
  writeFileSync(join(path, "ext"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n");
  openssl("req", ...key, "-keyout", `${name}-end.key`, "-out", `${name}-end.csr`);
  const signed = ["-CA", `${name}-ca.pem`, "-CAkey", `${name}-ca.key`, "-CAcreateserial", "-extfile", "ext"];
  openssl("x509", "-req", "-in", `${name}-end.csr`, ...signed, "-days", "2", "-out", `${name}-end.pem`);
}
