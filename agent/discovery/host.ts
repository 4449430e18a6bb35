// Keeps the correlator's facts about processes fresh, and finds servers that are not configured behind the GPU processes.
// Looked at when the set of GPU processes changes, and every 30 s otherwise. Only loopback is ever asked, and only ports
// host-ports.ts knows of a GPU process; a port that answered nothing is asked again rarely.

import { openServer } from "../config/open-server.ts";
import { holderOf } from "../host/holders.ts";
import type { Pod } from "../host/kubelet/pods.ts";
import type { ProcessReading } from "../host/processes.ts";
import { ephemeralPorts, ProcessReader } from "../host/processes.ts";
import type { GpuSample, Holder, Nanos } from "../model.ts";
import { portOf } from "../platform/address.ts";
import type { Cancel, Clock } from "../platform/clock.ts";
import { every } from "../platform/clock.ts";
import type { Log } from "../platform/log.ts";
import type { ServerSource, SourceContext } from "../source.ts";
import { discoverServer, isEstimate, typeOf, usualPorts } from "./ask.ts";
import type { PortCandidate } from "./host-ports.ts";
import { candidatePorts } from "./host-ports.ts";
import type { Outcome, ServerTaker } from "./places.ts";
import { isOf, isTwin, letGo, Place, takeIn } from "./places.ts";

const LOOK_MS = 1000;
const REFRESH_NANOS = 30e9;
/** How long readings may not say who holds a GPU before it counts as free. */
const HOLDERS_NANOS = 60e9;
/** Ports looked at on one host. */
const PORTS_MAX = 256;

/** What the watch works with. */
export interface HostWatchParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly context: SourceContext;
  readonly pipeline: ServerTaker & {
    readonly intake: { readonly lastGpuSamples: ReadonlyMap<string, GpuSample> };
  };
  readonly correlator: {
    setProcessFacts(facts: readonly (ProcessReading & { readonly holder?: Holder })[]): void;
  };
  /** The pods of this node as they were listed last, for the names of those that hold GPUs. */
  readonly pods?: () => readonly Pod[];
  readonly discover: boolean;
  readonly scrapeMs: number;
  /** `/proc` unless a test brings its own. */
  readonly proc?: string;
}

/** What `status()` returns. */
export interface HostStatus {
  readonly enabled: boolean;
  /** Processes that hold a GPU, how many of them /proc shows, and what those are called. */
  readonly gpu_processes: {
    readonly count: number;
    readonly visible: number;
    readonly names: readonly string[];
  };
  readonly ports: Readonly<Record<string, Outcome>>;
}

interface PortPlace {
  readonly place: Place;
  pids: readonly number[];
  inodes: string;
}

/** Watches the host's processes until stopped. */
export class HostWatch {
  readonly #parts: HostWatchParts;
  readonly #ports = new Map<number, PortPlace>();
  readonly #processes: ProcessReader;
  /** Processes that hold each GPU, as last read. */
  readonly #holders = new Map<string, { readonly at: Nanos; readonly pids: readonly number[] }>();
  #cancel: Cancel = () => {};
  #seen = "";
  #lookedAt: Nanos = Number.NEGATIVE_INFINITY;
  #gpuProcesses: HostStatus["gpu_processes"] = { count: 0, visible: 0, names: [] };

  constructor(parts: HostWatchParts) {
    this.#parts = parts;
    this.#processes = new ProcessReader(parts.proc);
  }

  start(): void {
    this.#cancel = every(this.#parts.clock, LOOK_MS, () => this.look(), this.#parts.clock.now());
  }

  stop(): void {
    this.#cancel();
  }

