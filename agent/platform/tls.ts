// TLS files, the same for all who listen and all who call: the config sections, what is read from the files, and taking
// up files that were replaced. Files that do not fit together (one of a pair replaced so far) leave the old ones in use.
import { X509Certificate } from "node:crypto";
import { statSync } from "node:fs";
import type { Socket } from "node:net";
import type { TlsOptions } from "node:tls";
import { TLSSocket } from "node:tls";
import { z } from "zod";
import { readFileOf } from "./files.ts";
import type { Log } from "./log.ts";

const file = z.string().min(1).optional();

/** The files of one who calls: `tls: {caFile, certFile, keyFile}`. */
export const callTls = z
  .strictObject({ caFile: file, certFile: file, keyFile: file })
  .superRefine((tls, context) => {
    for (const [key, other] of [
      ["keyFile", "certFile"],
      ["certFile", "keyFile"],
    ] as const) {
      if (tls[key] !== undefined || tls[other] === undefined) continue;
      const params = { hint: "certFile and keyFile together, or neither" };
      context.addIssue({ code: "custom", path: [key], message: `a file, since ${other} is set`, params });
    }
  });

/** The files of one who listens: `tls: {certFile, keyFile, clientCaFile}`. */
export const listenTls = z.strictObject({
  certFile: z.string().min(1),
  keyFile: z.string().min(1),
  clientCaFile: file.describe("Only peers with a certificate of this authority are answered."),
});

/** The TLS files of a listener, as configured. */
export type ListenTls = z.output<typeof listenTls>;

/** What a TLS server of Node wants, read from the files. Throws when one cannot be read. */
export function readTls(tls: ListenTls): TlsOptions {
  const { certFile, clientCaFile, keyFile } = tls;
  return {
    cert: readFileOf(certFile),
    key: readFileOf(keyFile),
    ...(clientCaFile === undefined
      ? {}
      : { ca: readFileOf(clientCaFile), requestCert: true, rejectUnauthorized: true }),
  };
}

/** Changes when one of the files was replaced, went or came back. Never throws. */
export function filesState(files: readonly (string | undefined)[]): string {
  return files.map(fileState).join();
}

function fileState(path: string | undefined): string {
  if (path === undefined) return "";
  try {
    const { ctimeMs, ino, mtimeMs, size } = statSync(path);
    return `${ino} ${mtimeMs} ${ctimeMs} ${size}`;
  } catch (error) {
    // Gone, or in a folder that may not be looked into: whoever reads it says so.
    return String((error as NodeJS.ErrnoException).code);
  }
}

/** The part of a tls.Server or https.Server that takes up new files. */
interface SecureServer {
  prependListener(event: "connection", listener: (socket: Socket) => void): unknown;
  on(event: "tlsClientError", listener: (error: Error, socket: TLSSocket) => void): unknown;
  setSecureContext(options: TlsOptions): void;
}

/**
 * A server that takes up replaced files before a connection's handshake; connections there are keep theirs. Files that
 * cannot be used are tried and told once, and again when they change. Throws where the first ones cannot be used.
 */
export function serveTls<Listener extends SecureServer>(
  tls: ListenTls,
  log: Log,
  create: (options: TlsOptions) => Listener,
): Listener {
  const files = [tls.certFile, tls.keyFile, tls.clientCaFile];
  // Before they are read: what is replaced in between is taken up with the next connection.
  let tried = filesState(files);
  const server = create(readTls(tls));
  if (tls.clientCaFile !== undefined) reportRefusals(server, log);
  server.prependListener("connection", () => {
    const now = filesState(files);
    if (now === tried) return;
    tried = now;
    try {
      server.setSecureContext(readTls(tls));
      log.info("took up new TLS files", { files: files.filter((path) => path !== undefined) });
    } catch (error) {
      const hint = "the files before are still in use; certFile and keyFile must belong together";
      log.error("cannot take up new TLS files", { cause: (error as Error).message, hint });
    }
  });
  return server;
}

