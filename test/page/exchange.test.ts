// How an exchange ends: kept connections that the peer has let go are renewed once, a deadline or a stop ends it wherever
// it is, and in the normal way nothing is aborted, no error is made and nothing is left behind.
import { getEventListeners, once } from "node:events";
import { readFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer } from "node:http";
import type { ServerOptions } from "node:https";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { createGzip, gzipSync } from "node:zlib";
import fc from "fast-check";
import { afterEach, describe, expect, test, vi } from "vitest";
import { Exchange } from "../../agent/page/exchange.ts";
import type { PageFetcher } from "../../agent/page/fetch.ts";
import { createPageFetcher } from "../../agent/page/fetch.ts";
import type { Clock } from "../../agent/platform/clock.ts";
import { systemClock, virtualClock } from "../../agent/platform/clock.ts";
import { pem } from "../fakes/tls-files.ts";
import { serveRaw } from "./raw-server.ts";

const closing: (() => unknown)[] = [];
afterEach(async () => {
  vi.unstubAllGlobals();
  for (const close of closing.splice(0).reverse()) await close();
});

/** A clock whose timers run when the test says so. */
function handClock(): { readonly clock: Clock; readonly waiting: Set<() => void>; ring(): void } {
  const waiting = new Set<() => void>();
  const clock: Clock = {
    ...systemClock(),
    at: (_, run) => {
      waiting.add(run as () => void);
      return () => void waiting.delete(run as () => void);
    },
  };
  return {
    clock,
    waiting,
    ring: () => {
      for (const run of waiting) run();
    },
  };
}

async function serve(handler: (request: IncomingMessage, response: ServerResponse) => void) {
  const connections: Socket[] = [];
  const server = createServer(handler).listen(0, "127.0.0.1");
  server.on("connection", (socket: Socket) => connections.push(socket));
  await once(server, "listening");
  closing.push(() => {
    server.close();
    server.closeAllConnections();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/metrics`, connections };
}

function fetcherOf(url: string, clock: Clock = systemClock()): PageFetcher {
  const fetcher = createPageFetcher({ url, timeoutMs: 5000 }, { clock });
  closing.push(() => fetcher.close());
  return fetcher;
}

const facts = (fetcher: PageFetcher, signal?: AbortSignal) =>
  fetcher.fetch(({ body, renewed }) => ({ text: body.toString(), renewed }), signal);

const PAGE = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 4\r\n\r\na 1\n";

describe("a kept connection that the peer let go", () => {
  /** Answers the first request of each connection, and does to the next one what `then` says. */
  const answeringOnce = (then: (socket: Socket) => void, first = PAGE) =>
    serveRaw((socket) => {
      let asked = 0;
      socket.on("data", () => {
        if (asked++ === 0) socket.write(first);
        else then(socket);
      });
    });

  test.each<[string, (socket: Socket) => void]>([
    ["closed as it is asked", (socket) => socket.end()],
    ["reset as it is asked", (socket) => socket.resetAndDestroy()],
    [
      "ended with a word that it was idle",
      (socket) => socket.end("HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n\r\n"),
    ],
  ])("%s: the page is asked for once more, over another one", async (_, then) => {
    const { connections, port } = await answeringOnce(then);
    const fetcher = fetcherOf(`http://127.0.0.1:${port}/metrics`);
    expect(await facts(fetcher)).toEqual({ text: "a 1\n", renewed: true });
    for (let time = 2; time < 5; time++) {
      expect(await facts(fetcher)).toEqual({ text: "a 1\n", renewed: true });
      expect(connections).toHaveLength(time);
    }
  });

  test("is asked for once more where it was secure", async () => {
    const [cert, key] = ["server.pem", "server.key"].map((end) => readFileSync(pem(`trusted-${end}`)));
    const seen = new Set<unknown>();
    const server = createTlsServer({ cert, key } as ServerOptions, (request, response) => {
      if (seen.has(request.socket)) request.socket.destroy();
      else response.end("a 1\n");
      seen.add(request.socket);
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    closing.push(() => {
      server.close();
      server.closeAllConnections();
    });
    const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}/metrics`;
    const tls = { caFile: pem("trusted-ca.pem") };
    const fetcher = createPageFetcher({ url, timeoutMs: 5000, tls }, { clock: systemClock() });
    closing.push(() => fetcher.close());
    for (let time = 0; time < 3; time++)
      expect(await facts(fetcher)).toEqual({ text: "a 1\n", renewed: true });
    expect(seen.size).toBe(3);
  });

  test("is asked for once more only: who lets every connection go is not asked for ever", async () => {
    let open = true;
    const { connections, port } = await serveRaw((socket) => {
      socket.on("data", () => {
        if (open) socket.write(PAGE);
        else socket.end();
      });
    });
    const fetcher = fetcherOf(`http://127.0.0.1:${port}/metrics`);
    await facts(fetcher);
    open = false;
    await expect(facts(fetcher)).rejects.toThrow("closed the connection without an answer");
    expect(connections).toHaveLength(2);
    await expect(facts(fetcher)).rejects.toThrow("closed the connection without an answer");
    expect(connections).toHaveLength(3);
  });

  test("is not asked again once an answer began", async () => {
    const { connections, port } = await answeringOnce((socket) =>
      socket.end("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\na"),
    );
    const fetcher = fetcherOf(`http://127.0.0.1:${port}/metrics`);
    await facts(fetcher);
    await expect(facts(fetcher)).rejects.toThrow("Cannot read");
    expect(connections).toHaveLength(1);
  });

  test("is used for as long as the peer says it keeps it", async () => {
    const kept = PAGE.replace(
      "content-type",
      "connection: keep-alive\r\nkeep-alive: timeout=1\r\ncontent-type",
    );
    const { connections, port } = await answeringOnce((socket) => socket.write(kept), kept);
    const fetcher = fetcherOf(`http://127.0.0.1:${port}/metrics`);
    await facts(fetcher);
    expect(await facts(fetcher)).toEqual({ text: "a 1\n", renewed: false });
    expect(connections).toHaveLength(1);
  });
});

