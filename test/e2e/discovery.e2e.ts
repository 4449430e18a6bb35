// Discovery without a capability, on real /proc: the agent as a user of its own, an engine of another user at a port nobody
// named, and one in a network namespace of its own. Needs root, setpriv and unshare (util-linux) and a C compiler.
import type { ChildProcess } from "node:child_process";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, chownSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, test } from "vitest";
import { usualPorts } from "../../agent/discovery/ask.ts";
import { buildFakeNvml, fakeNvml } from "../fakes/nvml/build.ts";
import { freePort } from "../tools/packed.ts";

const AGENT_UID = "65534";
const ENGINE_UID = "12345";
const main = fileURLToPath(new URL("../../agent/main.ts", import.meta.url));
const page = fileURLToPath(new URL("../fixtures/servers/vllm-0.16-two-engines.prom", import.meta.url));
const ENGINE = `
  const page = require("node:fs").readFileSync(${JSON.stringify(page)});
  require("node:http").createServer((request, response) => {
    response.writeHead(request.url === "/metrics" ? 200 : 404).end(request.url === "/metrics" ? page : "");
  }).listen(Number(process.env.PORT), () => console.log(process.pid));
`;

const works = (command: string, ...args: string[]): boolean => spawnSync(command, args).status === 0;
const library = buildFakeNvml();
const usable =
  library !== undefined &&
  works("unshare", "--net", "true") &&
  works("setpriv", "--reuid", AGENT_UID, "--clear-groups", "--bounding-set=-all", "true");
if (!usable)
  console.warn("SKIPPED: discovery without capabilities needs root, setpriv, unshare and a C compiler");

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill();
  await once(child, "exit");
}

/** An engine of a user of its own; returns its process id. */
async function engine(port: number, before: readonly string[], words: readonly string[]): Promise<number> {
  const user = [
    "setpriv",
    "--reuid",
    ENGINE_UID,
    "--clear-groups",
    process.execPath,
    "-e",
    ENGINE,
    "--",
    ...words,
  ];
  const [command = "", ...args] = [...before, ...user];
  const child = spawn(command, args, {
    env: { ...process.env, PORT: String(port) },
    stdio: ["ignore", "pipe", "inherit"],
  });
  closing.push(() => stop(child));
  const [pid] = (await once(child.stdout, "data")) as [Buffer];
  return Number(pid.toString());
}

async function freeUsualPort(): Promise<number> {
  for (const port of usualPorts()) {
    const server = createServer();
    const free = await new Promise<boolean>((resolve) => {
      server.once("error", () => resolve(false));
      server.listen(port, () => resolve(true));
    });
    if (!free) continue;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }
  throw new Error("every usual port is taken");
}

describe.runIf(usable)("an agent without a capability", () => {
  test("finds and places an engine of another user at a usual port, and asks nothing in another network namespace", async () => {
    const [here, there] = [await freeUsualPort(), await freePort()];
    const pids = [
      await engine(here, [], []),
      await engine(there, ["unshare", "--net"], ["--port", String(there)]),
    ];
    const nvml = fakeNvml(library as string, "gpus 2", `pid 0 ${pids[0]}`, `pid 1 ${pids[1]}`);
    chmodSync(dirname(nvml.path), 0o755);
    const state = mkdtempSync(join(tmpdir(), "tokenwatt-zero-"));
    closing.push(() => rmSync(state, { recursive: true }));
    chownSync(state, Number(AGENT_UID), 0);
    const listen = `127.0.0.1:${await freePort()}`;
    const env = {
      PATH: process.env["PATH"],
      TOKENWATT_GPU_BACKEND: "nvml",
      TOKENWATT_GPU_NVML_LIBRARY_PATH: nvml.path,
      TOKENWATT_STATE_DIR: state,
      TOKENWATT_EXPORT_PROMETHEUS_LISTEN: listen,
    };
    const user = ["--reuid", AGENT_UID, "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"];
    const agent = spawn("setpriv", [...user, process.execPath, main, "run"], {
      env,
      stdio: ["ignore", "ignore", "inherit"],
    });
    closing.push(() => stop(agent));
    interface Status {
      readonly host: {
        readonly discovery: { readonly ports: Readonly<Record<string, { readonly why: string }>> };
      };
      readonly correlation: {
        readonly placements: readonly {
          readonly pid: number;
          readonly server?: string;
          readonly rung?: number;
        }[];
      };
    }
    const status = (): Promise<Status | undefined> =>
      fetch(`http://${listen}/-/status`)
        .then((answer) => answer.json() as never)
        .catch(() => undefined);
    const placed = async () =>
      (await status())?.correlation.placements
        .filter(({ server }) => server !== undefined)
        .map(({ pid, rung }) => [pid, rung]);
    await expect.poll(placed, { timeout: 60_000, interval: 250 }).toEqual([[pids[0], 3]]);
    expect((await status())?.host.discovery).toMatchObject({
      gpu_processes: { count: 2, visible: 2 },
      ports: {
        [here]: { state: "found", why: expect.stringContaining("the user of process") },
        [there]: { state: "refused", why: expect.stringContaining("a network namespace of its own") },
      },
    });
  });
});
