// A watch over a fake kubelet's sockets, and page servers for its pods, shared by the tests of KubernetesWatch.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import type { Config } from "../../agent/config/load.ts";
import { KubernetesWatch } from "../../agent/discovery/kubernetes.ts";
import type { ServerInfo, TokenSample } from "../../agent/model.ts";
import { virtualClock } from "../../agent/platform/clock.ts";
import { silentLog } from "../../agent/platform/log.ts";
import type { ServerSource } from "../../agent/source.ts";
import type { FakeKubelet } from "../fakes/kubelet.ts";

type Closing = (() => unknown)[];

/** A server with a metric page of vLLM, until it shows another recording or none; counts who asks it. */
export async function servePage(
  closing: Closing,
): Promise<{ port: number; asked: () => number; show: (name: string | undefined) => void }> {
  const read = (name: string): string =>
    readFileSync(fileURLToPath(new URL(`../fixtures/servers/${name}.prom`, import.meta.url)), "utf8");
  let page: string | undefined = read("vllm-0.16-two-engines");
  let asked = 0;
  const server = createServer((request, response) => {
    asked++;
    const shown = request.url === "/metrics" ? page : undefined;
    response.writeHead(shown === undefined ? 404 : 200).end(shown);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closing.push(() => {
    server.close();
    server.closeAllConnections();
  });
  const show = (name: string | undefined): void => {
    page = name === undefined ? undefined : read(name);
  };
  return { port: (server.address() as AddressInfo).port, asked: () => asked, show };
}

/** A watch over that kubelet that keeps what it takes in. */
export function watchKubelet(
  kubelet: FakeKubelet,
  closing: Closing,
  more: Partial<Config["discovery"]> = {},
  health?: Map<string, { ok: boolean }>,
) {
  const clock = virtualClock(0n);
  const servers = new Map<string, ServerInfo>();
  const sources = new Map<string, ServerSource>();
  const lastTokenSamples = new Map<string, TokenSample>();
  const pipeline = {
    intake: { servers, lastTokenSamples, ...(health === undefined ? {} : { health }) },
    addServer: (source: ServerSource) => {
      servers.set(source.info.id, source.info);
      sources.set(source.info.id, source);
    },
    removeServer: async (source: ServerSource) => {
      servers.delete(source.info.id);
      await source.close();
    },
  };
  const { podsSocket, podResourcesSocket } = kubelet;
  const sockets = { podsSocket, podResourcesSocket };
  const discovery = {
    enabled: true,
    kubernetes: "auto" as const,
    trustedNamespaces: [],
    ...sockets,
    ...more,
  };
  const context = { clock, log: silentLog, signal: new AbortController().signal };
  const watched = new KubernetesWatch({ context, pipeline, discovery, scrapeMs: 5000 });
  closing.push(() => watched.stop());
  closing.push(() => Promise.all([...sources.values()].map((source) => source.close())));
  return { watched, servers, sources, lastTokenSamples, clock };
}

/** Annotations that name a port. */
export const annotated = (port: number, more: Record<string, string> = {}) => ({
  "tokenwatt.io/port": String(port),
  ...more,
});
