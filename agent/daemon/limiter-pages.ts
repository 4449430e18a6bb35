// Pages of rate limiters inside of the agent: read every so many seconds, what they decided posted with the next beat. They
// are no servers: they feed no quota and count no token. One that cannot be read is logged once and keeps its last figures.

import type { Ledger } from "../meter/ledger/ledger.ts";
import type { AnyPosting, StateRow } from "../model.ts";
import type { PageFetcher } from "../page/fetch.ts";
import { createPageFetcher } from "../page/fetch.ts";
import type { PageParser } from "../page/parse.ts";
import { createPageParser } from "../page/parse.ts";
import type { Cancel, Clock } from "../platform/clock.ts";
import { every } from "../platform/clock.ts";
import type { Log } from "../platform/log.ts";
import type { LimiterConfig, Policy } from "../policy/config.ts";
import { LimiterCounts } from "../policy/limiters/counts.ts";
import type { LimiterType } from "../policy/limiters/limiter.ts";
import { limiterTypes } from "../policy/limiters/registry.ts";
import type { LimiterShown } from "../policy/limiters/shown.ts";
import { limitersKey } from "../policy/limiters/shown.ts";

const TIMEOUT_MS = 4000;
const BYTES_MAX = 4 * 1024 * 1024;
const NAME = "tokenwatt.limiter.name";

/** What it is built from. */
interface Surroundings {
  readonly clock: Clock;
  readonly log: Log;
}

/** The limiters of the policy in force. */
export class LimiterPages {
  readonly #options: Surroundings;
  #open = new Map<string, OpenLimiter>();
  #stored: string | undefined;
  /** Series of limiters that are read no more were ended. */
  #isSettled = false;

  constructor(options: Surroundings) {
    this.#options = options;
  }

  /** Reads the limiters of this policy from now on; one whose entry is the same goes on. */
  use(policy: Policy | undefined): void {
    const next = new Map<string, OpenLimiter>();
    for (const config of policy?.observe === true ? policy.limiters : []) {
      const key = JSON.stringify(config);
      next.set(key, this.#open.get(key) ?? new OpenLimiter(config, this.#options));
    }
    for (const [key, one] of this.#open) if (!next.has(key)) one.close();
    this.#open = next;
    this.#isSettled = false;
  }

  /** What each decided, as of its last page. */
  get shown(): readonly LimiterShown[] {
    return [...this.#open.values()].map((one) => one.shown);
  }

  /** What was decided since the last call. */
  takePostings(): readonly AnyPosting[] {
    return [...this.#open.values()].flatMap((one) => one.takePostings());
  }

  /** Ends the series of limiters that are read no more, of this run or the one before: once for each policy. */
  endGone(ledger: Pick<Ledger, "endWhere">): void {
    if (this.#isSettled) return;
    this.#isSettled = true;
    const read = new Set([...this.#open.values()].map(({ shown }) => shown.name));
    ledger.endWhere(({ [NAME]: name }) => name !== undefined && !read.has(name));
  }

  /** The row to be stored, where it changed. */
  takeRow(): readonly StateRow[] {
    const { shown } = this;
    const value = shown.length === 0 ? "" : JSON.stringify(shown);
    if (value === (this.#stored ?? "unread")) return [];
    this.#stored = value;
    return [{ key: limitersKey, value }];
  }

  /** Reads no more. */
  close(): void {
    this.use(undefined);
  }
}

/** One limiter. */
class OpenLimiter {
  readonly #config: LimiterConfig;
  readonly #options: Surroundings;
  readonly #counts: LimiterCounts;
  readonly #parser: PageParser;
  readonly #abort = new AbortController();
  readonly #cancel: Cancel;
  #fetcher: PageFetcher | undefined;
  #sinceMillis: number | undefined;
  #readMillis: number | undefined;
  #failure: string | undefined;

  constructor(config: LimiterConfig, options: Surroundings) {
    this.#config = config;
    this.#options = options;
    const type = limiterTypes.find(({ name }) => name === config.type) as LimiterType;
    this.#counts = new LimiterCounts(type);
    this.#parser = createPageParser([...type.counters.map(({ family }) => family), ...type.signs]);
    const { clock } = options;
    this.#cancel = every(clock, config.seconds * 1000, () => this.#read(), clock.now());
  }

  get shown(): LimiterShown {
    const { name, type } = this.#config;
    return {
      name,
      type,
      sinceMillis: this.#sinceMillis,
      readMillis: this.#readMillis,
      failure: this.#failure,
      totals: this.#counts.totals,
    };
  }

  takePostings(): readonly AnyPosting[] {
    return this.#counts.takeMoved().map(({ amount, counted, decided, limit }) => ({
      metric: `tokenwatt.limiter.${counted}`,
      dimensions: {
        [NAME]: this.#config.name,
        "tokenwatt.limiter.limit": limit,
        "tokenwatt.policy.decision": decided,
      },
      kept: false,
      amount,
    }));
  }

  close(): void {
    this.#cancel();
    this.#abort.abort();
    this.#fetcher?.close();
  }

  async #read(): Promise<void> {
    const { clock, log } = this.#options;
    const { bearerFile, headers, name, page: url, tls, type } = this.#config;
    const about = { limiter: name, page: url };
    try {
      const target = { url, bearerFile, headers, tls, timeoutMs: TIMEOUT_MS, bytesMax: BYTES_MAX };
      this.#fetcher ??= createPageFetcher(target as Parameters<typeof createPageFetcher>[0], { clock });
      await this.#fetcher.fetch(({ body }) => {
        const { samples } = this.#parser.parse(body);
        if (!this.#counts.recognises(samples)) throw new Error(`the page has no counter of ${type}`);
        this.#counts.take(samples);
      }, this.#abort.signal);
      this.#readMillis = Number(clock.unixNanos(clock.now()) / 1_000_000n);
      this.#sinceMillis ??= this.#readMillis;
      if (this.#failure !== undefined) log.info("the rate limiter's page is read again", about);
      this.#failure = undefined;
    } catch (error) {
      const cause = (error as Error).message;
      if (this.#abort.signal.aborted) return;
      if (cause !== this.#failure)
        log.warn("cannot read the rate limiter's page", {
          ...about,
          cause,
          hint:
            this.#sinceMillis === undefined
              ? "it is counted from its first page on"
              : "what it decides meanwhile is counted when its page is back, unless it is started again",
        });
      this.#failure = cause;
    }
  }
}
