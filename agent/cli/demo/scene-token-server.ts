// The scene's engines and its gateway, a process of its own: streams their counters by tokenwatt.v1 as if they ran now. Says
// `{address}` to its parent once it listens, learns from it when the scene starts, ends with it. Tokens, requests and
// latencies of engines are as recorded; the gateway shares them out to made-up tenants, who fail and are refused as told.
import type { Histogram } from "../../model.ts";
import { systemClock } from "../../platform/clock.ts";
import { readJsonLines } from "../../recording/files.ts";
import { readServer, totalsAt } from "../../servers/replay.ts";
import type { CounterSet, ServerSnapshot } from "../../servers/token-counters/messages.ts";
import { serveTokenCounters } from "../../servers/token-counters/server.ts";
import { ActiveTime } from "./active-time.ts";
import type { Piece } from "./cycle.ts";
import { countedBy, placeAt, playedBy, spentIn } from "./cycle.ts";
import type { SceneServer } from "./scene.ts";
import { recordingsFolder, sceneRush, sceneServers, sceneTenants } from "./scene.ts";
import { pieceOf } from "./scene-gpus.ts";

/** What the parent gives as the first argument, as JSON. */
export interface SceneServerOptions {
  readonly speed: number;
}

/** The parent's message: the scene begins at this wall-clock instant. */
export interface SceneStart {
  readonly startUnixMs: number;
  /** Seconds into the scene at which it begins. */
  readonly fromSeconds: number;
  readonly durationSeconds?: number;
}

process.on("SIGINT", () => {});
process.on("SIGTERM", () => {});
process.on("disconnect", () => process.exit(0));

const BOUNDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const { speed } = JSON.parse(process.argv[2] ?? '{"speed":1}') as SceneServerOptions;
const clock = systemClock({ speed });
const engines = sceneServers.map(openEngine);
let origin: number | undefined;
let from = 0;
let until = Number.POSITIVE_INFINITY;
/** The first snapshot stands for the scene's beginning, so that nothing played is missed. */
let isFirst = true;

process.on("message", ({ durationSeconds, fromSeconds, startUnixMs }: SceneStart) => {
  from = fromSeconds * 1e6;
  origin = clock.now() + (startUnixMs - Date.now()) * 1e6 * speed;
  if (durationSeconds !== undefined) until = from + durationSeconds * 1e6;
});

const service = await serveTokenCounters("127.0.0.1:0", { clock, read });
process.send?.({ address: service.address });

interface Engine {
  readonly server: SceneServer;
  /** What it counted, `elapsed` microseconds into the scene. */
  counted(elapsed: number): {
    readonly input: number;
    readonly output: number;
    readonly requests: number;
    readonly running: number;
    readonly activeMicros: number;
    readonly durations: Histogram;
    readonly firstTokens: Histogram;
  };
  readonly pids: readonly number[];
}

function openEngine(server: SceneServer): Engine {
  const path = `${recordingsFolder}/${server.recording}/${server.file}`;
  const recorded = readServer(path);
  const lines = readJsonLines(path).lines;
  const piece = pieceOf(server);
  const active = new ActiveTime(lines);
  const latency = (key: string): ((elapsed: number) => Histogram) => latencyOf(lines, key, piece);
  const [durations, firstTokens] = [latency("e2e_s"), latency("ttft_s")];
  const total = (of: "inputTokens" | "outputTokens" | "requests") => (micros: number) =>
    totalsAt(recorded, micros)?.[of] ?? 0;
  return {
    server,
    pids: recorded.pids.map((pid) => pid + server.pids),
    counted: (elapsed) => ({
      input: countedBy(piece, elapsed, total("inputTokens")),
      output: countedBy(piece, elapsed, total("outputTokens")),
      requests: countedBy(piece, elapsed, total("requests")),
      running: totalsAt(recorded, placeAt(piece, elapsed).micros)?.running ?? 0,
      activeMicros: countedBy(piece, elapsed, (micros) => active.until(micros)),
      durations: durations(elapsed),
      firstTokens: firstTokens(elapsed),
    }),
  };
}

