// TLS and mTLS to a destination, and certificates that are replaced while the agent runs. Needs openssl for the keys.
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { serveHttp } from "../../../agent/export/http.ts";
import { ServerCredentials } from "../../../agent/grpc.ts";
import { silentLog } from "../../../agent/log.ts";
import { startCollector } from "../../fakes/otlp-collector.ts";
import { authority, hasOpenssl } from "../../tools/authority.ts";
import { FLAWLESS, Oracle } from "./oracle.ts";
import { startRig } from "./rig.ts";

const folder = mkdtempSync(join(tmpdir(), "tls-"));
const installed = hasOpenssl();
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function serverCredentials(name: string, clients: string | undefined): ServerCredentials {
  const read = (file: string): Buffer => readFileSync(join(folder, file));
  const pair = { private_key: read(`${name}-server.key`), cert_chain: read(`${name}-server.pem`) };
  return ServerCredentials.createSsl(
    clients === undefined ? null : read(`${clients}-ca.pem`),
    [pair],
    clients !== undefined,
  );
}

/** Puts an authority's client files where the agent is configured to look. */
function install(name: string): void {
  for (const [from, to] of [
    [`${name}-ca.pem`, "ca.pem"],
    [`${name}-client.pem`, "cert.pem"],
    [`${name}-client.key`, "key.pem"],
  ] as const) {
    copyFileSync(join(folder, from), join(folder, to));
  }
}

describe.skipIf(!installed)("a destination over TLS", () => {
  test("mTLS delivers, a stranger's certificate does not, and rotated files are taken up without a restart", async () => {
    authority(folder, "old");
    authority(folder, "new");
    install("old");
    const first = await startCollector({ credentials: serverCredentials("old", "old") });
    const tls = {
      caFile: join(folder, "ca.pem"),
      certFile: join(folder, "cert.pem"),
      keyFile: join(folder, "key.pem"),
    };
    const rig = await startRig({ main: { target: `127.0.0.1:${first.port}`, tls } });
    await rig.run(10);
    expect(await rig.drained()).toBe(true);
    expect(first.requests).toHaveLength(10);
    await first.close();
    const second = await startCollector({
      listen: `127.0.0.1:${first.port}`,
      credentials: serverCredentials("new", "new"),
    });
    await rig.run(10);
    expect(await rig.senders.get("main")?.flush(600)).toBe(false);
    expect(second.requests).toHaveLength(0);
    install("new");
    expect(await rig.drained()).toBe(true);
    const oracle = new Oracle(rig.start);
    for (const request of [...first.requests, ...second.requests]) oracle.accept(request);
    const verdict = oracle.verdict(rig.beats.length, rig.beats);
    console.log(`certificate rotated: lost ${verdict.lostTokens}, doubled ${verdict.doubledTokens}`);
    expect(verdict).toEqual(FLAWLESS);
    await rig.close();
    await second.close();
  });

  test("without a client certificate an mTLS collector takes nothing", async () => {
    authority(folder, "alone");
    const collector = await startCollector({ credentials: serverCredentials("alone", "alone") });
    const rig = await startRig({
      main: { target: `127.0.0.1:${collector.port}`, tls: { caFile: join(folder, "alone-ca.pem") } },
    });
    await rig.run(2);
    expect(await rig.senders.get("main")?.flush(500)).toBe(false);
    expect(collector.seen()).toBe(0);
    await rig.close();
    await collector.close();
  });
});

describe.skipIf(!installed)("the agent's endpoints over TLS", () => {
  test("answer only peers of the client authority, and take up rotated files", async () => {
    authority(folder, "one");
    authority(folder, "two");
    const install = (name: string): void => {
      for (const ending of ["pem", "key"])
        copyFileSync(join(folder, `${name}-server.${ending}`), join(folder, `listen.${ending}`));
      copyFileSync(join(folder, `${name}-ca.pem`), join(folder, "clients.pem"));
    };
    install("one");
    const endpoint = await serveHttp({
      listen: "127.0.0.1:0",
      log: silentLog,
      tls: {
        certFile: join(folder, "listen.pem"),
        keyFile: join(folder, "listen.key"),
        clientCaFile: join(folder, "clients.pem"),
      },
      metrics: () => ({ type: "text/plain", text: "up 1\n" }),
      healthy: () => true,
      ready: () => true,
      status: () => ({}),
    });
    const ask = (name: string | undefined, trust: string): Promise<number | string> =>
      new Promise((resolve) => {
        const read = (file: string): Buffer => readFileSync(join(folder, file));
        const identity =
          name === undefined ? {} : { cert: read(`${name}-client.pem`), key: read(`${name}-client.key`) };
        const options = { ca: read(`${trust}-ca.pem`), ...identity, agent: false as const };
        request(`https://${endpoint.address}/metrics`, options, (response) => {
          response.resume();
          resolve(response.statusCode ?? 0);
        })
          .on("error", (error) => resolve(error.message))
          .end();
      });
    expect(await ask("one", "one")).toBe(200);
    expect(typeof (await ask(undefined, "one"))).toBe("string");
    expect(typeof (await ask("two", "one"))).toBe("string");
    install("two");
    expect(await ask("two", "two")).toBe(200);
    expect(typeof (await ask("one", "two"))).toBe("string");
    await endpoint.close();
  });

  test("a missing file is said clearly", async () => {
    const tls = { certFile: "/nonexistent.pem", keyFile: "/nonexistent.key" };
    const never = {
      metrics: () => ({ type: "", text: "" }),
      healthy: () => true,
      ready: () => true,
      status: () => ({}),
    };
    await expect(serveHttp({ listen: "127.0.0.1:0", log: silentLog, tls, ...never })).rejects.toThrow(
      /Cannot listen on .* with TLS: .*nonexistent/,
    );
  });
});
