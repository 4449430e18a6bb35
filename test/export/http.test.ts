// The endpoints over a real socket: answers, bounds, compression, and a taken port said clearly.

import { once } from "node:events";
import { readFileSync } from "node:fs";
import { request } from "node:https";
import type { Socket } from "node:net";
import { connect, Server } from "node:net";
import { hostname } from "node:os";
import { gunzipSync } from "node:zlib";
import { afterEach, describe, expect, test, vi } from "vitest";
import type { HttpEndpoint, HttpOptions } from "../../agent/export/http.ts";
import { ListenError, serveHttp } from "../../agent/export/http.ts";
import { PrometheusPages } from "../../agent/export/prometheus.ts";
import type { LedgerSnapshot } from "../../agent/model.ts";
import type { Log } from "../../agent/platform/log.ts";
import { silentLog } from "../../agent/platform/log.ts";
import { snapshotOf } from "../fakes/snapshot.ts";
import { pem } from "../fakes/tls-files.ts";
import { feedOf } from "./page/feeds.ts";

const open: HttpEndpoint[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});

async function serve(rest: Partial<HttpOptions> = {}): Promise<HttpEndpoint> {
  const endpoint = await serveHttp({
    listen: "127.0.0.1:0",
    log: silentLog,
    metrics: (accept) => ({
      type: `text/plain; asked="${accept ?? ""}"`,
      bytes: Buffer.from("up 1\n".repeat(500)),
    }),
    unhealthy: () => undefined,
    ready: () => false,
    status: () => ({ sequence: 3, start: 10n ** 18n }),
    feed: feedOf(),
    page: true,
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
    expect(await raw(address, "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")).toContain(
      "200 OK",
    );
    expect(lines).toEqual([["cannot accept a connection", { source: "http", cause: "accept ENFILE" }]]);
  });

  test("counts who asked and what became of it, for the audit record", async () => {
    const { address, takeAccess } = await serve();
    const end = "connection: close\r\n\r\n";
    await raw(address, `GET /metrics HTTP/1.1\r\nhost: localhost\r\n${end}`);
    await raw(address, `GET /-/ready HTTP/1.1\r\nhost: localhost\r\n${end}`);
    await raw(address, `GET /metrics HTTP/1.1\r\nhost: evil.example\r\n${end}`);
    await raw(address, `GET /secrets HTTP/1.1\r\nhost: localhost\r\n${end}`);
    await raw(address, "nonsense\r\n\r\n");
    const seen: unknown[][] = [];
    const look = (): unknown[][] => {
      for (const { caller, calls, result } of takeAccess())
        for (let n = 0; n < calls; n++) seen.push([caller, result]);
      return seen.toSorted();
    };
    await expect.poll(look).toEqual([
      ["loopback", "malformed"],
      ["loopback", "malformed"],
      ["loopback", "ok"],
      ["loopback", "ok"],
      ["loopback", "refused"],
    ]);
  });

  test("serves /metrics in what the scraper accepts, gzipped only if asked", async () => {
    const { address } = await serve();
    const plain = await raw(
      address,
      "GET /metrics HTTP/1.1\r\nhost: localhost\r\naccept: text/plain\r\nconnection: close\r\n\r\n",
    );
    expect(plain).toContain('content-type: text/plain; asked="text/plain"');
    expect(plain).not.toContain("content-encoding");
    expect(plain.match(/up 1/g)).toHaveLength(500);
    const zipped = await raw(
      address,
      "GET /metrics HTTP/1.1\r\nhost: localhost\r\naccept-encoding: br, gzip\r\nconnection: close\r\n\r\n",
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

  test("shows quotas as JSON where there is a policy, and says how to have one where there is none", async () => {
    const without = await fetch(`http://${(await serve()).address}/-/policy`);
    expect([without.status, await without.text()]).toEqual([
      404,
      "no policy is configured: name one with `policy`\n",
    ]);
    const page = { version: "1", quotas: [] };
    const { address } = await serve({ policy: () => page });
    expect(await (await fetch(`http://${address}/-/policy`)).json()).toEqual(page);
  });

  test("says that it is degraded without asking for a restart, unless it is unhealthy too", async () => {
    let unhealthy: string | undefined;
    const { address } = await serve({ unhealthy: () => unhealthy, degraded: () => "joules: 1 mJ too many" });
    const degraded = await fetch(`http://${address}/-/healthy`);
    expect([degraded.status, await degraded.text()]).toEqual([200, "degraded: joules: 1 mJ too many\n"]);
    unhealthy = "nothing was committed for 5 minutes";
    const failed = await fetch(`http://${address}/-/healthy`);
    expect([failed.status, await failed.text()]).toEqual([503, `not healthy: ${unhealthy}\n`]);
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
    expect(await raw(address, `GET / HTTP/1.1\r\nhost: localhost\r\nx: ${"a".repeat(10_000)}\r\n\r\n`)).toBe(
      "",
    );
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

  test("builds a page once for all who ask before the next, compressed or not", async () => {
    const [pages, builds] = [new PrometheusPages({}, { tenants: true }), { count: 0 }];
    const snapshot = (sequence: number): LedgerSnapshot => {
      const one = snapshotOf([], { sequence, time: 1n });
      return new Proxy(one, {
        get: (target, key) => {
          if (key === "points") builds.count++;
          return Reflect.get(target, key);
        },
      });
    };
    let shown = snapshot(1);
    const { address } = await serve({ metrics: (accept) => pages.page(shown, accept) });
    const ask = (): Promise<unknown> => fetch(`http://${address}/metrics`).then((answer) => answer.text());
    await ask();
    const once = builds.count;
    for (let i = 0; i < 5; i++) await ask();
    expect(builds.count).toBe(once);
    shown = snapshot(2);
    await ask();
    expect(builds.count).toBe(2 * once);
  });

  test.each(["evil.example", "evil.example:9464", "127.0.0.1.evil.example", "xlocalhost"])(
    "answers no request for %s on loopback, but its probes",
    async (host) => {
      const { address } = await serve();
      const ask = (path: string): Promise<string> =>
        raw(address, `GET ${path} HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`);
      for (const path of ["/", "/metrics", "/-/status", "/-/policy"]) {
        expect(await ask(path)).toMatch(/^HTTP\/1.1 421 .*this is not "/s);
      }
      expect(await ask("/-/healthy")).toMatch(/^HTTP\/1.1 200 /);
      expect(await ask("/-/ready")).toMatch(/^HTTP\/1.1 503 /);
    },
  );

  test.each([
    "127.0.0.1:1",
    "localhost",
    "LOCALHOST:9464",
    "[::1]:9464",
    "10.0.0.7",
    "gpu.localhost",
    hostname(),
  ])("answers a request for %s on loopback", async (host) => {
    const { address } = await serve();
    const text = await raw(address, `GET / HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`);
    expect(text).toMatch(/^HTTP\/1.1 200 /);
  });

  test("beyond loopback answers whatever name a scraper or a probe knows it by", async () => {
    const { address } = await serve({ listen: "0.0.0.0:0" });
    const text = await raw(address, "GET / HTTP/1.1\r\nhost: gpu-7.example\r\nconnection: close\r\n\r\n");
    expect(text).toMatch(/^HTTP\/1.1 200 /);
  });
});

describe("connections of serveHttp()", () => {
  const GET = (path: string): string => `GET ${path} HTTP/1.1\r\nhost: localhost\r\n\r\n`;
  const sockets: Socket[] = [];
  afterEach(() => {
    for (const socket of sockets.splice(0)) socket.destroy();
  });

  /** A connection that is there, and what it got so far. */
  async function opened(address: string, from = "127.0.0.1"): Promise<Socket & { got: string }> {
    const socket = connect({ port: Number(address.split(":")[1]), host: "127.0.0.1", localAddress: from });
    sockets.push(socket);
    const held = Object.assign(socket, { got: "" });
    socket
      .on("error", () => {})
      .on("data", (chunk) => {
        held.got += chunk.toString("latin1");
      });
    await once(socket, "connect");
    return held;
  }

  async function until(holds: () => boolean): Promise<void> {
    while (!holds()) await new Promise((resolve) => setImmediate(resolve));
  }

  test("answers requests of one connection in order, and has one answer of them in memory at a time", async () => {
    let asked = 0;
    const big = Buffer.alloc(8 * 1024 * 1024, "x");
    const { address } = await serve({
      metrics: () => {
        asked++;
        return { type: "text/plain", bytes: big };
      },
    });
    const socket = await opened(address);
    socket.pause();
    socket.write(
      GET("/metrics").repeat(5) + GET("/-/ready").replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n"),
    );
    await until(() => asked > 0);
    // The others are there too, and answered as soon as this one was read; a probe of another caller is served meanwhile.
    expect((await fetch(`http://${address}/-/healthy`)).status).toBe(200);
    expect(asked).toBe(1);
    socket.resume();
    await until(() => socket.closed);
    expect(asked).toBe(5);
    expect(socket.got.slice(-10)).toBe("not ready\n");
    expect(socket.got.match(/HTTP\/1.1 \d+/g)).toEqual([...Array(5).fill("HTTP/1.1 200"), "HTTP/1.1 503"]);
  });

  test("reads no further on a connection whose peer takes no answers, however much it sends ahead", async () => {
    let asked = 0;
    const bytes = Buffer.alloc(8 * 1024 * 1024, "x");
    const { address } = await serve({
      metrics: () => {
        asked++;
        return { type: "text/plain", bytes };
      },
    });
    const socket = await opened(address);
    socket.pause();
    const all = GET("/metrics").repeat(200_000);
    // It never drains: the bytes stay on this side.
    expect(socket.write(all)).toBe(false);
    await until(() => asked > 0);
    for (let round = 0; round < 200; round++) await new Promise((resolve) => setImmediate(resolve));
    expect(asked).toBe(1);
    expect(socket.writableLength).toBe(all.length);
  });

  test("answers what is sent ahead, bodies, halves of requests and the end of it included", async () => {
    const { address } = await serve();
    const socket = await opened(address);
    const post = "POST /metrics HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\nab\r\n\r\ncde";
    const text = post + GET("/-/ready") + GET("/").repeat(40) + GET("/-/ready");
    for (let at = 0; at < text.length; at += 7) {
      socket.write(text.slice(at, at + 7));
      if (at % 70 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    socket.end();
    await until(() => socket.closed);
    const codes = socket.got.match(/(?<=HTTP\/1.1 )\d+/g);
    expect(codes).toEqual(["405", "503", ...Array(40).fill("200"), "503"]);
  });

  test("lets each newcomer in and, of 32 of one address, closes the one that has been idle longest", async () => {
    const { address } = await serve();
    const all: (Socket & { got: string })[] = [];
    for (let i = 0; i < 32; i++) all.push(await opened(address));
    for (const one of all.slice(10, 13)) {
      one.write(GET("/-/healthy"));
      await until(() => one.got.endsWith("healthy\n"));
    }
    const gone = (): number[] => all.flatMap((one, index) => (one.closed ? [index] : []));
    // Those that were answered and wait for nothing go first, then who never asked.
    for (const expected of [[10], [10, 11], [10, 11, 12], [0, 10, 11, 12]]) {
      const newcomer = await opened(address);
      await until(() => gone().length === expected.length);
      expect(gone()).toEqual(expected);
      if (expected.length < 4) continue;
      newcomer.write(GET("/-/healthy"));
      await until(() => newcomer.got.endsWith("healthy\n"));
    }
  });

  test("of 64 of several addresses, takes from the one that holds most", async () => {
    const { address } = await serve();
    const own = await opened(address, "127.0.0.2");
    for (const host of ["127.0.0.3", "127.0.0.4"]) {
      for (let i = 0; i < 32; i++) await opened(address, host);
    }
    own.write(GET("/-/healthy"));
    await until(() => own.got.endsWith("healthy\n"));
    await until(() => sockets.filter((socket) => socket.closed).length === 1);
    expect(own.closed).toBe(false);
  });

  test("serves probes while every connection is held by callers that never read or never ask", async () => {
    const { address } = await serve({
      metrics: () => ({ type: "text/plain", bytes: Buffer.alloc(32 * 1024 * 1024) }),
    });
    for (let i = 0; i < 64; i++) {
      const socket = await opened(address, `127.0.0.${2 + (i % 3)}`);
      socket.pause();
      socket.write(i % 2 === 0 ? GET("/metrics") : "GET /metr");
      const probe = await fetch(`http://${address}/-/healthy`, { headers: { connection: "close" } });
      expect(probe.status).toBe(200);
    }
  });
});
