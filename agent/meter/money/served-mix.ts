// What a server served of late, and the tokens of an interval as capacity counts them. Tokens that were read late are left out:
// they were not made in it.
import type { TokenIncrement } from "../../model.ts";
import type { ServedMix } from "./capacity-curve.ts";
import type { TokenWeights } from "./tenants.ts";

/** Work of so long leaves 1/e of the weight of what was served before it: longer, and a change of the load is told late. */
const mixNanos = 300e9;
const evenWeights: TokenWeights = { output: 1, input: 1, cached: 1 };

/** Tokens of late: plain, weighted, and what the costs of work count of them. */
export interface Mix extends ServedMix {
  weighted: number;
  tokens: number;
  prompts: number;
  outputs: number;
}

/** Returns a mix of nothing. */
export function emptyMix(): Mix {
  return { weighted: 0, tokens: 0, prompts: 0, outputs: 0 };
}

/**
 * The mix of a stored one. What an earlier version stored says nothing of work: beside prompts and outputs of later its tokens would
 * make a rate several times too high, so that they count only until the first ones come.
 */
export function restoredMix({ outputs, prompts, tokens = 0, weighted = 0 }: Partial<Mix>): Mix {
  if (prompts !== undefined && outputs !== undefined) return { weighted, tokens, prompts, outputs };
  return { ...emptyMix(), weighted: weighted * 1e-9, tokens: tokens * 1e-9 };
}

/** Adds what an interval counted; what was served before fades by the time in execution. */
export function addToMix(
  mix: Mix,
  increments: readonly TokenIncrement[],
  weights: TokenWeights,
  executedNanos: number,
): void {
  const mixKeptRatio = Math.exp(-executedNanos / mixNanos);
  const [prompts, outputs] = workTokens(increments);
  mix.weighted = mix.weighted * mixKeptRatio + weightedTokens(increments, weights);
  mix.tokens = mix.tokens * mixKeptRatio + plainTokens(increments);
  mix.prompts = mix.prompts * mixKeptRatio + prompts;
  mix.outputs = mix.outputs * mixKeptRatio + outputs;
}

/** Tokens of all kinds. */
export function plainTokens(increments: readonly TokenIncrement[]): number {
  return weightedTokens(increments, evenWeights);
}

/** Tokens by weight. */
export function weightedTokens(increments: readonly TokenIncrement[], weights: TokenWeights): number {
  let sum = 0;
  for (const { family, late, tokens } of increments) {
    if (family !== "engine" || late) continue;
    sum += weights.output * (tokens.output ?? 0) + weights.cached * (tokens.input_cached ?? 0);
    sum += weights.input * ((tokens.input_uncached ?? 0) + (tokens.input_unsplit ?? 0));
  }
  return sum;
}

/** Prompt tokens that no cache had, and output tokens. */
export function workTokens(
  increments: readonly TokenIncrement[],
): readonly [prompts: number, outputs: number] {
  let [prompts, outputs] = [0, 0];
  for (const { family, late, tokens } of increments) {
    if (family !== "engine" || late) continue;
    prompts += (tokens.input_uncached ?? 0) + (tokens.input_unsplit ?? 0);
    outputs += tokens.output ?? 0;
  }
  return [prompts, outputs];
}
