// `tokenwatt probe` on addresses, wrong types, mappings and pages no type knows: what it prints is what works.
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, test } from "vitest";
import { parsePage } from "../../agent/page/parse.ts";
import type { PageReader } from "../../agent/source.ts";
import { fakePeer } from "../fakes/grpc-peer.ts";
import { runCommand } from "./capture-io.ts";

const folder = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const recording = (name: string): string => folder(`../fixtures/servers/${name}`);
const unknown = (name: string): string => folder(`../fixtures/unknown-pages/${name}`);
const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

/** Serves one page at one path; others are not found. */
async function serve(path: string, body: string | Buffer): Promise<{ address: string; asked: string[] }> {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(request.url ?? "");
    response.writeHead(request.url === path ? 200 : 404, { "content-type": "text/plain" }).end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closing.push(() => {
    server.close();
    server.closeAllConnections();
  });
  return { address: `127.0.0.1:${(server.address() as AddressInfo).port}`, asked };
}

async function json(...argv: string[]): Promise<Record<string, unknown> & { errors: string[] }> {
  return JSON.parse((await runCommand(["probe", ...argv, "--json"])).stdout);
}

function written(name: string, text: string): string {
  const path = join(mkdtempSync(join(tmpdir(), "probe-")), name);
  writeFileSync(path, text);
  return path;
}

describe("a target", () => {
  test("may be host:port, as in the configuration", async () => {
    const { address, asked } = await serve("/v1/metrics", readFileSync(recording("nim-1-serving.prom")));
    expect(await json(address)).toMatchObject({ server: "nim" });
    expect(asked).toEqual(["/metrics", "/v1/metrics"]);
  });

  test("read as a type is asked for that type's page only", async () => {
    const page = readFileSync(recording("tensorrt-llm-1.3-documented.prom"));
    const { address, asked } = await serve("/prometheus/metrics", page);
    expect(await json(address, "--as", "tensorrt-llm")).toMatchObject({ server: "tensorrt-llm" });
    expect(asked).toEqual(["/prometheus/metrics"]);
  });

  test("of a type that is reached over gRPC needs no scheme", async () => {
    const peer = await fakePeer({}, ["inference.GRPCInferenceService"]);
    closing.push(peer.close);
    const { exitCode, stderr } = await runCommand(["probe", peer.address, "--as", "triton-grpc"]);
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/GRPCInferenceService/);
  });

  test("that is no file and no address says what is wanted", async () => {
    const { exitCode, stderr } = await runCommand(["probe", "localhost"]);
    expect(exitCode).toBe(2);
    expect(stderr).toMatch(/no such file[\s\S]*host:port/);
  });
});

describe("a wrong type", () => {
  test("is answered with the right one", async () => {
    const { errors, readings } = await json(recording("sglang-2026-two-ranks.prom"), "--as", "vllm");
    expect(readings).toEqual([]);
    expect(errors.join()).toMatch(/no token counter of vllm.*the page looks like sglang/);
  });

  test("on a page of no type names what looks like tokens", async () => {
    const { errors } = await json(unknown("own-engine-with-a-prefix.prom"), "--as", "vllm");
    expect(errors.join()).toMatch(/look like tokens.*acme:prompt_tokens_total/);
  });
});

