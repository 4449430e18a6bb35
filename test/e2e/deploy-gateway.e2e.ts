// The gateway tier: its manifests by Kubernetes' schemas and by one another, and the Collector started as its pod would start it,
// in front of a backend that says yes, "not now" and no. Its answer must be the backend's: nothing is acknowledged and kept.

import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import type { Server } from "node:http";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { createOtlpEncoder } from "../../agent/export/otlp/encoder.ts";
import type { Delivery } from "../../agent/export/otlp/transport.ts";
import { grpcTransport } from "../../agent/export/otlp/transport.ts";
import type { GrpcTarget } from "../../agent/platform/grpc.ts";
import { snapshotOf } from "../fakes/snapshot.ts";
import { clientFiles, pem } from "../fakes/tls-files.ts";
import { ended, freePort, inherited, ready } from "./deploy-fleet-rig.ts";
import { installJudge } from "./deploy-judge.ts";
import { deployFolder, deployTool } from "./deploy-tools.ts";

interface Container {
  readonly args: readonly string[];
  readonly env: readonly { readonly name: string; readonly value: string }[];
  readonly ports: readonly { readonly name: string; readonly containerPort: number }[];
  readonly readinessProbe: { readonly httpGet: { readonly path: string; readonly port: string } };
  readonly resources: { readonly limits: Record<string, string>; readonly requests: Record<string, string> };
}
type Labels = Readonly<Record<string, string>>;
interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace: string };
  readonly data: Readonly<Record<string, string>>;
  readonly spec: {
    readonly replicas?: number;
    readonly selector: Labels & { readonly matchLabels: Labels };
    readonly template: {
      readonly metadata: { readonly labels: Labels };
      readonly spec: { readonly containers: readonly [Container] };
    };
    readonly ports: readonly { readonly targetPort: string }[];
    readonly scaleTargetRef: { readonly kind: string; readonly name: string };
    readonly minReplicas: number;
    readonly maxUnavailable: number;
  };
}