describe("an exchange that is ended early", () => {
  /** Where a peer may hold an exchange up: what it does, and what shows that it came there. */
  const silent = (socket: Socket): void => void socket.on("data", () => {});
  const PLACES: readonly (readonly [string, string, (socket: Socket) => void])[] = [
    ["before the connection is secure", "https", silent],
    ["before the answer begins", "http", silent],
    ["in the head", "http", (socket) => socket.write("HTTP/1.1 200 OK\r\ncontent-")],
    ["in the page", "http", (socket) => socket.write(`${PAGE.replace(": 4", ": 400")}`)],
    [
      "in a compressed page",
      "http",
      (socket) => {
        socket.write("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n");
        const zip = createGzip();
        zip.on("data", (part) => socket.write(part));
        zip.write("a 1\n".repeat(1000));
        zip.flush();
      },
    ],
  ];

  test.each(PLACES)("%s: by its deadline, and by a stop at once", async (_, scheme, hold) => {
    for (const by of ["deadline", "stop"] as const) {
      const asked = Promise.withResolvers<Socket>();
      const { connections, port } = await serveRaw((socket) => {
        socket.once("data", () => {
          hold(socket);
          asked.resolve(socket);
        });
      });
      const { clock, ring, waiting } = handClock();
      const stop = new AbortController();
      const fetched = facts(fetcherOf(`${scheme}://127.0.0.1:${port}/metrics`, clock), stop.signal);
      const ended = expect(fetched).rejects.toMatchObject(
        by === "deadline"
          ? { message: expect.stringContaining("no full answer within 5000 ms"), peer: "late" }
          : { kind: "transient", peer: undefined },
      );
      const socket = await asked.promise;
      if (by === "deadline") ring();
      else stop.abort();
      await ended;
      if (!socket.closed) await new Promise((resolve) => socket.once("close", resolve));
      expect(connections).toHaveLength(1);
      expect(waiting.size).toBe(0);
      // One for all exchanges of a stop, however many there were.
      expect(getEventListeners(stop.signal, "abort").length).toBeLessThanOrEqual(1);
    }
  });

  test("ends at its deadline however often a page still gets bytes", async () => {
    const { url } = await serve((_, response) => {
      const drip = (): void =>
        void response.write("a 1\n", () => void (response.destroyed || setImmediate(drip)));
      drip();
    });
    const { clock, ring, waiting } = handClock();
    const fetcher = fetcherOf(url, clock);
    const fetched = expect(facts(fetcher)).rejects.toMatchObject({ peer: "late" });
    while (waiting.size === 0) await new Promise(setImmediate);
    ring();
    await fetched;
  });

  test("asks nothing where it is stopped before", async () => {
    const { connections, url } = await serve((_, response) => response.end("a 1\n"));
    await expect(facts(fetcherOf(url), AbortSignal.abort())).rejects.toThrow("Cannot read");
    expect(connections).toEqual([]);
  });

  test("leaves the next exchange as if it had never been", async () => {
    let held = true;
    const { url } = await serve((_, response) => {
      if (!held) response.end("a 1\n");
    });
    const { clock, ring, waiting } = handClock();
    const fetcher = fetcherOf(url, clock);
    const late = expect(facts(fetcher)).rejects.toMatchObject({ peer: "late" });
    while (waiting.size === 0) await new Promise(setImmediate);
    ring();
    await late;
    held = false;
    expect(await facts(fetcher)).toEqual({ text: "a 1\n", renewed: true });
    expect(await facts(fetcher)).toEqual({ text: "a 1\n", renewed: false });
  });
});

