// Proxies of the environment: never for this host, and named where one stands before a destination.
import { createServer } from "node:net";
import { afterEach, expect, test } from "vitest";
import {
  openChannel,
  proxyOf,
  Server,
  ServerCredentials,
  withoutProxyTo,
} from "../../agent/platform/grpc.ts";

const VARIABLES = ["grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy"];
const before = VARIABLES.map((name) => [name, process.env[name]] as const);
const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  for (const [name, value] of before) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
});

test("openChannel() asks no proxy for this host", async () => {
  let asked = 0;
  const proxy = createServer((socket) => {
    asked++;
    socket.destroy();
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  closing.push(() => proxy.close());
  const address = proxy.address();
  process.env["http_proxy"] = `http://127.0.0.1:${typeof address === "object" ? address?.port : 0}`;
  delete process.env["no_proxy"];
  const server = new Server();
  const identity = (bytes: Buffer): Buffer => bytes;
  server.register(
    "/a.B/C",
    (_: unknown, done: (error: null, answer: Buffer) => void) => done(null, Buffer.from("here")),
    identity,
    identity,
    "unary",
  );
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    ),
  );
  closing.push(() => server.forceShutdown());
  for (const target of [`127.0.0.1:${port}`, `localhost:${port}`, `dns:///127.0.0.1:${port}`]) {
    const channel = openChannel({ target }, { "grpc.use_local_subchannel_pool": 1 });
    closing.push(() => channel.close());
    const answer = await new Promise((resolve) =>
      channel.makeUnaryRequest("/a.B/C", identity, identity, Buffer.alloc(0), (error, bytes) =>
        resolve(error?.message ?? String(bytes)),
      ),
    );
    expect(answer).toBe("here");
  }
  expect(asked).toBe(0);
});

test.each([
  ["collector:4317", { http_proxy: "http://proxy:3128" }, "proxy:3128"],
  [
    "collector:4317",
    { https_proxy: "http://user:secret@proxy:8080", http_proxy: "http://other:1" },
    "proxy:8080",
  ],
  ["collector.local:4317", { http_proxy: "http://proxy:3128", no_proxy: "corp,.local" }, undefined],
  ["localhost:4317", { http_proxy: "http://proxy:3128" }, undefined],
  ["[::1]:4317", { http_proxy: "http://proxy:3128" }, undefined],
  ["127.0.0.53:4317", { grpc_proxy: "http://proxy:3128" }, undefined],
  ["unix:/run/otel.sock", { http_proxy: "http://proxy:3128" }, undefined],
  ["collector:4317", {}, undefined],
])("proxyOf(%s) with %o is %s", (target, env, wanted) => {
  expect(proxyOf(target, env)).toBe(wanted);
});

test.each([
  ["127.0.0.1:4317", true],
  ["127.8.9.10:4317", true],
  ["localhost:4317", true],
  ["LOCALHOST:4317", true],
  ["[::1]:4317", true],
  ["[0:0:0:0:0:0:0:1]:4317", true],
  ["[::ffff:127.0.0.1]:4317", true],
  ["[::ffff:7f00:1]:4317", true],
  ["dns:///localhost:4317", true],
  ["ipv6:[::1]:4317", true],
  ["ipv4:127.0.0.1:4317,127.0.0.2:4317", true],
  ["ipv4:127.0.0.1:4317,10.0.0.1:4317", false],
  ["[2001:db8::1]:4317", false],
  ["[::ffff:10.0.0.1]:4317", false],
  ["127.0.0.1.example:4317", false],
  ["localhost.example:4317", false],
  ["collector:4317", false],
])("withoutProxyTo(%s) hides proxies: %s", (target, hidden) => {
  const env: Record<string, string | undefined> = { http_proxy: "http://proxy:1", no_proxy: ".local" };
  const seen = withoutProxyTo(target, () => ({ ...env }), env);
  expect(seen["http_proxy"]).toBe(hidden ? undefined : "http://proxy:1");
  expect(() =>
    withoutProxyTo(
      target,
      () => {
        throw new Error("no channel");
      },
      env,
    ),
  ).toThrow("no channel");
  expect(env).toEqual({ http_proxy: "http://proxy:1", no_proxy: ".local" });
  expect(proxyOf(target, env)).toBe(hidden ? undefined : "proxy:1");
});
