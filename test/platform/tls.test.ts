// Files of a listener that are replaced while it serves, over real sockets with certificates of test/fixtures/tls.
import { copyFileSync, mkdtempSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TLSSocket } from "node:tls";
import { connect, createServer } from "node:tls";
import { afterEach, describe, expect, test } from "vitest";
import type { Facts, Log } from "../../agent/platform/log.ts";
import { silentLog } from "../../agent/platform/log.ts";
import { callTls, expiredCertificate, serveTls } from "../../agent/platform/tls.ts";
import { fakeCertificate } from "../fakes/certificates.ts";
import { pem } from "../fakes/tls-files.ts";

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

/** A TLS server whose files are copies of a fixture's; `install` replaces them. */
async function serve() {
  const folder = mkdtempSync(join(tmpdir(), "tokenwatt-tls-"));
  closing.push(() => rmSync(folder, { recursive: true }));
  const tls = { certFile: join(folder, "cert.pem"), keyFile: join(folder, "key.pem") };
  const install = (certificate: string, key = certificate): void => {
    copyFileSync(pem(`${certificate}-server.pem`), tls.certFile);
    copyFileSync(pem(`${key}-server.key`), tls.keyFile);
  };
  install("trusted");
  const lines: [string, Facts | undefined][] = [];
  const note = (event: string, facts?: Facts): void => void lines.push([event, facts]);
  const log: Log = { ...silentLog, info: note, error: note };
  const server = serveTls(tls, log, (files) => createServer(files, (socket) => socket.on("error", () => {})));
  server.on("tlsClientError", () => {});
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closing.push(() => server.close());
  /** Connects and says who the server is. */
  const visit = (): Promise<TLSSocket> =>
    new Promise((resolve, reject) => {
      const { port } = server.address() as AddressInfo;
      const socket = connect({ port, host: "127.0.0.1", rejectUnauthorized: false }, () => resolve(socket));
      socket.on("error", reject);
      closing.push(() => socket.destroy());
    });
  const nameOf = (socket: TLSSocket): string => String(socket.getPeerCertificate().subject.CN);
  return { tls, install, lines, visit, nameOf };
}

describe("serveTls()", () => {
  test("takes up replaced files with the next connection and keeps those there", async () => {
    const { install, lines, visit, nameOf } = await serve();
    const before = await visit();
    expect(nameOf(before)).toBe("trusted-server");
    install("stranger");
    expect(nameOf(await visit())).toBe("stranger-server");
    expect(before.destroyed).toBe(false);
    expect(lines.map(([event]) => event)).toEqual(["took up new TLS files"]);
  });

  test("keeps the files in use, and says so once, while a pair does not fit or is gone", async () => {
    const { tls, install, lines, visit, nameOf } = await serve();
    install("stranger", "trusted");
    for (let visits = 0; visits < 3; visits++) expect(nameOf(await visit())).toBe("trusted-server");
    expect(lines).toHaveLength(1);
    expect(lines[0]?.[0]).toBe("cannot take up new TLS files");
    expect(lines[0]?.[1]).toMatchObject({ hint: expect.stringContaining("still in use") });
    unlinkSync(tls.keyFile);
    for (let visits = 0; visits < 2; visits++) expect(nameOf(await visit())).toBe("trusted-server");
    expect(lines).toHaveLength(2);
    expect(lines[1]?.[1]).toMatchObject({ cause: expect.stringContaining("there is no such file") });
    install("stranger");
    expect(nameOf(await visit())).toBe("stranger-server");
  });
});

describe("filesState()", () => {
  test("tells a path that cannot be looked at from one that can, and does not throw", async () => {
    const { tls, install, lines, visit, nameOf } = await serve();
    unlinkSync(tls.keyFile);
    symlinkSync(tls.keyFile, tls.keyFile);
    expect(nameOf(await visit())).toBe("trusted-server");
    expect(lines.map(([event]) => event)).toEqual(["cannot take up new TLS files"]);
    unlinkSync(tls.keyFile);
    install("stranger");
    expect(nameOf(await visit())).toBe("stranger-server");
  });
});

describe("callTls", () => {
  test("wants certFile and keyFile together", () => {
    expect(callTls.safeParse({ caFile: "/ca" }).success).toBe(true);
    expect(callTls.safeParse({ certFile: "/c", keyFile: "/k" }).success).toBe(true);
    for (const [half, missing] of [
      [{ certFile: "/c" }, "keyFile"],
      [{ keyFile: "/k" }, "certFile"],
    ] as const)
      expect(callTls.safeParse(half).error?.issues[0]?.path).toEqual([missing]);
  });
});

test("a listener names callers whose client certificate it refuses, which see a closed connection alone", async () => {
  const folder = mkdtempSync(join(tmpdir(), "tokenwatt-tls-"));
  closing.push(() => rmSync(folder, { recursive: true }));
  const authority = fakeCertificate("authority");
  const show = fakeCertificate("localhost", { issuer: authority, names: ["localhost"] });
  const files = { certFile: join(folder, "c"), keyFile: join(folder, "k"), clientCaFile: join(folder, "ca") };
  writeFileSync(files.certFile, show.cert);
  writeFileSync(files.keyFile, show.key);
  writeFileSync(files.clientCaFile, authority.cert);
  const causes: unknown[] = [];
  const log: Log = { ...silentLog, warn: (_, facts) => causes.push(facts?.["cause"]) };
  const server = serveTls(files, log, (options) => createServer(options, (socket) => socket.end()));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closing.push(() => server.close());
  const { port } = server.address() as AddressInfo;
  const expired = fakeCertificate("client", { issuer: authority, until: Date.now() - 86_400_000 });
  const callers = [
    expired,
    fakeCertificate("stranger"),
    undefined,
    fakeCertificate("fine", { issuer: authority }),
  ];
  for (const caller of callers) {
    const identity = caller === undefined ? {} : { cert: caller.cert, key: caller.key };
    const socket = connect({
      port,
      host: "127.0.0.1",
      ca: authority.cert,
      servername: "localhost",
      ...identity,
    });
    await new Promise<void>((resolve) =>
      socket
        .on("error", () => {})
        .on("close", () => resolve())
        .resume(),
    );
  }
  expect(causes).toEqual([
    "its client certificate has expired",
    expect.stringMatching(/its client certificate is not of clientCaFile/),
    "it showed no client certificate",
  ]);
});

test("expiredCertificate() names the file and the day, and is silent while it is valid or cannot be read", () => {
  const folder = mkdtempSync(join(tmpdir(), "tokenwatt-tls-"));
  closing.push(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "own.pem");
  const until = Date.UTC(2026, 2, 4, 12);
  writeFileSync(file, fakeCertificate("own", { until }).cert);
  expect(expiredCertificate(file, until + 1)).toBe(`our client certificate ${file} expired on 2026-03-04`);
  expect(expiredCertificate(file, until - 1)).toBeUndefined();
  expect(expiredCertificate(join(folder, "absent"), until)).toBeUndefined();
  expect(expiredCertificate(undefined, until)).toBeUndefined();
});