const folder = mkdtempSync(join(tmpdir(), "gateway-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const text = readFileSync(join(deployFolder, "kubernetes/otel-gateway.yaml"), "utf8");
const manifests = parseAllDocuments(text).map((one) => one.toJS() as Manifest);
const of = (kind: string): Manifest => {
  const [found, ...others] = manifests.filter((one) => one.kind === kind);
  if (found === undefined || others.length > 0) throw new Error(`wanted one ${kind}`);
  return found;
};
const container = of("Deployment").spec.template.spec.containers[0];
const environment = Object.fromEntries(container.env.map(({ name, value }) => [name, value]));

describe("deploy/kubernetes/otel-gateway.yaml", () => {
  test("fits Kubernetes' own schemas", ({ skip }) => {
    const complaints = installJudge(folder);
    if (complaints === undefined) return skip();
    expect(complaints(manifests)).toEqual([]);
    const wrong = JSON.parse(JSON.stringify(manifests)) as { spec?: Record<string, unknown> }[];
    for (const one of wrong) if (one.spec !== undefined) one.spec["notAKey"] = {};
    const said = complaints(wrong).filter((line) => line.includes("notAKey"));
    expect(said.length).toBeGreaterThanOrEqual(4);
  });

  test("Service, budget and autoscaler mean the Deployment's pods, and no budget forbids every move", () => {
    const { labels } = of("Deployment").spec.template.metadata;
    expect(of("Deployment").spec.selector.matchLabels).toEqual(labels);
    expect(of("Service").spec.selector).toEqual(labels);
    expect(of("PodDisruptionBudget").spec.selector.matchLabels).toEqual(labels);
    expect(of("HorizontalPodAutoscaler").spec.scaleTargetRef).toMatchObject({
      kind: "Deployment",
      name: of("Deployment").metadata.name,
    });
    expect(of("Deployment").spec.replicas).toBeUndefined();
    expect(of("HorizontalPodAutoscaler").spec.minReplicas).toBeGreaterThan(
      of("PodDisruptionBudget").spec.maxUnavailable,
    );
    expect(container.ports.map(({ name }) => name)).toContain(of("Service").spec.ports[0]?.targetPort);
    expect(new Set(manifests.map(({ metadata }) => metadata.namespace))).toEqual(new Set(["tokenwatt"]));
  });

  test("the Collector's own limits lie below the container's", () => {
    const mebibytes = Number.parseInt(container.resources.limits["memory"] ?? "", 10) * 1024;
    expect(Number(environment["MEMORY_LIMIT_MIB"])).toBeLessThan(mebibytes);
    expect(Number.parseInt(environment["GOMEMLIMIT"] ?? "", 10)).toBeLessThan(mebibytes);
  });
});

const otelcol = deployTool("otelcol-deploy");

describe.skipIf(otelcol === undefined)("the gateway as its pod starts it", () => {
  const children: ChildProcess[] = [];
  let backend: Server;
  let answer = { status: 200, body: "" };
  let taken = 0;
  let [plain, secured, direct, health] = [0, 0, 0, 0];

  beforeAll(async () => {
    backend = createServer((request, response) => {
      request.resume().on("end", () => {
        if (answer.status === 200) taken++;
        response.writeHead(answer.status, { "content-type": "text/plain" }).end(answer.body);
      });
    }).listen(0, "127.0.0.1");
    await new Promise((resolve) => backend.once("listening", resolve));
    for (const [name, content] of Object.entries(of("ConfigMap").data))
      writeFileSync(join(folder, name), content);
    mkdirSync(join(folder, "tls"));
    for (const [name, source] of [
      ["tls.crt", "trusted-server.pem"],
      ["tls.key", "trusted-server.key"],
      ["ca.crt", "trusted-ca.pem"],
    ] as const)
      copyFileSync(pem(source), join(folder, "tls", name));
    [plain, secured, direct, health] = (await Promise.all(Array.from({ length: 4 }, freePort))) as [
      number,
      number,
      number,
      number,
    ];
    await start(container.args, plain, health);
    await start([`--config=${join(deployFolder, "collector/direct.yaml")}`], direct, await freePort());
    await start([...container.args, "--config=/etc/otelcol/tls.yaml"], secured, await freePort());
  });
  afterAll(async () => {
    for (const child of children) await ended(child);
    backend?.close();
  });

  /** Kubernetes puts variables into arguments, and the ConfigMap under /etc/otelcol. */
  async function start(args: readonly string[], port: number, healthPort: number): Promise<void> {
    const address = `http://127.0.0.1:${(backend.address() as AddressInfo).port}`;
    const env: Record<string, string> = {
      ...environment,
      BACKEND: address,
      PROMETHEUS_URL: address,
      OTLP_LISTEN: `127.0.0.1:${port}`,
      HEALTH_LISTEN: `127.0.0.1:${healthPort}`,
      TLS_FOLDER: join(folder, "tls"),
      TELEMETRY: "none",
    };
    const filled = args.map((one) =>
      one.replaceAll(/\$\((\w+)\)/g, (_, name: string) => env[name] ?? "").replace("/etc/otelcol", folder),
    );
    const child = spawn(otelcol ?? "", filled, {
      env: { ...inherited, ...env },
      stdio: ["ignore", "ignore", "pipe"],
    });
    children.push(child);
    await ready(child, /Everything is ready/);
  }

  const send = async (target: GrpcTarget): Promise<Delivery> => {
    const transport = grpcTransport(target, { gzip: true });
    const [entry] = createOtlpEncoder({ resource: { "service.name": "tokenwatt" }, version: "0" }).encode(
      snapshotOf([
        {
          ...{ metric: "tokenwatt.tokens", value: 5n, dimensions: {}, series: 1, isNew: false, ended: false },
          ...{ start: 1_780_000_000_000_000_000n, time: 1_790_000_000_000_000_000n },
        },
      ]),
    );
    try {
      return await transport.send(entry?.bytes ?? new Uint8Array(0), AbortSignal.timeout(2000));
    } finally {
      transport.close();
    }
  };

  test("kubelet's probes reach it where the manifest says", async () => {
    const { path, port } = container.readinessProbe.httpGet;
    expect(container.ports.find(({ name }) => name === port)?.containerPort).toBe(13133);
    expect((await fetch(`http://127.0.0.1:${health}${path}`)).status).toBe(200);
  });

  const ANSWERS = [
    [200, "accepted"],
    [503, "retry"],
    [429, "retry"],
    [400, "refused"],
  ] as const;
  test.each(
    ANSWERS.flatMap((one) => (["gateway", "direct"] as const).map((which) => [...one, which] as const)),
  )("of a backend that answers %d the sender hears: %s (%s)", async (status, kind, which) => {
    answer = { status, body: status === 400 ? "out of bounds" : "" };
    const before = taken;
    const port = which === "gateway" ? plain : direct;
    expect(await send({ target: `127.0.0.1:${port}` })).toMatchObject({ kind });
    expect(taken - before).toBe(kind === "accepted" ? 1 : 0);
  });

  test("with certificates it takes from those that show one of its authority, and from no one else", async () => {
    answer = { status: 200, body: "" };
    const target = `localhost:${secured}`;
    expect(await send({ target, tls: clientFiles("trusted", "trusted") })).toMatchObject({
      kind: "accepted",
    });
    expect((await send({ target, tls: clientFiles("trusted") })).kind).toBe("retry");
    expect((await send({ target })).kind).toBe("retry");
  });
});
