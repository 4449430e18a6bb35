// TLS and mTLS of destinations, endpoints, receivers and tails, and certificates that are replaced while the agent runs.
// Needs openssl for the keys.
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { serveHttp } from "../../../agent/export/http.ts";
import { Increments } from "../../../agent/meter/counters/increments.ts";
import { systemClock } from "../../../agent/platform/clock.ts";
import type { GrpcTarget } from "../../../agent/platform/grpc.ts";
import { openChannel, ServerCredentials } from "../../../agent/platform/grpc.ts";
import { silentLog } from "../../../agent/platform/log.ts";
import { tokenCounters } from "../../../agent/servers/token-counters/index.ts";
import { serveTokenCounters } from "../../../agent/servers/token-counters/server.ts";
import type { PushServerSource } from "../../../agent/source.ts";
import { feedOf } from "../../export/page/feeds.ts";
import { startCollector } from "../../fakes/otlp-collector.ts";
import type { ReceiverKind } from "../../fakes/receivers.ts";
import { openStream, receiverKinds, runReceiver, send } from "../../fakes/receivers.ts";
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
      metrics: () => ({ type: "text/plain", bytes: Buffer.from("up 1\n") }),
      unhealthy: () => undefined,
      ready: () => true,
      status: () => ({}),
      feed: feedOf(),
      page: true,
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
      metrics: () => ({ type: "", bytes: Buffer.alloc(0) }),
      unhealthy: () => undefined,
      ready: () => true,
      status: () => ({}),
      feed: feedOf(),
      page: true,
    };
    await expect(serveHttp({ listen: "127.0.0.1:0", log: silentLog, tls, ...never })).rejects.toThrow(
      /Cannot listen on .* with TLS: .*nonexistent/,
    );
  });
});

describe.skipIf(!installed)("receivers and tails over TLS", () => {
  const ROUNDS = 6;
  const names = Array.from({ length: ROUNDS }, (_, round) => `round-${round}`);

  test.each(receiverKinds)("$name goes on over certificates that are renewed under load", async (kind) => {
    for (const name of names) authority(folder, name);
    const at = (file: string): string => join(folder, `${kind.name}-${file}`);
    const tls = { certFile: at("cert"), keyFile: at("key"), clientCaFile: at("clients") };
    const own = { caFile: at("ca"), certFile: at("own-cert"), keyFile: at("own-key") };
    const put = (from: string, to: string): void => copyFileSync(join(folder, from), to);
    const renew = (name: string): void => {
      put(`${name}-server.pem`, tls.certFile);
      put(`${name}-server.key`, tls.keyFile);
      put(`${name}-ca.pem`, tls.clientCaFile);
      put(`${name}-ca.pem`, own.caFile);
      put(`${name}-client.pem`, own.certFile);
      put(`${name}-client.key`, own.keyFile);
    };
    renew(names[0] as string);
    const running = runReceiver(kind, { tls, messagesPerSecondMax: 100_000 });
    const target = { target: await running.address(), tls: own };
    const [sent, refused] = await underLoad(kind, target, async () => {
      for (const name of names) {
        renew(name);
        await new Promise((resolve) => setTimeout(resolve, 500));
      }
    });
    await running.counted(sent);
    console.log(
      `${kind.name}: ${sent} reported over ${ROUNDS} authorities, ${refused} calls tried again, none lost`,
    );
    expect(sent).toBeGreaterThan(20);
    await running.source.close();
  });

  test("Watch reads every count of a server whose authority changes again and again", async () => {
    for (const name of names) authority(folder, name);
    const clock = systemClock();
    let output = 0;
    const read = () => [
      { epochId: "e", counters: [{ model: "m", tokens: [{ kind: "output" as const, tokens: ++output }] }] },
    ];
    install(names[0] as string);
    const tls = {
      caFile: join(folder, "ca.pem"),
      certFile: join(folder, "cert.pem"),
      keyFile: join(folder, "key.pem"),
    };
    const credentials = (name: string): ServerCredentials => serverCredentials(name, name);
    let server = await serveTokenCounters("127.0.0.1:0", { clock, read }, credentials(names[0] as string));
    const signal = new AbortController().signal;
    const entry = tokenCounters.config.parse({ endpoint: server.address, tls, pollMs: 100 });
    const source = tokenCounters.open(entry, { clock, log: silentLog, signal }) as PushServerSource;
    const increments = new Increments({ agentStarted: clock.now() });
    let [counted, first, last, samples] = [0, 0, 0, 0];
    const running = source.run(async (reading) => {
      if ("reason" in reading) return;
      samples++;
      last = reading.readings[0]?.tokens.output ?? 0;
      first ||= last;
      for (const one of increments.countSample(reading).increments) counted += one.tokens.output ?? 0;
    });
    for (const name of names) {
      await server.close();
      install(name);
      server = await serveTokenCounters(entry.endpoint, { clock, read }, credentials(name));
      const before = samples;
      while (samples < before + 3) await new Promise((resolve) => setTimeout(resolve, 50));
    }
    await source.close();
    await running;
    await server.close();
    expect(counted).toBe(last - first);
    console.log(`Watch: ${counted} tokens over ${ROUNDS} authorities, none lost or doubled`);
  });
});

/** Reports one token after the other until `during` is over; calls are tried again until they are taken. */
async function underLoad(
  kind: ReceiverKind,
  target: GrpcTarget,
  during: () => Promise<void>,
): Promise<[sent: number, refused: number]> {
  let [sent, refused, over] = [0, 0, false];
  const load = kind.stream ? stream() : Promise.all(Array.from({ length: 8 }, calls));
  await during();
  over = true;
  await load;
  return [sent, refused];

  async function stream(): Promise<void> {
    const channel = openChannel(target);
    const open = openStream(channel, kind, target);
    for (; !over; sent++) {
      open.write(kind.report(1));
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    open.end();
    await open.answer;
    channel.close();
  }

  async function calls(): Promise<void> {
    while (!over) {
      const report = kind.report(1);
      const taken = (): Promise<boolean> =>
        send(kind, target, report).then(
          () => true,
          () => false,
        );
      while (!(await taken())) refused++;
      sent++;
    }
  }
}
