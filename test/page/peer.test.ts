// The connections to a peer beyond one request after the other: two at a time, secure ones taken up again, kept for as
// long as was said; and pages that come compressed and cut.
import { once } from "node:events";
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer } from "node:http";
import type { ServerOptions } from "node:https";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TLSSocket } from "node:tls";
import { Gunzip, gzipSync } from "node:zlib";
import { afterEach, expect, test, vi } from "vitest";
import type { PageFetcher } from "../../agent/page/fetch.ts";
import { createPageFetcher } from "../../agent/page/fetch.ts";
import type { PageTarget } from "../../agent/page/target.ts";
import type { Clock } from "../../agent/platform/clock.ts";
import { systemClock } from "../../agent/platform/clock.ts";
import { pem } from "../fakes/tls-files.ts";

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

async function serve(handler: Handler, tls?: ServerOptions) {
  const sockets: Socket[] = [];
  const server = tls === undefined ? createServer(handler) : createTlsServer(tls, handler);
  server.on("connection", (socket: Socket) => sockets.push(socket));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  closing.push(() => {
    server.close();
    server.closeAllConnections();
  });
  return { port: (server.address() as AddressInfo).port, sockets };
}

function fetcherOf(target: PageTarget, clock: Clock = systemClock()): PageFetcher {
  const fetcher = createPageFetcher(target, { clock });
  closing.push(() => fetcher.close());
  return fetcher;
}

const textOf = (fetcher: PageFetcher): Promise<string> => fetcher.fetch(({ body }) => body.toString());

test("two pages at a time come over two connections, each with its own bytes", async () => {
  let count = 0;
  const waiting: ServerResponse[] = [];
  const { port, sockets } = await serve((_, response) => {
    waiting.push(response);
    if (waiting.length === 2) for (const each of waiting.splice(0)) each.end(`a ${++count}\n`.repeat(40_000));
  });
  const fetcher = fetcherOf({ url: `http://127.0.0.1:${port}/metrics` });
  for (let round = 0; round < 3; round++) {
    const pages = await Promise.all([textOf(fetcher), textOf(fetcher)]);
    expect(pages.toSorted()).toEqual(
      [count - 1, count].map((each) => `a ${each}\n`.repeat(40_000)).toSorted(),
    );
  }
  // One is kept; the other is made each time.
  expect(sockets).toHaveLength(4);
  while (sockets.filter(({ closed }) => !closed).length > 1) await new Promise(setImmediate);
});

test("a kept connection keeps no process from its end, one that is asked does", async () => {
  const holding = (): number =>
    process.getActiveResourcesInfo().filter((name) => name === "TCPSocketWrap").length;
  let asked = Promise.withResolvers<ServerResponse>();
  const { port, sockets } = await serve((_, response) => {
    response.socket?.unref();
    asked.resolve(response);
  });
  const fetcher = fetcherOf({ url: `http://127.0.0.1:${port}/metrics` });
  for (let time = 0; time < 2; time++) {
    const page = textOf(fetcher);
    const response = await asked.promise;
    const before = holding();
    asked = Promise.withResolvers();
    response.end("a 1\n");
    await page;
    expect(holding()).toBe(before - 1);
  }
  expect(sockets).toHaveLength(1);
});

test("a secure connection that was let go is taken up again, with what was agreed before", async () => {
  const [cert, key] = ["server.pem", "server.key"].map((end) => readFileSync(pem(`trusted-${end}`)));
  const resumed: boolean[] = [];
  const handler: Handler = ({ socket }, response) => {
    resumed.push((socket as TLSSocket).isSessionReused());
    response.setHeader("connection", "close").end("a 1\n");
  };
  const { port } = await serve(handler, { cert, key } as ServerOptions);
  const tls = { caFile: pem("trusted-ca.pem") };
  const fetcher = fetcherOf({ url: `https://127.0.0.1:${port}/metrics`, tls });
  for (let time = 0; time < 3; time++) expect(await textOf(fetcher)).toBe("a 1\n");
  expect(resumed).toEqual([false, true, true]);
});

test("what was agreed under an authority is forgotten with it", async () => {
  const folder = mkdtempSync(join(tmpdir(), "peer-"));
  closing.push(() => rmSync(folder, { recursive: true }));
  const [cert, key] = ["server.pem", "server.key"].map((end) => readFileSync(pem(`trusted-${end}`)));
  const { port } = await serve((_, response) => response.setHeader("connection", "close").end("a 1\n"), {
    cert,
    key,
  } as ServerOptions);
  const tls = { caFile: join(folder, "ca") };
  copyFileSync(pem("trusted-ca.pem"), tls.caFile);
  const fetcher = fetcherOf({ url: `https://127.0.0.1:${port}/metrics`, tls });
  for (let time = 0; time < 2; time++) expect(await textOf(fetcher)).toBe("a 1\n");
  rmSync(tls.caFile);
  copyFileSync(pem("stranger-ca.pem"), tls.caFile);
  await expect(textOf(fetcher)).rejects.toThrow("Cannot read");
});

