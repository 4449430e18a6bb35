// How long short requests take beside others by what their page tells, whoever the driver credits: all that requests took which
// ended, over those there at a time, is the time of execution (Little's law). Pages count that where requests enter: what front ends
// add to each is taken off, and is as far off.
import type { Nanos } from "../../model.ts";
import { executedByChance, togetherByChance } from "./at-a-time.ts";
import type { PollInterval } from "./evidence.ts";
import type { Told } from "./learned.ts";
import type { BesidePace } from "./presumed.ts";

/** Older intervals fade. */
const keptRatio = 0.995;
/** Requests that have to end. */
const requestsMin = 10;
/** What front ends add to each request, give or take as much. */
const frontEndNanos: Nanos = 4_000_000;
/** How far off durations are otherwise, as a logarithm. */
const errorLeast = 0.03;
/** Durations are the engine's own where this share of the requests was timed by it. */
const exactRatio = 0.9;
/** What chance says of the requests at a time weighs as much as so many polls with one in execution. */
const chancePolls = 4;
/** How much the requests at a time vary beyond those that overlap by chance. */
const variedRatio = 0.05;

/** Nothing told yet. */
export const nothingTold: Told = {
  ...{ flying: 0, inside: 0, slowed: 0 },
  ...{ requests: 0, exact: 0, nanos: 0, apartNanos: 0, squares: 0, last: 0 },
};

/**
 * Takes in an interval beside others, in which execution takes `slow` times as long as the GPU is busy for it, and how many requests
 * waited at its end. One without durations tells nothing.
 */
export function toldWith(
  told: Told,
  interval: Pick<PollInterval, "ended" | "from" | "inFlightTo" | "lone" | "to">,
  slow: number,
  waiting: number,
): Told {
  const { ended, from, inFlightTo = 0, lone, to } = interval;
  if (ended === undefined) return told;
  const inside = inFlightTo > 0 ? inFlightTo + (ended.isExecution ? 0 : waiting) : 0;
  return {
    flying: told.flying * keptRatio + (inFlightTo > 0 ? 1 : 0),
    inside: told.inside * keptRatio + inside,
    slowed: told.slowed * keptRatio + lone * slow,
    requests: told.requests * keptRatio + ended.requests,
    exact: told.exact * keptRatio + (ended.isPhased === true ? ended.requests : 0),
    nanos: told.nanos * keptRatio + ended.nanos,
    apartNanos: told.apartNanos * keptRatio + executedByChance(ended.nanos, to - from),
    squares: told.squares * keptRatio + (ended.requests - told.last) ** 2 / 2,
    last: ended.requests,
  };
}

/** Returns how long the GPU is busy for some progress by the requests that ended; undefined while they were few, or mostly a front end's. */
export function toldPace(told: Told): BesidePace | undefined {
  const { exact, flying, inside, nanos, requests, slowed } = told;
  if (requests < requestsMin || !(slowed > 0 && nanos > 0)) return undefined;
  const added = exact >= exactRatio * requests ? 0 : (frontEndNanos * requests) / nanos;
  if (added >= 1) return undefined;
  const took = nanos * (1 - added);
  const { error, together: byChance } = togetherByChance(told);
  const together = Math.max(1, (inside + chancePolls * byChance) / (flying + chancePolls));
  const chance = Math.sqrt((together - 1 + variedRatio) / (flying + chancePolls)) / together;
  const bursts = (error * chancePolls * byChance) / (inside + chancePolls * byChance);
  return { perProgress: took / together / slowed, error: Math.hypot(errorLeast, added, chance, bursts) };
}
