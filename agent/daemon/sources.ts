// Opens what the configuration names: the first GPU backend that works, and every configured server.
// Nothing here is fatal but a misconfiguration: a host whose driver is not loaded yet is asked again later.
import type { Config } from "../config/load.ts";
import { configuredBackends, configuredServers } from "../config/load.ts";
import { openServer, ownerElsewhere } from "../config/open-server.ts";
import { explainPage } from "../discovery/explain.ts";
import type { Log } from "../platform/log.ts";
import type { GpuSource, ServerSource, SourceContext } from "../source.ts";
import { SourceError } from "../source.ts";
import type { Pipeline } from "./pipeline.ts";

/** What became of one backend. */
export interface BackendTried {
  readonly backend: string;
  readonly usable: boolean;
  readonly reason: string;
}

/** The GPUs that were found, and what was tried for them. */
export interface GpuChoice {
  readonly source: GpuSource | undefined;
  /** In the order they were tried. */
  readonly tried: readonly BackendTried[];
  /** No backend works, and one of them would after a new start of this process. */
  readonly restart?: SourceError;
}

/** Opens the first backend that can work here. Throws SourceError only when the configuration is at fault. */
export async function chooseGpu(config: Config, context: SourceContext): Promise<GpuChoice> {
  const tried: BackendTried[] = [];
  let restart: SourceError | undefined;
  for (const { backend, section } of configuredBackends(config)) {
    // Opening is the surest detection, and starting a reader twice would cost half a second of every start.
    try {
      const source = await backend.open(section, context);
      tried.push({ backend: backend.name, usable: true, reason: "opened" });
      return { source, tried };
    } catch (error) {
      if (error instanceof SourceError && error.kind === "misconfigured") throw error;
      if (error instanceof SourceError && error.kind === "restart") restart ??= error;
      tried.push({ backend: backend.name, usable: false, reason: (error as Error).message });
    }
  }
  return { source: undefined, tried, ...(restart === undefined ? {} : { restart }) };
}

/** A search for GPUs that goes on while other things are opened: reaching the driver takes a process of its own. */
export class GpuSearch {
  readonly #choice: Promise<GpuChoice>;
  readonly #log: Log;
  #taken = false;

  constructor(config: Config, context: SourceContext) {
    this.#log = context.log;
    this.#choice = chooseGpu(config, context);
    this.#choice.catch(() => {});
  }

  /** What was found; the caller closes it. Throws SourceError when the configuration is at fault. */
  async take(): Promise<GpuChoice> {
    this.#taken = true;
    const choice = await this.#choice;
    if (choice.source === undefined) {
      this.#log.warn("no GPU can be read", {
        tried: choice.tried,
        hint: "`tokenwatt doctor` says what is missing; the agent asks again every 30 s",
      });
    }
    return choice;
  }

  /** Closes what was found unless it was taken. */
  async drop(): Promise<void> {
    if (this.#taken) return;
    const choice = await this.#choice.catch(() => undefined);
    await choice?.source?.close();
  }
}

/** Whether this host has a GPU some backend can read, and why the first choice cannot. Opens nothing. */
export async function detectGpu(
  config: Config,
  context: SourceContext,
): Promise<{ readonly usable: boolean; readonly reason: string }> {
  let first: string | undefined;
  for (const { backend, section } of configuredBackends(config)) {
    const found = await backend.detect(section, context);
    if (found.usable) return { usable: true, reason: `${backend.name}: ${found.reason}` };
    first ??= found.reason;
  }
  return { usable: false, reason: first ?? "no backend is configured" };
}

/**
 * The configured servers of a running agent. A new configuration replaces them: what did not change keeps running, what is
 * gone ends its series, what is new is taken in.
 */
export class ServerSet {
  readonly #context: SourceContext;
  #servers: readonly OpenServer[];

  constructor(config: Config, context: SourceContext) {
    this.#context = context;
    this.#servers = openServers(config, context);
  }

  /** Their sources, in the order of the configuration. */
  get sources(): readonly ServerSource[] {
    return this.#servers.map((server) => server.source);
  }

  /** Takes over the servers of a new configuration. */
  async reload(config: Config, pipeline: Pipeline): Promise<void> {
    const known = new Map(this.#servers.map((server) => [server.fingerprint, server]));
    const next: OpenServer[] = [];
    for (const server of openServers(config, this.#context)) {
      const kept = known.get(server.fingerprint);
      known.delete(server.fingerprint);
      next.push(kept ?? server);
      if (kept !== undefined) await server.source.close();
    }
    for (const gone of known.values()) await pipeline.removeServer(gone.source);
    for (const server of next) if (!this.#servers.includes(server)) pipeline.addServer(server.source);
    this.#servers = next;
  }
}

/** A configured server and the place in the configuration it comes from, which is its identity over reloads. */
export interface OpenServer {
  readonly source: ServerSource;
  /** Type and entry as JSON: equal texts are the same server. */
  readonly fingerprint: string;
}

/** Opens every configured server; what cannot be opened is logged and left out. Connections come later. */
export function openServers(config: Config, context: SourceContext): readonly OpenServer[] {
  const entries = configuredServers(config);
  const scrapeMs = entries.length > 1 ? config.rates.scrapeMs : config.rates.scrapeSingleMs;
  return entries.flatMap(({ type, entry, path }) => {
    const owner = ownerElsewhere(entry, context.hostNames ?? []);
    if (owner !== undefined) {
      const names = context.hostNames ?? [];
      context.log.info("gateway left to its owner", { source: path, owner, thisHost: names });
      return [];
    }
    try {
      const source = openServer(type, entry, { ...context, aliases: config.aliases, scrapeMs, explainPage });
      return [{ source, fingerprint: JSON.stringify([type.name, entry, scrapeMs]) }];
    } catch (error) {
      const hint = error instanceof SourceError ? error.hint : undefined;
      context.log.error("server left out", { source: path, cause: (error as Error).message, hint });
      return [];
    }
  });
}
