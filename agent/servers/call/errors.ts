// What a failed gRPC call means, in words that say what to do. Facts: grpc-js 1.14 puts connection failures, an HTTP/1
// answer and a refused certificate all into UNAVAILABLE with different details; HTTP/2 answers that are not gRPC become
// the code of their HTTP status ("Received HTTP status code 404"); "Failed to connect" means that the peer closed the
// connection before HTTP/2 began, as one does that wants TLS or another client certificate, and Triton's HTTP ports (2.51).

import { FileError } from "../../platform/files.ts";
import type { GrpcTarget, ServiceError } from "../../platform/grpc.ts";
import { status } from "../../platform/grpc.ts";
import { expiredCertificate, explainTls } from "../../platform/tls.ts";
import { SourceError } from "../../source.ts";

/** The certificate shown to the peer, and the time now: a peer that does not believe it closes the connection in silence. */
export interface ShownCertificate {
  readonly tls?: GrpcTarget["tls"] | undefined;
  readonly unixNanos: bigint;
}

/** A SourceError for a failed call of `service` at `target`; errors that already are one pass unchanged. */
export function explainGrpcError(
  error: unknown,
  service: string,
  target: string,
  shown?: ShownCertificate,
): SourceError {
  if (error instanceof SourceError) return error;
  const what = `Cannot read ${service} at ${target}`;
  const [reason, hint] =
    explainLocal(error) ?? explainCall(error as Partial<ServiceError>, service, expiredOf(shown));
  const seen = reason ?? (error instanceof Error ? error.message : String(error));
  return new SourceError("transient", `${what}: ${seen}`, {
    cause: error,
    ...(hint === undefined ? {} : { hint }),
  });
}

/** A file that cannot be opened, or files that cannot be used: thrown before anything was sent. */
function explainLocal(error: unknown): readonly [string, string] | undefined {
  const { code, message = "" } = error as NodeJS.ErrnoException;
  if (typeof code === "number") return undefined;
  if (error instanceof FileError)
    return [`its file ${error.path}: ${error.reason}`, "correct the path or its permissions"];
  return explainTls(message);
}

function expiredOf(shown: ShownCertificate | undefined): string | undefined {
  if (shown === undefined || typeof shown.tls !== "object") return undefined;
  return expiredCertificate(shown.tls.certFile, Number(shown.unixNanos / 1_000_000n));
}

function explainCall(
  { code, details = "" }: Partial<ServiceError>,
  service: string,
  expired: string | undefined,
): readonly [string | undefined, string?] {
  const tls = code === status.UNAVAILABLE ? explainTls(details) : undefined;
  if (tls !== undefined) return tls;
  if (code === status.UNIMPLEMENTED || /HTTP status code (404|405|415|200)/.test(details)) {
    return [
      `the server there does not offer ${service} (${details || "UNIMPLEMENTED"})`,
      "check the port; `tokenwatt probe grpc://host:port` shows what is served there",
    ];
  }
  if (code === status.UNAVAILABLE && /ECONNREFUSED/.test(details)) {
    return ["nothing listens there", "start the server, or correct the port"];
  }
  if (code === status.UNAVAILABLE && expired !== undefined && !/Name resolution failed/.test(details)) {
    const renew = "renew the certificate of `tls.certFile`; it is taken up without a restart";
    return [`${expired} (${details})`, renew];
  }
  if (code === status.UNAVAILABLE && /Failed to connect|socket hang up|ECONNRESET|EPIPE/.test(details)) {
    return [
      "it closes the connection before a call can be made",
      "it may want TLS (key `tls`), refuse the certificate of `tls.certFile`, or be no gRPC server: a metrics port is " +
        "read by a text source such as servers.vllm",
    ];
  }
  if (code === status.UNAVAILABLE && /Name resolution failed|ENOTFOUND|EAI_AGAIN/.test(details)) {
    return ["its name cannot be resolved", "correct the name, or write the address"];
  }
  if (code === status.UNAVAILABLE && /Protocol error|Parse Error|HTTP_1_1_REQUIRED/i.test(details)) {
    return [
      `the peer does not speak gRPC in the clear or over TLS as configured (${details})`,
      "an HTTP or metrics port is read by a text source such as servers.vllm; else check the key `tls`",
    ];
  }
  // Triton's --grpc-restricted-protocol answers UNAVAILABLE and names the header it misses.
  const header = /restricted, expecting header '([^']+)'/.exec(details)?.[1];
  if (header !== undefined) return [`refused: ${details}`, `set "${header}" under \`headers\``];
  if (code === status.UNAUTHENTICATED || code === status.PERMISSION_DENIED) {
    return [`refused: ${details || "no permission"}`, "set `bearerFile`, `headers` or a client certificate"];
  }
  if (code === status.RESOURCE_EXHAUSTED && /larger than max/.test(details)) {
    return [`the answer is too large (${details})`, "raise `receiveBytesMax`"];
  }
  if (code === status.FAILED_PRECONDITION) {
    return [
      `refused: ${details || "FAILED_PRECONDITION"}`,
      "they speak no common version: update the older one",
    ];
  }
  if (code === status.DEADLINE_EXCEEDED) return [`no answer in time (${details || "deadline exceeded"})`];
  return [details === "" ? undefined : `${details} (${nameOf(code)})`];
}

function nameOf(code: number | undefined): string {
  return code === undefined ? "no status" : (status[code] ?? `status ${code}`);
}
