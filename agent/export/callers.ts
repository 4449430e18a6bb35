// Who asks at the endpoint and what became of it, in the words of the audit record.
import type { ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import type { AccessResult } from "../platform/access-counts.ts";
import { isLoopbackHost } from "../platform/address.ts";
import { clientCertificateName } from "../platform/tls.ts";
import { socketUnder } from "./connections.ts";

/** Who asks: the subject of a client certificate, else where it comes from. */
export function nameOf(connection: Duplex): string {
  const socket = socketUnder(connection);
  const address = socket.remoteAddress ?? "";
  const place = isLoopbackHost(address) ? "loopback" : `address ${address.replace(/^::ffff:(?=\d+\.)/i, "")}`;
  return clientCertificateName(socket) ?? place;
}

/**
 * What became of a request: that the agent is not healthy or not ready yet is an answer too, and a stream is one however
 * its reader leaves.
 */
export function resultOf(response: ServerResponse): AccessResult {
  const { headersSent, req, statusCode, writableFinished } = response;
  const isStream = headersSent && /\btext\/event-stream\b/i.test(req.headers.accept ?? "");
  if (!writableFinished && !isStream) return "broken";
  if (statusCode < 400 || statusCode >= 500) return "ok";
  return statusCode === 421 ? "refused" : "malformed";
}