/** A cumulative histogram of what lines say under a key. */
function latencyOf(
  lines: readonly Readonly<Record<string, unknown>>[],
  key: string,
  piece: Piece,
): (elapsed: number) => Histogram {
  const all = lines.flatMap((line) => {
    const seconds = Number(line[key]);
    return Number.isFinite(seconds) ? [{ micros: Number(line["t"]) * 1e6, seconds }] : [];
  });
  const below = (micros: number, from: number, to: number): number =>
    all.filter((one) => one.micros <= micros && one.seconds > from && one.seconds <= to).length;
  return (elapsed) => {
    const edges = [Number.NEGATIVE_INFINITY, ...BOUNDS, Number.POSITIVE_INFINITY];
    const counts = edges
      .slice(1)
      .map((to, at) => countedBy(piece, elapsed, (micros) => below(micros, edges[at] ?? 0, to)));
    const sumTo = (micros: number): number =>
      all.reduce((sum, one) => (one.micros <= micros ? sum + one.seconds : sum), 0);
    return {
      bounds: BOUNDS,
      counts,
      sum: countedBy(piece, elapsed, sumTo),
      count: counts.reduce((sum, one) => sum + one, 0),
    };
  };
}

function read(): readonly ServerSnapshot[] {
  if (origin === undefined) return [];
  const elapsed = isFirst
    ? from
    : Math.floor(Math.min(until, from + Math.max(0, (clock.now() - origin) / 1000)));
  isFirst = false;
  const counted = engines.map((engine) => ({
    engine,
    now: engine.counted(playedBy(engine.server.lost, elapsed)),
  }));
  const snapshots = counted.map(
    ({ engine: { pids, server }, now }): ServerSnapshot => ({
      ...{
        serverId: server.id,
        epochId: "scene",
        epochUptimeNanos: elapsed * 1000,
        role: "combined",
        family: "engine",
      },
      ...{
        movement: "step",
        version: "recorded",
        gpus: server.gpus,
        pids,
        activeNanos: now.activeMicros * 1000,
      },
      // What waits beyond what the engine takes at once.
      ...{ running: now.running, waiting: now.running >= 64 ? 6 + (Math.floor(elapsed / 5e6) % 9) : 0 },
      counters: [
        {
          model: server.model,
          tokens: tokensOf(now.input, now.output, 1),
          requests: { ok: now.requests },
          latencies: { request_duration: now.durations, time_to_first_token: now.firstTokens },
        },
      ],
    }),
  );
  const gateway: ServerSnapshot = {
    ...{
      serverId: "gateway",
      epochId: "scene",
      epochUptimeNanos: elapsed * 1000,
      family: "gateway",
      movement: "finish",
    },
    counters: counted.flatMap(({ engine: { server }, now }) => customersOf(server, now, elapsed)),
  };
  return [...snapshots, gateway];
}

/** An engine's part of each tenant. */
function customersOf(
  { endpoint, id, model }: SceneServer,
  now: ReturnType<Engine["counted"]>,
  elapsed: number,
): CounterSet[] {
  if (endpoint === undefined) return [];
  return sceneTenants.map(({ errors, name, refusedPerSecond = 0, share }) => {
    const requests = Math.floor(now.requests * share);
    const failed = Math.floor(now.requests * share * errors);
    const refused =
      id === "decoder-8b" ? Math.floor((spentIn(sceneRush, elapsed) / 1e6) * refusedPerSecond) : 0;
    return {
      ...{ model, tenant: name, endpoint },
      tokens: tokensOf(now.input, now.output, share),
      requests: {
        ok: requests - failed,
        error: failed,
        rejected: refused,
      },
      latencies: latenciesOf(now.durations, share * (1 - errors), failed, refused),
    };
  });
}

function tokensOf(input: number, output: number, share: number): CounterSet["tokens"] {
  return [
    { kind: "input_unsplit", tokens: Math.floor(input * share) },
    { kind: "output", tokens: Math.floor(output * share) },
  ];
}

/** How long a tenant's requests took, by how they ended: what fails runs into a timeout of 12 s, a refusal takes 2 ms. */
function latenciesOf(
  durations: Histogram,
  share: number,
  failed: number,
  refused: number,
): NonNullable<CounterSet["latencies"]> {
  const { bounds, counts } = durations;
  const all = (count: number, place: number, seconds: number): Histogram => ({
    ...{ bounds, counts: counts.map((_, at) => (at === place ? count : 0)), sum: count * seconds, count },
  });
  return {
    "request_duration ok": shareOf(durations, share),
    ...(failed > 0 ? { "request_duration error": all(failed, bounds.length, 12) } : {}),
    ...(refused > 0 ? { "request_duration rejected": all(refused, 0, 0.002) } : {}),
  };
}

function shareOf({ bounds, counts, sum }: Histogram, share: number): Histogram {
  const own = counts.map((count) => Math.floor(count * share));
  return { bounds, counts: own, sum: sum * share, count: own.reduce((all, one) => all + one, 0) };
}
