// What the books must know of GPUs and servers to book an interval, as the last readings told it.

import type { BookFacts } from "../meter/books.ts";
import type { Increments } from "../meter/counters/increments.ts";
import type { GpuInfo, ServerInfo, TokenSample } from "../model.ts";

/** What intake.ts remembers of it. */
export interface KnownNow {
  readonly gpus: ReadonlyMap<string, GpuInfo>;
  readonly servers: ReadonlyMap<string, ServerInfo>;
  readonly lastTokenSamples: ReadonlyMap<string, TokenSample>;
}

/** Facts for `Books.post`, read when asked. */
export function bookFacts(known: KnownNow, increments: Increments): BookFacts {
  const { gpus, lastTokenSamples, servers } = known;
  return {
    gpus,
    servers,
    soleModel: (server) => increments.soleModel(server),
    waiting: (server) => waiting(lastTokenSamples.get(server)),
    whole: (server) => whole(server, known),
  };
}

/** Requests a server has queued; undefined when it cannot say. */
function waiting(sample: TokenSample | undefined): number | undefined {
  const told = sample?.readings.flatMap((reading) => reading.waiting ?? []) ?? [];
  return told.length === 0 ? undefined : told.reduce((sum, value) => sum + value, 0);
}

/**
 * False as soon as the configuration or the server itself names a GPU that is not on this host, or a part of it is a
 * prefill or decode worker: its rate is then not that of the GPUs seen here. A server that names none counts as whole:
 * its processes were placed here, and nothing tells of others.
 */
function whole(server: string, { gpus, lastTokenSamples, servers }: KnownNow): boolean {
  const sample = lastTokenSamples.get(server);
  const named = [...(servers.get(server)?.gpus ?? []), ...(sample?.gpus ?? [])];
  if (sample?.readings.some(({ role }) => role !== "combined") === true) return false;
  const here = new Set([...gpus.values()].flatMap(({ parent, uuid }) => [uuid, parent]));
  return named.every((gpu) => here.has(gpu));
}
