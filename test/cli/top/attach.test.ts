// Following an agent over a real socket: what it says is heard, what it does not say is told, and it is asked again.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import type { Said } from "../../../agent/cli/top/attach.ts";
import { followHost } from "../../../agent/cli/top/attach.ts";
import { serveHttp } from "../../../agent/export/http.ts";
import { systemClock } from "../../../agent/platform/clock.ts";
import { silentLog } from "../../../agent/platform/log.ts";
import { feedOf } from "../../export/page/feeds.ts";
import { runCommand } from "../capture-io.ts";
import { history, view } from "./hosts.ts";

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function serve(listen = "127.0.0.1:0"): Promise<{ readonly address: string; close(): Promise<void> }> {
  const endpoint = await serveHttp({
    listen,
    log: silentLog,
    metrics: () => ({ type: "text/plain", bytes: Buffer.from("") }),
    unhealthy: () => undefined,
    ready: () => true,
    status: () => ({}),
    feed: feedOf({ view: () => view, history: () => history }),
    page: true,
  });
  closing.push(() => endpoint.close());
  return endpoint;
}

/** Everything a host says, until the test ends. */
function follow(address: string): readonly Said[] {
  const heard: Said[] = [];
  const stop = new AbortController();
  const ended = followHost(
    { url: `http://${address}`, isOwnHost: false },
    systemClock({ speed: 20 }),
    stop.signal,
    (said) => heard.push(said),
  );
  closing.push(async () => {
    stop.abort();
    await ended;
  });
  return heard;
}

const typesOf = (heard: readonly Said[]): string => [...new Set(heard.map(({ type }) => type))].join(" ");

test("an agent is heard, its end is a problem, and it is heard again when it is back", async () => {
  const endpoint = await serve();
  const heard = follow(endpoint.address);
  await expect.poll(() => typesOf(heard)).toBe("history view");
  expect(heard[1]).toEqual(view);
  await endpoint.close();
  await expect.poll(() => typesOf(heard)).toBe("history view problem");
  const before = heard.length;
  await serve(endpoint.address);
  await expect.poll(() => heard.slice(before).some(({ type }) => type === "view")).toBe(true);
});

test("what is no agent is told: another program, an older one, and nobody at all", async () => {
  const other = createServer((_, response) => {
    response.statusCode = 404;
    response.end("what?");
  });
  await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
  const { port } = other.address() as AddressInfo;
  const heard = follow(`127.0.0.1:${port}`);
  await expect
    .poll(() => heard[0])
    .toMatchObject({ type: "problem", text: expect.stringContaining("no /-/view there") });
  await new Promise((resolve) => {
    other.closeAllConnections();
    other.close(resolve);
  });
  await expect
    .poll(() => heard.at(-1))
    .toMatchObject({ text: expect.stringContaining("nothing listens at") });
});

test("off a terminal top prints a frame, or JSON, and ends; a host that is silent makes it end with 1", async () => {
  const { address } = await serve();
  const frame = await runCommand(["top", "--url", `http://${address}`]);
  expect(frame).toMatchObject({ exitCode: 0, stderr: "" });
  expect(frame.stdout).toContain("gpu-17  3 GPUs  ");
  const silent = "127.0.0.1:1";
  const json = await runCommand(["top", "--host", `${address},${silent}`, "--json"]);
  const [first = "", second = ""] = json.stdout.split("\n");
  expect(JSON.parse(first)).toEqual({ host: address, view, history, problem: null });
  const problem = expect.stringContaining("nothing listens");
  expect(JSON.parse(second)).toMatchObject({ host: silent, view: null, problem });
  expect(json).toMatchObject({ exitCode: 1, stderr: expect.stringContaining(`${silent} said nothing`) });
  // A label too long for any name: refused by the resolver itself, without a network.
  const unknown = await runCommand(["top", "--url", `http://${"x".repeat(64)}.invalid:9464`, "--json"]);
  expect(unknown).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("cannot be resolved") });
});

test("a host that cannot be read is refused before anything is asked", async () => {
  const refused = await runCommand(["top", "--host", "a:b:c:99999"]);
  expect(refused).toMatchObject({ exitCode: 2, stderr: expect.stringContaining("Cannot read the host") });
});
