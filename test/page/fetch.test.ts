import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer } from "node:http";
import type { ServerOptions } from "node:https";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { createServer as createSocketServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterEach, describe, expect, test } from "vitest";
import { createPageFetcher } from "../../agent/page/fetch.ts";
import { systemClock } from "../../agent/platform/clock.ts";
import { pem } from "../fakes/tls-files.ts";

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});
const context = { clock: systemClock() };

async function serve(handler: (request: IncomingMessage, response: ServerResponse) => void, path?: string) {
  const server = createServer(handler);
  await new Promise<void>((resolve) =>
    path === undefined ? server.listen(0, "127.0.0.1", resolve) : server.listen(path, resolve),
  );
  closing.push(() => {
    server.close();
    server.closeAllConnections();
  });
  return path ?? `http://127.0.0.1:${(server.address() as AddressInfo).port}/metrics`;
}

const textOf = ({ body }: { body: Uint8Array }): string => Buffer.from(body).toString();

function get(url: string, more: Partial<Parameters<typeof createPageFetcher>[0]> = {}) {
  const fetcher = createPageFetcher({ url, timeoutMs: 2000, ...more }, context);
  closing.push(() => fetcher.close());
  return fetcher.fetch(({ body, headers }) => ({ body: Buffer.from(body), headers }));
}

