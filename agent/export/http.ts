// The agent's own endpoints: /metrics, /-/healthy, /-/ready, /-/status. Loopback unless configured otherwise.
// Everything a peer can make grow is bounded: headers, request time, connections; bodies are not read at all.
import type { IncomingMessage, Server, ServerOptions, ServerResponse } from "node:http";
import { createServer } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { gzipSync } from "node:zlib";
import type { Log } from "../platform/log.ts";
import type { ListenTls } from "../platform/tls.ts";
import { serveTls } from "../platform/tls.ts";
import type { Page } from "./prometheus.ts";

const HEADER_BYTES_MAX = 8 * 1024;
const CONNECTIONS_MAX = 64;
const REQUEST_TIMEOUT_MS = 10_000;
const GZIP_FROM_BYTES = 1024;

export interface HttpOptions {
  /** `host:port`; port 0 picks a free one. */
  readonly listen: string;
  readonly log: Log;
  readonly tls?: ListenTls | undefined;
  /** The page for a scraper's Accept header. */
  readonly metrics: (accept: string | undefined) => Page;
  /** The process does its work; false asks a supervisor to restart it. */
  readonly healthy: () => boolean;
  /** What is wrong although the process does its work: shown, but no reason for a restart. */
  readonly degraded?: () => string | undefined;
  /** Sources are found and a first snapshot was committed. */
  readonly ready: () => boolean;
  /** Must hold no secrets; bigints are written as strings. */
  readonly status: () => Readonly<Record<string, unknown>>;
}

export interface HttpEndpoint {
  /** `host:port` it listens on. */
  readonly address: string;
  /** Stops listening and drops idle connections. */
  close(): Promise<void>;
}

/** The endpoint cannot be opened as configured; read like a SourceError. */
export class ListenError extends Error {
  readonly kind = "misconfigured";
  readonly hint: string;

  constructor(message: string, hint: string, cause?: unknown) {
    super(message, { cause });
    this.name = "ListenError";
    this.hint = hint;
  }
}

