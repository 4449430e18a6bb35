// The agent's own endpoints: /, /metrics, /-/healthy, /-/ready, /-/status, /-/view, /-/policy. Loopback unless configured otherwise.
// Everything a peer can make grow is bounded: headers, request time, connections, answers; bodies are not read at all.
// On loopback a request that names a foreign host is not answered: a web page may point its own name at 127.0.0.1 and
// have the browser read what only this host should see (DNS rebinding). Probes tell nothing and are always answered.
import type { IncomingMessage, Server, ServerOptions, ServerResponse } from "node:http";
import { createServer } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { isIP } from "node:net";
import { hostname } from "node:os";
import { gzipSync } from "node:zlib";
import type { AccessCount } from "../platform/access-counts.ts";
import { AccessCounts } from "../platform/access-counts.ts";
import { isFault, isLoopbackHost, parseHostPort } from "../platform/address.ts";
import type { Log } from "../platform/log.ts";
import type { ListenTls } from "../platform/tls.ts";
import { serveTls } from "../platform/tls.ts";
import { nameOf, resultOf } from "./callers.ts";
import { holdUntilAnswered, keepConnections } from "./connections.ts";
import { pageDocument, wantsPage } from "./page/document.ts";
import type { Feed } from "./page/feed.ts";
import { Streams } from "./page/stream.ts";
import type { Page } from "./prometheus.ts";

const HEADER_BYTES_MAX = 8 * 1024;
const CONNECTION_BOUNDS = { connectionsMax: 64, perAddressMax: 32 };
const REQUEST_TIMEOUT_MS = 10_000;
/** An answer of which the peer takes nothing for this long is given up. */
const ANSWER_TIMEOUT_MS = 30_000;
const KEEP_ALIVE_MS = 65_000;
const GZIP_FROM_BYTES = 1024;

/** What the endpoint serves, where, and what it asks the agent. */
export interface HttpOptions {
  /** `host:port`; port 0 picks a free one. */
  readonly listen: string;
  readonly log: Log;
  readonly tls?: ListenTls | undefined;
  /** The page for a scraper's Accept header; the same object as long as its content is the same. */
  readonly metrics: (accept: string | undefined) => Page;
  /** Why the process does not do its work, which asks a supervisor to restart it; undefined while it does. */
  readonly unhealthy: () => string | undefined;
  /** What is wrong although the process does its work: shown, but no reason for a restart. */
  readonly degraded?: () => string | undefined;
  /** Sources are found and a first snapshot was committed. */
  readonly ready: () => boolean;
  /** Used, limit and state of every quota; undefined where no policy is configured. */
  readonly policy?: () => Readonly<Record<string, unknown>> | undefined;
  /** Must hold no secrets; bigints are written as strings. */
  readonly status: () => Readonly<Record<string, unknown>>;
  /** Snapshots for people who look. */
  readonly feed: Feed;
  /** Whether / answers a browser with a page. */
  readonly page: boolean;
}

/** An open endpoint. */
export interface HttpEndpoint {
  /** `host:port` it listens on. */
  readonly address: string;
  /** Who asked since the last call, for the audit record. */
  takeAccess(): readonly AccessCount[];
  /** Stops listening and drops idle connections. */
  close(): Promise<void>;
}

