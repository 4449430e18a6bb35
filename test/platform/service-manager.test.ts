// Messages to a real unix datagram socket: python3 listens, because Node has no such sockets.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import type { Clock } from "../../agent/platform/clock.ts";
import { virtualClock } from "../../agent/platform/clock.ts";
import type { Log } from "../../agent/platform/log.ts";
import { silentLog } from "../../agent/platform/log.ts";
import { openServiceManager } from "../../agent/platform/service-manager.ts";

const python = spawnSync("python3", ["--version"]).status === 0;
if (!python) console.warn("SKIPPED: notify over a real socket, because there is no python3 to listen");

const folder = mkdtempSync(join(tmpdir(), "tokenwatt-notify-"));
afterAll(() => rmSync(folder, { recursive: true }));

const LISTENER = `
import socket, sys
path = sys.argv[1]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.settimeout(4)
s.bind("\\0" + path[1:] if path.startswith("@") else path)
print("listening", flush=True)
for _ in range(int(sys.argv[2])):
    print(repr(s.recv(4096).decode()), flush=True)
`;

/** Listens for `count` datagrams; resolves to them once all have come. */
async function listen(path: string, count: number): Promise<Promise<string[]>[]> {
  const child = spawn("python3", ["-c", LISTENER, path, String(count)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let text = "";
  const { promise: bound, resolve } = Promise.withResolvers<void>();
  child.stdout.on("data", (data: Buffer) => {
    text += data.toString();
    if (text.includes("listening\n")) resolve();
  });
  const all = new Promise<string[]>((done) =>
    child.on("close", () => done(text.trim().split("\n").slice(1))),
  );
  await bound;
  return [all];
}

describe("openServiceManager()", () => {
  test("does nothing where no service manager listens", async () => {
    const said: string[] = [];
    const log: Log = { ...silentLog, warn: (event) => said.push(event), error: (event) => said.push(event) };
    const at = (): (() => void) => {
      said.push("a heartbeat is set");
      return () => {};
    };
    const clock: Clock = { ...virtualClock(0n), at };
    for (const env of [{}, { NOTIFY_SOCKET: "" }, { NOTIFY_SOCKET: "", WATCHDOG_USEC: "60000000" }]) {
      const manager = await openServiceManager({ env, clock, log });
      manager.ready("fine");
      manager.status("fine");
      manager.reloading();
      manager.stopping(1000);
      manager.close();
    }
    expect(said).toEqual([]);
    // The same clock is used where a service manager listens.
    const env = { NOTIFY_SOCKET: join(folder, "gone"), WATCHDOG_USEC: "60000000" };
    (await openServiceManager({ env, clock, log })).close();
    expect(said).toContain("a heartbeat is set");
  });

  test("logs and goes on when the socket is gone", async () => {
    const warnings: string[] = [];
    const log: Log = { ...silentLog, warn: (event) => warnings.push(event) };
    const env = { NOTIFY_SOCKET: join(folder, "nobody") };
    const manager = await openServiceManager({ env, clock: virtualClock(0n), log });
    manager.ready("fine");
    const long = { NOTIFY_SOCKET: `/${"x".repeat(200)}` };
    await openServiceManager({ env: long, clock: virtualClock(0n), log });
    expect(warnings).toEqual([
      "service manager did not take a message",
      "service manager cannot be told anything",
    ]);
  });

  test.skipIf(!python).each(["path", "abstract"])("speaks sd_notify over a %s socket", async (kind) => {
    const name = join(folder, "notify");
    const socket = kind === "path" ? name : `@${name}`;
    const [received] = await listen(socket, 4);
    const manager = await openServiceManager({
      env: { NOTIFY_SOCKET: socket },
      clock: virtualClock(0n),
      log: silentLog,
    });
    manager.ready("8 GPUs\n2 servers");
    manager.status("fine");
    manager.reloading();
    manager.stopping(7000);
    manager.close();
    const messages = await received;
    expect(messages?.slice(0, 2)).toEqual(["'READY=1\\nSTATUS=8 GPUs 2 servers'", "'STATUS=fine'"]);
    expect(messages?.[2]).toMatch(/^'RELOADING=1\\nMONOTONIC_USEC=\d+'$/);
    expect(messages?.[3]).toBe("'STOPPING=1\\nSTATUS=flushing\\nEXTEND_TIMEOUT_USEC=7000000'");
  });

  test.skipIf(!python)("beats three times in a watchdog period, for this process only", async () => {
    const socket = join(folder, "watchdog");
    const [received] = await listen(socket, 4);
    const clock = virtualClock(0n);
    const env = { NOTIFY_SOCKET: socket, WATCHDOG_USEC: "60000000" };
    const other = await openServiceManager({ env: { ...env, WATCHDOG_PID: "1" }, clock, log: silentLog });
    const manager = await openServiceManager({
      env: { ...env, WATCHDOG_PID: String(process.pid) },
      clock,
      log: silentLog,
    });
    await clock.advance(59e9);
    other.status("done");
    expect(await received).toEqual(["'WATCHDOG=1'", "'WATCHDOG=1'", "'WATCHDOG=1'", "'STATUS=done'"]);
    manager.close();
  });
});