/** Listens. Throws ListenError with a hint when the address cannot be had. */
export async function serveHttp(options: HttpOptions): Promise<HttpEndpoint> {
  const server = createListener(options, (request, response) => {
    try {
      answer(options, request, response);
    } catch (error) {
      options.log.error("cannot answer a request", { cause: String(error), path: request.url });
      plain(response, 500, "internal error\n");
    }
  });
  server.maxConnections = CONNECTIONS_MAX;
  server.on("clientError", (_, socket) => socket.destroy());
  await listen(server, options.listen);
  // Of a connection that cannot be accepted: out of descriptors or memory, which passes.
  server.on("error", (error) =>
    options.log.warn("cannot accept a connection", { source: "http", cause: error.message }),
  );
  const { address, family, port } = server.address() as AddressInfo;
  return {
    address: family === "IPv6" ? `[${address}]:${port}` : `${address}:${port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function createListener(
  options: HttpOptions,
  handle: (request: IncomingMessage, response: ServerResponse) => void,
): Server {
  const bounds: ServerOptions = {
    maxHeaderSize: HEADER_BYTES_MAX,
    headersTimeout: REQUEST_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: 65_000,
  };
  const { tls } = options;
  if (tls === undefined) return createServer(bounds, handle);
  try {
    const server = serveTls(tls, options.log.with({ source: "http" }), (files) =>
      createTlsServer({ ...bounds, ...files }, handle),
    );
    server.on("tlsClientError", (_, socket) => socket.destroy());
    return server;
  } catch (error) {
    const hint =
      "the files of export.prometheus.tls must be readable PEM: certFile, keyFile and, for mTLS, clientCaFile";
    throw new ListenError(
      `Cannot listen on ${options.listen} with TLS: ${(error as Error).message}`,
      hint,
      error,
    );
  }
}

function answer(options: HttpOptions, request: IncomingMessage, response: ServerResponse): void {
  const path = (request.url ?? "/").split("?", 1)[0] ?? "/";
  const handler = HANDLERS.get(path);
  request.resume();
  if (handler === undefined) {
    plain(response, 404, "not found; try /metrics, /-/healthy, /-/ready or /-/status\n");
  } else if (request.method !== "GET" && request.method !== "HEAD") {
    response.setHeader("allow", "GET, HEAD");
    plain(response, 405, "only GET and HEAD\n");
  } else {
    handler(options, request, response);
  }
}

type Handler = (options: HttpOptions, request: IncomingMessage, response: ServerResponse) => void;

const HANDLERS: ReadonlyMap<string, Handler> = new Map<string, Handler>([
  ["/", (_, __, response) => plain(response, 200, "tokenwatt: /metrics /-/healthy /-/ready /-/status\n")],
  [
    "/metrics",
    ({ metrics }, request, response) => {
      const { type, text } = metrics(request.headers.accept);
      body(request, response, type, text);
    },
  ],
  [
    "/-/healthy",
    ({ degraded, healthy }, _, response) => {
      const cause = healthy() ? degraded?.() : undefined;
      if (cause === undefined) verdict(response, healthy(), "healthy");
      else plain(response, 200, `degraded: ${cause}\n`);
    },
  ],
  ["/-/ready", ({ ready }, _, response) => verdict(response, ready(), "ready")],
  [
    "/-/status",
    ({ status }, request, response) => {
      const text = JSON.stringify(
        status(),
        (_, value) => (typeof value === "bigint" ? String(value) : value),
        2,
      );
      body(request, response, "application/json; charset=utf-8", `${text}\n`);
    },
  ],
]);

function verdict(response: ServerResponse, good: boolean, word: string): void {
  plain(response, good ? 200 : 503, good ? `${word}\n` : `not ${word}\n`);
}

function body(request: IncomingMessage, response: ServerResponse, type: string, text: string): void {
  response.setHeader("content-type", type);
  response.setHeader("vary", "accept, accept-encoding");
  const gzip = text.length >= GZIP_FROM_BYTES && acceptsGzip(request.headers["accept-encoding"]);
  if (gzip) response.setHeader("content-encoding", "gzip");
  const bytes = gzip ? gzipSync(text, { level: 1 }) : Buffer.from(text);
  response.setHeader("content-length", bytes.length);
  response.end(request.method === "HEAD" ? undefined : bytes);
}

function acceptsGzip(header: string | string[] | undefined): boolean {
  return String(header ?? "")
    .split(",")
    .some((part) => {
      const [coding, ...parameters] = part.split(";").map((piece) => piece.trim().toLowerCase());
      return coding === "gzip" && !parameters.some((parameter) => /^q=0(\.0*)?$/.test(parameter));
    });
}

function plain(response: ServerResponse, code: number, text: string): void {
  if (response.headersSent) {
    response.end();
    return;
  }
  response.statusCode = code;
  response.setHeader("content-type", "text/plain; charset=utf-8");
  response.setHeader("content-length", Buffer.byteLength(text));
  response.end(text);
}

async function listen(server: Server, address: string): Promise<void> {
  const [, ipv6, name, port] = /^(?:\[([^\]]+)\]|([^:]+)):(\d+)$/.exec(address) ?? [];
  if (port === undefined) {
    const wanted = `Cannot listen on ${JSON.stringify(address)}: wanted host:port`;
    throw new ListenError(wanted, 'for example "127.0.0.1:9464"');
  }
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(Number(port), ipv6 ?? name, () => {
        server.off("error", reject);
        resolve();
      });
    });
  } catch (error) {
    const taken = (error as NodeJS.ErrnoException).code === "EADDRINUSE";
    const seen = taken ? "the port is in use" : (error as Error).message;
    const hint = taken
      ? `stop the other program (ss -ltnp 'sport = :${port}' names it; it may be another tokenwatt), or set ` +
        'export.prometheus.listen to another port, or to "" for no endpoint'
      : 'set export.prometheus.listen to an address of this host, for example "127.0.0.1:9464"';
    throw new ListenError(`Cannot listen on ${address}: ${seen}`, hint, error);
  }
}