  /** GPU processes seen, and what became of each port of theirs; for `/-/status` and `doctor`. */
  status(): HostStatus {
    const ports: Record<string, Outcome> = {};
    for (const [port, { place }] of this.#ports) ports[port] = place.outcome;
    return { enabled: this.#parts.discover, gpu_processes: this.#gpuProcesses, ports };
  }

  /** Looks once, where something changed or it is time again. Never throws. */
  async look(): Promise<void> {
    const { clock, correlator, discover, pipeline, proc } = this.#parts;
    const samples = [...pipeline.intake.lastGpuSamples.values()];
    const pids = [...new Set(samples.flatMap((sample) => this.#pidsOn(sample)))].sort();
    const seen = `${pids.join()} ${[...pipeline.intake.servers.keys()].join()}`;
    const now = clock.now();
    if (seen === this.#seen && now - this.#lookedAt < REFRESH_NANOS) return;
    this.#seen = seen;
    this.#lookedAt = now;
    const servers = [...pipeline.intake.servers.values()];
    const ports = servers.flatMap((server) => server.port ?? []);
    const readings = this.#processes.read({ pids, ports });
    const named = this.#parts.pods?.() ?? [];
    correlator.setProcessFacts(
      readings.map((reading) => {
        const holder = pids.includes(reading.pid) ? holderOf(reading, named, proc) : undefined;
        return holder === undefined ? reading : { ...reading, holder };
      }),
    );
    const visible = readings.filter(({ pid }) => pids.includes(pid));
    const names = [...new Set(visible.flatMap(({ name }) => name ?? []))].slice(0, 10);
    this.#gpuProcesses = { count: pids.length, visible: visible.length, names };
    if (discover) await this.#discover(readings, pids);
  }

  /** Who holds a GPU; for a while the last known, where a reading does not say. */
  #pidsOn({ at, gpu, processes }: GpuSample): readonly number[] {
    if (processes !== undefined) this.#holders.set(gpu, { at, pids: processes.map(({ pid }) => pid) });
    const held = this.#holders.get(gpu);
    return held === undefined || at - held.at > HOLDERS_NANOS ? [] : held.pids;
  }

  async #discover(readings: readonly ProcessReading[], pids: readonly number[]): Promise<void> {
    const { proc } = this.#parts;
    const here = pids.length === 0 ? [] : this.#processes.here();
    const facts = { readings, pids, here, usual: usualPorts(), ephemeral: ephemeralPorts(proc) };
    const wanted = candidatePorts(facts);
    for (const port of [...this.#ports.keys()]) if (!wanted.has(port)) await this.#forget(port);
    for (const candidate of wanted.values()) {
      const known = this.#ports.get(candidate.port);
      if (known === undefined && this.#ports.size >= PORTS_MAX) continue;
      const state = known ?? { place: new Place(), pids: candidate.pids, inodes: candidate.inodes };
      this.#ports.set(candidate.port, state);
      if (state.inodes !== candidate.inodes) state.place.askAnew();
      state.inodes = candidate.inodes;
      state.pids = candidate.pids;
      await this.#follow(candidate, state.place);
    }
  }

  async #follow(candidate: PortCandidate, place: Place): Promise<void> {
    const { clock, pipeline } = this.#parts;
    const own = place.server;
    const reader = this.#reader(own?.info.port ?? candidate.port, own);
    if (reader !== undefined) {
      // Configured since it was found.
      await letGo(place, pipeline);
      place.notAsked("known", `read already as ${reader}`, reader);
    } else if (candidate.not !== undefined) {
      // One that was found stays where it still loads, but not where whoever listens now must not be asked.
      if (own !== undefined && (!place.inDoubt || candidate.not.state === "waiting")) return;
      await letGo(place, pipeline);
      place.notAsked(candidate.not.state, candidate.not.why);
    } else if (place.due(clock)) await this.#ask(candidate, place);
  }

  /** The server that reads this port, wherever: one on another host may be this one by another name. */
  #reader(port: number, own?: ServerSource): string | undefined {
    const servers = [...this.#parts.pipeline.intake.servers.values()];
    return servers.find((info) => info.port === port && !isOf(own, info.id))?.id;
  }

  async #forget(port: number): Promise<void> {
    const place = this.#ports.get(port)?.place;
    this.#ports.delete(port);
    if (place !== undefined) await letGo(place, this.#parts.pipeline);
  }

  async #ask({ from, pids, port }: PortCandidate, place: Place): Promise<void> {
    const { clock, context, log, pipeline, scrapeMs } = this.#parts;
    const discovery = await discoverServer(port, context);
    const { found } = discovery;
    const type = found === undefined ? undefined : typeOf(found);
    if (found === undefined || type === undefined) {
      place.inVain(discovery, clock);
      return;
    }
    if (place.stays(found, clock)) return;
    const foundPort = portOf(found.endpoint) ?? port;
    const reader = this.#reader(foundPort, place.server) ?? this.#otherView(found.type, pids, place);
    if (reader !== undefined && place.inDoubt && foundPort !== port) {
      // A neighbour that is read at its own port does not say who listens at this one.
      place.inVain({ tried: [`beside it is ${reader}`], listens: true }, clock);
      return;
    }
    if (reader !== undefined) {
      await letGo(place, pipeline);
      place.notAsked("known", `read already as ${reader}: ${found.type} at ${found.endpoint}`, reader);
      return;
    }
    const entry = type.config.parse({ endpoint: found.endpoint });
    const server = openServer(type, entry, { ...context, scrapeMs });
    if (await isTwin(server, place, pipeline, clock)) return;
    await takeIn(server, place, { why: found.why, from }, { log, pipeline });
  }

  /** The server of the same processes that counts what a statistic over gRPC would estimate. */
  #otherView(type: string, pids: readonly number[], own: Place): string | undefined {
    if (!isEstimate(type)) return undefined;
    for (const { pids: others, place } of this.#ports.values()) {
      if (place.server !== undefined && place !== own && others.some((pid) => pids.includes(pid)))
        return place.server.info.id;
    }
    return undefined;
  }
}
