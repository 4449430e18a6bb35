// TLS of the agent's own endpoints: the config section, the files, and taking up files that were replaced.
import { readFileSync, statSync } from "node:fs";
import type { Server } from "node:https";
import { z } from "zod";
import type { Log } from "../log.ts";

/** The section `export.prometheus.tls`. */
export const listenTls = z
  .strictObject({
    certFile: z.string().min(1),
    keyFile: z.string().min(1),
    clientCaFile: z
      .string()
      .min(1)
      .optional()
      .describe("Only peers with a certificate of this authority are answered."),
  })
  .describe("Serve /metrics and /-/ over TLS; replaced files are taken up with the next connection.");

export type ListenTls = z.output<typeof listenTls>;

/** What node:https wants, read from the files. Throws when one cannot be read. */
export function readTls(tls: ListenTls) {
  const { certFile, clientCaFile, keyFile } = tls;
  return {
    cert: readFileSync(certFile),
    key: readFileSync(keyFile),
    ...(clientCaFile === undefined
      ? {}
      : { ca: readFileSync(clientCaFile), requestCert: true, rejectUnauthorized: true }),
  };
}

/** Takes up replaced files before a connection's handshake; files that do not fit together leave the old ones in use. */
export function watchTls(server: Server, tls: ListenTls, log: Log): void {
  let state = stateOf(tls);
  server.prependListener("connection", () => {
    try {
      const now = stateOf(tls);
      if (now === state) return;
      server.setSecureContext(readTls(tls));
      state = now;
      log.info("took up new TLS files", { source: "http", files: [tls.certFile, tls.keyFile] });
    } catch (error) {
      log.error("cannot take up new TLS files", { source: "http", cause: (error as Error).message });
    }
  });
}

function stateOf({ certFile, clientCaFile, keyFile }: ListenTls): string {
  return [certFile, keyFile, clientCaFile]
    .map((path) => {
      if (path === undefined) return "";
      const { ino, mtimeMs, size } = statSync(path);
      return `${ino} ${mtimeMs} ${size}`;
    })
    .join();
}
