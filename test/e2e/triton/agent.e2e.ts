// The whole agent beside a real Triton: what it had counted before the agent came is not counted, every token after is,
// once, and a Triton that starts again from zero makes nothing lost or doubled.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, expect, test } from "vitest";
import { parsePage } from "../../../agent/page/parse.ts";
import { missing, startTriton } from "./rig.ts";

const lacking = missing();
if (lacking !== undefined) console.warn(`SKIPPED: the agent beside a real Triton, because ${lacking}`);

const main = fileURLToPath(new URL("../../../agent/main.ts", import.meta.url));
const demo = fileURLToPath(new URL("../../../deploy/demo/h100-solo-8b", import.meta.url));
const patience = { timeout: 30_000, interval: 200 };
const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

/** Starts the agent with these servers; resolves to a reader of its totals by server and kind. */
async function startAgent(servers: object): Promise<() => Promise<Record<string, number>>> {
  const folder = mkdtempSync(join(tmpdir(), "tokenwatt-triton-"));
  const port = await freePort();
  const config = {
    stateDir: join(folder, "state"),
    gpu: { backend: "replay", replay: { path: demo, time: "now", loop: true } },
    servers,
    export: { prometheus: { listen: `127.0.0.1:${port}` } },
    rates: { exportMs: 1000 },
  };
  writeFileSync(join(folder, "config.yaml"), JSON.stringify(config));
  const args = [main, "run", "--config", join(folder, "config.yaml")];
  const agent = spawn(process.execPath, args, { stdio: ["ignore", "ignore", "inherit"] });
  const exit = once(agent, "exit");
  closing.push(async () => {
    agent.kill("SIGTERM");
    await exit;
    rmSync(folder, { recursive: true });
  });
  // Ready is: every source was read.
  const ready = (): Promise<number> =>
    fetch(`http://127.0.0.1:${port}/-/ready`).then(
      (response) => response.status,
      () => 0,
    );
  await expect.poll(ready, patience).toBe(200);
  return async () => {
    const page = await fetch(`http://127.0.0.1:${port}/metrics`).then(
      (response) => response.text(),
      () => "",
    );
    const samples = parsePage(Buffer.from(page)).samples.get("tokenwatt_tokens") ?? [];
    const totals: Record<string, number> = {};
    for (const { labels, value } of samples) {
      const key = `${labels["tokenwatt_server_id"]} ${labels["tokenwatt_token_kind"]}`;
      totals[key] = (totals[key] ?? 0) + value;
    }
    return totals;
  };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

test.runIf(lacking === undefined)("tokens of a Triton that restarts are counted once", async () => {
  const first = await startTriton();
  closing.push(first.stop);
  await first.send("counted", 100);
  await first.send("stream", 50);
  const totals = await startAgent({
    "triton-grpc": [{ id: "grpc", endpoint: first.grpc, pollMs: 200 }],
    triton: [{ id: "page", endpoint: first.page, pollMs: 200 }],
  });
  await first.send("counted", 7, 5);
  await first.send("stream", 30);
  const before = { "grpc output": 12, "page output": 30, "page input_unsplit": 10 };
  await expect.poll(totals, patience).toEqual(before);
  await first.stop();
  const second = await startTriton([], first.ports);
  closing.push(second.stop);
  await second.send("counted", 4);
  await second.send("stream", 6);
  const after = { "grpc output": 16, "page output": 36, "page input_unsplit": 20 };
  await expect.poll(totals, patience).toEqual(after);
});
