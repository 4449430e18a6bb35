// The usage of all hosts, asked of a Prometheus every so many seconds, for state and forecast and never for a limit. Inside
// a window the largest answer stays: a host that went away has used what it used. An answer counts as fresh for three
// times its period, from its newest sample on; after that nothing of it is said.
import type { Cancel, Clock } from "../platform/clock.ts";
import { every } from "../platform/clock.ts";
import { postForm } from "../platform/http-post.ts";
import type { Log } from "../platform/log.ts";
import type { PolicyBook } from "../policy/book.ts";
import type { Quota } from "../policy/config.ts";
import type { KeyValues } from "../policy/counter.ts";
import type { FleetAsked, FleetUsed } from "../policy/fleet.ts";
import { fleetKey, fleetQuery, readFleetAnswer } from "../policy/fleet.ts";
import type { FleetReading } from "../policy/states.ts";
import type { Window } from "../policy/windows.ts";

const TIMEOUT_MS = 10_000;
const BYTES_MAX = 8 * 1024 * 1024;
const FRESH_PERIODS = 3;

/** What all hosts used, as far as it is known. */
export class FleetUsage {
  readonly #clock: Clock;
  readonly #log: Log;
  #book: PolicyBook | undefined;
  #place = "";
  #cancel: Cancel = () => {};
  /** By window and counter. */
  #known = new Map<number, Map<string, FleetUsed>>();
  /** When the newest sample was taken; before there was one, when asking began. */
  #sampledMillis = 0;
  #isKnown = false;
  #failed: string | undefined;
  #asking: Promise<void> = Promise.resolve();

  constructor({ clock, log }: { readonly clock: Clock; readonly log: Log }) {
    this.#clock = clock;
    this.#log = log;
  }

  /** Asks for the quotas of this book from now on, where its policy says whom. */
  use(book: PolicyBook | undefined): void {
    this.#book = book;
    const fleet = book?.policy.fleet;
    const place = fleet === undefined ? "" : JSON.stringify(fleet);
    if (place === this.#place) return;
    this.close();
    this.#place = place;
    this.#known.clear();
    this.#isKnown = false;
    this.#failed = undefined;
    this.#sampledMillis = this.#now();
    if (fleet === undefined) return;
    this.#cancel = every(this.#clock, fleet.seconds * 1000, () => this.ask(), this.#clock.now());
  }

  /** Seconds since the usage of the fleet was last known, or since it is asked for; undefined where it is not. */
  get ageSeconds(): number | undefined {
    if (this.#book?.policy.fleet === undefined) return undefined;
    return Math.max(0, (this.#now() - this.#sampledMillis) / 1000);
  }

  /** Why it is not known; undefined while it is answered. */
  get failure(): string | undefined {
    return this.#failed;
  }

  /** What is known of a counter in a window. */
  read(quota: Quota, values: KeyValues, window: Window): FleetReading | undefined {
    const seconds = this.#book?.policy.fleet?.seconds ?? 0;
    const ageSeconds = this.ageSeconds;
    const found = this.#known.get(window.from)?.get(fleetKey(quota, values));
    if (found === undefined || ageSeconds === undefined || !this.#isKnown) return undefined;
    return { ...found, ageSeconds, isFresh: ageSeconds <= FRESH_PERIODS * seconds };
  }

  /** Asks once; what goes wrong is logged once. Resolves when it is known, or known not to be. */
  ask(): Promise<void> {
    this.#asking = this.#asking.then(() => this.#ask());
    return this.#asking;
  }

  /** Asks no more. */
  close(): void {
    this.#cancel();
    this.#cancel = () => {};
    this.#place = "";
  }

  async #ask(): Promise<void> {
    const [book, place] = [this.#book, this.#place];
    const fleet = book?.policy.fleet;
    if (book === undefined || fleet === undefined || book.usages.length === 0) return;
    const asked = book.usages.map(({ quota, window }) => ({ quota, window }));
    const { bearerFile, headers, prometheus, tls } = fleet;
    const url = `${prometheus.replace(/\/+$/, "")}/api/v1/query`;
    try {
      const target = { url, bearerFile, headers, tls, timeoutMs: TIMEOUT_MS, bytesMax: BYTES_MAX };
      const body = await postForm(target, { query: fleetQuery(asked) }, this.#clock);
      const answer = readFleetAnswer(body, asked);
      // Another policy came meanwhile, and with it another place.
      if (place !== this.#place) return;
      this.#sampledMillis = Math.min(answer.sampledMillis, this.#now());
      this.#isKnown = true;
      this.#keep(asked, answer.used);
      if (this.#failed !== undefined) this.#log.info("the fleet's usage is known again", { prometheus });
      this.#failed = undefined;
    } catch (error) {
      const cause = (error as Error).message;
      if (place !== this.#place) return;
      if (cause !== this.#failed)
        this.#log.warn("the fleet's usage is not known", {
          prometheus,
          cause,
          hint: "states follow this host alone meanwhile",
        });
      this.#failed = cause;
    }
  }

  #keep(asked: readonly FleetAsked[], used: ReadonlyMap<string, FleetUsed>): void {
    const windows = new Map(asked.map(({ quota, window }) => [quota.name, window.from]));
    const current = new Set(windows.values());
    for (const from of this.#known.keys()) if (!current.has(from)) this.#known.delete(from);
    for (const [key, found] of used) {
      const from = windows.get((JSON.parse(key) as string[])[0] ?? "") ?? 0;
      const known = this.#known.get(from) ?? new Map<string, FleetUsed>();
      this.#known.set(from, known);
      const before = known.get(key)?.used ?? 0n;
      known.set(key, before > found.used ? { ...found, used: before } : found);
    }
  }

  #now(): number {
    return Number(this.#clock.unixNanos(this.#clock.now()) / 1_000_000n);
  }
}
