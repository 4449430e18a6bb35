// What is thought of requests before anything was seen of how long they take: what GPUs make of their tokens. Decode steps of a
// few billion parameters read their weights in 3 to 15 ms, and 200 tokens of a prompt take about as long as a step.
import type { Nanos } from "../../model.ts";
import type { PollInterval } from "./evidence.ts";
import type { Level } from "./learned.ts";

/** How long the GPU is busy for some progress, and how far off the logarithm of that is, as one standard error. */
export interface BesidePace {
  readonly perProgress: number;
  readonly error: number;
}

/** What GPUs make of a decode step, or of 200 tokens of a prompt: half or twice as much. */
export const presumedPace: BesidePace = { perProgress: 7_000_000, error: 0.7 };
/** Where all are short: half of the work, and how far off the logarithm of that is. */
const halfError = 0.5;
/** Two standard errors of the pace. */
const longest = Math.exp(2 * presumedPace.error);
/** Requests that have to end to say how many tokens they make. */
const madeMin = 3;
/** Polls that read a request say how long they are by themselves. */
const insideMin = 2;
/** Older ones fade with each poll. */
const fadeRatio = 0.995;

/**
 * Returns what is thought of the pace of short requests before anything was seen of it: what GPUs make of a step, and where
 * short requests did all the work, `most` for some progress, half of that.
 */
export function paceOfShort(most: Nanos): BesidePace {
  const { error, perProgress } = together(presumedPace, { perProgress: most / 2, error: halfError });
  return { perProgress: Math.min(most, perProgress), error };
}

/** What two paces say together, each by the square of its error. */
function together(one: BesidePace, other: BesidePace): BesidePace {
  const share = one.error ** 2 / (one.error ** 2 + other.error ** 2);
  return {
    perProgress: one.perProgress * (other.perProgress / one.perProgress) ** share,
    error: (one.error * other.error) / Math.hypot(one.error, other.error),
  };
}

/** What short requests make, each by itself; no more steps than the gauges leave: those in flight at once are executed together. */
export function stepsOf({
  lone,
  progress,
  steps,
}: Pick<PollInterval, "lone" | "progress" | "steps">): number {
  return steps > 0 ? Math.min(lone, progress) : lone;
}

/**
 * Returns how long the GPU is busy for the progress of an interval, by what GPUs make of its steps and by `seen`. So many last windows
 * of the driver, as if each were full, showed the latter: the fewer, the more it is chance.
 */
export function paceOfSamples(
  seen: BesidePace | undefined,
  samples: number,
  interval: Pick<PollInterval, "lone" | "progress" | "steps">,
): BesidePace | undefined {
  if (!(interval.progress > 0 && interval.lone > 0)) return seen;
  const perStep = stepsOf(interval) / interval.progress;
  const presumed = { ...presumedPace, perProgress: presumedPace.perProgress * perStep };
  if (seen === undefined || !(samples > 0)) return presumed;
  return together({ ...seen, error: Math.hypot(seen.error, 1 / Math.sqrt(samples)) }, presumed);
}

/**
 * Takes in the progress of an interval of a server beside others, or of one without gauges, and how many requests ended in it:
 * of any other, polls say how long these are.
 */
export function observeMade(level: Level, { lone, requests }: Pick<PollInterval, "lone" | "requests">): void {
  if (requests === undefined || !(lone > 0)) return;
  level.made = level.made * fadeRatio + requests;
  level.makings = level.makings * fadeRatio + lone;
}

/** True while too few requests ended to say how many tokens they make. */
export function isMadeNew({ made }: Level): boolean {
  return made < madeMin;
}

/**
 * True where requests make so few tokens that no GPU takes longer than `nanos` for one of them, while polls read too few in flight to
 * say it: the first token comes with the prompt.
 */
export function areMadeShorter({ inside, made, makings }: Level, nanos: Nanos): boolean {
  if (made < madeMin || inside >= insideMin) return false;
  return (makings + made) * presumedPace.perProgress * longest < nanos * made;
}
