// TLS, client certificates, tokens and unix sockets of every gRPC source, over real sockets: `tokenwatt.v1` Watch, and
// the polled servers triton-grpc and get-loads. Certificates are those of test/fixtures/tls.
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import type { Gap, TokenSample } from "../../../agent/model.ts";
import { systemClock } from "../../../agent/platform/clock.ts";
import type { ServerCredentials } from "../../../agent/platform/grpc.ts";
import { ServerCredentials as Credentials, Server, status } from "../../../agent/platform/grpc.ts";
import { silentLog } from "../../../agent/platform/log.ts";
import { getLoads } from "../../../agent/servers/get-loads.ts";
import { encodeWatchResponse } from "../../../agent/servers/token-counters/encode.ts";
import { tokenCounters } from "../../../agent/servers/token-counters/index.ts";
import { tritonGrpc } from "../../../agent/servers/triton-grpc.ts";
import type { PullServerSource, PushServerSource, SourceError } from "../../../agent/source.ts";
import { fakePeer, field, message } from "../../fakes/grpc-peer.ts";
import { clientFiles, pem, serverCredentials } from "../../fakes/tls-files.ts";

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});
const signal = new AbortController().signal;

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), "tokenwatt-grpc-tls-"));
  closing.push(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** A peer that serves whatever a source asks for, and how it was called. */
interface Peer {
  readonly address: string;
  readonly authorizations: readonly string[];
  close(): unknown;
}

/** Reads a source until it has a sample, or the reason why there is none. */
type Read = (entry: Record<string, unknown>) => Promise<{ readonly reason?: string; readonly hint?: string }>;

/** The key `tls` of an entry. */
type Files =
  | true
  | undefined
  | { readonly caFile: string; readonly certFile?: string; readonly keyFile?: string };

interface Kind {
  readonly name: string;
  serve(credentials: ServerCredentials, listen?: string): Promise<Peer>;
  readonly read: Read;
}

const TRITON = "/inference.GRPCInferenceService";
const SGLANG = "sglang.grpc.scheduler.SglangScheduler";

const poll =
  (type: typeof tritonGrpc): Read =>
  async (entry) => {
    const context = { clock: systemClock(), log: silentLog, signal };
    const source = type.open(type.config.parse(entry), context) as PullServerSource;
    closing.push(() => source.close());
    return source.poll().then(
      () => ({}),
      (error: SourceError) => ({
        reason: error.message,
        ...(error.hint === undefined ? {} : { hint: error.hint }),
      }),
    );
  };

const kinds: readonly Kind[] = [
  {
    name: "token-counters",
    serve: (credentials, listen) => serveWatch(credentials, listen),
    read: async (entry) => {
      const { next } = watch(entry);
      return next();
    },
  },
  {
    name: "triton-grpc",
    serve: async (credentials, listen) => {
      const statistics = field(1, message(field(1, "m"), field(2, "1")));
      const methods = {
        [`${TRITON}/ServerMetadata`]: field(2, "1"),
        [`${TRITON}/ModelStatistics`]: statistics,
      };
      return served(await fakePeer(methods, undefined, place(credentials, listen)));
    },
    read: poll(tritonGrpc),
  },
  {
    name: "get-loads",
    serve: async (credentials, listen) => {
      const methods = { [`/${SGLANG}/GetLoads`]: field(4, message(field(2, 1))) };
      return served(await fakePeer(methods, [SGLANG], place(credentials, listen)));
    },
    read: poll(getLoads),
  },
];

const place = (credentials: ServerCredentials, listen: string | undefined) => ({
  credentials,
  ...(listen === undefined ? {} : { listen }),
});

function served(peer: Peer): Peer {
  closing.push(() => peer.close());
  return peer;
}

/** A Watch server that notes the tokens of its callers and sends one snapshot to each. */
async function serveWatch(credentials: ServerCredentials, listen = "127.0.0.1:0"): Promise<Peer> {
  const server = new Server();
  const authorizations: string[] = [];
  server.register(
    "/tokenwatt.v1.TokenCounters/Watch",
    (call: { metadata: { get(name: string): unknown[] }; write(bytes: Buffer): void }) => {
      authorizations.push(String(call.metadata.get("authorization")[0] ?? ""));
      const servers = [{ epochId: "one", counters: [] }];
      call.write(
        encodeWatchResponse({ protocolVersion: 1, serverTimeUnixNanos: 0n, uptimeNanos: 1, servers }),
      );
    },
    (bytes: Buffer) => bytes,
    (bytes: Buffer) => bytes,
    "serverStream",
  );
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync(listen, credentials, (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    ),
  );
  const address = listen.startsWith("unix:") ? listen : `127.0.0.1:${port}`;
  return served({ address, authorizations, close: () => server.forceShutdown() });
}

/** A running Watch; `next` is its next sample or gap, with the hint of the gap. */
function watch(entry: Record<string, unknown>) {
  const config = tokenCounters.config.parse({ pollMs: 100, ...entry });
  const source = tokenCounters.open(config, {
    clock: systemClock(),
    log: silentLog,
    signal,
  }) as PushServerSource;
  closing.push(() => source.close());
  const seen: (TokenSample | Gap)[] = [];
  let arrived = Promise.withResolvers<void>();
  void source.run(async (reading) => {
    seen.push(reading);
    arrived.resolve();
  });
  const next = async (): Promise<{ reason?: string; hint?: string }> => {
    while (seen.length === 0) await arrived.promise;
    arrived = Promise.withResolvers();
    const reading = seen.shift() as TokenSample | Gap;
    if (!("reason" in reading)) return {};
    const { reason, hint } = reading;
    return { reason, ...(hint === undefined ? {} : { hint }) };
  };
  return { next };
}

describe.each(kinds)("$name over TLS", ({ serve, read }) => {
  test("reads a server of the authority it trusts, and shows its certificate to one that asks", async () => {
    const open = await serve(serverCredentials("trusted"));
    expect(await read({ endpoint: open.address, tls: clientFiles("trusted") })).toEqual({});
    const asking = await serve(serverCredentials("trusted", "trusted"));
    const tls = clientFiles("trusted", "trusted");
    expect(await read({ endpoint: asking.address, tls })).toEqual({});
  });

  test.each([
    [
      "a server of another authority",
      (): ServerCredentials => serverCredentials("stranger"),
      (): Files => clientFiles("trusted"),
      "not signed by an authority trusted here",
      "tls.caFile",
    ],
    [
      "a server of a private authority, with the system's roots",
      (): ServerCredentials => serverCredentials("trusted"),
      (): Files => true,
      "not signed by an authority trusted here",
      "tls.caFile",
    ],
    [
      "a server with another name",
      (): ServerCredentials => serverCredentials("elsewhere"),
      (): Files => ({ caFile: pem("elsewhere-ca.pem") }),
      "certificate is for another name",
      "name or address its certificate holds",
    ],
    [
      "a server that wants a client certificate, without one",
      (): ServerCredentials => serverCredentials("trusted", "trusted"),
      (): Files => clientFiles("trusted"),
      "only peers with a client certificate",
      "tls.certFile",
    ],
    [
      "a server that does not know our authority",
      (): ServerCredentials => serverCredentials("trusted", "trusted"),
      (): Files => clientFiles("trusted", "stranger"),
      "closes the connection before a call can be made",
      "refuse the certificate of `tls.certFile`",
    ],
    [
      "a server in the clear",
      (): ServerCredentials => Credentials.createInsecure(),
      (): Files => clientFiles("trusted"),
      "does not speak TLS",
      "leave out the key `tls`",
    ],
    [
      "a server with TLS, in the clear",
      (): ServerCredentials => serverCredentials("trusted"),
      (): Files => undefined,
      "closes the connection before a call can be made",
      "it may want TLS",
    ],
    [
      "a key of another certificate",
      (): ServerCredentials => serverCredentials("trusted"),
      (): Files => ({ ...clientFiles("trusted", "trusted"), keyFile: pem("stranger-client.key") }),
      "do not belong together",
      "must be a pair",
    ],
    [
      "a file that is not there",
      (): ServerCredentials => serverCredentials("trusted"),
      (): Files => ({ caFile: "/nonexistent/ca.pem" }),
      "/nonexistent/ca.pem: there is no such file",
      "correct the path",
    ],
  ] as const)("says what is wrong with %s", async (_, credentials, tls, reason, hint) => {
    const peer = await serve(credentials());
    const files = tls();
    const seen = await read({ endpoint: peer.address, ...(files === undefined ? {} : { tls: files }) });
    expect(seen.reason).toContain(`at ${peer.address}: `);
    expect(seen.reason).toContain(reason);
    expect(seen.hint).toContain(hint);
  });

  test("reads over a unix socket", async () => {
    const peer = await serve(Credentials.createInsecure(), `unix:${join(folder(), "s")}`);
    expect(await read({ endpoint: peer.address })).toEqual({});
  });

  test("sends the token of its file, and names a file it cannot open", async () => {
    const path = join(folder(), "token");
    const peer = await serve(Credentials.createInsecure());
    const entry = { endpoint: peer.address, bearerFile: path };
    expect((await read(entry)).reason).toContain(`${path}: there is no such file`);
    writeFileSync(path, "first\n");
    expect(await read(entry)).toEqual({});
    writeFileSync(path, "second\n");
    expect(await read(entry)).toEqual({});
    writeFileSync(path, "authorization: Bearer third\n");
    expect(await read({ endpoint: peer.address, headersFile: path })).toEqual({});
    expect([...new Set(peer.authorizations)]).toEqual(["Bearer first", "Bearer second", "Bearer third"]);
  });
});

describe("replaced files", () => {
  /** Files of a client that are copies of a fixture's. */
  const files = (names: readonly [trusts: string, identity: string]) => {
    const at = folder();
    const tls = { caFile: join(at, "ca"), certFile: join(at, "cert"), keyFile: join(at, "key") };
    const install = ([trusts, identity]: readonly [string, string]): void => {
      copyFileSync(pem(`${trusts}-ca.pem`), tls.caFile);
      copyFileSync(pem(`${identity}-client.pem`), tls.certFile);
      copyFileSync(pem(`${identity}-client.key`), tls.keyFile);
    };
    install(names);
    return { tls, install };
  };

  test("are read by Watch when it connects again", async () => {
    const { tls, install } = files(["trusted", "trusted"]);
    const peer = await serveWatch(serverCredentials("trusted", "trusted"));
    const { next } = watch({ endpoint: peer.address, tls });
    expect(await next()).toEqual({});
    peer.close();
    expect((await next()).reason).toBeDefined();
    const again = await serveWatch(serverCredentials("stranger", "stranger"), peer.address);
    expect((await next()).reason).toContain("not signed by an authority trusted here");
    install(["stranger", "stranger"]);
    let seen = await next();
    while (seen.reason !== undefined) seen = await next();
    expect(again.authorizations.length).toBe(1);
  });

  test("are read by a polled server after a failed poll", async () => {
    const { tls, install } = files(["trusted", "trusted"]);
    const methods = {
      [`${TRITON}/ServerMetadata`]: field(2, "1"),
      [`${TRITON}/ModelStatistics`]: field(3, ""),
    };
    const first = await fakePeer(methods, undefined, {
      credentials: serverCredentials("trusted", "trusted"),
    });
    const entry = tritonGrpc.config.parse({ endpoint: first.address, tls });
    const context = { clock: systemClock(), log: silentLog, signal };
    const source = tritonGrpc.open(entry, context) as PullServerSource;
    closing.push(() => source.close());
    await source.poll();
    first.close();
    const credentials = serverCredentials("stranger", "stranger");
    served(await fakePeer(methods, undefined, { listen: first.address, credentials }));
    await expect(source.poll()).rejects.toThrow();
    install(["stranger", "stranger"]);
    await source.poll();
  });

  test("of a token are read for each call of a polled server, and by Watch when it was refused", async () => {
    const path = join(folder(), "token");
    writeFileSync(path, "old");
    const peer = await kinds[1]?.serve(Credentials.createInsecure());
    const entry = tritonGrpc.config.parse({ endpoint: peer?.address, bearerFile: path });
    const source = tritonGrpc.open(entry, {
      clock: systemClock(),
      log: silentLog,
      signal,
    }) as PullServerSource;
    closing.push(() => source.close());
    await source.poll();
    writeFileSync(path, "new");
    await source.poll();
    expect([...new Set(peer?.authorizations)]).toEqual(["Bearer old", "Bearer new"]);

    const server = new Server();
    const bytes = (value: Buffer): Buffer => value;
    server.register(
      "/tokenwatt.v1.TokenCounters/Watch",
      (call: {
        metadata: { get(name: string): unknown[] };
        emit(event: "error", error: object): void;
        write(bytes: Buffer): void;
      }) => {
        if (call.metadata.get("authorization")[0] !== "Bearer right")
          return call.emit("error", { code: status.UNAUTHENTICATED, details: "who are you" });
        call.write(
          encodeWatchResponse({
            protocolVersion: 1,
            serverTimeUnixNanos: 0n,
            uptimeNanos: 1,
            servers: [{ epochId: "e", counters: [] }],
          }),
        );
      },
      bytes,
      bytes,
      "serverStream",
    );
    const port = await new Promise<number>((resolve) =>
      server.bindAsync("127.0.0.1:0", Credentials.createInsecure(), (_, bound) => resolve(bound)),
    );
    closing.push(() => server.forceShutdown());
    writeFileSync(path, "wrong");
    const { next } = watch({ endpoint: `127.0.0.1:${port}`, bearerFile: path });
    expect(await next()).toMatchObject({
      reason: expect.stringContaining("refused: who are you"),
      hint: expect.stringContaining("bearerFile"),
    });
    writeFileSync(path, "right");
    let seen = await next();
    while (seen.reason !== undefined) seen = await next();
    expect(seen).toEqual({});
  });
});

test.each([tritonGrpc, getLoads])(
  "an expired client certificate is named with its day: $name",
  async (type) => {
    const credentials = serverCredentials("trusted", "trusted");
    const kind = kinds.find(({ name }) => name === type.name);
    const peer = await kind?.serve(credentials);
    const clock = { ...systemClock(), unixNanos: () => 5_000_000_000_000_000_000n };
    // The peer does not believe it, for what reason it keeps to itself.
    const tls = clientFiles("trusted", "stranger");
    const entry = type.config.parse({ endpoint: peer?.address, tls });
    const source = type.open(entry, { clock, log: silentLog, signal }) as PullServerSource;
    closing.push(() => source.close());
    await expect(source.poll()).rejects.toMatchObject({
      message: expect.stringMatching(/our client certificate .*stranger-client.pem expired on 2126-/),
      hint: expect.stringContaining("renew the certificate of `tls.certFile`"),
    });
  },
);
