// The whole program as a user runs it: a GPU (the fake library) held by an engine nobody configured, a pod told by a fake
// kubelet, `tokenwatt run` beside them, and what /-/status and `tokenwatt doctor` say, with the daemon and without.
import type { ChildProcess } from "node:child_process";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, test } from "vitest";
import type { Finding } from "../../agent/cli/checks/check.ts";
import { fakeKubelet } from "../fakes/kubelet.ts";
import { buildFakeNvml, fakeNvml } from "../fakes/nvml/build.ts";

const library = buildFakeNvml();
const main = fileURLToPath(new URL("../../agent/main.ts", import.meta.url));
const page = fileURLToPath(new URL("../fixtures/servers/vllm-0.16-two-engines.prom", import.meta.url));
const ENGINE = `
  const page = require("node:fs").readFileSync(${JSON.stringify(page)});
  const server = require("node:http").createServer((request, response) => {
    response.writeHead(request.url === "/metrics" ? 200 : 404).end(request.url === "/metrics" ? page : "");
  });
  server.listen(Number(process.argv.at(-1)), "127.0.0.1", () => console.log("listening"));
`;

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill();
  await once(child, "exit");
}

/** An engine with its port on the command line. */
async function engine(): Promise<{ port: number; pid: number }> {
  const port = await freePort();
  const child = spawn(process.execPath, ["-e", ENGINE, "--", "--port", String(port)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  closing.push(() => stop(child));
  await once(child.stdout as NodeJS.ReadableStream, "data");
  return { port, pid: child.pid as number };
}

async function host() {
  const [one, two] = [await engine(), await engine()];
  const nvml = fakeNvml(library as string, "gpus 2", `pid 0 ${one.pid}`, `pid 1 ${two.pid}`);
  const kubelet = await fakeKubelet();
  closing.push(() => kubelet.close());
  const folder = mkdtempSync(join(tmpdir(), "tokenwatt-discovery-"));
  closing.push(() => rmSync(folder, { recursive: true }));
  const listen = `127.0.0.1:${await freePort()}`;
  const env: Record<string, string> = {
    PATH: process.env["PATH"] ?? "",
    TOKENWATT_GPU_BACKEND: "nvml",
    TOKENWATT_GPU_NVML_LIBRARY_PATH: nvml.path,
    TOKENWATT_STATE_DIR: folder,
    TOKENWATT_EXPORT_PROMETHEUS_LISTEN: listen,
    TOKENWATT_DISCOVERY_PODS_SOCKET: kubelet.podsSocket,
    TOKENWATT_DISCOVERY_POD_RESOURCES_SOCKET: kubelet.podResourcesSocket,
  };
  return { one, two, kubelet, env, listen };
}

interface Doctor {
  readonly verdict: string;
  readonly findings: readonly Finding[];
}

function doctor(env: Record<string, string>): Promise<Doctor> {
  const args = [main, "doctor", "--json", "--only", "discovery", "server"];
  return new Promise((resolve) =>
    execFile(process.execPath, args, { env }, (_, stdout) => resolve(JSON.parse(stdout) as Doctor)),
  );
}

/** `subject verdict` of the findings of an id. */
const verdicts = ({ findings }: Doctor, id: string): string[] =>
  findings
    .filter((one) => one.id === id)
    .map(({ subject, verdict }) => `${subject ?? "-"} ${verdict}`)
    .sort();

const isPlaced = (told: Doctor): boolean => verdicts(told, "discovery.placement").join() === "- ok";

describe.skipIf(library === undefined)("discovery", () => {
  test("finds an engine behind a GPU process and one in a pod, places both, and doctor says so, with and without a daemon", async () => {
    const { one, two, kubelet, env, listen } = await host();
    // The second engine is in a pod that declares its port and holds the second GPU; the host finds it, too.
    const uuid = "GPU-00000001-0000-4000-8000-000000000000";
    kubelet.pods = [
      {
        namespace: "ml",
        name: "llm-0",
        containers: [{ name: "engine", gpus: [uuid], ports: [{ port: two.port }] }],
      },
      { namespace: "ml", name: "typo", annotations: { "tokenwatt.io/prot": "1" } },
    ];
    const daemon = spawn(process.execPath, [main, "run"], { env, stdio: ["ignore", "ignore", "inherit"] });
    closing.push(() => stop(daemon));
    const status = async (): Promise<Record<string, never> | undefined> =>
      fetch(`http://${listen}/-/status`).then(
        async (answer) => (await answer.json()) as Record<string, never>,
        () => undefined,
      );
    const placed = async () =>
      (
        (await status()) as { correlation?: { placements?: { server?: string }[] } } | undefined
      )?.correlation?.placements?.filter(({ server }) => server !== undefined).length;
    await expect.poll(placed, { timeout: 60_000, interval: 200 }).toBe(2);
    expect(await status()).toMatchObject({
      host: {
        discovery: { gpu_processes: { count: 2, visible: 2 }, ports: { [one.port]: { state: "found" } } },
        kubernetes: { pods: { "ml/typo": { state: "refused" } } },
      },
    });
    // An engine that both ways find takes a new name when the second does, and is nowhere until the next look.
    let told = await doctor(env);
    for (let tries = 0; tries < 30 && !isPlaced(told); tries++) told = await doctor(env);
    expect(verdicts(told, "discovery.host")).toEqual([`port ${one.port} ok`, `port ${two.port} ok`].sort());
    expect(verdicts(told, "discovery.kubernetes")).toEqual([
      "ml/llm-0/engine ok",
      "ml/typo warn",
      "pod_resources ok",
      "pods_api ok",
    ]);
    expect(verdicts(told, "discovery.placement")).toEqual(["- ok"]);
    expect(verdicts(told, "server.reachable").map((text) => text.split(" ").at(-1))).toEqual(["ok", "ok"]);
    expect(told.verdict).toBe("warn");
    await stop(daemon);
    const alone = await doctor(env);
    expect(verdicts(alone, "discovery.placement")).toEqual(["- ok"]);
    expect(verdicts(alone, "server.counters")).toHaveLength(2);
    expect(alone.findings.find(({ id }) => id === "discovery.host")?.facts).toMatchObject({
      by: "a look of its own",
    });
    expect(verdicts(alone, "discovery.kubernetes")).toEqual(verdicts(told, "discovery.kubernetes"));
  }, 120_000);
});