describe("an unknown page", () => {
  const pages = [
    ["own-engine-with-a-prefix.prom", { input_uncached: 1300, input_cached: 200, output: 330, running: 2 }],
    ["own-gateway-by-token-type.prom", { tenant: "a", input_unsplit: 1000, output: 300 }],
    ["own-gateway.prom", { tenant: "team-a", input_unsplit: 30, output: 3 }],
  ] as const;

  test.each(pages)("%s is listed with a mapping that reads it", async (name, reading) => {
    const { exitCode, stdout } = await runCommand(["probe", unknown(name)]);
    expect(exitCode).toBe(1);
    const mapping = written("mapping.yaml", stdout.slice(stdout.indexOf("servers:")));
    const mapped = await json(unknown(name), "--map", mapping);
    expect(mapped).toMatchObject({ server: "prometheus-generic", errors: [] });
    expect((mapped["readings"] as unknown[])[0]).toMatchObject(reading);
    // The whole file is a configuration, too.
    expect((await runCommand(["config", "check", "--config", mapping])).exitCode).toBe(0);
  });

  test.each(pages)(
    "%s has a draft of a server file that reads it as the mapping does",
    async (name, reading) => {
      const { exitCode, stdout } = await runCommand(["probe", "--draft", unknown(name)]);
      expect(exitCode).toBe(0);
      const server = folder("../../agent/servers/page/server.ts");
      const file = written("acme-server.ts", stdout.replace('"./page/server.ts"', JSON.stringify(server)));
      const [acme] = Object.values(
        (await import(file)) as Record<string, { name: string; page: PageReader }>,
      );
      const { page: reader } = acme as { page: PageReader };
      expect(acme?.name).toBe(name.startsWith("own-gateway.") ? "gateway" : "acme");
      const page = parsePage(readFileSync(unknown(name)));
      expect(reader.recognises(page)).toBeDefined();
      const { readings } = reader.read(page);
      const { tenant, running, ...tokens } = { tenant: undefined, running: undefined, ...reading };
      expect(readings[0]).toMatchObject({ tokens });
      expect([readings[0]?.tenant, readings[0]?.running]).toEqual([tenant, running]);
    },
  );

  test("prints families and mapping as JSON, and no rate, limit or security token among them", async () => {
    const {
      token_families: families,
      mapping,
      server,
    } = await json(unknown("own-engine-with-a-prefix.prom"));
    expect(server).toBeNull();
    expect((families as { metric: string }[]).map(({ metric }) => metric)).toEqual([
      "acme:prompt_tokens_total",
      "acme:prompt_tokens_cached_total",
      "acme:generation_tokens_total",
    ]);
    expect(mapping).toMatchObject({ family: "engine", modelLabel: "model_name" });
    const gateway = await json(unknown("own-gateway-by-token-type.prom"));
    expect(JSON.stringify(gateway["token_families"])).not.toContain("auth");
  });

  test("that merges the engines of a router says so, and offers no mapping", async () => {
    const { why, mapping } = await json(unknown("sglang-router-0.3-engine-metrics.prom"));
    expect(why).toMatch(/merges the engines behind a router/);
    expect(mapping).toBeUndefined();
  });
});

describe("--map", () => {
  const page = unknown("own-engine-with-a-prefix.prom");

  test("takes one entry without its place in a configuration, names in any spelling", async () => {
    const map = written(
      "map.yaml",
      `tokens:
  output: [{metric: acme_generation_tokens, where: {replica: "2"}}]
requests:
  ok: [{metric: acme_requests}]
`,
    );
    const { errors, readings } = await json(page, "--map", map);
    expect(readings).toMatchObject([{ output: 30, input_unsplit: null }]);
    expect(errors).toEqual(["requests.ok: acme_requests is not on the page"]);
  });

  test("says what is wrong with it, with line and hint", async () => {
    const map = written("map.yaml", "tokens:\n  outputs: [{metric: a}]\n");
    const { exitCode, stderr } = await runCommand(["probe", page, "--map", map]);
    expect(exitCode).toBe(2);
    expect(stderr).toMatch(/tokens\.outputs[\s\S]*map\.yaml:2:3[\s\S]*"output"/);
  });

  test("is wanted by prometheus-generic, and by nothing else", async () => {
    expect((await runCommand(["probe", page, "--as", "prometheus-generic"])).stderr).toMatch(/--map FILE/);
    const { exitCode, stderr } = await runCommand(["probe", page, "--as", "vllm", "--map", "x"]);
    expect([exitCode, stderr]).toEqual([2, expect.stringContaining("--map is for")]);
  });

  test("of several entries takes the target's", async () => {
    const entry = (endpoint: string, metric: string): string =>
      `    - {endpoint: ${endpoint}, tokens: {output: [{metric: ${metric}}]}}\n`;
    const { address } = await serve("/metrics", readFileSync(page));
    const head = "servers:\n  prometheus-generic:\n";
    const map = written(
      "config.yaml",
      head + entry("localhost:1", "a") + entry(address, "acme:generation_tokens_total"),
    );
    expect((await json(address, "--map", map))["readings"]).toMatchObject([{ output: 330 }]);
    const { stderr } = await runCommand(["probe", page, "--map", map]);
    expect(stderr).toMatch(/2 entries \(localhost:1, .*none for/);
  });
});
