// Engine increments of one interval with their tenants and endpoints summed away: engine metrics carry neither, so a
// server with 200 label sets is posted and priced as one.
import type { Histogram, LatencyKey, TokenIncrement } from "../../model.ts";
import { outcomes, tokenKinds } from "./key-counters.ts";
import { addLatencies } from "./latency-counters.ts";

/** One increment per server, model, role, lateness, place, doubt, and latency bounds; gateway increments as they are. */
export function mergeEngineIncrements(increments: readonly TokenIncrement[]): readonly TokenIncrement[] {
  if (increments.length < 2 || increments.every(isGateway)) return increments;
  const merged = new Map<string, Sum>();
  const kept: TokenIncrement[] = [];
  for (const increment of increments) {
    if (increment.family === "gateway") {
      kept.push(increment);
      continue;
    }
    const key = `${increment.server}\u0000${increment.model ?? "\u0001"}\u0000${increment.role}\u0000${increment.late}\u0000${increment.elsewhere}\u0000${increment.doubt}`;
    const sum = merged.get(key);
    if (sum === undefined) merged.set(key, new Sum(increment));
    else if (!sum.merge(increment)) kept.push(increment);
  }
  return [...[...merged.values()].map((sum) => sum.increment), ...kept];
}

function isGateway({ family }: TokenIncrement): boolean {
  return family === "gateway";
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

class Sum {
  readonly #first: TokenIncrement;
  readonly #tokens: Mutable<TokenIncrement["tokens"]>;
  readonly #requests: Mutable<TokenIncrement["requests"]>;
  readonly #latencies: Partial<Record<LatencyKey, Histogram>>;
  #reasoningTokens: number;
  #resets: number;

  constructor(first: TokenIncrement) {
    this.#first = first;
    this.#tokens = { ...first.tokens };
    this.#requests = { ...first.requests };
    this.#latencies = { ...first.latencies };
    this.#reasoningTokens = first.reasoningTokens;
    this.#resets = first.resets;
  }

  /** False, and nothing added, when a latency has other bounds than before. */
  merge(more: TokenIncrement): boolean {
    if (!addLatencies(this.#latencies, more.latencies)) return false;
    for (const kind of tokenKinds) {
      const amount = more.tokens[kind];
      if (amount !== undefined) this.#tokens[kind] = (this.#tokens[kind] ?? 0) + amount;
    }
    for (const outcome of outcomes) {
      const amount = more.requests[outcome];
      if (amount !== undefined) this.#requests[outcome] = (this.#requests[outcome] ?? 0) + amount;
    }
    this.#reasoningTokens += more.reasoningTokens;
    this.#resets += more.resets;
    return true;
  }

  get increment(): TokenIncrement {
    const {
      tenant: _tenant,
      endpoint: _endpoint,
      ranks: _ranks,
      tokensByOutcome: _byOutcome,
      ...rest
    } = this.#first;
    return {
      ...rest,
      tokens: this.#tokens,
      requests: this.#requests,
      latencies: this.#latencies,
      reasoningTokens: this.#reasoningTokens,
      resets: this.#resets,
    };
  }
}
