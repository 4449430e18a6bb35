// What is sent for a page: the words that node:http would send for the same address, headers and credentials, and nothing
// that no request can carry.
import { once } from "node:events";
import { Agent, get } from "node:http";
import fc from "fast-check";
import { expect, test } from "vitest";
import { createPageFetcher } from "../../../agent/page/fetch.ts";
import { requestText } from "../../../agent/page/http/request.ts";
import { readTarget } from "../../../agent/page/target.ts";
import { systemClock } from "../../../agent/platform/clock.ts";
import { serveRaw } from "../raw-server.ts";

/** A server that notes what it is sent. */
async function noting() {
  const seen: string[] = [];
  const { port } = await serveRaw((socket) => {
    socket.on("data", (bytes) => {
      seen.push(bytes.toString("latin1"));
      socket.end("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\na 1\n");
    });
  });
  return { port, seen };
}

/** The lines of a request, names in lower case, in no order. */
function linesOf(request: string): readonly string[] {
  const [first, ...lines] = request.split("\r\n");
  return [
    first as string,
    ...lines.map((line) => line.replace(/^[^:]+/, (name) => name.toLowerCase())).sort(),
  ];
}

test("a page is asked for with the words of node:http", async () => {
  const { port, seen } = await noting();
  const name = fc.constantFrom(
    "Accept",
    "X-Scope-OrgID",
    "authorization",
    "Host",
    "user-agent",
    "Accept-Encoding",
  );
  const value = fc.constantFrom("a", "b c", "Bearer x", "text/plain;q=1", "metrics.example:9");
  const path = fc.constantFrom("/metrics", "/", "/a%20b?x=1&y=%2F", "/metrics?q=é#part");
  await fc.assert(
    fc.asyncProperty(fc.dictionary(name, value), path, fc.boolean(), async (headers, at, named) => {
      const url = `http://${named ? "reader:P%2D1@" : ""}127.0.0.1:${port}${at}`;
      const fetcher = createPageFetcher({ url, headers }, { clock: systemClock() });
      await fetcher.fetch(() => {});
      fetcher.close();
      const { pathname, search } = new URL(url);
      const all = { accept: "text/plain;version=0.0.4", "accept-encoding": "identity", ...headers };
      const auth = named ? { auth: "reader:P-1" } : {};
      const agent = new Agent({ keepAlive: true });
      const parts = { host: "127.0.0.1", port, path: `${pathname}${search}`, headers: all, agent, ...auth };
      const [response] = await once(get(parts), "response");
      await once(response.resume(), "end");
      agent.destroy();
      const [ours, wanted] = seen.splice(0);
      expect(linesOf(ours as string)).toEqual(linesOf(wanted as string));
    }),
    { numRuns: 40 },
  );
});

test.each([
  ["http://h/metrics", "h"],
  ["http://h:80/metrics", "h"],
  ["http://h:443/metrics", "h:443"],
  ["https://h:443/metrics", "h"],
  ["https://h:80/metrics", "h:80"],
  ["http://[::1]:8000/metrics", "[::1]:8000"],
  // Its letters end in the bytes of a line's end.
  ["http://\u010d\u010a:8000/metrics", "xn--8dad:8000"],
  ["unix:/run/s:/m", "localhost"],
])("%s says which host it asks: %s", (url, host) => {
  const { head, path } = readTarget({ url });
  expect(linesOf(requestText(path, head))).toContain(`host: ${host}`);
});

test.each([
  ["https://h.example/m", {}, "h.example"],
  ["https://127.0.0.1/m", {}, undefined],
  ["https://[::1]/m", {}, undefined],
  ["https://127.0.0.1/m", { Host: "h.example:8443" }, "h.example"],
  ["https://h.example/m", { host: "[::1]:1" }, undefined],
  ["https://\u010d\u010a:8000/m", {}, "xn--8dad"],
])("%s with %j asks for the certificate of %s", (url, headers, servername) => {
  const { options } = readTarget({ url, headers }).address;
  expect((options as { servername?: string }).servername).toBe(servername);
});

test("nothing is sent that no request can carry", () => {
  const head = { host: "h", headers: {}, credentials: undefined };
  for (const path of ["/a b", "/a\r\nx: 1", "/\u0100"])
    expect(() => requestText(path, head)).toThrow("its path holds what cannot be sent");
  for (const value of ["a\r\nx: 1", "a\nb", "\0", "\u0100"]) {
    expect(() => requestText("/", { ...head, headers: { "x-a": value } })).toThrow("header x-a");
    expect(() => requestText("/", { ...head, headers: { [`x-a${value}`]: "1" } })).toThrow("header x-a");
    expect(() => requestText("/", { ...head, host: value })).toThrow("header host");
  }
});