/**
 * The endpoint cannot be opened as configured; read like a SourceError.
 * Exported for its test: a port that is taken looks the same from outside.
 */
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
  const answers = new Answers(options);
  const access = new AccessCounts();
  const server = createListener(options, (request, response) => {
    request.resume();
    const caller = nameOf(request.socket);
    response.once("close", () => access.count(caller, resultOf(response)));
    holdUntilAnswered(request.socket, response);
    answers.answer(request, response);
  });
  keepConnections(server, options.tls === undefined ? "connection" : "secureConnection", CONNECTION_BOUNDS);
  server.timeout = ANSWER_TIMEOUT_MS;
  server.on("clientError", (error: NodeJS.ErrnoException, socket) => {
    if (error.code?.startsWith("HPE_") === true) access.count(nameOf(socket), "malformed");
    socket.destroy();
  });
  await listen(server, options.listen);
  // Of a connection that cannot be accepted: out of descriptors or memory, which passes.
  server.on("error", (error) =>
    options.log.warn("cannot accept a connection", { source: "http", cause: error.message }),
  );
  const { address, family, port } = server.address() as AddressInfo;
  return {
    address: family === "IPv6" ? `[${address}]:${port}` : `${address}:${port}`,
    takeAccess: () => access.take(),
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
    keepAliveTimeout: KEEP_ALIVE_MS,
  };
  const { tls } = options;
  if (tls === undefined) return createServer(bounds, handle);
  try {
    const server = serveTls(tls, options.log.with({ source: "http" }), (files) =>
      createTlsServer({ ...bounds, ...files, handshakeTimeout: REQUEST_TIMEOUT_MS }, handle),
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

/** What is answered to a request. */
class Answers {
  readonly #options: HttpOptions;
  readonly #isLoopback: boolean;
  readonly #names: ReadonlySet<string>;
  /** Pages compressed, once for every scraper. */
  readonly #zipped = new WeakMap<Page, Buffer>();
  readonly #streams: Streams;
  #status: Page | undefined;

  constructor(options: HttpOptions) {
    const address = parseHostPort(options.listen, { anyPort: true });
    const listened = isFault(address) ? "" : address.host;
    this.#options = options;
    this.#streams = new Streams(options.feed);
    this.#isLoopback = isLoopbackHost(listened);
    this.#names = new Set(["", "localhost", listened.toLowerCase(), hostname().toLowerCase()]);
  }

  answer(request: IncomingMessage, response: ServerResponse): void {
    try {
      this.#route(request, response);
    } catch (error) {
      this.#options.log.error("cannot answer a request", { cause: String(error), path: request.url });
      plain(response, 500, "internal error\n");
    }
  }

  #route(request: IncomingMessage, response: ServerResponse): void {
    const { ready } = this.#options;
    const path = (request.url ?? "/").split("?", 1)[0] ?? "/";
    if (!PATHS.has(path)) {
      plain(
        response,
        404,
        "not found; try /metrics, /-/healthy, /-/ready, /-/status, /-/view or /-/policy\n",
      );
    } else if (request.method !== "GET" && request.method !== "HEAD") {
      response.setHeader("allow", "GET, HEAD");
      plain(response, 405, "only GET and HEAD\n");
    } else if (path === "/-/healthy") this.#health(response);
    else if (path === "/-/ready") plain(response, ready() ? 200 : 503, ready() ? "ready\n" : "not ready\n");
    else if (!this.#isOwnName(request.headers.host)) {
      const hint =
        "ask for it by an address or as localhost; a proxy in front has to send its own Host header";
      plain(response, 421, `this is not ${JSON.stringify(request.headers.host)}: ${hint}\n`);
    } else if (path === "/") this.#root(request, response);
    else if (path === "/-/view" && Streams.isAsked(request)) this.#stream(request, response);
    else if (path === "/-/policy") this.#policy(request, response);
    else if (path === "/-/view") this.#send(request, response, this.#options.feed.page());
    else this.#send(request, response, path === "/metrics" ? this.#page(request) : this.#statusPage());
  }

  /** A browser gets the page, whatever else asks gets a line that names the endpoints. */
  #root(request: IncomingMessage, response: ServerResponse): void {
    if (this.#options.page && wantsPage(request.headers.accept)) {
      const { headers, page } = pageDocument();
      for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
      this.#send(request, response, page);
      return;
    }
    response.setHeader("vary", "accept");
    plain(response, 200, "tokenwatt: /metrics /-/healthy /-/ready /-/status /-/view /-/policy\n");
  }

  #policy(request: IncomingMessage, response: ServerResponse): void {
    const shown = this.#options.policy?.();
    if (shown === undefined) plain(response, 404, "no policy is configured: name one with `policy`\n");
    else this.#send(request, response, jsonPage(shown));
  }

  #stream(request: IncomingMessage, response: ServerResponse): void {
    if (this.#streams.serve(request, response)) return;
    response.setHeader("retry-after", Streams.full.retrySeconds);
    plain(response, 503, Streams.full.text);
  }

  #health(response: ServerResponse): void {
    const { degraded, unhealthy } = this.#options;
    const cause = unhealthy();
    const warning = degraded?.();
    if (cause !== undefined) plain(response, 503, `not healthy: ${cause}\n`);
    else plain(response, 200, warning === undefined ? "healthy\n" : `degraded: ${warning}\n`);
  }

  /** An address cannot be pointed elsewhere, a name can: only names that are this host's own are taken. */
  #isOwnName(host: string | undefined): boolean {
    if (!this.#isLoopback) return true;
    const name = (host ?? "")
      .replace(/:\d*$/, "")
      .replace(/^\[(.*)\]$/, "$1")
      .toLowerCase();
    return isIP(name) > 0 || name.endsWith(".localhost") || this.#names.has(name);
  }

  #page(request: IncomingMessage): Page {
    return this.#options.metrics(request.headers.accept);
  }

  /** Made once for all who ask for it at the same moment. */
  #statusPage(): Page {
    if (this.#status !== undefined) return this.#status;
    this.#status = jsonPage(this.#options.status());
    setImmediate(() => {
      this.#status = undefined;
    });
    return this.#status;
  }

  #send(request: IncomingMessage, response: ServerResponse, page: Page): void {
    response.setHeader("content-type", page.type);
    response.setHeader("vary", "accept, accept-encoding");
    let { bytes } = page;
    if (bytes.length >= GZIP_FROM_BYTES && acceptsGzip(request.headers["accept-encoding"])) {
      const zipped = this.#zipped.get(page) ?? gzipSync(bytes, { level: 1 });
      this.#zipped.set(page, zipped);
      response.setHeader("content-encoding", "gzip");
      bytes = zipped;
    }
    response.setHeader("content-length", bytes.length);
    response.end(request.method === "HEAD" ? undefined : bytes);
  }
}

const PATHS: ReadonlySet<string> = new Set([
  "/",
  "/metrics",
  "/-/healthy",
  "/-/ready",
  "/-/status",
  "/-/view",
  "/-/policy",
]);

function jsonPage(value: unknown): Page {
  const asText = (_: string, inner: unknown): unknown => (typeof inner === "bigint" ? String(inner) : inner);
  const bytes = Buffer.from(`${JSON.stringify(value, asText, 2)}\n`);
  return { type: "application/json; charset=utf-8", bytes };
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
  const found = parseHostPort(address, { anyPort: true, examplePort: 9464 });
  if (isFault(found)) {
    throw new ListenError(`Cannot listen on ${JSON.stringify(address)}: wanted ${found.wanted}`, found.hint);
  }
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(found.port, found.host, () => {
        server.off("error", reject);
        resolve();
      });
    });
  } catch (error) {
    const { port } = found;
    const taken = (error as NodeJS.ErrnoException).code === "EADDRINUSE";
    const seen = taken ? "the port is in use" : (error as Error).message;
    const hint = taken
      ? `stop the other program (ss -ltnp 'sport = :${port}' names it; it may be another tokenwatt), or set ` +
        'export.prometheus.listen to another port, or to "" for no endpoint'
      : 'set export.prometheus.listen to an address of this host, for example "127.0.0.1:9464"';
    throw new ListenError(`Cannot listen on ${address}: ${seen}`, hint, error);
  }
}
