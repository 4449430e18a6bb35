// http.port: whether the endpoint for /metrics and health can be opened.
import { createServer } from "node:net";
import { isFault, parseHostPort } from "../../platform/address.ts";
import { readStatus } from "../common/daemon-process.ts";
import type { Check, Finding } from "./check.ts";

const ID = "http.port";
const ASK_MS = 2000;

/** Tries to listen where `export.prometheus.listen` says. */
export const portCheck: Check = {
  ids: [ID],
  run: async (context) => {
    if (context.loaded === undefined) return [];
    const { listen, tls } = context.loaded.config.export.prometheus;
    if (listen === "") return [{ id: ID, verdict: "skip", seen: "export.prometheus.listen is off" }];
    return [await judgePort(listen, tls)];
  },
};

/** The verdict on an address to listen on. A running tokenwatt may hold it. Exported for its test: addresses of every kind. */
export async function judgePort(listen: string, tls?: object): Promise<Finding> {
  const code = await listenError(listen);
  if (code === undefined) return { id: ID, verdict: "ok", seen: `${listen} is free` };
  if (code === "EADDRINUSE" && (await readStatus({ listen, tls }, ASK_MS)) !== undefined) {
    return { id: ID, verdict: "ok", seen: `${listen} is held by a running tokenwatt` };
  }
  return {
    id: ID,
    verdict: "fail",
    seen: `cannot listen on ${listen}: ${code}`,
    remedy: REMEDIES[code] ?? REMEDY,
  };
}

const REMEDY = 'choose another address with export.prometheus.listen, or "" for none';
const REMEDIES: Readonly<Record<string, string>> = {
  EADDRINUSE: `another program listens there (\`ss -ltnp\` names it); ${REMEDY}`,
  EACCES: `ports below 1024 need a capability; ${REMEDY}`,
  EADDRNOTAVAIL: `this host has no such address; ${REMEDY}`,
};

/** Why nothing can listen on `host:port`, as an error code, or undefined when it is free. */
export function listenError(listen: string): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  const address = parseHostPort(listen, { anyPort: true });
  if (isFault(address)) return Promise.resolve(`wanted ${address.wanted}`);
  const server = createServer();
  server.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
  server.listen({ ...address, exclusive: true }, () => server.close(() => resolve(undefined)));
  return promise;
}
