// A receiver's name that stands for two addresses, and a caller who is there between the first and the second; a socket
// whose mode cannot be set.
import { once } from "node:events";
import { mkdtempSync, renameSync, rmSync } from "node:fs";
import type { AddressInfo, Socket } from "node:net";
import { connect, createServer, Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test, vi } from "vitest";
import type { Server as GrpcServer } from "../../../agent/platform/grpc.ts";
import type { Facts, Log } from "../../../agent/platform/log.ts";
import { silentLog } from "../../../agent/platform/log.ts";
import type { Callers } from "../../../agent/servers/receive/callers.ts";
import { addressScope, nameOf } from "../../../agent/servers/receive/callers.ts";
import { listenFor } from "../../../agent/servers/receive/listener.ts";

vi.mock("node:dns/promises", () => ({
  lookup: async () => ["127.0.0.1", "127.0.0.2"].map((address) => ({ address, family: 4 })),
}));

const closing: (() => unknown)[] = [];
afterEach(async () => {
  vi.restoreAllMocks();
  for (const close of closing.splice(0).reverse()) await close();
});

function memoryLog(): { readonly log: Log; readonly lines: unknown[][] } {
  const lines: unknown[][] = [];
  const note = (event: string, facts?: Facts): void => void lines.push([event, facts]);
  return { log: { ...silentLog, warn: note }, lines };
}

/** Listens on both addresses; a caller connects to the first before the second is asked for. */
function listenWithCaller(port: number) {
  const handed: unknown[] = [];
  const grpc = {
    createConnectionInjector: () => ({ injectConnection: (socket: unknown) => handed.push(socket) }),
  } as unknown as GrpcServer;
  const { listen } = Server.prototype;
  const spy = vi.spyOn(Server.prototype, "listen").mockImplementation(function (this: Server, ...parts) {
    const [first] = spy.mock.contexts as Server[];
    if (first === this || first === undefined) return listen.apply(this, parts as never);
    first.once("connection", () => setImmediate(() => listen.apply(this, parts as never)));
    const caller = connect((first.address() as AddressInfo).port, "127.0.0.1");
    caller.on("error", () => {});
    closing.push(() => caller.destroy());
    return this;
  });
  return { handed, listening: listenFor(grpc, { endpoint: `name:${port}` }, silentLog) };
}

describe("listenFor()", () => {
  test("leaves connections for other callers when one takes all it can get", async () => {
    const handed: Socket[] = [];
    const grpc = {
      createConnectionInjector: () => ({ injectConnection: (socket: Socket) => handed.push(socket) }),
    } as unknown as GrpcServer;
    let identity = "uid 1";
    const admitted = new Map<string, string>();
    const callers = {
      admit: async (socket: Socket) => {
        admitted.set(nameOf(socket), identity);
        return true;
      },
      scopeOf: (peer: string) => admitted.get(peer) ?? addressScope,
    } as unknown as Callers;
    const { lines, log } = memoryLog();
    const { close, port } = await listenFor(grpc, { endpoint: "127.0.0.1:0" }, log, callers);
    closing.push(close);
    const open = async (): Promise<Socket> => {
      const socket = connect(port, "127.0.0.1").on("error", () => {});
      closing.push(() => socket.destroy());
      await once(socket, "connect");
      return socket;
    };
    const all: Socket[] = [];
    for (let n = 0; n < 250; n++) all.push(await open());
    await expect.poll(() => all.filter(({ destroyed }) => destroyed).length).toBe(58);
    expect(handed).toHaveLength(192);
    expect(lines[0]).toEqual(["refused a connection", { cause: "one caller holds 192", caller: "uid 1" }]);
    identity = "uid 2";
    const other = await open();
    await expect.poll(() => handed).toHaveLength(193);
    expect(other.destroyed).toBe(false);
  });

  test("hands over nobody where it cannot have every address", async () => {
    const other = createServer();
    other.listen(0, "127.0.0.2");
    await once(other, "listening");
    closing.push(() => other.close());
    const { handed, listening } = listenWithCaller((other.address() as AddressInfo).port);
    await expect(listening).rejects.toThrow("EADDRINUSE");
    expect(handed).toEqual([]);
  });

  test("hands over who came early once it has every address", async () => {
    const { handed, listening } = listenWithCaller(0);
    const { close } = await listening;
    closing.push(close);
    await expect.poll(() => handed).toHaveLength(1);
  });

  test("listens no more on a unix socket whose mode cannot be set", async () => {
    const folder = mkdtempSync(join(tmpdir(), "tokenwatt-listener-"));
    closing.push(() => rmSync(folder, { recursive: true }));
    const [path, moved] = [join(folder, "socket"), join(folder, "moved")];
    // Moved as soon as it is there, and so before its mode is set.
    const { listen } = Server.prototype;
    const spy = vi.spyOn(Server.prototype, "listen").mockImplementation(function (this: Server, ...parts) {
      closing.push(() => this.close());
      return listen.apply(
        this.prependOnceListener("listening", () => renameSync(path, moved)),
        parts as never,
      );
    });
    const grpc = { createConnectionInjector: () => ({}) } as unknown as GrpcServer;
    await expect(listenFor(grpc, { endpoint: `unix:${path}` }, silentLog)).rejects.toThrow("ENOENT");
    expect(spy).toHaveBeenCalledOnce();
    const caller = connect(moved);
    closing.push(() => caller.destroy());
    const answer = once(caller, "connect").then(
      () => "connected",
      (error: NodeJS.ErrnoException) => error.code,
    );
    expect(await answer).toBe("ECONNREFUSED");
  });
});
