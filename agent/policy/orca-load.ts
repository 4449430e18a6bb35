// The load of one server, from the readings of its counters: rates over ten seconds, and how full it is by KV cache, by
// requests running against the most it ran with a queue, and by tokens against the rate its GPUs can sustain where one is
// configured or learned. A queue makes it more than full: 1 + waiting / running. Watts, tokens per joule and the
// token-active share are those of settled intervals.
import type { TokenSample } from "../model.ts";

const WINDOW_NANOS = 10e9;

/** What a report says; undefined = not known. */
export interface ServerLoad {
  readonly applicationUtilization: number | undefined;
  readonly requestsPerSecond: number | undefined;
  readonly failedPerSecond: number | undefined;
  readonly utilization: Readonly<Record<string, number | undefined>>;
  readonly named: Readonly<Record<string, number | undefined>>;
}

/** What settled intervals say of the last ten seconds; undefined = not known. */
export interface SettledLoad {
  /** GPUs it holds; a part of a shared one. */
  readonly gpus: number;
  readonly tokenActiveRatio: number | undefined;
  readonly watts: number | undefined;
  readonly tokensPerJoule: number | undefined;
}

/** What a report says beside the server's own counters; undefined = not known. */
export interface LoadFacts {
  /** What all of its GPUs together can sustain. */
  readonly tokensPerSecondMax?: number | undefined;
  /** Share of the fullest quota of mode `local`. */
  readonly quota?: number | undefined;
  readonly settled?: SettledLoad | undefined;
}

interface Totals {
  readonly at: number;
  readonly tokens: number;
  readonly output: number;
  readonly finished: number | undefined;
  readonly failed: number | undefined;
}

/** The load of one server over its last readings. */
export class LoadTrack {
  readonly #totals: Totals[] = [];
  #last: TokenSample | undefined;
  /** Most requests seen running while others waited: what it can run at a time. */
  #fullRunning: number | undefined;

  /** Takes a reading; the same one again changes nothing. */
  take(sample: TokenSample): void {
    if (sample.at === this.#last?.at) return;
    this.#last = sample;
    const [running, waiting] = [sumOf(sample, "running"), sumOf(sample, "waiting")];
    if (running !== undefined && (waiting ?? 0) > 0)
      this.#fullRunning = Math.max(this.#fullRunning ?? 0, running);
    const totals = totalsOf(sample);
    // Counters that fell began again: rates across that say nothing.
    if ((this.#totals.at(-1)?.tokens ?? 0) > totals.tokens) this.#totals.length = 0;
    this.#totals.push(totals);
    while (this.#totals.length > 2 && (this.#totals[1]?.at ?? 0) <= totals.at - WINDOW_NANOS)
      this.#totals.shift();
  }

  /** The load as of the last reading. */
  load({ quota, settled, tokensPerSecondMax }: LoadFacts): ServerLoad | undefined {
    const sample = this.#last;
    if (sample === undefined) return undefined;
    const [first, last] = [this.#totals[0], this.#totals.at(-1)];
    const seconds = first === undefined || last === undefined ? 0 : (last.at - first.at) / 1e9;
    const rate = (key: Exclude<keyof Totals, "at">): number | undefined => {
      const [from, to] = [first?.[key], last?.[key]];
      return seconds > 0 && from !== undefined && to !== undefined
        ? Math.max(0, to - from) / seconds
        : undefined;
    };
    const [running, waiting] = [sumOf(sample, "running"), sumOf(sample, "waiting")];
    const cache = mostOf(sample);
    const tokens = rate("tokens");
    const capacity = tokens === undefined || !tokensPerSecondMax ? undefined : tokens / tokensPerSecondMax;
    const slots = running === undefined || !this.#fullRunning ? undefined : running / this.#fullRunning;
    const queued = waiting ? 1 + waiting / Math.max(1, running ?? 1) : undefined;
    const known = [cache, capacity, slots, queued].filter((one) => one !== undefined);
    return {
      applicationUtilization: known.length === 0 ? undefined : Math.max(...known),
      requestsPerSecond: rate("finished"),
      failedPerSecond: rate("failed"),
      utilization: { kv_cache: cache, token_active: settled?.tokenActiveRatio, capacity, quota },
      named: {
        tokens_per_second: tokens,
        output_tokens_per_second: rate("output"),
        tokens_per_joule: settled?.tokensPerJoule,
        watts: settled?.watts,
        running,
        waiting,
        headroom_tokens_per_second:
          tokens === undefined || !tokensPerSecondMax ? undefined : Math.max(0, tokensPerSecondMax - tokens),
      },
    };
  }
}

function totalsOf({ at, readings }: TokenSample): Totals {
  let [tokens, output, finished, failed] = [0, 0, 0, 0];
  let saysRequests = false;
  for (const reading of readings) {
    for (const amount of Object.values(reading.tokens)) tokens += amount;
    output += reading.tokens.output ?? 0;
    for (const [outcome, amount] of Object.entries(reading.requests)) {
      saysRequests = true;
      finished += amount;
      if (outcome === "error") failed += amount;
    }
  }
  return saysRequests
    ? { at, tokens, output, finished, failed }
    : { at, tokens, output, finished: undefined, failed: undefined };
}

/** A gauge over all of a server's readings; undefined where none says it. */
function sumOf({ readings }: TokenSample, key: "running" | "waiting"): number | undefined {
  const known = readings.map((one) => one[key]).filter((one) => one !== undefined);
  return known.length === 0 ? undefined : known.reduce((sum, one) => sum + one, 0);
}

/** The fullest KV cache of its readings. */
function mostOf({ readings }: TokenSample): number | undefined {
  const known = readings.map((one) => one.kvCacheUtilization).filter((one) => one !== undefined);
  return known.length === 0 ? undefined : Math.max(...known);
}
