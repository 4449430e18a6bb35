// Where a metric page is, and what a request for it must say: its address, headers, credentials and files.
// Asks for text/plain 0.0.4 alone, because any mention of OpenMetrics makes python servers rename their samples
// (facts: prometheus_client 0.26).
import { isIP } from "node:net";
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
import { SourceError } from "../source.ts";
import type { PeerAddress } from "./http/connection.ts";
import type { RequestHead } from "./http/request.ts";

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

/** A target with its address read; its certificates are as they were then. */
export interface ReadTarget {
  readonly address: PeerAddress;
  readonly path: string;
  readonly head: RequestHead;
}

const ACCEPT = "text/plain;version=0.0.4";

/** Reads a target. Throws SourceError: misconfigured where its address, transient where a certificate cannot be read. */
export function readTarget(target: PageTarget): ReadTarget {
  const unix = parseUnixSocket(target.url);
  if (unix !== undefined) {
    const head = { host: "localhost", headers: headersFor("localhost", target), credentials: undefined };
    const address = { secure: false, options: { path: unix.socket } } as const;
    return { address, path: unix.page ?? "/metrics", head };
  }
  const { address: bare, credentials } = splitCredentials(target.url);
  const web = parseWebAddress(bare);
  if (isFault(web)) {
    throw new SourceError("misconfigured", `Cannot read the address of a metric page: wanted ${web.wanted}`, {
      hint: web.hint,
    });
  }
  const { host, port, secure } = web;
  // Its host is in ASCII, as a request and a certificate have it, and without the port that goes without saying.
  const { host: shown, pathname, search } = new URL(bare);
  const headers = headersFor(host, target);
  const head = { host: shown, headers, credentials };
  const options = { host, port };
  if (!secure) return { address: { secure, options }, path: `${pathname}${search}`, head };
  const tls = {
    ...options,
    ...certificates(target),
    ...askedName(shown, headers),
    ALPNProtocols: ["http/1.1"],
  };
  return { address: { secure, options: tls }, path: `${pathname}${search}`, head };
}

/** The header a bearer file asks for, with what the file says now. Throws SourceError (transient). */
export function authorization(target: PageTarget): { authorization?: string } {
  if (target.bearerFile === undefined) return {};
  return { authorization: `Bearer ${fileOf(target.bearerFile, target).toString("utf8").trim()}` };
}

function headersFor(host: string, target: PageTarget): Record<string, string> {
  return {
    accept: ACCEPT,
    // On this host nothing is gained by it: it costs the server 3 ms of its event loop for 300 KB, and half a one here.
    "accept-encoding": isLoopbackHost(host) ? "identity" : "gzip",
    ...target.headers,
  };
}

/** The name a certificate must be for: the one in a `host` header of the target's own, else the address'. */
function askedName(host: string, headers: Readonly<Record<string, string>>): { servername?: string } {
  const own = Object.entries(headers).find(([name]) => name.toLowerCase() === "host")?.[1];
  const name = (own ?? host).replace(/:\d*$/, "").replace(/^\[|\]$/g, "");
  return isIP(name) === 0 ? { servername: name } : {};
}

function certificates(target: PageTarget): { ca?: Buffer; cert?: Buffer; key?: Buffer } {
  const { caFile, certFile, keyFile } = target.tls ?? {};
  return {
    ...(caFile === undefined ? {} : { ca: fileOf(caFile, target) }),
    ...(certFile === undefined ? {} : { cert: fileOf(certFile, target) }),
    ...(keyFile === undefined ? {} : { key: fileOf(keyFile, target) }),
  };
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
