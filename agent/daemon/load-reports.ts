// Load of this host's servers for who balances over them: the listener the policy in force wishes, and the tracks its
// reports are made from, fed once a second from the last readings.
import type { ServerInfo, TokenSample } from "../model.ts";
import type { Cancel, Clock } from "../platform/clock.ts";
import { every } from "../platform/clock.ts";
import type { Log } from "../platform/log.ts";
import type { PolicyBook } from "../policy/book.ts";
import type { LoadListener } from "../policy/orca.ts";
import { serveLoads } from "../policy/orca.ts";
import type { ServerLoad, SettledLoad } from "../policy/orca-load.ts";
import { LoadTrack } from "../policy/orca-load.ts";

const LOOK_MS = 1000;
/** A reading older than this many polls is no load of now. */
const POLLS_MAX = 3;

/** What it is built from; servers and samples are those of the intake, known once it is there. */
export interface LoadReportsOptions {
  readonly clock: Clock;
  readonly log: Log;
}

/** The servers and their last readings. */
export interface LoadSources {
  readonly servers: ReadonlyMap<string, ServerInfo>;
  readonly lastTokenSamples: ReadonlyMap<string, TokenSample>;
  /** Tokens per GPU-hour a server can sustain: configured, catalogued or learned. */
  readonly capacityOf?: (server: string) => number | undefined;
  /** What settled intervals say of it. */
  readonly settledOf?: (server: string) => SettledLoad | undefined;
}

/** The load reports of one agent. */
export class LoadReports {
  readonly #options: LoadReportsOptions;
  readonly #tracks = new Map<string, LoadTrack>();
  #sources: LoadSources | undefined;
  #book: PolicyBook | undefined;
  #listener: LoadListener | undefined;
  #place = "";
  #failed: string | undefined;
  #cancel: Cancel = () => {};
  #closed = false;

  constructor(options: LoadReportsOptions) {
    this.#options = options;
  }

  /** Its port; undefined while it does not listen. */
  get port(): number | undefined {
    return this.#listener?.port;
  }

  /** Streams that are followed now; undefined while it does not listen. */
  get streams(): number | undefined {
    return this.#listener?.streams;
  }

  /** Reports by this policy from now on, of these servers. */
  use(book: PolicyBook | undefined, sources: LoadSources | undefined): void {
    this.#book = book;
    this.#sources = sources ?? this.#sources;
  }

  /** Listens at the place the policy in force names, and nowhere else. */
  async follow(): Promise<void> {
    const wished = this.#book?.policy.orca;
    const place = wished === undefined ? "" : JSON.stringify(wished);
    if (this.#closed || (place === this.#place && (place === "" || this.#listener !== undefined))) return;
    this.#shut();
    this.#place = place;
    if (wished === undefined) return;
    const { clock, log } = this.#options;
    try {
      this.#listener = await serveLoads(wished, {
        clock,
        log,
        minimumMs: wished.minimumSeconds * 1000,
        serverOf: (name) => this.#serverOf(name),
        loadOf: (server) => this.#loadOf(server),
      });
      if (this.#closed) return this.#listener.close();
      this.#failed = undefined;
      this.#cancel = every(clock, LOOK_MS, () => this.#look());
      log.info("load reports are given", { listen: wished.listen, port: this.#listener.port });
    } catch (error) {
      const cause = (error as Error).message;
      if (cause !== this.#failed)
        log.error("cannot listen for load reports", { listen: wished.listen, cause });
      this.#failed = cause;
    }
  }

  /** Stops for good. */
  close(): void {
    this.#closed = true;
    this.#shut();
  }

  #shut(): void {
    this.#cancel();
    this.#listener?.close();
    this.#listener = undefined;
  }

  #look(): void {
    for (const [id, sample] of this.#sources?.lastTokenSamples ?? []) {
      const track = this.#tracks.get(id) ?? new LoadTrack();
      this.#tracks.set(id, track);
      track.take(sample);
    }
    for (const id of this.#tracks.keys())
      if (this.#sources?.servers.has(id) !== true) this.#tracks.delete(id);
  }

  /** Its id, else the model it alone serves, else the only engine there is. */
  #serverOf(name: string): string | undefined {
    const servers = [...(this.#sources?.servers.values() ?? [])].filter(({ family }) => family === "engine");
    if (servers.some(({ id }) => id === name)) return name;
    const serving = servers.filter(({ id }) =>
      this.#sources?.lastTokenSamples.get(id)?.readings.some(({ model }) => model === name),
    );
    const named = serving.length > 0 ? serving : servers;
    return named.length === 1 ? named[0]?.id : undefined;
  }

  #loadOf(server: string): ServerLoad | undefined {
    const { clock } = this.#options;
    this.#look();
    const info = this.#sources?.servers.get(server);
    const sample = this.#sources?.lastTokenSamples.get(server);
    if (info === undefined || sample === undefined) return undefined;
    if (clock.now() - sample.received > Math.max(POLLS_MAX * info.pollMs, POLLS_MAX * LOOK_MS) * 1e6)
      return undefined;
    const settled = this.#sources?.settledOf?.(server);
    const perHour = this.#sources?.capacityOf?.(server);
    // A rate is of one GPU: where neither the configuration nor an interval says how many, there is none of the server.
    const gpus = info.gpus?.length ?? settled?.gpus;
    const tokensPerSecondMax = perHour === undefined || !gpus ? undefined : (perHour / 3600) * gpus;
    return this.#tracks.get(server)?.load({ tokensPerSecondMax, settled, quota: this.#book?.fullestLocal() });
  }
}
