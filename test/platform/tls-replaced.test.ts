// TLS files that are replaced the moment after they were read: whoever noted their state after reading them would keep the
// old ones for good. The real files and sockets; only the moment is made.
import { copyFileSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "node:tls";
import { afterEach, expect, test, vi } from "vitest";
import { serveHttp } from "../../agent/export/http.ts";
import { createPageFetcher } from "../../agent/page/fetch.ts";
import { systemClock } from "../../agent/platform/clock.ts";
import { silentLog } from "../../agent/platform/log.ts";
import { readTls } from "../../agent/platform/tls.ts";
import { feedOf } from "../export/page/feeds.ts";
import { pem } from "../fakes/tls-files.ts";

let afterRead: (path: unknown) => void = () => {};
vi.mock("../../agent/platform/files.ts", async (original) => {
  const real = await original<typeof import("../../agent/platform/files.ts")>();
  const readFileOf = (...parts: Parameters<typeof real.readFileOf>): Buffer => {
    const bytes = real.readFileOf(...parts);
    afterRead(parts[0]);
    return bytes;
  };
  return { ...real, readFileOf };
});

const closing: (() => unknown)[] = [];
afterEach(async () => {
  afterRead = () => {};
  for (const close of closing.splice(0).reverse()) await close();
});

function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "tokenwatt-replaced-"));
  closing.push(() => rmSync(folder, { recursive: true }));
  return folder;
}

/** Puts a file of test/fixtures/tls in place as another file: the two may have one size and one time. */
function install(name: string, path: string): void {
  copyFileSync(pem(name), `${path}.new`);
  renameSync(`${path}.new`, path);
}

/** Calls `replace` the moment after a file was read for the `times`-th time. */
function replaceAfter(path: string, times: number, replace: () => void): void {
  let left = times;
  afterRead = (read) => {
    if (read === path && --left === 0) replace();
  };
}

test("a caller sees with its next page that its files were replaced after it read them", async () => {
  const pair = { certFile: pem("trusted-server.pem"), keyFile: pem("trusted-server.key") };
  const server = createServer(readTls(pair), (_, response) => response.end("a 1\n"));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closing.push(() => {
    server.close();
    server.closeAllConnections();
  });
  const caFile = join(temporaryFolder(), "ca.pem");
  install("stranger-ca.pem", caFile);
  replaceAfter(caFile, 1, () => install("trusted-ca.pem", caFile));
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}/metrics`;
  const fetcher = createPageFetcher({ url, tls: { caFile } }, { clock: systemClock() });
  closing.push(() => fetcher.close());
  expect(await fetcher.fetch(({ body }) => body.toString())).toBe("a 1\n");
});

test("a listener shows its next caller that its files were replaced after it read them", async () => {
  const folder = temporaryFolder();
  const tls = { certFile: join(folder, "cert.pem"), keyFile: join(folder, "key.pem") };
  const installBoth = (name: string): void => {
    install(`${name}-server.pem`, tls.certFile);
    install(`${name}-server.key`, tls.keyFile);
  };
  installBoth("trusted");
  replaceAfter(tls.keyFile, 1, () => installBoth("stranger"));
  const no = (): never => {
    throw new Error("nobody asks");
  };
  const { address, close } = await serveHttp({
    listen: "127.0.0.1:0",
    log: silentLog,
    tls,
    metrics: no,
    unhealthy: no,
    ready: no,
    status: no,
    feed: feedOf(),
    page: true,
  });
  closing.push(close);
  const port = Number(address.split(":")[1]);
  const name = await new Promise((resolve, reject) => {
    const socket = connect({ port, host: "127.0.0.1", rejectUnauthorized: false }, () =>
      resolve(socket.getPeerCertificate().subject.CN),
    );
    socket.on("error", reject);
    closing.push(() => socket.destroy());
  });
  expect(name).toBe("stranger-server");
});
