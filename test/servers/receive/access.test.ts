// Who called a receiver, as the audit record will say it: by certificate, token, user or address, with what became of each
// call; and that two certificates are two callers, over real TLS.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import type { GrpcTarget } from "../../../agent/platform/grpc.ts";
import { openChannel, status } from "../../../agent/platform/grpc.ts";
import type { FakeCertificate } from "../../fakes/certificates.ts";
import { fakeCertificate } from "../../fakes/certificates.ts";
import type { ReceiverKind } from "../../fakes/receivers.ts";
import { openStream, receiverKinds, runReceiver, send, usageReport } from "../../fakes/receivers.ts";

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), "tokenwatt-access-"));
  closing.push(() => rmSync(path, { recursive: true, force: true }));
  return path;
}
function run(...receiver: Parameters<typeof runReceiver>) {
  const running = runReceiver(...receiver);
  closing.push(() => running.source.close());
  return running;
}
const kindOf = (name: string): ReceiverKind =>
  receiverKinds.find((kind) => kind.name === name) as ReceiverKind;
const usage = kindOf("usage-reports");
const streams = kindOf("envoy-access-log");
const user = `loopback uid ${process.getuid?.()}`;

/** A receiver that wants client certificates, and what clients of two names show it. */
async function overTls(kind: ReceiverKind) {
  const path = folder();
  const authority = fakeCertificate("authority");
  const write = (name: string, { cert, key }: FakeCertificate) => {
    writeFileSync(join(path, `${name}.pem`), cert);
    writeFileSync(join(path, `${name}.key`), key);
    return { certFile: join(path, `${name}.pem`), keyFile: join(path, `${name}.key`) };
  };
  const { certFile: caFile } = write("ca", authority);
  const server = write("server", fakeCertificate("here", { addresses: ["127.0.0.1"], issuer: authority }));
  const client = (file: string, name: string) => write(file, fakeCertificate(name, { issuer: authority }));
  const running = run(kind, { tls: { ...server, clientCaFile: caFile } });
  const target = await running.address();
  const as = (file: string, name: string): GrpcTarget => ({
    target,
    tls: { caFile, ...client(file, name) },
  });
  return { running, as };
}

describe("a client certificate", () => {
  test("is who the caller is: ids of two are told apart, a renewed one of the same subject is the same", async () => {
    const { as, running } = await overTls(usage);
    const [one, other, renewed] = [as("a", "gateway-a"), as("b", "gateway-b"), as("c", "gateway-a")];
    await send(usage, one, usageReport("r1", 5));
    await running.counted(5);
    // The same id with other content: another's record, but a contradiction by the same caller.
    await send(usage, other, usageReport("r1", 70));
    await running.counted(75);
    await send(usage, renewed, usageReport("r1", 900));
    await running.counted(75);
    expect(running.source.takeAccess?.()).toEqual([
      { caller: "certificate CN=gateway-a", result: "ok", calls: 2 },
      { caller: "certificate CN=gateway-b", result: "ok", calls: 1 },
    ]);
  });

  test("gives streams of two callers series and shares of their own", async () => {
    const { as, running } = await overTls(streams);
    await send(streams, as("a", "gateway-a"), streams.report(3));
    await send(streams, as("b", "gateway-b"), streams.report(4));
    await running.counted(7);
    const access = running.source.takeAccess?.() ?? [];
    expect(access.map(({ caller, result }) => [caller, result])).toEqual([
      ["certificate CN=gateway-a", "ok"],
      ["certificate CN=gateway-b", "ok"],
    ]);
  });
});

describe("what became of calls", () => {
  test("is counted by caller: answered, without the token, malformed", async () => {
    const bearerFile = join(folder(), "token");
    writeFileSync(bearerFile, "secret of the gateway\n");
    const { address, source } = run(usage, { bearerFile });
    const target = await address();
    const good = { target, bearerFile };
    await expect(send(usage, { target }, usage.report(1))).rejects.toMatchObject({
      code: status.UNAUTHENTICATED,
    });
    await send(usage, good, usage.report(1));
    await expect(send(usage, good, Buffer.from([0xff]))).rejects.toMatchObject({
      code: status.INVALID_ARGUMENT,
    });
    const access = (source.takeAccess?.() ?? []).map((one) => JSON.stringify(one));
    // The first eight digits of `printf "secret of the gateway" | sha256sum`, and nothing of the token.
    const name = "bearer:d7f2339e";
    expect(access).toEqual([
      JSON.stringify({ caller: user, result: "unauthenticated", calls: 1 }),
      JSON.stringify({ caller: name, result: "ok", calls: 1 }),
      JSON.stringify({ caller: name, result: "malformed", calls: 1 }),
    ]);
  });

  test("is refused over a bound, and broken where the caller leaves", async () => {
    const { address, counted, source } = run(streams, { streamsMax: 1 });
    const target = { target: await address() };
    const channel = openChannel(target, { "grpc.use_local_subchannel_pool": 1 });
    closing.push(() => channel.close());
    const first = openStream(channel, streams, target);
    first.write(streams.report(2));
    await counted(2);
    await expect(send(streams, target, streams.report(1))).rejects.toMatchObject({
      code: status.UNAVAILABLE,
    });
    expect(source.takeAccess?.()).toEqual([
      { caller: user, result: "ok", calls: 1 },
      { caller: user, result: "refused", calls: 1 },
    ]);
    expect(source.takeAccess?.()).toEqual([]);
  });
});
