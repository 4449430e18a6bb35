// The transport against a fake collector over a real socket: each kind of answer becomes the right Delivery.
import { mkdtempSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { createOtlpEncoder } from "../../../agent/export/otlp/encoder.ts";
import type { Delivery, Transport } from "../../../agent/export/otlp/transport.ts";
import { grpcTransport } from "../../../agent/export/otlp/transport.ts";
import { status } from "../../../agent/platform/grpc.ts";
import type { Answer, CollectorOptions, FakeCollector } from "../../fakes/otlp-collector.ts";
import { startCollector } from "../../fakes/otlp-collector.ts";
import { clientFiles, serverCredentials } from "../../fakes/tls-files.ts";
import { decode } from "../otlp-decode.ts";
import { bulk } from "../snapshots.ts";

const open: { close(): unknown }[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});

async function collector(options: CollectorOptions = {}): Promise<FakeCollector> {
  const fake = await startCollector(options);
  open.push(fake);
  return fake;
}

function transport(port: number, options = { gzip: false }, headers = {}): Transport {
  const made = grpcTransport({ target: `127.0.0.1:${port}`, headers }, options);
  open.push(made);
  return made;
}

function request(points: number): Uint8Array {
  const [entry] = createOtlpEncoder({ resource: { "service.name": "tokenwatt" }, version: "0" }).encode(
    bulk(points),
  );
  return entry?.bytes ?? new Uint8Array(0);
}

async function answered(answer: Answer): Promise<Delivery> {
  const fake = await collector({ answer: () => answer });
  return transport(fake.port).send(request(3), new AbortController().signal);
}

