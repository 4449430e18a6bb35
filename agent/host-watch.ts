// Keeps the correlator's facts about processes fresh, and finds servers nobody configured behind the GPU processes.
// Looked at when the set of GPU processes changes, and every 30 s otherwise. Only loopback is ever asked, and only ports a
// GPU process was started with or holds itself; a port that answered nothing is asked again rarely.
import type { Cancel, Clock } from "./clock.ts";
import { every } from "./clock.ts";
import type { Correlator } from "./correlate/correlator.ts";
import type { ProcessReading } from "./host/processes.ts";
import { readProcesses } from "./host/processes.ts";
import type { Log } from "./log.ts";
import type { Nanos } from "./model.ts";
import type { Pipeline } from "./pipeline.ts";
import { discoverServer, typeOf } from "./servers/discover.ts";
import type { ServerSource, SourceContext } from "./source.ts";

const LOOK_MS = 1000;
const REFRESH_NANOS = 30e9;
/** A port that answered nothing: again after this, doubled each time up to the longest. */
const RETRY_FIRST_NANOS = 15e9;
const RETRY_LONGEST_NANOS = 600e9;

export interface HostWatchParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly context: SourceContext;
  readonly pipeline: Pipeline;
  readonly correlator: Correlator;
  readonly discover: boolean;
  readonly scrapeMs: number;
}

interface Port {
  nextAt: Nanos;
  waitNanos: Nanos;
  outcome: string;
  server?: ServerSource;
}

/** Watches the host's processes until stopped. */
export class HostWatch {
  readonly #parts: HostWatchParts;
  readonly #ports = new Map<number, Port>();
  #cancel: Cancel = () => {};
  #seen = "";
  #lookedAt = Number.NEGATIVE_INFINITY;

  constructor(parts: HostWatchParts) {
    this.#parts = parts;
  }

  start(): void {
    this.#cancel = every(this.#parts.clock, LOOK_MS, () => this.#look(), this.#parts.clock.now());
  }

  stop(): void {
    this.#cancel();
  }

  /** Ports that were asked and what came of it, for `/-/status`. */
  status(): Readonly<Record<string, unknown>> {
    return Object.fromEntries([...this.#ports].map(([port, { outcome }]) => [port, outcome]));
  }

  async #look(): Promise<void> {
    const { clock, correlator, discover, pipeline } = this.#parts;
    const samples = [...pipeline.intake.lastGpuSamples.values()];
    const pids = [
      ...new Set(samples.flatMap((sample) => (sample.processes ?? []).map(({ pid }) => pid))),
    ].sort();
    const seen = `${pids.join()} ${[...pipeline.intake.servers.keys()].join()}`;
    const now = clock.now();
    if (seen === this.#seen && now - this.#lookedAt < REFRESH_NANOS) return;
    this.#seen = seen;
    this.#lookedAt = now;
    const servers = [...pipeline.intake.servers.values()];
    const ports = servers.flatMap((server) => portOf(server.address) ?? []);
    const readings = readProcesses({ pids, ports });
    correlator.setProcessFacts(readings);
    if (discover) await this.#discover(readings, pids, new Set(ports));
  }

  async #discover(
    readings: readonly ProcessReading[],
    pids: readonly number[],
    known: ReadonlySet<number>,
  ): Promise<void> {
    const now = this.#parts.clock.now();
    const wanted = candidatePorts(readings, new Set(pids));
    for (const [port, { server }] of this.#ports) {
      if (wanted.has(port)) continue;
      this.#ports.delete(port);
      if (server !== undefined) await this.#parts.pipeline.removeServer(server);
    }
    for (const port of wanted) {
      if (known.has(port) && this.#ports.get(port)?.server === undefined) continue;
      const state = this.#ports.get(port) ?? {
        nextAt: now,
        waitNanos: RETRY_FIRST_NANOS,
        outcome: "not asked yet",
      };
      this.#ports.set(port, state);
      if (state.server !== undefined || now < state.nextAt) continue;
      await this.#ask(port, state);
    }
  }

  async #ask(port: number, state: Port): Promise<void> {
    const { clock, context, log, pipeline, scrapeMs } = this.#parts;
    const { found, tried } = await discoverServer(port, context);
    const type = found === undefined ? undefined : typeOf(found);
    if (found === undefined || type === undefined) {
      state.outcome = `no counters (${tried.join("; ")})`;
      state.nextAt = clock.now() + state.waitNanos;
      state.waitNanos = Math.min(RETRY_LONGEST_NANOS, 2 * state.waitNanos);
      return;
    }
    const entry = type.config.parse({ endpoint: found.endpoint });
    state.server = type.open(entry, { ...context, scrapeMs });
    state.outcome = `${found.type}: ${found.why}`;
    pipeline.addServer(state.server);
    log.info("server found", { source: `server:${state.server.info.id}`, type: found.type, why: found.why });
  }
}

/** Ports GPU processes or their parents were started with, or hold themselves. */
export function candidatePorts(
  readings: readonly ProcessReading[],
  gpuPids: ReadonlySet<number>,
): ReadonlySet<number> {
  const family = new Set(gpuPids);
  for (const reading of readings) {
    if (gpuPids.has(reading.pid))
      for (const parent of reading.parents ?? []) if (parent > 1) family.add(parent);
  }
  const ports = readings
    .filter((reading) => family.has(reading.pid))
    .flatMap((reading) => [
      ...(reading.ownedPorts ?? []),
      ...((reading.commandPort ?? 0) ? [reading.commandPort as number] : []),
    ]);
  return new Set(ports);
}

/** The port of an address or URL. */
export function portOf(address: string): number | undefined {
  const port = Number(/:(\d{1,5})(?:\/|$)/.exec(address.replace(/^[a-z]+:\/\//, ""))?.[1]);
  return Number.isInteger(port) && port > 0 ? port : undefined;
}
