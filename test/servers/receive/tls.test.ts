// TLS, client certificates, tokens and unix sockets of the three receivers, over real sockets, and files that are
// replaced while callers are connected. Certificates are those of test/fixtures/tls.

import { lookup } from "node:dns/promises";
import { copyFileSync, mkdtempSync, renameSync, rmSync, statSync, unlinkSync, writeFileSync } from "node:fs";
import { createServer, Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test, vi } from "vitest";
import { virtualClock } from "../../../agent/platform/clock.ts";
import type { GrpcTarget } from "../../../agent/platform/grpc.ts";
import { openChannel, status } from "../../../agent/platform/grpc.ts";
import type { Facts, Log } from "../../../agent/platform/log.ts";
import { silentLog } from "../../../agent/platform/log.ts";
import type { ReceiverKind } from "../../fakes/receivers.ts";
import { openStream, receiverKinds, runReceiver, send, sendOn } from "../../fakes/receivers.ts";
import { clientFiles, pem } from "../../fakes/tls-files.ts";

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), "tokenwatt-receiver-tls-"));
  closing.push(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

function run(...receiver: Parameters<typeof runReceiver>) {
  const running = runReceiver(...receiver);
  closing.push(() => running.source.close());
  return running;
}

/** Lines of warnings and errors. */
function recordingLog(): { log: Log; lines: [string, Facts | undefined][] } {
  const lines: [string, Facts | undefined][] = [];
  const note = (event: string, facts?: Facts): void => void lines.push([event, facts]);
  const log: Log = { ...silentLog, info: note, warn: note, error: note, with: () => log };
  return { log, lines };
}

const listens = (name: string, clients?: string) => ({
  certFile: pem(`${name}-server.pem`),
  keyFile: pem(`${name}-server.key`),
  ...(clients === undefined ? {} : { clientCaFile: pem(`${clients}-ca.pem`) }),
});

describe.each(receiverKinds)("$name over TLS", (kind) => {
  test("answers callers that trust its authority, and no others", async () => {
    const { address, counted } = run(kind, { tls: listens("trusted") });
    const target = await address();
    await send(kind, { target, tls: clientFiles("trusted") }, kind.report(5));
    await counted(5);
    const stranger = send(kind, { target, tls: clientFiles("stranger") }, kind.report(1));
    await expect(stranger).rejects.toMatchObject({ code: status.UNAVAILABLE });
    await expect(send(kind, { target }, kind.report(1))).rejects.toMatchObject({ code: status.UNAVAILABLE });
    await send(kind, { target, tls: clientFiles("trusted") }, kind.report(2));
    await counted(7);
  });

  test("listens on when a connection cannot be accepted, and says so", async () => {
    const listen = vi.spyOn(Server.prototype, "listen");
    const { log, lines } = recordingLog();
    const { address, counted } = run(kind, { tls: listens("trusted") }, log);
    const target = await address();
    const [server] = listen.mock.contexts as Server[];
    listen.mockRestore();
    server?.emit("error", new Error("accept ENFILE"));
    await send(kind, { target, tls: clientFiles("trusted") }, kind.report(5));
    await counted(5);
    expect(lines).toEqual([["cannot accept a connection", { cause: "accept ENFILE" }]]);
  });

  test("wants a client certificate of clientCaFile, and takes nothing without", async () => {
    const { address, counted } = run(kind, { tls: listens("trusted", "trusted") });
    const target = await address();
    for (const identity of [undefined, "stranger"]) {
      const tls = clientFiles("trusted", identity);
      const refused = send(kind, { target, tls }, kind.report(1));
      await expect(refused).rejects.toMatchObject({ code: status.UNAVAILABLE });
    }
    await send(kind, { target, tls: clientFiles("trusted", "trusted") }, kind.report(3));
    await counted(3);
  });

  test("takes up replaced files with the next connection; calls on connections there go on", async () => {
    const { install, tls } = files("trusted");
    const { log, lines } = recordingLog();
    const { address, counted } = run(kind, { tls }, log);
    const old: GrpcTarget = { target: await address(), tls: clientFiles("trusted", "trusted") };
    const now: GrpcTarget = { ...old, tls: clientFiles("stranger", "stranger") };
    const channel = openChannel(old, { "grpc.use_local_subchannel_pool": 1 });
    closing.push(() => channel.close());
    const { push, finish } = caller(channel, kind, old);
    await push(1);
    await counted(1);
    install("stranger");
    await send(kind, now, kind.report(10));
    await counted(11);
    await expect(send(kind, old, kind.report(100))).rejects.toMatchObject({ code: status.UNAVAILABLE });
    await push(2);
    await counted(13);
    await finish();
    expect(lines.map(([event]) => event)).toEqual(["took up new TLS files"]);
  });

  test("keeps its files while a pair does not fit or is gone, and says so once", async () => {
    const { install, tls } = files("trusted");
    const { log, lines } = recordingLog();
    const { address, counted } = run(kind, { tls }, log);
    const target = { target: await address(), tls: clientFiles("trusted", "trusted") };
    copyFileSync(pem("stranger-server.pem"), tls.certFile);
    for (let round = 0; round < 3; round++) await send(kind, target, kind.report(1));
    unlinkSync(tls.keyFile);
    await send(kind, target, kind.report(1));
    await counted(4);
    expect(lines.map(([event]) => event)).toEqual(Array(2).fill("cannot take up new TLS files"));
    expect(lines[0]?.[1]).toMatchObject({ cause: expect.stringMatching(/key values mismatch/i) });
    install("stranger");
    await send(kind, { ...target, tls: clientFiles("stranger", "stranger") }, kind.report(1));
    await counted(5);
  });

  test("does not listen without its files, says so, and listens once they are there", async () => {
    const { install, tls } = files("trusted");
    unlinkSync(tls.keyFile);
    const { log, lines } = recordingLog();
    const clock = virtualClock(0n);
    const { source, gaps } = run(kind, { tls }, log, clock);
    while (lines.length === 0) await new Promise((resolve) => setImmediate(resolve));
    expect(gaps[0]?.reason).toContain(
      `Cannot listen on 127.0.0.1:0 with TLS: Cannot read ${tls.keyFile}: there is no such file`,
    );
    expect(lines[0]?.[1]).toMatchObject({ hint: expect.stringContaining("keyFile") });
    install("trusted");
    await new Promise((resolve) => setImmediate(resolve));
    await clock.advance(5e9);
    expect(await source.listening).toBeGreaterThan(0);
  });
});

/** Files of a listener that asks for client certificates; copies of a fixture's. */
function files(name: string) {
  const at = folder();
  const tls = { certFile: join(at, "cert"), keyFile: join(at, "key"), clientCaFile: join(at, "ca") };
  const install = (authority: string): void => {
    copyFileSync(pem(`${authority}-server.pem`), tls.certFile);
    copyFileSync(pem(`${authority}-server.key`), tls.keyFile);
    copyFileSync(pem(`${authority}-ca.pem`), tls.clientCaFile);
  };
  install(name);
  return { tls, install };
}

/** Reports over one connection: a stream that stays open, or call after call. */
function caller(channel: ReturnType<typeof openChannel>, kind: ReceiverKind, target: GrpcTarget) {
  if (!kind.stream) {
    const push = async (tokens: number): Promise<void> =>
      void (await sendOn(channel, kind, target, kind.report(tokens)));
    return { push, finish: async () => {} };
  }
  const stream = openStream(channel, kind, target);
  const push = async (tokens: number): Promise<void> => void stream.write(kind.report(tokens));
  const finish = async (): Promise<void> => {
    stream.end();
    await stream.answer;
  };
  return { push, finish };
}

describe.each(receiverKinds)("$name with a token", (kind) => {
  test("takes nothing without it, and the new one once it was replaced", async () => {
    const bearerFile = join(folder(), "token");
    writeFileSync(bearerFile, "right\n");
    const { address, counted } = run(kind, { bearerFile });
    const target = await address();
    const say = (token: string | undefined, tokens: number): Promise<Buffer> => {
      const headers = token === undefined ? {} : { authorization: token };
      return send(kind, { target, headers }, kind.report(tokens));
    };
    for (const wrong of [undefined, "right", "Bearer wrong", "Bearer ", "Bearer right "])
      await expect(say(wrong, 1)).rejects.toMatchObject({ code: status.UNAUTHENTICATED });
    await say("Bearer right", 2);
    writeFileSync(bearerFile, "newer");
    await expect(say("Bearer right", 1)).rejects.toMatchObject({ code: status.UNAUTHENTICATED });
    await say("Bearer newer", 3);
    await counted(5);
  });

  test("lets nobody in while its file is gone or empty, and goes on", async () => {
    const bearerFile = join(folder(), "token");
    writeFileSync(bearerFile, "right");
    const { log, lines } = recordingLog();
    const { address, counted } = run(kind, { bearerFile }, log);
    const target = { target: await address(), headers: { authorization: "Bearer right" } };
    unlinkSync(bearerFile);
    await expect(send(kind, target, kind.report(1))).rejects.toMatchObject({ code: status.UNAVAILABLE });
    expect(lines[0]).toMatchObject(["callers cannot be checked", { hint: "bearerFile must be readable" }]);
    writeFileSync(bearerFile, "");
    const empty = { ...target, headers: { authorization: "Bearer " } };
    for (const one of [target, empty])
      await expect(send(kind, one, kind.report(1))).rejects.toMatchObject({ code: status.UNAUTHENTICATED });
    writeFileSync(bearerFile, "right");
    await send(kind, target, kind.report(4));
    await counted(4);
  });
});

test("a stream that was let in is not cut when its token is replaced", async () => {
  const kind = receiverKinds.find(({ stream }) => stream) as ReceiverKind;
  const bearerFile = join(folder(), "token");
  writeFileSync(bearerFile, "right");
  const { address, counted } = run(kind, { bearerFile });
  const target = { target: await address(), headers: { authorization: "Bearer right" } };
  const channel = openChannel(target);
  closing.push(() => channel.close());
  const stream = openStream(channel, kind, target);
  stream.write(kind.report(1));
  await counted(1);
  writeFileSync(bearerFile, "other");
  stream.write(kind.report(2));
  await counted(3);
  stream.end();
  await stream.answer;
});

describe.each(receiverKinds)("$name on a unix socket", (kind) => {
  test("is for its user and group, with TLS too", async () => {
    const path = join(folder(), "s");
    const { address, counted } = run(kind, { endpoint: `unix:${path}` });
    const target = await address();
    expect(statSync(path).mode & 0o777).toBe(0o660);
    await send(kind, { target }, kind.report(5));
    await counted(5);
    const secure = run(kind, { endpoint: `unix:${path}.tls`, tls: listens("trusted", "trusted") });
    const tls = clientFiles("trusted", "trusted");
    await send(kind, { target: await secure.address(), tls }, kind.report(6), {
      "grpc.ssl_target_name_override": "localhost",
    });
    await secure.counted(6);
  });

  test("takes the place of a socket nobody listens on, and of no other", async () => {
    const path = join(folder(), "s");
    // A socket file outlives a process that was killed; here one that moved away from its name.
    const dead = createServer();
    await new Promise<void>((resolve) => dead.listen(`${path}.a`, resolve));
    renameSync(`${path}.a`, path);
    await new Promise<void>((resolve) => dead.close(() => resolve()));
    expect(statSync(path).isSocket()).toBe(true);
    const first = run(kind, { endpoint: `unix:${path}` });
    await send(kind, { target: await first.address() }, kind.report(1));
    await first.counted(1);
    const second = run(kind, { endpoint: `unix:${path}` });
    while (second.gaps.length === 0) await new Promise((resolve) => setImmediate(resolve));
    expect(second.gaps[0]?.reason).toContain("EADDRINUSE");
    await send(kind, { target: await first.address() }, kind.report(1));
    await first.counted(2);
  });
});

test.each([
  ["unix:/nonexistent/s", "EACCES", "the folder of a socket must exist"],
  ["203.0.113.1:4317", "EADDRNOTAVAIL", "this host has no such address"],
])("says why it cannot listen on %s", async (endpoint, code, hint) => {
  const { log, lines } = recordingLog();
  const { gaps } = run(receiverKinds[0] as ReceiverKind, { endpoint, tls: listens("trusted") }, log);
  while (lines.length === 0) await new Promise((resolve) => setImmediate(resolve));
  expect(gaps[0]?.reason).toContain(`Cannot listen on ${endpoint}: `);
  expect(lines[0]?.[1]).toMatchObject({
    cause: expect.stringContaining(code),
    hint: expect.stringContaining(hint),
  });
});

test("localhost is every address of that name, on one port", async () => {
  const kind = receiverKinds[0] as ReceiverKind;
  const { source, counted } = run(kind, { endpoint: "localhost:0" });
  const port = await source.listening;
  const addresses = await lookup("localhost", { all: true });
  expect(addresses.length).toBeGreaterThan(0);
  for (const [index, { address, family }] of addresses.entries()) {
    await send(kind, { target: `${family === 6 ? `[${address}]` : address}:${port}` }, kind.report(1));
    await counted(index + 1);
  }
});