describe("grpcTransport()", () => {
  test("delivers the very bytes, with headers, plain and gzipped", async () => {
    const fake = await collector();
    const bytes = request(500);
    const signal = new AbortController().signal;
    expect(await transport(fake.port, { gzip: false }, { "x-scope": "gpu" }).send(bytes, signal)).toEqual({
      kind: "accepted",
    });
    expect(await transport(fake.port, { gzip: true }).send(bytes, signal)).toEqual({ kind: "accepted" });
    expect(fake.requests.map((one) => Buffer.from(one).equals(Buffer.from(bytes)))).toEqual([true, true]);
    expect(decode(fake.requests[1] as Uint8Array).points).toHaveLength(500);
    expect(fake.metadata[0]?.get("x-scope")).toEqual(["gpu"]);
    expect(fake.metadata[1]?.get("grpc-encoding")).toEqual([]);
  });

  test.each([
    [
      { kind: "partial", rejected: 2, message: "too old" },
      { kind: "partial", rejectedPoints: 2, message: "too old" },
    ],
    [
      { kind: "partial", rejected: 0, message: "only a warning" },
      { kind: "accepted", message: "only a warning" },
    ],
    [
      { kind: "error", code: status.UNAVAILABLE },
      { kind: "retry", code: "UNAVAILABLE", message: "told to fail" },
    ],
    [
      { kind: "error", code: status.UNAVAILABLE, retryAfterMs: 2_500 },
      { kind: "retry", code: "UNAVAILABLE", message: "told to fail", delayMs: 2_500 },
    ],
    [
      { kind: "error", code: status.RESOURCE_EXHAUSTED, retryAfterMs: 100 },
      { kind: "retry", code: "RESOURCE_EXHAUSTED", message: "told to fail", delayMs: 100 },
    ],
    [
      { kind: "error", code: status.RESOURCE_EXHAUSTED },
      { kind: "refused", code: "RESOURCE_EXHAUSTED", message: "told to fail" },
    ],
    [
      {
        kind: "error",
        code: status.RESOURCE_EXHAUSTED,
        message: "grpc: received message larger than max (5 vs. 4)",
      },
      { kind: "too_large", message: "grpc: received message larger than max (5 vs. 4)" },
    ],
    [
      { kind: "error", code: status.UNAUTHENTICATED, message: "the token has expired" },
      { kind: "refused", code: "UNAUTHENTICATED", message: "the token has expired" },
    ],
    [
      { kind: "error", code: status.UNAVAILABLE, message: "unable to get tenant" },
      { kind: "retry", code: "UNAVAILABLE", message: "unable to get tenant" },
    ],
    [
      { kind: "error", code: status.INVALID_ARGUMENT },
      { kind: "refused", code: "INVALID_ARGUMENT", message: "told to fail" },
    ],
    [
      { kind: "error", code: status.DATA_LOSS },
      { kind: "retry", code: "DATA_LOSS", message: "told to fail" },
    ],
    [
      { kind: "error", code: status.PERMISSION_DENIED, retryAfterMs: 100 },
      { kind: "refused", code: "PERMISSION_DENIED", message: "told to fail" },
    ],
    [{ kind: "taken_then_lost" }, { kind: "retry", code: "UNAVAILABLE", message: "answer lost" }],
  ] as [Answer, Delivery][])("turns %j into %j", async (answer, delivery) => {
    expect(await answered(answer)).toEqual(delivery);
  });

  test("knows a message over a real server's limit from one it may retry, compressed or not", async () => {
    const fake = await collector({ receiveBytesMax: 100_000 });
    for (const gzip of [false, true]) {
      const delivery = await transport(fake.port, { gzip }).send(
        request(1_000),
        new AbortController().signal,
      );
      expect(delivery.kind).toBe("too_large");
    }
    expect(fake.seen()).toBe(0);
  });

  test("ends a call nobody answers when told to", async () => {
    const fake = await collector({ answer: () => ({ kind: "silence" }) });
    const call = new AbortController();
    const pending = transport(fake.port).send(request(1), call.signal);
    setTimeout(() => call.abort(), 50);
    expect(await pending).toMatchObject({ kind: "retry", code: "CANCELLED" });
  });

  test("retries when nothing listens, and when the peer is no gRPC server", async () => {
    const fake = await collector();
    await fake.close();
    const signal = new AbortController().signal;
    expect(await transport(fake.port).send(request(1), signal)).toMatchObject({
      kind: "retry",
      code: "UNAVAILABLE",
    });
    const plain = createServer((socket) => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"));
    open.push(plain);
    await new Promise<void>((resolve) => plain.listen(0, "127.0.0.1", resolve));
    const { port } = plain.address() as { port: number };
    expect(await transport(port).send(request(1), signal)).toMatchObject({ kind: "retry" });
  });

  test("reads headers and token from their files anew for each request", async () => {
    const folder = mkdtempSync(join(tmpdir(), "headers-"));
    const [headersFile, bearerFile] = [join(folder, "headers"), join(folder, "token")];
    const fake = await collector();
    const made = grpcTransport(
      { target: `127.0.0.1:${fake.port}`, headersFile, bearerFile },
      { gzip: false },
    );
    open.push(made);
    for (const round of ["1", "2"]) {
      writeFileSync(headersFile, `x-scope-orgid: tenant-${round}\n\nx-other : a:b\n`);
      writeFileSync(bearerFile, `secret-${round}\n`);
      await made.send(request(1), new AbortController().signal);
    }
    const seen = (key: string) => fake.metadata.map((metadata) => metadata.get(key)[0]);
    expect(seen("x-scope-orgid")).toEqual(["tenant-1", "tenant-2"]);
    expect(seen("x-other")).toEqual(["a:b", "a:b"]);
    expect(seen("authorization")).toEqual(["Bearer secret-1", "Bearer secret-2"]);
    rmSync(folder, { recursive: true });
  });

  test("says which file is missing instead of throwing, and works once it is there", async () => {
    const made = grpcTransport(
      { target: "127.0.0.1:1", tls: { caFile: "/nonexistent/ca.pem" } },
      { gzip: false },
    );
    const delivery = await made.send(request(1), new AbortController().signal);
    expect(delivery).toMatchObject({ kind: "retry", code: "LOCAL" });
    expect((delivery as { message: string }).message).toContain("/nonexistent/ca.pem");
  });

  test.each(["bearerFile", "headersFile"])("tells no secret of a %s that cannot be sent", async (key) => {
    const folder = mkdtempSync(join(tmpdir(), "tokenwatt-transport-"));
    open.push({ close: () => rmSync(folder, { recursive: true }) });
    const file = join(folder, "file");
    writeFileSync(file, key === "bearerFile" ? "s3cret\nother" : "x-key: s3cret\u0007");
    const made = grpcTransport({ target: "127.0.0.1:1", [key]: file }, { gzip: false });
    open.push(made);
    const delivery = await made.send(request(1), new AbortController().signal);
    expect(delivery).toMatchObject({ kind: "retry", code: "LOCAL", message: expect.stringContaining(file) });
    expect(JSON.stringify(delivery)).not.toContain("s3cret");
  });

  test("delivers again once a file that was away is back as it was", async () => {
    const folder = mkdtempSync(join(tmpdir(), "tokenwatt-transport-"));
    open.push({ close: () => rmSync(folder, { recursive: true }) });
    const caFile = join(folder, "ca.pem");
    const link = (): void => symlinkSync(clientFiles("trusted").caFile, caFile);
    link();
    const fake = await collector({ credentials: serverCredentials("trusted") });
    const made = grpcTransport({ target: `127.0.0.1:${fake.port}`, tls: { caFile } }, { gzip: false });
    open.push(made);
    const send = (): Promise<Delivery> => made.send(request(1), new AbortController().signal);
    expect(await send()).toEqual({ kind: "accepted" });
    unlinkSync(caFile);
    expect(await send()).toMatchObject({ kind: "retry", code: "LOCAL" });
    link();
    expect(await send()).toEqual({ kind: "accepted" });
  });

  test("says in words what is wrong with a certificate, and goes on trying", async () => {
    const fake = await collector({ credentials: serverCredentials("trusted", "trusted") });
    const send = async (tls: ReturnType<typeof clientFiles>): Promise<Delivery> => {
      const made = grpcTransport({ target: `127.0.0.1:${fake.port}`, tls }, { gzip: false });
      open.push(made);
      return made.send(request(1), new AbortController().signal);
    };
    expect(await send(clientFiles("stranger", "trusted"))).toMatchObject({
      kind: "retry",
      message:
        "its certificate is not signed by an authority trusted here: set `tls.caFile` to the certificate of the authority that signed it",
    });
    expect(await send(clientFiles("trusted", "trusted"))).toEqual({ kind: "accepted" });
  });
});
