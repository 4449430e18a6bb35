// Promise | seen: what callers of the endpoints can do to a running agent. The whole agent in a process of its own, on
// loopback; a table of what was seen is printed at the end.
import type { ChildProcess } from "node:child_process";
import { rmSync } from "node:fs";
import http2 from "node:http2";
import type { Socket } from "node:net";
import { connect } from "node:net";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, describe, expect, test } from "vitest";
import { openChannel } from "../../../agent/platform/grpc.ts";
import { AgentHome, end, freePort, memoryMb, pause, printSeen, saw, until } from "./whole-agent.ts";

const demo = fileURLToPath(new URL("../../../deploy/demo/h100-solo-8b", import.meta.url));
const AHEAD_BYTES = 65_536;

let agent: ChildProcess | undefined;
const sockets: Socket[] = [];
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  if (agent !== undefined) await end(agent, "SIGTERM");
});
afterAll(printSeen);

function hold(port: number, text: string): Socket {
  const socket = connect(port, "127.0.0.1");
  sockets.push(socket);
  socket.on("error", () => {}).write(text);
  return socket;
}

describe("the endpoints", () => {
  test("64 KiB of requests sent ahead on each of 20 connections cost neither memory nor silence", async () => {
    const replay = { backend: "replay", replay: { path: demo, time: "now", loop: true } };
    const home = await AgentHome.make({ gpu: replay });
    agent = await home.startReady();
    for (const path of ["/metrics", "/-/status"]) {
      const request = `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`;
      const before = memoryMb(agent, "VmRSS");
      for (let i = 0; i < 20; i++)
        hold(home.port, request.repeat(Math.floor(AHEAD_BYTES / request.length))).pause();
      let [slowest, most] = [0, before];
      for (let i = 0; i < 20; i++) {
        const health = await home.page("/-/healthy", 60_000);
        expect(health.status).toBe(200);
        slowest = Math.max(slowest, health.ms);
        most = Math.max(most, memoryMb(agent, "VmRSS"));
        await pause(50);
      }
      for (const socket of sockets.splice(0)) socket.destroy();
      saw(`flood of ${path}: no silence`, `probe within ${slowest} ms, ${Math.round(most - before)} MB more`);
      expect(slowest).toBeLessThan(1000);
      expect(most - before).toBeLessThan(40);
    }
  });

  test("64 idle connections shut no probe and no scraper out", async () => {
    const home = await AgentHome.make({});
    agent = await home.startReady();
    const probe = "GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n";
    const held = Array.from({ length: 64 }, () => hold(home.port, probe).resume());
    const codes: number[] = [];
    for (let i = 0; i < 8; i++) {
      codes.push((await home.page(i % 2 === 0 ? "/-/healthy" : "/metrics")).status);
      await pause(500);
      for (const socket of held) if (!socket.destroyed) socket.write(probe);
    }
    saw("64 idle connections: probes get in", codes.join(", "));
    expect(codes).toEqual(Array(8).fill(200));
  });
});

test("a removed state folder ends the agent with 75", async () => {
  const home = await AgentHome.make({});
  agent = await home.startReady();
  rmSync(home.stateDir, { recursive: true });
  const child = agent;
  await until("the agent to end", () => child.exitCode !== null, 30);
  saw("state folder removed: exit 75", String(child.exitCode));
  expect(child.exitCode).toBe(75);
});

test("one connection that holds its calls leaves room for other callers", async () => {
  const usage = await freePort();
  const home = await AgentHome.make({ servers: { otlp: [{ id: "o", endpoint: `127.0.0.1:${usage}` }] } });
  agent = await home.startReady();
  const path = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
  const session = http2.connect(`http://127.0.0.1:${usage}`).on("error", () => {});
  for (let i = 0; i < 100; i++) {
    const headers = { ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers" };
    session
      .request(headers)
      .on("error", () => {})
      .write(Buffer.from([0, 0, 0, 1, 0, 1, 2, 3]));
  }
  await pause(500);
  const channel = openChannel({ target: `127.0.0.1:${usage}` });
  const answers: string[] = [];
  for (let i = 0; i < 3; i++) {
    const same = (bytes: Buffer): Buffer => bytes;
    const deadline = { deadline: Date.now() + 5000 };
    answers.push(
      await new Promise((resolve) =>
        channel.makeUnaryRequest(path, same, same, Buffer.alloc(0), deadline, (error) =>
          resolve(error === null ? "OK" : error.message),
        ),
      ),
    );
  }
  channel.close();
  session.destroy();
  saw("one connection holds 100 calls: others are answered", answers.join(", "));
  expect(answers).toEqual(["OK", "OK", "OK"]);
});