describe("createPageFetcher()", () => {
  test("asks for text/plain 0.0.4 only, compressed from other hosts, and inflates what comes", async () => {
    let seen: IncomingMessage["headers"] = {};
    const url = await serve((request, response) => {
      seen = request.headers;
      response.setHeader("content-encoding", "gzip");
      response.end(gzipSync("a 1\n"));
    });
    for (const [host, encoding] of [
      ["127.0.0.1", "identity"],
      ["localhost", "identity"],
      // This host too, but nothing says so.
      ["0.0.0.0", "gzip"],
    ] as const) {
      expect((await get(url.replace("127.0.0.1", host))).body.toString()).toBe("a 1\n");
      expect(seen.accept).toBe("text/plain;version=0.0.4");
      expect(seen["accept-encoding"]).toBe(encoding);
    }
    await get(url, { headers: { "accept-encoding": "br" } });
    expect(seen["accept-encoding"]).toBe("br");
  });

  test("sends the credentials of an address, and shows them in no error", async () => {
    const url = await serve((request, response) => {
      if (request.url === "/metrics?api_key=K-1")
        response.end(`seen{auth="${request.headers.authorization}"} 1\n`);
      else response.writeHead(404).end();
    });
    const named = url.replace("http://", "http://reader:P-1@");
    const sent = Buffer.from("reader:P-1").toString("base64");
    expect((await get(`${named}?api_key=K-1`)).body.toString()).toBe(`seen{auth="Basic ${sent}"} 1\n`);
    const failed = await get(`${named}?api_key=K-2`).catch((error: Error) => error);
    expect(String(failed)).toContain("404");
    expect(String(failed)).not.toMatch(/P-1|K-2/);
  });

  test("says where a redirect points to, and in which form a body comes that cannot be read", async () => {
    const moved = await serve((_, response) =>
      response.writeHead(302, { location: "https://u:P-1@elsewhere/login?token=K-1" }).end(),
    );
    await expect(get(moved)).rejects.toThrow(
      "302 and points to https://********@elsewhere/login?token=********",
    );
    const packed = await serve((_, response) =>
      response.writeHead(200, { "content-encoding": "zstd" }).end(Buffer.from([0x28, 0xb5, 0x2f, 0xfd])),
    );
    await expect(get(packed)).rejects.toThrow("compressed as zstd, wanted gzip or none");
  });

  test("says whether a page is surely whole, and whether the connection is another one", async () => {
    const url = await serve((request, response) => {
      if (request.url === "/open") {
        request.socket.end("HTTP/1.0 200 OK\r\n\r\na 1\n");
        return;
      }
      response.end("a 1\n");
    });
    const whole = createPageFetcher({ url, timeoutMs: 2000 }, context);
    closing.push(() => whole.close());
    const facts = () => whole.fetch(({ complete, renewed }) => ({ complete, renewed }));
    expect(await facts()).toEqual({ complete: true, renewed: true });
    expect(await facts()).toEqual({ complete: true, renewed: false });
    const open = createPageFetcher({ url: url.replace("/metrics", "/open"), timeoutMs: 2000 }, context);
    closing.push(() => open.close());
    expect(await open.fetch(({ complete }) => complete)).toBe(false);
  });

  test("reads a unix socket, sends the bearer file and extra headers", async () => {
    const folder = mkdtempSync(join(tmpdir(), "tokenwatt-fetch-"));
    closing.push(() => rmSync(folder, { recursive: true }));
    const socket = await serve(
      (request, response) => {
        response.end(
          `seen{auth="${request.headers.authorization}",x="${request.headers["x-a"]}",at="${request.url}"} 1\n`,
        );
      },
      join(folder, "s"),
    );
    writeFileSync(join(folder, "token"), "secret\n");
    const page = await get(`unix:${socket}:/m`, {
      bearerFile: join(folder, "token"),
      headers: { "x-a": "b" },
    });
    expect(page.body.toString()).toBe('seen{auth="Bearer secret",x="b",at="/m"} 1\n');
  });

  test.each([
    ["a web page", { "content-type": "text/html" }, "<!doctype html>", 200, "web page (HTML)"],
    ["a web page of no type", {}, "\n<html>", 200, "web page (HTML)"],
    ["JSON", { "content-type": "application/json" }, "[]", 200, "answers JSON"],
    ["JSON of no type", {}, '[{"iter": 1}]', 200, "answers JSON"],
    ["404", {}, "", 404, "answers 404"],
    ["401", {}, "", 401, "answers 401"],
  ])("says that the answer is %s", async (_, headers, body, status, message) => {
    const url = await serve((_request, response) => response.writeHead(status, headers).end(body));
    await expect(get(url)).rejects.toThrow(message);
  });

  test("adds the slash a server asks for, once, and follows no other redirect", async () => {
    const asked: (string | undefined)[] = [];
    let location = "http://elsewhere.example/metrics/?model=m";
    const url = await serve((request, response) => {
      asked.push(request.url);
      if (request.url === "/metrics/?model=m") response.end("a 1\n");
      else response.writeHead(307, { location }).end();
    });
    const fetcher = createPageFetcher({ url: `${url}?model=m` }, context);
    closing.push(() => fetcher.close());
    for (let time = 0; time < 2; time++) expect(await fetcher.fetch(textOf)).toBe("a 1\n");
    expect(asked).toEqual(["/metrics?model=m", "/metrics/?model=m", "/metrics/?model=m"]);
    for (location of ["/login", "/metrics?model=m", "/other/?model=m", "http://[bad"]) {
      const other = createPageFetcher({ url: `${url}?model=m` }, context);
      closing.push(() => other.close());
      await expect(other.fetch(textOf)).rejects.toThrow("it answers 307");
    }
  });

  test("refuses a page that inflates past its bound", async () => {
    const url = await serve((_request, response) => {
      response.setHeader("content-encoding", "gzip");
      response.end(gzipSync(Buffer.alloc(5_000_000, 97)));
    });
    await expect(get(url, { bytesMax: 100_000 })).rejects.toThrow("larger than 100000 bytes");
  });

  test("gives up at its deadline, also in the middle of a page", async () => {
    const url = await serve((_request, response) => void response.write("a 1\n"));
    await expect(get(url, { timeoutMs: 100 })).rejects.toMatchObject({
      message: expect.stringContaining("no full answer within 100 ms"),
      peer: "late",
    });
  });

  test("says when the connection breaks in the middle of a page", async () => {
    const url = await serve((_request, response) => {
      response.setHeader("content-length", 1000);
      response.write("a 1\n");
      setImmediate(() => response.destroy());
    });
    await expect(get(url)).rejects.toThrow("Cannot read");
  });

  test("says that nothing listens, and that the peer does not speak HTTP", async () => {
    await expect(get("http://127.0.0.1:1/metrics")).rejects.toMatchObject({
      message: expect.stringContaining("nothing listens there"),
      peer: "nobody",
    });
    const raw = createSocketServer((socket) => socket.end("\0\0\x12\x04\0\0\0\0\0"));
    await new Promise<void>((resolve) => raw.listen(0, "127.0.0.1", resolve));
    closing.push(() => void raw.close());
    const { port } = raw.address() as AddressInfo;
    await expect(get(`http://127.0.0.1:${port}/metrics`)).rejects.toMatchObject({
      message: expect.stringContaining("does not speak HTTP"),
      peer: "foreign",
    });
    const url = await serve((_request, response) => response.writeHead(404).end());
    await expect(get(url)).rejects.toMatchObject({ peer: undefined });
  });

  test("refuses an address it cannot read, before any request", () => {
    expect(() => createPageFetcher({ url: "localhost" }, context)).toThrow("the address of a metric page");
  });

  test("says what is wrong with a certificate, and reads its files again when they were replaced", async () => {
    const folder = mkdtempSync(join(tmpdir(), "tokenwatt-fetch-"));
    closing.push(() => rmSync(folder, { recursive: true }));
    const tls = { caFile: join(folder, "ca"), certFile: join(folder, "cert"), keyFile: join(folder, "key") };
    const install = (trusts: string, identity: string): void => {
      copyFileSync(pem(`${trusts}-ca.pem`), tls.caFile);
      copyFileSync(pem(`${identity}-client.pem`), tls.certFile);
      copyFileSync(pem(`${identity}-client.key`), tls.keyFile);
    };
    install("stranger", "stranger");
    const [cert, key, ca] = ["server.pem", "server.key", "ca.pem"].map((end) =>
      readFileSync(pem(`trusted-${end}`)),
    );
    const server = createTlsServer({ cert, key, ca, requestCert: true } as ServerOptions, (_, response) =>
      response.end("a 1\n"),
    );
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    closing.push(() => {
      server.close();
      server.closeAllConnections();
    });
    const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}/metrics`;
    const fetcher = createPageFetcher({ url, timeoutMs: 2000, tls }, context);
    closing.push(() => fetcher.close());
    await expect(fetcher.fetch(textOf)).rejects.toMatchObject({
      message: `Cannot read ${url}: its certificate is not signed by an authority trusted here`,
      hint: expect.stringContaining("tls.caFile"),
    });
    install("trusted", "stranger");
    await expect(fetcher.fetch(textOf)).rejects.toThrow(`Cannot read ${url}: `);
    install("trusted", "trusted");
    expect(await fetcher.fetch(textOf)).toBe("a 1\n");
    expect(await fetcher.fetch(textOf)).toBe("a 1\n");
  });
});
