// One GET for a metric page: over http, https or a unix socket, with a deadline and a bound on the inflated size.
// Asks for text/plain 0.0.4 alone, because any mention of OpenMetrics makes python servers rename their samples
// (facts: prometheus_client 0.26). Answers that are no metric page (HTML, JSON) end in an error that says so.
import type { IncomingMessage, RequestOptions } from "node:http";
import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import type { Socket } from "node:net";
import type { Readable, Transform } from "node:stream";
import { createBrotliDecompress, createGunzip, createInflate } from "node:zlib";
import {
  isFault,
  isLoopbackHost,
  parseUnixSocket,
  parseWebAddress,
  shownAddress,
  splitCredentials,
} from "../platform/address.ts";
import type { FileError } from "../platform/files.ts";
import { readFileOf } from "../platform/files.ts";
import { expiredCertificate, explainTls, filesState } from "../platform/tls.ts";
import type { SourceContext } from "../source.ts";
import { SourceError } from "../source.ts";
import type { Connection } from "./exchange.ts";
import { ask, Exchange } from "./exchange.ts";
import { PageBuffer } from "./page-buffer.ts";

/** Where a page is and how to get it. */
export interface PageTarget {
  /** `http://host:port/path`, `https://...` or `unix:/path/to/socket:/path`. */
  readonly url: string;
  readonly tls?: { readonly caFile?: string; readonly certFile?: string; readonly keyFile?: string };
  /** A file whose content is sent as `authorization: Bearer <content>`; read again for each request. */
  readonly bearerFile?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Deadline of the whole request; default 5000. */
  readonly timeoutMs?: number;
  /** Largest page after inflating; default 32 MiB. */
  readonly bytesMax?: number;
}

/** A page as it came; its bytes are another page's once `use` has returned. */
export interface FetchedPage {
  readonly body: Buffer;
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  /** It came over another connection than the page before. */
  readonly renewed: boolean;
  /** Its length, its chunks or its compression say that this is all of it; without them it ends where the connection did. */
  readonly complete: boolean;
}

/** Fetches pages of one target; keeps its connection between requests. */
export interface PageFetcher {
  /** Lends the page of now to `use` and returns what that returns. Throws SourceError (transient) when there is none. */
  fetch<Result>(use: (page: FetchedPage) => Result, signal?: AbortSignal): Promise<Result>;
  close(): void;
}

const ACCEPT = "text/plain;version=0.0.4";
const TIMEOUT_MS = 5000;
const BYTES_MAX = 32 * 1024 * 1024;
/** A peer's connection is kept for as long as it says: one that it let go a moment before is asked for anew. */
const KEPT = { keepAlive: true, maxSockets: 1, agentKeepAliveTimeoutBuffer: 0 };

/** A fetcher for `target`. Throws SourceError (misconfigured) when the address or a certificate cannot be read. */
export function createPageFetcher(target: PageTarget, context: Pick<SourceContext, "clock">): PageFetcher {
  const connections = new Connections(target);
  const shown = shownAddress(target.url);
  const timeoutMs = target.timeoutMs ?? TIMEOUT_MS;
  const limit = target.bytesMax ?? BYTES_MAX;
  const configured = requestOptions(target).options.path ?? "/";
  let path = configured;
  /** The connection of the page before. */
  let carrier: Socket | undefined;
  const receive = async (buffer: PageBuffer, stop: AbortSignal | undefined): Promise<FetchedPage> => {
    const exchange = new Exchange(context.clock, timeoutMs, stop);
    try {
      let response = await ask(connections.current(), path, exchange);
      const slashed = slashedPath(response, configured);
      if (slashed !== undefined) {
        response.resume();
        path = slashed;
        response = await ask(connections.current(), path, exchange);
      }
      if (response.statusCode !== 200) path = configured;
      const { socket } = response;
      const stream = inflated(response, target);
      exchange.holds(stream);
      const body = await buffer.fill(stream);
      refuseNonPages(shown, response, body);
      const renewed = carrier !== socket;
      carrier = socket;
      return { body, headers: response.headers, renewed, complete: isComplete(response) };
    } catch (error) {
      const unixMs = Number(context.clock.unixNanos(context.clock.now()) / 1_000_000n);
      throw explainFetchError(error, target, exchange.endedBy === "deadline", unixMs);
    } finally {
      exchange.close();
    }
  };
  return {
    fetch: async (use, stop) => {
      const buffer = new PageBuffer(limit, shown);
      try {
        return use(await receive(buffer, stop));
      } finally {
        buffer.free();
      }
    },
    close: () => connections.close(),
  };
}

