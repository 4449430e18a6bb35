// The configured servers of a running agent, and how a new configuration replaces them: what did not change keeps
// running, what is gone ends its series, what is new is taken in.
import type { Config } from "../config/load.ts";
import type { ServerSource, SourceContext } from "../source.ts";
import type { Pipeline } from "./pipeline.ts";
import type { OpenServer } from "./sources.ts";
import { openServers } from "./sources.ts";

/** The servers opened from a configuration. */
export class ServerSet {
  readonly #context: SourceContext;
  #servers: readonly OpenServer[];

  constructor(config: Config, context: SourceContext) {
    this.#context = context;
    this.#servers = openServers(config, context);
  }

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
