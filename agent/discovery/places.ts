// What the searches for servers have in common: what became of each place that was looked at, when it is asked again,
// who takes a server in that was found, and what happens to it when somebody else listens there.

import type { Nanos, ServerInfo, TokenSample } from "../model.ts";
import { shownAddress } from "../platform/address.ts";
import type { Clock } from "../platform/clock.ts";
import type { Log } from "../platform/log.ts";
import type { ServerSource } from "../source.ts";
import type { Discovered, Discovery } from "./ask.ts";
import { isEstimate } from "./ask.ts";

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
  /** The server that is read here. */
  server: ServerSource | undefined;
  #foundWhy = "";
  /** Somebody else may listen here than when the server was found. */
  #inDoubt = false;
  #nextAt: Nanos = Number.NEGATIVE_INFINITY;
  #waitNanos = RETRY_FIRST_NANOS;

  /** Whether the server that is read here may be another one by now. */
  get inDoubt(): boolean {
    return this.server !== undefined && this.#inDoubt;
  }

  /** Whether it is time to ask. */
  due({ now }: Pick<Clock, "now">): boolean {
    return (this.server === undefined || this.#inDoubt) && now() >= this.#nextAt;
  }

  /** Notes that a server was found and is read. */
  found(source: ServerSource, why: string): void {
    this.server = source;
    foundServers.add(source.info);
    this.#foundWhy = why;
    this.#confirm(source.info);
  }

  /**
   * Whether what was found leaves the server that is read here as it is: it is that one, or has said too little yet. After
   * a restart the page may come later than the gRPC service beside it, which is asked twice before it is believed.
   */
  stays({ endpoint, type }: Discovered, clock: Pick<Clock, "now">): boolean {
    const info = this.server?.info;
    if (info === undefined) return false;
    const isSame = info.type === type && info.address === shownAddress(endpoint);
    if (isSame) this.#confirm(info);
    const isEarly = isEstimate(type) && !isEstimate(info.type) && this.#waitNanos === RETRY_FIRST_NANOS;
    if (isEarly)
      this.inVain({ tried: [`${type} at ${endpoint}, which only estimates`], listens: true }, clock);
    return isSame || isEarly;
  }

  #confirm({ id }: ServerInfo): void {
    this.#inDoubt = false;
    this.outcome = { state: "found", why: this.#foundWhy, server: id };
  }

  /**
   * Notes that asking gave nothing. A place where nothing listens may be a server that still loads: not put off. One that
   * was read here stays until another one answers.
   */
  inVain({ tried, listens }: Pick<Discovery, "tried" | "listens">, { now }: Pick<Clock, "now">): void {
    const why = tried.join("; ");
    this.outcome =
      this.server === undefined
        ? { state: listens ? "nothing" : "waiting", why }
        : {
            state: "found",
            why: `${this.#foundWhy}; restarted or replaced since, and not known yet: ${why}`,
            server: this.server.info.id,
          };
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
    this.outcome = { state: "known", why, server };
    this.#nextAt = now() + TWIN_NANOS;
  }

  /** Ask as if for the first time: somebody else listens there now. A server that is read stays until one answers. */
  askAnew(): void {
    this.#inDoubt = true;
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
 * start and a model in common, or without a start time the type and a model.
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
 * Whether another server counts what this one would; noted in `place`, and the source closed, then and where it cannot be
 * read. A server the place had is let go for the other one.
 */
export async function isTwin(
  source: ServerSource,
  place: Place,
  pipeline: ServerTaker,
  clock: Pick<Clock, "now">,
): Promise<boolean> {
  let twin: Twin | undefined;
  try {
    const sample = source.kind === "pull" ? await source.poll() : undefined;
    twin = twinOf(source.info, sample, pipeline.intake);
    if (twin === undefined) return false;
  } catch (error) {
    place.inVain({ tried: [(error as Error).message], listens: true }, clock);
  }
  await source.close();
  if (twin !== undefined) await stepBack(place, twin, pipeline, clock);
  return true;
}

/** Lets the server of a place go, if it has one, for the one that counts the same. */
export async function stepBack(
  place: Place,
  { server, why }: Twin,
  pipeline: ServerTaker,
  clock: Pick<Clock, "now">,
): Promise<void> {
  await letGo(place, pipeline);
  place.twin(server, why, clock);
}

/** Lets the server of a place go, if it has one. */
export async function letGo(place: Place, pipeline: ServerTaker): Promise<void> {
  const { server } = place;
  place.server = undefined;
  if (server !== undefined) await pipeline.removeServer(server);
}

/** How a server was found: what its page or service looks like, and what led to its port. */
export interface Finding {
  readonly why: string;
  readonly from?: string;
  readonly pod?: string;
}

/** Has a server read that was found at a place, and replaces the one that was read there. */
export async function takeIn(
  source: ServerSource,
  place: Place,
  finding: Finding,
  { log, pipeline }: { readonly log: Log; readonly pipeline: ServerTaker },
): Promise<void> {
  const before = place.server?.info;
  const { id, type } = source.info;
  // It ends first: both may have one name.
  await letGo(place, pipeline);
  place.found(source, [`${type}: ${finding.why}`, finding.from ?? []].flat().join("; "));
  pipeline.addServer(source);
  const facts = { source: `server:${id}`, type, ...finding };
  if (before === undefined) log.info("server found", facts);
  else log.info("server replaced", { ...facts, before: `server:${before.id}`, beforeType: before.type });
}

/** Whether this is the server of a source, or one of those behind it, which the intake names after it. */
export function isOf(source: ServerSource | undefined, id: string): boolean {
  return source !== undefined && (id === source.info.id || id.startsWith(`${source.info.id}/`));
}

function modelsOf({ readings }: TokenSample): readonly string[] {
  return readings.map(({ model }) => model ?? "");
}

function startsOf({ readings }: TokenSample): readonly string[] {
  return readings.flatMap(({ epoch }) => epoch ?? []);
}
