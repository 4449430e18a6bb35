// The endpoints over a real socket: answers, bounds, compression, and a taken port said clearly.
import { readFileSync } from "node:fs";
import { request } from "node:https";
import type { Socket } from "node:net";
import { connect, Server } from "node:net";
import { gunzipSync } from "node:zlib";
import { afterEach, describe, expect, test, vi } from "vitest";
import type { HttpEndpoint, HttpOptions } from "../../agent/export/http.ts";
import { ListenError, serveHttp } from "../../agent/export/http.ts";
import type { Log } from "../../agent/platform/log.ts";
import { silentLog } from "../../agent/platform/log.ts";
import { pem } from "../fakes/tls-files.ts";

const open: HttpEndpoint[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});

async function serve(rest: Partial<HttpOptions> = {}): Promise<HttpEndpoint> {
  const endpoint = await serveHttp({
    listen: "127.0.0.1:0",
    log: silentLog,
    metrics: (accept) => ({ type: `text/plain; asked="${accept ?? ""}"`, text: "up 1\n".repeat(500) }),
    healthy: () => true,
    ready: () => false,
    status: () => ({ sequence: 3, start: 10n ** 18n }),
    ...rest,
  });
  open.push(endpoint);
  return endpoint;
}

function raw(address: string, text: string): Promise<string> {
  const [, port] = address.split(":");
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), "127.0.0.1", () => socket.end(text));
    let got = "";
    socket.on("data", (chunk) => {
      got += chunk.toString("latin1");
    });
    socket.on("close", () => resolve(got));
    socket.on("error", reject);
  });
}

