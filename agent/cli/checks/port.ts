// http.port: whether the endpoint for /metrics and health can be opened.
import { createServer } from "node:net";
import type { Check, CheckContext, Finding } from "./check.ts";
import { within } from "./check.ts";

const ID = "http.port";
const ASK_MS = 2000;

export const portCheck: Check = {
  ids: [ID],
  run: async (context) => {
    if (context.loaded === undefined) return [];
    const listen = context.loaded.config.export.prometheus.listen;
    if (listen === "") return [{ id: ID, verdict: "skip", seen: "export.prometheus.listen is off" }];
    return [await judgePort(context, listen)];
  },
};

/** The verdict on an address to listen on. A running tokenwatt may hold it. */
export async function judgePort(context: CheckContext, listen: string): Promise<Finding> {
  const split = listen.lastIndexOf(":");
  const host = listen.slice(0, split).replaceAll(/[[\]]/g, "");
  const port = Number(listen.slice(split + 1));
  const code = await listenError(host, port);
  if (code === undefined) return { id: ID, verdict: "ok", seen: `${listen} is free` };
  if (code === "EADDRINUSE" && (await answersAsTokenwatt(context, host, port))) {
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

function listenError(host: string, port: number): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  const server = createServer();
  server.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
  server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(undefined)));
  return promise;
}

async function answersAsTokenwatt(context: CheckContext, host: string, port: number): Promise<boolean> {
  const reachable = host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host;
  const name = reachable.includes(":") ? `[${reachable}]` : reachable;
  try {
    const ask = fetch(`http://${name}:${port}/-/status`).then((answer) => answer.text());
    return (await within(context, ASK_MS, "asking the port", ask)).includes("tokenwatt");
  } catch {
    return false;
  }
}
