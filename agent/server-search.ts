// What the searches for servers have in common: what became of each place that was looked at, when it is asked again,
// and who takes a server in that was found.
import type { Clock } from "./clock.ts";
import type { Nanos, ServerInfo } from "./model.ts";
import type { Discovery } from "./servers/discover.ts";
import type { ServerSource } from "./source.ts";

/** A place that answers nothing useful: again after this, doubled each time up to the longest. */
const RETRY_FIRST_NANOS = 15e9;
const RETRY_LONGEST_NANOS = 600e9;

/** Takes in servers that were found; the pipeline, or whoever only looks. */
export interface ServerTaker {
  readonly intake: { readonly servers: ReadonlyMap<string, ServerInfo> };
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

  /** Ask as if for the first time: somebody else listens there now. */
  askAnew(): void {
    this.#nextAt = Number.NEGATIVE_INFINITY;
    this.#waitNanos = RETRY_FIRST_NANOS;
  }
}

/** The port of an address or URL. */
export function portOf(address: string): number | undefined {
  const port = Number(/:(\d{1,5})(?:\/|$)/.exec(address.replace(/^[a-z]+:\/\//, ""))?.[1]);
  return Number.isInteger(port) && port > 0 ? port : undefined;
}
