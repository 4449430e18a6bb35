// From snapshots of tokenwatt.v1 to samples on the agent's clock.
// A snapshot stands for the instant its server's uptime says: uptime plus the smallest (received - uptime) of the last
// minute, so that network delay shifts it by the least delay only. The contract promises that a label set absent from
// a snapshot has counted nothing in its epoch: samples are complete.

import type { Nanos, Outcome, ServerInfo, TokenKind, TokenReading, TokenSample } from "../../model.ts";
import type { Clock } from "../../platform/clock.ts";
import { defined } from "../entry.ts";
import type { CounterSet, DecodedWatch, ServerSnapshot } from "./messages.ts";

const NANOS_PER_SECOND = 1_000_000_000;
const DELAYS_KEPT = 60;
/** Servers behind one target, over its whole life: each is remembered by the meter. */
const SERVERS_MAX = 1000;
/** A snapshot that claims to be older than this is taken to be of the instant it came. */
const AGE_MAX_NANOS = 2 * NANOS_PER_SECOND;

/** Turns the messages of one target into samples, over any number of streams. */
export interface WatchReadings {
  /** One sample per server in the message; servers named twice, and those over the bound, are dropped and counted. */
  readMessage(message: DecodedWatch, received: Nanos): TokenSample[];
  /** The servers of the last message, or the target itself where it names none. */
  names(): readonly string[];
  /** Servers the message before the last one named, and the last one did not. */
  vanished(): readonly string[];
}

/** Readings of the target `info`; `aliases` maps the server's model names to served ones. */
export function watchReadings(
  info: ServerInfo,
  aliases: Readonly<Record<string, string>> | undefined,
  clock: Pick<Clock, "now">,
): WatchReadings {
  let names: readonly string[] = [];
  let vanished: readonly string[] = [];
  const known = new Set<string>();
  const instant = snapshotClock();
  return {
    names: () => (names.length > 0 ? names : [info.id]),
    vanished: () => vanished,
    readMessage: (message, received) => {
      const at = instant(message.uptimeNanos, Math.min(received, clock.now()));
      const { servers, ignored, errors } = distinct(info, message, known);
      const samples = [...servers].map(([name, server], index) => ({
        server: name,
        family: server.family ?? info.family,
        sent: at,
        received,
        at,
        readings: readingsOf(server, info, aliases, at),
        ...defined({
          activeNanos: server.activeNanos,
          completeEpoch: server.epochId === "" ? undefined : server.epochId,
          gpus: server.gpus,
          pids: server.pids,
          version: server.version === "" ? undefined : server.version,
        }),
        ignoredSamples: index === 0 ? ignored : 0,
        errors: index === 0 ? errors : [],
      }));
      vanished = names.filter((name) => !servers.has(name));
      names = [...servers.keys()];
      return samples;
    },
  };
}

/** The servers of a message by name; `known` grows by those seen first. */
function distinct(
  info: ServerInfo,
  message: DecodedWatch,
  known: Set<string>,
): { servers: Map<string, ServerSnapshot>; ignored: number; errors: readonly string[] } {
  const servers = new Map<string, ServerSnapshot>();
  let [twice, over] = [0, 0];
  for (const server of message.servers) {
    const name = nameOf(info, server);
    if (servers.has(name)) twice++;
    else if (!known.has(name) && known.size >= SERVERS_MAX) over++;
    else {
      known.add(name);
      servers.set(name, server);
    }
  }
  const errors = [...message.errors];
  if (twice > 0) errors.push(`${twice} servers with an id that another one has were dropped`);
  if (over > 0) errors.push(`${over} servers above the limit of ${SERVERS_MAX} per target were dropped`);
  return { servers, ignored: message.ignored + twice + over, errors };
}

function nameOf(info: ServerInfo, server: ServerSnapshot): string {
  const own = server.serverId ?? "";
  return own === "" || own === info.id ? info.id : `${info.id}/${own}`;
}

function readingsOf(
  server: ServerSnapshot,
  info: ServerInfo,
  aliases: Readonly<Record<string, string>> | undefined,
  at: Nanos,
): TokenReading[] {
  const whole = defined({ running: server.running, waiting: server.waiting });
  const shared = { role: server.role ?? "combined", volume: server.movement ?? "step" } as const;
  const epoch = defined({
    epoch: server.epochId === "" ? undefined : server.epochId,
    epochBegan: server.epochUptimeNanos === undefined ? undefined : at - server.epochUptimeNanos,
  });
  if (server.counters.length === 0) return [{ ...shared, tokens: {}, requests: {}, ...whole, ...epoch }];
  return server.counters.map((set, index) => {
    const model =
      set.model === undefined || set.model === "" ? undefined : (aliases?.[set.model] ?? set.model);
    return {
      ...shared,
      ...epoch,
      ...tokensOf(set),
      requests: set.requests ?? {},
      // The server's own in-flight figures belong to no label set; they are said once.
      ...(index === 0 ? whole : {}),
      ...defined({
        model,
        tenant: set.tenant === "" ? undefined : set.tenant,
        endpoint: set.endpoint === undefined || set.endpoint === "" ? info.endpoint : set.endpoint,
        reasoningTokens: set.reasoningTokens,
        running: set.running,
        waiting: set.waiting,
        kvCacheUtilization: set.kvCacheUtilization,
        latencies: set.latencies,
      }),
    };
  });
}

function tokensOf(set: CounterSet): Pick<TokenReading, "tokens" | "tokensByOutcome"> {
  const tokens: Partial<Record<TokenKind, number>> = {};
  const byOutcome: Partial<Record<Outcome, Partial<Record<TokenKind, number>>>> = {};
  let split = false;
  for (const count of set.tokens) {
    const outcome = count.outcome ?? "ok";
    tokens[count.kind] = (tokens[count.kind] ?? 0) + count.tokens;
    const of = byOutcome[outcome] ?? {};
    byOutcome[outcome] = of;
    of[count.kind] = (of[count.kind] ?? 0) + count.tokens;
    if (outcome !== "ok") split = true;
  }
  return split ? { tokens, tokensByOutcome: byOutcome } : { tokens };
}

/** The instant a snapshot stands for, from the sender's uptime and when it came. */
function snapshotClock(): (uptimeNanos: number, received: Nanos) => Nanos {
  let delays: number[] = [];
  let lastUptime = 0;
  let lastAt = Number.NEGATIVE_INFINITY;
  return (uptimeNanos, received) => {
    if (uptimeNanos === 0) {
      lastAt = Math.max(lastAt, received);
      return received;
    }
    if (uptimeNanos < lastUptime) delays = [];
    lastUptime = uptimeNanos;
    delays.push(received - uptimeNanos);
    if (delays.length > DELAYS_KEPT) delays.shift();
    const at = uptimeNanos + Math.min(...delays);
    lastAt = Math.max(lastAt + 1, received - at > AGE_MAX_NANOS ? received : Math.min(at, received));
    return Math.min(lastAt, received);
  };
}