/** Why a peer's certificate was not believed, by Node's code (`authorizationError`). */
const REFUSALS: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: "its client certificate has expired",
  CERT_NOT_YET_VALID: "its client certificate is not valid yet, or a clock is wrong",
  ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE: "it showed no client certificate",
};

/** Says which callers a listener turns away and why: they see no more than a closed connection. */
function reportRefusals(server: SecureServer, log: Log): void {
  server.on("tlsClientError", (error: NodeJS.ErrnoException, socket: TLSSocket) => {
    const code = String(socket.authorizationError ?? error.code ?? error.message);
    // Who leaves before the handshake ends, or does not speak TLS, is no caller that was refused.
    if (socket.authorizationError == null && REFUSALS[code] === undefined) return;
    const { remoteAddress: peer } = socket;
    log.warn("refused a caller", {
      cause: REFUSALS[code] ?? `its client certificate is not of clientCaFile (${code})`,
      ...(peer === undefined ? {} : { peer }),
      hint: "the caller needs a valid certificate of the authority in clientCaFile",
    });
  });
}

/** Which certificate of ours has expired: "tls.certFile /path expired on 2026-01-01"; undefined while it is valid. */
export function expiredCertificate(certFile: string | undefined, unixMs: number): string | undefined {
  if (certFile === undefined) return undefined;
  try {
    const until = new X509Certificate(readFileOf(certFile)).validToDate;
    if (until.getTime() > unixMs) return undefined;
    return `our client certificate ${certFile} expired on ${until.toISOString().slice(0, 10)}`;
  } catch {
    // What cannot be read fails the connection, and is named there.
    return undefined;
  }
}

/** What a failed TLS connection means: what the peer did, and what helps. */
export type TlsFailure = readonly [reason: string, hint: string];

const FAILURES: readonly (readonly [RegExp, string, string])[] = [
  [
    /unable to (verify the first|get (local )?issuer) certificate|self[- ]signed certificate|UNABLE_TO_|SELF_SIGNED/,
    "its certificate is not signed by an authority trusted here",
    "set `tls.caFile` to the certificate of the authority that signed it",
  ],
  [
    /ALTNAME|altnames/,
    "its certificate is for another name",
    "call it by a name or address its certificate holds",
  ],
  [
    /certificate (has expired|is not yet valid)|CERT_(HAS_EXPIRED|NOT_YET_VALID)/,
    "its certificate has expired or is not valid yet",
    "renew its certificate, or set this host's clock right",
  ],
  [
    /alert certificate expired/i,
    "it refuses our client certificate: it has expired",
    "renew the certificate of `tls.certFile`; it is taken up without a restart",
  ],
  [
    /alert certificate required/i,
    "it answers only peers with a client certificate",
    "set `tls.certFile` and `tls.keyFile`",
  ],
  [
    /alert (unknown ca|bad certificate|certificate \w+|access denied|decrypt error)/i,
    "it refuses our client certificate",
    "`tls.certFile` must be signed by an authority it trusts, and be valid now",
  ],
  [
    /wrong version number|WRONG_VERSION/i,
    "it does not speak TLS",
    "leave out the key `tls` (or `https://`), or correct the port",
  ],
  [
    /key values mismatch|KEY_VALUES_MISMATCH/i,
    "our certificate and key do not belong together",
    "`tls.certFile` and `tls.keyFile` must be a pair; both are read again for the next attempt",
  ],
  [
    /no start line|PEM routines|PEM_|DECODER routines/i,
    "a file of `tls` is no PEM file",
    "certificates and keys must be PEM (-----BEGIN ...)",
  ],
];

/** Says what an error text of OpenSSL or Node means; undefined where it is about something else. */
export function explainTls(text: string): TlsFailure | undefined {
  const found = FAILURES.find(([pattern]) => pattern.test(text));
  return found === undefined ? undefined : [found[1], found[2]];
}

/** Who showed the certificate that was checked: its subject, else the names it holds; undefined where none was. */
export function clientCertificateName(socket: Socket): string | undefined {
  if (!(socket instanceof TLSSocket) || !socket.authorized) return undefined;
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) return undefined;
  return `certificate ${certificate.subject || certificate.subjectAltName || certificate.fingerprint256}`;
}