describe("serveHttp()", () => {
  test("serves on when a connection cannot be accepted, and says so", async () => {
    const listen = vi.spyOn(Server.prototype, "listen");
    const lines: unknown[] = [];
    const log: Log = { ...silentLog, warn: (event, facts) => lines.push([event, facts]) };
    const { address } = await serve({ log });
    const [server] = listen.mock.contexts as Server[];
    listen.mockRestore();
    server?.emit("error", new Error("accept ENFILE"));
    expect(await raw(address, "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).toContain("200 OK");
    expect(lines).toEqual([["cannot accept a connection", { source: "http", cause: "accept ENFILE" }]]);
  });

  test("serves /metrics in what the scraper accepts, gzipped only if asked", async () => {
    const { address } = await serve();
    const plain = await raw(
      address,
      "GET /metrics HTTP/1.1\r\nhost: x\r\naccept: text/plain\r\nconnection: close\r\n\r\n",
    );
    expect(plain).toContain('content-type: text/plain; asked="text/plain"');
    expect(plain).not.toContain("content-encoding");
    expect(plain.match(/up 1/g)).toHaveLength(500);
    const zipped = await raw(
      address,
      "GET /metrics HTTP/1.1\r\nhost: x\r\naccept-encoding: br, gzip\r\nconnection: close\r\n\r\n",
    );
    const [head = "", content = ""] = zipped.split("\r\n\r\n");
    expect(head).toContain("content-encoding: gzip");
    expect(gunzipSync(Buffer.from(content, "latin1")).toString()).toContain("up 1");
    const refused = await fetch(`http://${address}/metrics`, { headers: { "accept-encoding": "gzip;q=0" } });
    expect(refused.headers.get("content-encoding")).toBeNull();
  });

  test("tells health and readiness by status code and /-/status as JSON", async () => {
    const { address } = await serve();
    expect((await fetch(`http://${address}/-/healthy`)).status).toBe(200);
    expect((await fetch(`http://${address}/-/ready`)).status).toBe(503);
    expect(await (await fetch(`http://${address}/-/status`)).json()).toEqual({
      sequence: 3,
      start: "1000000000000000000",
    });
  });

  test("says that it is degraded without asking for a restart, unless it is unhealthy too", async () => {
    let healthy = true;
    const { address } = await serve({ healthy: () => healthy, degraded: () => "joules: 1 mJ too many" });
    const degraded = await fetch(`http://${address}/-/healthy`);
    expect([degraded.status, await degraded.text()]).toEqual([200, "degraded: joules: 1 mJ too many\n"]);
    healthy = false;
    expect((await fetch(`http://${address}/-/healthy`)).status).toBe(503);
  });

  test("answers what it does not know plainly", async () => {
    const { address } = await serve();
    expect((await fetch(`http://${address}/admin`)).status).toBe(404);
    const posted = await fetch(`http://${address}/metrics`, { method: "POST", body: "x" });
    expect(posted.status).toBe(405);
    expect(posted.headers.get("allow")).toBe("GET, HEAD");
    const head = await fetch(`http://${address}/metrics`, { method: "HEAD" });
    expect(await head.text()).toBe("");
  });

  test("answers 500 and goes on when a page cannot be made", async () => {
    let broken = true;
    const { address } = await serve({
      status: () => {
        if (broken) throw new Error("no status");
        return {};
      },
    });
    expect((await fetch(`http://${address}/-/status`)).status).toBe(500);
    broken = false;
    expect((await fetch(`http://${address}/-/status`)).status).toBe(200);
  });

  test("drops peers that send nonsense or too large headers", async () => {
    const { address } = await serve();
    expect(await raw(address, "\u0000\u0001\u0002\r\n\r\n")).toBe("");
    expect(await raw(address, `GET / HTTP/1.1\r\nhost: x\r\nx: ${"a".repeat(10_000)}\r\n\r\n`)).toBe("");
    expect((await fetch(`http://${address}/-/healthy`)).status).toBe(200);
  });

  test("says which port is in use and what to do", async () => {
    const { address } = await serve();
    const failure = await serve({ listen: address }).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(ListenError);
    expect(failure).toMatchObject({
      kind: "misconfigured",
      message: `Cannot listen on ${address}: the port is in use`,
      hint: expect.stringContaining("export.prometheus.listen"),
    });
    await expect(serve({ listen: "nonsense" })).rejects.toThrow(/wanted host:port/);
    await expect(serve({ listen: "203.0.113.1:9464" })).rejects.toThrow(ListenError);
  });

  test("over TLS answers only peers of clientCaFile", async () => {
    const tls = {
      certFile: pem("trusted-server.pem"),
      keyFile: pem("trusted-server.key"),
      clientCaFile: pem("trusted-ca.pem"),
    };
    const { address } = await serve({ tls });
    const ask = (identity: string | undefined, trusts = "trusted"): Promise<number | string> =>
      new Promise((resolve) => {
        const read = (name: string): Buffer => readFileSync(pem(name));
        const own =
          identity === undefined
            ? {}
            : { cert: read(`${identity}-client.pem`), key: read(`${identity}-client.key`) };
        const options = { ca: read(`${trusts}-ca.pem`), ...own, agent: false as const };
        request(`https://${address}/metrics`, options, (response) => {
          response.resume();
          resolve(response.statusCode ?? 0);
        })
          .on("error", (error) => resolve(error.message))
          .end();
      });
    expect(await ask("trusted")).toBe(200);
    expect(await ask(undefined)).toBeTypeOf("string");
    expect(await ask("stranger")).toBeTypeOf("string");
    expect(await ask("trusted", "stranger")).toBeTypeOf("string");
  });

  test("holds 64 connections; the next is closed at once", async () => {
    const { address } = await serve();
    const sockets = Array.from({ length: 66 }, () => connect(Number(address.split(":")[1]), "127.0.0.1"));
    const closed = new Set<Socket>();
    for (const socket of sockets) socket.on("error", () => {}).on("close", () => closed.add(socket));
    while (closed.size < 2) await new Promise((resolve) => setImmediate(resolve));
    for (let round = 0; round < 100; round++) await new Promise((resolve) => setImmediate(resolve));
    expect(closed.size).toBe(2);
    for (const socket of sockets) socket.destroy();
  });
});