test("1,000 pages: one connection, nothing aborted, no error made, one listener and no timer left", async () => {
  const packed = gzipSync("a 1\n");
  let page = 0;
  const { connections, url } = await serve((_, response) => {
    if (page++ % 2 === 0) response.end("a 1\n");
    else response.setHeader("content-encoding", "gzip").end(packed);
  });
  const { clock, waiting } = handClock();
  const stop = new AbortController();
  const fetcher = fetcherOf(url, clock);
  await facts(fetcher, stop.signal);
  const abort = vi.spyOn(AbortController.prototype, "abort");
  const joined = vi.spyOn(AbortSignal, "any");
  closing.push(() => [abort, joined].map((spy) => spy.mockRestore()));
  let errors = 0;
  vi.stubGlobal(
    "Error",
    new Proxy(Error, {
      construct: (target, values, made) => {
        errors++;
        return Reflect.construct(target, values, made) as object;
      },
    }),
  );
  for (let time = 0; time < 1000; time++) await facts(fetcher, stop.signal);
  expect(errors).toBe(0);
  expect(abort).not.toHaveBeenCalled();
  expect(joined).not.toHaveBeenCalled();
  expect(connections).toHaveLength(1);
  expect(waiting.size).toBe(0);
  expect(getEventListeners(stop.signal, "abort")).toHaveLength(1);
});

test("pages come whole in whatever pieces, over connections let go at whatever request", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 6 }),
      fc.integer({ min: 1, max: 40 }),
      async (lives, cut) => {
        let life = 0;
        let round = 0;
        const { port } = await serveRaw((socket) => {
          let left = lives[life++ % lives.length] ?? 1;
          socket.on("data", () => {
            if (left-- === 0) return socket.end();
            const page = `a ${++round}\n`.repeat(30);
            const answer = `HTTP/1.1 200 OK\r\ncontent-length: ${page.length}\r\n\r\n${page}`;
            for (let at = 0; at < answer.length; at += cut) socket.write(answer.slice(at, at + cut));
          });
        });
        const fetcher = fetcherOf(`http://127.0.0.1:${port}/metrics`);
        for (let time = 1; time <= 8; time++)
          expect((await facts(fetcher)).text).toBe(`a ${time}\n`.repeat(30));
        fetcher.close();
      },
    ),
    { numRuns: 15 },
  );
});

test("a stop ends all that is under way, once, and nothing that is over or under another stop", () => {
  const what = fc.array(fc.record({ closed: fc.boolean(), other: fc.boolean(), late: fc.boolean() }), {
    maxLength: 12,
  });
  fc.assert(
    fc.property(what, (each) => {
      const [stop, other] = [new AbortController(), new AbortController()];
      const clock = virtualClock(0n);
      const begin = (one: (typeof each)[number]): { exchange: Exchange; ends: string[] } => {
        const exchange = new Exchange(clock, 1000, one.other ? other.signal : stop.signal);
        const ends: string[] = [];
        exchange.holds({ destroy: ({ message }) => ends.push(message) });
        if (one.closed) exchange.close();
        return { exchange, ends };
      };
      const early = each.filter(({ late }) => !late);
      const before = early.map(begin);
      stop.abort();
      for (const [place, { ends, exchange }] of before.entries()) {
        const { closed, other: isOther } = early[place] as (typeof each)[number];
        expect(exchange.endedBy).toBe(closed || isOther ? undefined : "stop");
        expect(ends).toEqual(closed || isOther ? [] : ["stopped meanwhile"]);
      }
      // What begins after the stop is ended at once.
      for (const one of each.filter(({ late }) => late)) {
        const { ends, exchange } = begin(one);
        expect(exchange.endedBy).toBe(one.other ? undefined : "stop");
        expect(ends).toEqual(one.other ? [] : ["ended by stop"]);
        exchange.close();
      }
      for (const { exchange } of before) exchange.close();
    }),
  );
});
