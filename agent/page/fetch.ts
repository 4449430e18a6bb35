// One GET for a metric page: over http, https or a unix socket, with a deadline and a bound on the inflated size.
// Answers that are no metric page (HTML, JSON) end in an error that says so.
import { shownAddress } from "../platform/address.ts";
import { expiredCertificate, explainTls } from "../platform/tls.ts";
import type { SourceContext } from "../source.ts";
import { SourceError } from "../source.ts";
import { Exchange } from "./exchange.ts";
import type { Connection } from "./http/connection.ts";
import type { AnswerHead } from "./http/head.ts";
import { ForeignAnswer } from "./http/head.ts";
import { isComplete, PageBody } from "./page-body.ts";
import { PageBuffer } from "./page-buffer.ts";
import { Peer } from "./peer.ts";
import type { PageTarget } from "./target.ts";

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

const TIMEOUT_MS = 5000;
const BYTES_MAX = 32 * 1024 * 1024;

/** A fetcher for `target`. Throws SourceError (misconfigured) when the address or a certificate cannot be read. */
export function createPageFetcher(target: PageTarget, context: Pick<SourceContext, "clock">): PageFetcher {
  const { clock } = context;
  const peer = new Peer(target, clock);
  const shown = shownAddress(target.url);
  const timeoutMs = target.timeoutMs ?? TIMEOUT_MS;
  const limit = target.bytesMax ?? BYTES_MAX;
  let { path } = peer;
  /** The connection of the page before. */
  let carrier: Connection | undefined;
  const receive = async (buffer: PageBuffer, stop: AbortSignal | undefined): Promise<FetchedPage> => {
    const exchange = new Exchange(clock, timeoutMs, stop);
    const body = new PageBody(buffer, shown);
    exchange.holds(body);
    try {
      let answer = await peer.ask(path, body, exchange);
      const slashed = slashedPath(answer.head, peer.path);
      if (slashed !== undefined) {
        path = slashed;
        answer = await peer.ask(path, body, exchange);
      }
      const { head } = answer;
      if (head.status !== 200) path = peer.path;
      refuseFailures(shown, head);
      const bytes = await body.whole();
      refuseNonPages(shown, head, bytes);
      const renewed = carrier !== answer.carrier;
      carrier = answer.carrier;
      return { body: bytes, headers: head.headers, renewed, complete: isComplete(head) };
    } catch (error) {
      body.destroy(error as Error);
      const unixMs = Number(clock.unixNanos(clock.now()) / 1_000_000n);
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
    close: () => peer.close(),
  };
}

/**
 * The path with the slash at its end that the server asks for: python servers that mount their page do (LiteLLM 1.89.7).
 * The same server is asked again, whatever host it names; no other redirect is followed.
 */
function slashedPath({ headers, status }: AnswerHead, path: string): string | undefined {
  const location = locationOf(headers);
  if (status < 300 || status > 399 || location === undefined) return undefined;
  const slashed = path.replace(/([^/?])(\?.*)?$/, "$1/$2");
  const base = "http://localhost";
  if (!URL.canParse(location, base) || slashed === path) return undefined;
  const { pathname, search } = new URL(location, base);
  return `${pathname}${search}` === slashed ? slashed : undefined;
}

function locationOf(headers: AnswerHead["headers"]): string | undefined {
  return headers["location"] as string | undefined;
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

/** Throws where the answer says that there is no page. */
function refuseFailures(url: string, { headers, reason, status }: AnswerHead): void {
  if (status === 401 || status === 403) {
    throw new SourceError("transient", `Cannot read ${url}: it answers ${status}`, {
      hint: "set `bearerFile` or `headers`",
    });
  }
  const location = locationOf(headers);
  if (status >= 300 && status < 400 && location !== undefined) {
    throw new SourceError(
      "transient",
      `Cannot read ${url}: it answers ${status} and points to ${shownAddress(location).slice(0, 200)}`,
      { hint: "redirects are not followed: give that address as `endpoint` if it is the metric page" },
    );
  }
  if (status !== 200) {
    throw new SourceError("transient", `Cannot read ${url}: it answers ${status} ${reason}`.trim(), {
      hint: "check port and path; many servers need a flag before they publish metrics",
    });
  }
}

/** Throws unless the body can be a metric page. */
function refuseNonPages(url: string, { headers }: AnswerHead, body: Buffer): void {
  const foreign = notAPage(body, headers["content-type"] as string | undefined);
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
  if (error instanceof ForeignAnswer) {
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