test("a connection is used for as long as the peer says it keeps it and a second more, and not after", async () => {
  const { port, sockets } = await serve((_, response) =>
    response.setHeader("keep-alive", "timeout=7, max=100").setHeader("connection", "keep-alive").end("a 1\n"),
  );
  const clock = systemClock();
  let ahead = 0;
  const fetcher = fetcherOf(
    { url: `http://127.0.0.1:${port}/metrics` },
    {
      ...clock,
      now: () => clock.now() + ahead,
    },
  );
  for (const seconds of [0, 7.9, 15.8, 23.9, 31]) {
    ahead = seconds * 1e9;
    await textOf(fetcher);
  }
  expect(sockets).toHaveLength(2);
});

test("a compressed page that is cut is no page, and neither is what is larger compressed than it may be", async () => {
  const packed = gzipSync("a 1\n".repeat(1000));
  const { port } = await serve((request, response) => {
    response.setHeader("content-encoding", "gzip");
    response.end(
      request.url === "/cut" ? packed.subarray(0, 30) : Buffer.concat([packed, Buffer.alloc(9000)]),
    );
  });
  const at = (path: string, bytesMax: number) =>
    fetcherOf({ url: `http://127.0.0.1:${port}${path}`, bytesMax });
  await expect(textOf(at("/cut", 5000))).rejects.toThrow("unexpected end of file");
  await expect(textOf(at("/", 5000))).rejects.toThrow("the page is larger than 5000 bytes");
  expect(await textOf(at("/", 10_000))).toBe("a 1\n".repeat(1000));
});

test("a compressed page that comes in many pieces is its own, whatever comes over the same buffer meanwhile", async () => {
  const numbers = Array.from({ length: 60_000 }, (_, index) => `a{b="${index}"} ${Math.sin(index)}\n`).join(
    "",
  );
  const packed = gzipSync(numbers);
  const { port } = await serve((_, response) => response.setHeader("content-encoding", "gzip").end(packed));
  const fetchers = ["/1", "/2"].map((path) => fetcherOf({ url: `http://127.0.0.1:${port}${path}` }));
  for (const page of await Promise.all(fetchers.map(textOf))) expect(page === numbers).toBe(true);
});

test("what inflates a page ends with the page, whole or not", async () => {
  const packed = gzipSync("a 1\n".repeat(1000));
  const { port } = await serve((request, response) => {
    response.setHeader("content-encoding", "gzip").setHeader("content-length", packed.length + 9000);
    response.write(packed.subarray(0, 30));
    if (request.url === "/cut") setImmediate(() => response.destroy());
    else response.end(Buffer.concat([packed.subarray(30), Buffer.alloc(9000)]));
  });
  const ended = vi.spyOn(Gunzip.prototype, "_destroy");
  closing.push(() => ended.mockRestore());
  const at = (path: string, bytesMax: number) =>
    textOf(fetcherOf({ url: `http://127.0.0.1:${port}${path}`, bytesMax }));
  await expect(at("/cut", 10_000)).rejects.toThrow("in the middle of the page");
  expect(ended).toHaveBeenCalledTimes(1);
  await expect(at("/", 5000)).rejects.toThrow("the page is larger than 5000 bytes");
  expect(ended).toHaveBeenCalledTimes(2);
  await at("/", 10_000);
  expect(ended).toHaveBeenCalledTimes(3);
});

test("a connection that is asked while its fetcher is closed is not kept", async () => {
  const asked = Promise.withResolvers<ServerResponse>();
  const { port, sockets } = await serve((_, response) => asked.resolve(response));
  const fetcher = fetcherOf({ url: `http://127.0.0.1:${port}/metrics` });
  const page = textOf(fetcher);
  const response = await asked.promise;
  fetcher.close();
  response.end("a 1\n");
  expect(await page).toBe("a 1\n");
  if (sockets[0]?.closed === false) await once(sockets[0], "close");
});

test("an answer that says no is read past, whatever it holds", async () => {
  let status = 503;
  const { port, sockets } = await serve((_, response) => {
    response.statusCode = status;
    response.setHeader("content-encoding", status === 200 ? "identity" : "unknown");
    response.end(status === 200 ? "a 1\n" : "x".repeat(300_000));
  });
  const fetcher = fetcherOf({ url: `http://127.0.0.1:${port}/metrics`, bytesMax: 1000 });
  await expect(textOf(fetcher)).rejects.toThrow("it answers 503 Service Unavailable");
  status = 200;
  expect(await textOf(fetcher)).toBe("a 1\n");
  expect(sockets).toHaveLength(1);
});
