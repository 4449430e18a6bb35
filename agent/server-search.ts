// What the searches for servers have in common: what became of each place that was looked at, when it is asked again,
// and who takes a server in that was found.
import type { Clock } from "./clock.ts";
import type { Nanos, ServerInfo, TokenSample } from "./model.ts";
import type { Discovery } from "./servers/discover.ts";
import type { ServerSource } from "./source.ts";

/** A place that answers nothing useful: again after this, doubled each time up to the longest. */
const RETRY_FIRST_NANOS = 15e9;
const RETRY_LONGEST_NANOS = 600e9;
/** Whether a server still counts what another one counts: looked at again after this. */
const TWIN_NANOS = 60e9;

/** Takes in servers that were found; the pipeline, or whoever only looks. */
export interface ServerTaker {
  readonly intake: {
    readonly servers: ReadonlyMap<string, ServerInfo>;
    /** What each was read to say last. */
    readonly lastTokenSamples: ReadonlyMap<string, TokenSample>;
    /** Absent: all that can be read was read. */
    readonly health?: { get(source: string): { readonly ok: boolean } | undefined };
  };
  addServer(source: ServerSource): void;
  removeServer(source: ServerSource): Promise<void>;
}

/**
 * found: read since. known: read already, by configuration or another search. waiting: nothing listens there yet.
 * nothing: asked in vain. refused: not asked, and somebody should know. off: not asked, and that is wanted.
 */
export type OutcomeState = "found" | "known" | "waiting" | "nothing" | "refused" | "off";

/** What became of one place, for `/-/status` and `doctor`. */
export interface Outcome {
  readonly state: OutcomeState;
  /** One sentence. */
  readonly why: string;
  /** Id of the server that is read there. */
  readonly server?: string;
}

/** Servers the searches found: each has an address of its own, so none is another one's twin. */
const foundServers = new WeakSet<ServerInfo>();

/** One place where a server may be. */
export class Place {
  outcome: Outcome = { state: "waiting", why: "not asked yet" };
  server: ServerSource | undefined;
  #nextAt: Nanos = Number.NEGATIVE_INFINITY;
  #waitNanos = RETRY_FIRST_NANOS;

  /** Whether it is time to ask. */
  due({ now }: Pick<Clock, "now">): boolean {
    return this.server === undefined && now() >= this.#nextAt;
  }

  /** Notes that a server was found and is read. */
  found(source: ServerSource, why: string): void {
    this.server = source;
    foundServers.add(source.info);
    this.outcome = { state: "found", why, server: source.info.id };
  }

  /** Notes that asking gave nothing. A place where nothing listens may be a server that still loads: not put off. */
  inVain({ tried, listens }: Pick<Discovery, "tried" | "listens">, { now }: Pick<Clock, "now">): void {
    this.outcome = { state: listens ? "nothing" : "waiting", why: tried.join("; ") };
    this.#nextAt = now() + (listens ? this.#waitNanos : RETRY_FIRST_NANOS);
    if (listens) this.#waitNanos = Math.min(RETRY_LONGEST_NANOS, 2 * this.#waitNanos);
  }

  /** Notes that it is not asked; it may be once that changes. */
  notAsked(state: OutcomeState, why: string, server?: string): void {
    this.outcome = { state, why, ...(server === undefined ? {} : { server }) };
  }

  /** Notes that it cannot be read as it is: not asked again. */
  unusable(why: string): void {
    this.outcome = { state: "refused", why };
    this.#nextAt = Number.POSITIVE_INFINITY;
  }

  /** Notes that another server counts the same: looked at again after a while. */
  twin(server: string, why: string, { now }: Pick<Clock, "now">): void {
    this.server = undefined;
    this.outcome = { state: "known", why, server };
    this.#nextAt = now() + TWIN_NANOS;
  }

  /** Ask as if for the first time: somebody else listens there now. */
  askAnew(): void {
    this.#nextAt = Number.NEGATIVE_INFINITY;
    this.#waitNanos = RETRY_FIRST_NANOS;
  }
}

/** Another server that counts the same, or one that was not read yet and might. */
export interface Twin {
  readonly server: string;
  readonly why: string;
}

/**
 * The configured server that is the same one by another address (a Kubernetes Service, a proxy, a host name): one process
 * start and a model in common, or where no start is told the type and a model.
 */
export function twinOf(
  { id, type }: ServerInfo,
  sample: TokenSample | undefined,
  { lastTokenSamples, servers }: ServerTaker["intake"],
): Twin | undefined {
  if (sample === undefined) return undefined;
  for (const other of servers.values()) {
    if (other.id === id || other.family !== sample.family || foundServers.has(other)) continue;
    const theirs = lastTokenSamples.get(other.id);
    if (theirs === undefined || !modelsOf(theirs).some((model) => modelsOf(sample).includes(model))) continue;
    const [ours, its] = [startsOf(sample), startsOf(theirs)];
    if (ours.some((start) => its.includes(start)))
      return { server: other.id, why: `read already as ${other.id}: the same process` };
    if ((ours.length === 0 || its.length === 0) && other.type === type) {
      const why = `taken for ${other.id}: same type and model, and no start time tells them apart`;
      return { server: other.id, why };
    }
  }
  return undefined;
}

/** A server that may turn out to be one that is found, and was neither read nor found silent yet. */
export function unreadOf({ health, servers }: ServerTaker["intake"]): string | undefined {
  if (health === undefined) return undefined;
  const unread = [...servers.values()].find(
    ({ family, id, pod }) =>
      family === "engine" && pod === undefined && health.get(`server:${id}`) === undefined,
  );
  return unread?.id;
}

/**
 * Whether another server counts what this one would; told to `place`, and the source closed, then and where it cannot be
 * read.
 */
export async function isTwin(
  source: ServerSource,
  place: Place,
  intake: ServerTaker["intake"],
  clock: Pick<Clock, "now">,
): Promise<boolean> {
  try {
    const sample = source.kind === "pull" ? await source.poll() : undefined;
    const twin = twinOf(source.info, sample, intake);
    if (twin === undefined) return false;
    place.twin(twin.server, twin.why, clock);
  } catch (error) {
    place.inVain({ tried: [(error as Error).message], listens: true }, clock);
  }
  await source.close();
  return true;
}

function modelsOf({ readings }: TokenSample): readonly string[] {
  return readings.map(({ model }) => model ?? "");
}

function startsOf({ readings }: TokenSample): readonly string[] {
  return readings.flatMap(({ epoch }) => epoch ?? []);
}

/** The port of an address or URL. */
export function portOf(address: string): number | undefined {
  const port = Number(/:(\d{1,5})(?:\/|$)/.exec(address.replace(/^[a-z]+:\/\//, ""))?.[1]);
  return Number.isInteger(port) && port > 0 ? port : undefined;
}