/** The kept connection of one target; another one where its files were replaced. */
class Connections {
  readonly #target: PageTarget;
  readonly #files: readonly (string | undefined)[];
  #state: string;
  #open: Connection;

  constructor(target: PageTarget) {
    this.#target = target;
    this.#files = [target.tls?.caFile, target.tls?.certFile, target.tls?.keyFile];
    // Before they are read: what is replaced in between is seen with the next page.
    this.#state = filesState(this.#files);
    this.#open = open(target);
  }

  /** The connection for the next request, with what its files say now. */
  current(): Connection {
    const state = filesState(this.#files);
    if (state !== this.#state) {
      this.close();
      this.#open = open(this.#target);
      this.#state = state;
    }
    if (this.#target.bearerFile === undefined) return this.#open;
    const { agent, options, secure } = this.#open;
    const headers = { ...(options.headers as Record<string, string>), ...authorization(this.#target) };
    return { agent, options: { ...options, headers }, secure };
  }

  close(): void {
    this.#open.agent.destroy();
  }
}

function open(target: PageTarget): Connection {
  const { options, secure } = requestOptions(target);
  return { agent: new (secure ? HttpsAgent : HttpAgent)(KEPT), options, secure };
}

/**
 * The path with the slash at its end that the server asks for: python servers that mount their page do (LiteLLM 1.89.7).
 * The same server is asked again, whatever host it names; no other redirect is followed.
 */
function slashedPath(response: IncomingMessage, path: string | null | undefined): string | undefined {
  const { statusCode = 0, headers } = response;
  if (statusCode < 300 || statusCode > 399 || headers.location === undefined || !path) return undefined;
  const slashed = path.replace(/([^/?])(\?.*)?$/, "$1/$2");
  const base = "http://localhost";
  if (!URL.canParse(headers.location, base) || slashed === path) return undefined;
  const { pathname, search } = new URL(headers.location, base);
  return `${pathname}${search}` === slashed ? slashed : undefined;
}

function requestOptions(target: PageTarget): { options: RequestOptions; secure: boolean } {
  const headers = (host: string) => ({
    accept: ACCEPT,
    // On this host nothing is gained by it: it costs the server 3 ms of its event loop for 300 KB, and half a one here.
    "accept-encoding": isLoopbackHost(host) ? "identity" : "gzip",
    ...target.headers,
  });
  const unix = parseUnixSocket(target.url);
  if (unix !== undefined) {
    const { page = "/metrics", socket } = unix;
    return { options: { socketPath: socket, path: page, headers: headers("localhost") }, secure: false };
  }
  const { address: bare, credentials } = splitCredentials(target.url);
  const address = parseWebAddress(bare);
  if (isFault(address)) {
    throw new SourceError(
      "misconfigured",
      `Cannot read the address of a metric page: wanted ${address.wanted}`,
      {
        hint: address.hint,
      },
    );
  }
  const url = new URL(bare);
  const options: RequestOptions = {
    hostname: address.host,
    port: address.port,
    path: `${url.pathname}${url.search}`,
    headers: headers(address.host),
    ...(credentials === undefined ? {} : { auth: credentials }),
    ...(address.secure ? certificates(target) : {}),
  };
  return { options, secure: address.secure };
}

function certificates(target: PageTarget): { ca?: Buffer; cert?: Buffer; key?: Buffer } {
  const { caFile, certFile, keyFile } = target.tls ?? {};
  return {
    ...(caFile === undefined ? {} : { ca: fileOf(caFile, target) }),
    ...(certFile === undefined ? {} : { cert: fileOf(certFile, target) }),
    ...(keyFile === undefined ? {} : { key: fileOf(keyFile, target) }),
  };
}

function authorization(target: PageTarget): { authorization?: string } {
  if (target.bearerFile === undefined) return {};
  return { authorization: `Bearer ${fileOf(target.bearerFile, target).toString("utf8").trim()}` };
}

function fileOf(path: string, target: PageTarget): Buffer {
  try {
    return readFileOf(path);
  } catch (cause) {
    throw new SourceError(
      "transient",
      `Cannot read ${shownAddress(target.url)}: its file ${path}: ${(cause as FileError).reason}`,
      {
        cause,
      },
    );
  }
}

function isComplete({ headers }: IncomingMessage): boolean {
  const chunked = /chunked/i.test(headers["transfer-encoding"] ?? "");
  return chunked || headers["content-length"] !== undefined || inflaters[encodingOf(headers)] !== undefined;
}

const inflaters: Readonly<Record<string, () => Transform>> = {
  gzip: createGunzip,
  "x-gzip": createGunzip,
  deflate: createInflate,
  br: createBrotliDecompress,
};

function encodingOf(headers: IncomingMessage["headers"]): string {
  const encoding = headers["content-encoding"]?.trim().toLowerCase() ?? "";
  return encoding === "identity" ? "" : encoding;
}

/** The body as it was before it was compressed. Throws where it comes in a form that was not asked for and is not known. */
function inflated(response: IncomingMessage, target: PageTarget): Readable {
  const encoding = encodingOf(response.headers);
  if (encoding === "") return response;
  const create = inflaters[encoding];
  if (create === undefined) {
    response.destroy();
    throw new SourceError(
      "transient",
      `Cannot read ${shownAddress(target.url)}: its body is compressed as ${encoding.slice(0, 40)}, wanted gzip or none`,
      { hint: "the server, or a proxy before it, must honour accept-encoding: gzip" },
    );
  }
  const inflater = create();
  response.on("error", (error) => inflater.destroy(error));
  response.on("aborted", () =>
    inflater.destroy(new Error("the connection was closed in the middle of the page")),
  );
  return response.pipe(inflater);
}

/** What bytes are that cannot be a metric page; undefined where they can. */
export function notAPage(body: Uint8Array, contentType = ""): "a web page (HTML)" | "JSON" | undefined {
  const type = contentType.split(";")[0]?.trim().toLowerCase() ?? "";
  const start = Buffer.from(body.buffer, body.byteOffset, Math.min(200, body.length))
    .toString("latin1")
    .trimStart();
  if (type === "text/html" || /^<(!doctype|html|head|body)/i.test(start)) return "a web page (HTML)";
  // A brace may also open a quoted UTF-8 metric name, which a value follows.
  const quotedName = /^\{"[^"]*"[,}] ?\S*\s+[-+\d]/.test(start);
  if (type === "application/json" || (/^[[{]\s*["{[\]}]/.test(start) && !quotedName)) return "JSON";
  return undefined;
}

const HINTS = {
  "a web page (HTML)": "that is another service, or a login page: check port and path",
  JSON: "TensorRT-LLM's /metrics is JSON; its Prometheus page is /prometheus/metrics",
} as const;

/** Throws unless the answer can be a metric page. */
function refuseNonPages(url: string, response: IncomingMessage, body: Buffer): void {
  const { statusCode = 0, statusMessage = "" } = response;
  if (statusCode === 401 || statusCode === 403) {
    throw new SourceError("transient", `Cannot read ${url}: it answers ${statusCode}`, {
      hint: "set `bearerFile` or `headers`",
    });
  }
  const { location } = response.headers;
  if (statusCode >= 300 && statusCode < 400 && location !== undefined) {
    throw new SourceError(
      "transient",
      `Cannot read ${url}: it answers ${statusCode} and points to ${shownAddress(location).slice(0, 200)}`,
      { hint: "redirects are not followed: give that address as `endpoint` if it is the metric page" },
    );
  }
  if (statusCode !== 200) {
    throw new SourceError(
      "transient",
      `Cannot read ${url}: it answers ${statusCode} ${statusMessage}`.trim(),
      {
        hint: "check port and path; many servers need a flag before they publish metrics",
      },
    );
  }
  const foreign = notAPage(body, response.headers["content-type"]);
  if (foreign === undefined) return;
  throw new SourceError("transient", `Cannot read ${url}: it answers ${foreign}, wanted Prometheus text`, {
    hint: HINTS[foreign],
  });
}

function explainFetchError(error: unknown, target: PageTarget, late: boolean, unixMs: number): SourceError {
  if (error instanceof SourceError) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  const what = `Cannot read ${shownAddress(target.url)}`;
  if (late) {
    return new SourceError(
      "transient",
      `${what}: no full answer within ${target.timeoutMs ?? TIMEOUT_MS} ms`,
      { cause: error, peer: "late" },
    );
  }
  if (code === "ECONNREFUSED" || code === "ENOENT") {
    return new SourceError("transient", `${what}: nothing listens there`, {
      cause: error,
      peer: "nobody",
      hint: "start the server, or correct the address",
    });
  }
  if (code?.startsWith("HPE_") === true) {
    return new SourceError("transient", `${what}: the peer does not speak HTTP (${message})`, {
      cause: error,
      peer: "foreign",
      hint: "a gRPC port is read by a gRPC source such as servers.token-counters",
    });
  }
  const expired = expiredCertificate(target.tls?.certFile, unixMs);
  const renew = "renew the certificate of `tls.certFile`; it is taken up without a restart";
  const [reason, hint] =
    explainTls(`${code} ${message}`) ??
    (expired === undefined ? [message] : [`${expired} (${message})`, renew]);
  const options = { cause: error, ...(hint === undefined ? {} : { hint }) };
  return new SourceError("transient", `${what}: ${reason}`, options);
}
