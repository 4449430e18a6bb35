// The page and the stream over a real socket: who gets which, what is allowed in it, and how many may look.
import { createHash } from "node:crypto";
import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { get } from "node:http";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { afterEach, describe, expect, test } from "vitest";
import type { HttpEndpoint } from "../../../agent/export/http.ts";
import { serveHttp } from "../../../agent/export/http.ts";
import { wantsPage } from "../../../agent/export/page/document.ts";
import { silentLog } from "../../../agent/platform/log.ts";
import { feedOf } from "./feeds.ts";

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function serve(page = true, feed = feedOf()): Promise<HttpEndpoint> {
  const endpoint = await serveHttp({
    listen: "127.0.0.1:0",
    log: silentLog,
    metrics: () => ({ type: "text/plain", bytes: Buffer.from("up 1\n") }),
    unhealthy: () => undefined,
    ready: () => true,
    status: () => ({}),
    feed,
    page,
  });
  closing.push(() => endpoint.close());
  return endpoint;
}

async function ask(
  { address }: HttpEndpoint,
  path: string,
  headers: Record<string, string> = {},
): Promise<IncomingMessage> {
  const request = get(`http://${address}${path}`, { headers, agent: false });
  closing.push(() => request.destroy());
  const [answer] = (await once(request, "response")) as [IncomingMessage];
  return answer;
}

const BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
const STREAM = { accept: "text/event-stream" };

describe("/", () => {
  test("answers a browser with a page, and everything else with the line of endpoints", async () => {
    const endpoint = await serve();
    const page = await ask(endpoint, "/", { accept: BROWSER });
    expect(page.headers["content-type"]).toBe("text/html; charset=utf-8");
    expect(await text(page)).toMatch(/^<!doctype html>/);
    for (const headers of [
      {},
      { accept: "text/plain" },
      { accept: "*/*" },
      { accept: "text/plain, text/html;q=0.5" },
    ]) {
      const line = await ask(endpoint, "/", headers);
      expect(line.headers["content-type"]).toBe("text/plain; charset=utf-8");
      expect(await text(line)).toBe("tokenwatt: /metrics /-/healthy /-/ready /-/status /-/view /-/policy\n");
    }
  });

  test("is the line for a browser too where the page is off, and snapshots stay", async () => {
    const endpoint = await serve(false);
    expect(await text(await ask(endpoint, "/", { accept: BROWSER }))).toMatch(/^tokenwatt: /);
    expect((await ask(endpoint, "/-/view")).statusCode).toBe(200);
  });

  test("is one document under 200 kB whose policy allows its own script and style and nothing beyond the host", async () => {
    const page = await ask(await serve(), "/", { accept: BROWSER });
    const html = await text(page);
    const policy = String(page.headers["content-security-policy"]);
    const hashOf = (tag: string): string => {
      const all = [...html.matchAll(new RegExp(`<${tag}>([\\s\\S]*?)</${tag}>`, "g"))];
      expect(all).toHaveLength(1);
      return `'sha256-${createHash("sha256").update(String(all[0]?.[1])).digest("base64")}'`;
    };
    expect(Buffer.byteLength(html)).toBeLessThan(200_000);
    expect(policy).toContain("default-src 'none'");
    expect(policy).toContain(`script-src ${hashOf("script")};`);
    expect(policy).toContain(`style-src ${hashOf("style")};`);
    expect(policy).not.toMatch(/unsafe|\*|https?:/);
    // Whatever names another place: the namespace of SVG is a name and no address.
    const places = html.match(/(?:https?:)?\/\/[\w.-]+\.\w+/g) ?? [];
    expect(places.filter((place) => !place.includes("www.w3.org"))).toEqual([]);
    expect(html).not.toMatch(/<(?:script|link|img|iframe)[^>]+(?:src|href)="(?!data:)/);
    expect(html).not.toMatch(/\sstyle="|\son\w+="/);
  });
});

describe("wantsPage()", () => {
  test.each([
    [BROWSER, true],
    ["text/html;q=0.5, text/plain;q=0.5", true],
    ["text/html;q=0.4, text/plain;q=0.5", false],
    ["text/html;q=0", false],
    ["text/plain", false],
    [undefined, false],
    ["", false],
  ])("%j: %j", (accept, wanted) => expect(wantsPage(accept)).toBe(wanted));
});

describe("/-/view", () => {
  test("is one snapshot as JSON, or a stream where that is asked for", async () => {
    const endpoint = await serve();
    const once = await ask(endpoint, "/-/view");
    expect(JSON.parse(await text(once))).toMatchObject({
      view: { type: "view" },
      history: { type: "history" },
    });
    const stream = await ask(endpoint, "/-/view", STREAM);
    expect(stream.headers).toMatchObject({
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-store",
    });
    let got = "";
    for await (const chunk of stream) {
      got += chunk;
      if (got.includes("event: view")) break;
    }
    expect(got).toMatch(/^retry: \d+\n\nevent: history\ndata: .*\n\nevent: view\ndata: /);
  });

  test("is refused to a host name that is not this host's, as a stream too", async () => {
    const endpoint = await serve();
    for (const headers of [{ host: "evil.example" }, { host: "evil.example", ...STREAM }])
      expect((await ask(endpoint, "/-/view", headers)).statusCode).toBe(421);
    expect((await ask(endpoint, "/", { host: "evil.example", accept: BROWSER })).statusCode).toBe(421);
  });

  test("streams to a bounded number of one address, and again once one has gone", async () => {
    const feed = feedOf({ beatMs: 50 });
    const endpoint = await serve(true, feed);
    const streams = await Promise.all(Array.from({ length: 12 }, () => ask(endpoint, "/-/view", STREAM)));
    expect(streams.map(({ statusCode }) => statusCode)).toEqual(Array(12).fill(200));
    const more = await ask(endpoint, "/-/view", STREAM);
    expect([more.statusCode, more.headers["retry-after"]]).toEqual([503, "10"]);
    expect((await ask(endpoint, "/metrics")).statusCode).toBe(200);
    streams[0]?.destroy();
    await expect.poll(() => feed.lookers).toBe(11);
    expect((await ask(endpoint, "/-/view", STREAM)).statusCode).toBe(200);
  });

  test("lets a looker go that takes nothing: beats are missed, not queued", async () => {
    const large = "x".repeat(200_000);
    const feed = feedOf({ beatMs: 1, view: () => ({ type: "view", host: large }) as never });
    const endpoint = await serve(true, feed);
    const [host = "", port = ""] = endpoint.address.split(":");
    const socket = connect(Number(port), host);
    closing.push(() => socket.destroy());
    socket.on("error", () => {});
    socket.pause();
    socket.write("GET /-/view HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n");
    await expect.poll(() => feed.lookers).toBe(1);
    await expect.poll(() => feed.lookers, { timeout: 8000 }).toBe(0);
  });
});
