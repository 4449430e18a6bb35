// What a server's GPUs can make at most, from what they made of each mix and batch so far (METERING.md 6). Its GPU time is
// a x prompt tokens + s x decode steps + d x output tokens, where steps = output tokens / requests running: the more run, the
// fewer steps a token takes. How many run at most is seen where requests wait; until then the limit lies between the
// batch that was seen and the one at which the KV cache is full, or none at all.
import type { UnixNanos } from "../../model.ts";
import type { SeenWork, Work } from "./capacity-fit.ts";
import { fitCosts } from "./capacity-fit.ts";

/** A minute of a server. */
export interface CapacityMinute {
  /** Prompt tokens that no cache had, and output tokens. */
  readonly prompts: number;
  readonly outputs: number;
  /** Token-active GPU-seconds. */
  readonly seconds: number;
  /** Requests running on average while any ran. */
  readonly running: number;
  /** Share of the KV cache in use on average while any ran; undefined where the server cannot say. */
  readonly cacheRatio: number | undefined;
  /** Every objective was met in it. */
  readonly isMet: boolean;
  /** Where requests waited in most of it: running on average, and at most, while any waited. */
  readonly queued: { readonly running: number; readonly runningMost: number } | undefined;
  readonly at: UnixNanos;
}

/** What a server makes of late: amounts of a stretch, only what they are to each other counts. */
export interface ServedMix {
  readonly prompts: number;
  readonly outputs: number;
  /** Of all kinds, from a cache too. */
  readonly tokens: number;
}

/** What a curve says. */
export interface Plateau {
  /** Tokens of the mix per GPU-second: what is most likely, and least and most in 9 of 10 cases. */
  readonly rate: number;
  readonly rateLeast: number;
  readonly rateMost: number;
  /** Whether requests waited, or objectives were missed, at the limit; else the most is extrapolated. */
  readonly isLimitSeen: boolean;
  /** Minutes behind it, older ones faded, and the newest of them. */
  readonly minutes: number;
  readonly at: UnixNanos;
}

/** Minutes of like pace and mix: sums, older ones faded. */
interface Point {
  minutes: number;
  met: number;
  prompts: number;
  outputs: number;
  seconds: number;
  running: number;
  runningSquares: number;
  cacheRatio: number;
  cacheMinutes: number;
  queuedRunning: number;
  queuedMost: number;
  at: UnixNanos;
}

/** A point that counts: its weight as of now, and what ran on average. */
interface Known extends Point {
  readonly place: Place;
  readonly weight: number;
  readonly batch: number;
}

/** Half doublings of tokens per second, quadruplings of prompts per output, and whether requests waited. */
type Place = readonly [pace: number, mix: number, isQueued: boolean];

/** A curve for the store: place and the values of a point, its instant last. */
export type CurveState = readonly (readonly [number, number, boolean, ...number[], string])[];

const values = [
  ...(["minutes", "met", "prompts", "outputs", "seconds", "running", "runningSquares"] as const),
  ...(["cacheRatio", "cacheMinutes", "queuedRunning", "queuedMost"] as const),
] as const;

/** Points per doubling of the pace. Minutes are told apart by their pace, not their gauge: a gauge read a dozen times is off. */
const pointsPerDoubling = 2;
/** Mixes from a quarter of a prompt token per output token on, by fours; without output there is one. */
const [mixLeast, mixMost, mixWithoutOutput] = [-2, 4, 5];
/** So many fours between two mixes are a like mix, and the same one. */
const [likeMixMax, sameMixMax] = [1.5, 0.75];
const pointsMax = 96;
/** Minutes count half after 14 days; a point of fewer than one is forgotten, and the newest 240 speak for it. */
const [halfLifeNanos, forgottenMinutes, minutesMax] = [14 * 86_400e9, 0.05, 240];
/** Minutes of a point to count (two, faded for a day), and minutes of all. */
const [pointMinutesMin, minutesMin] = [1.9, 9.5];
/** How well costs explain a point, however many minutes it has, and a bound as a whole. */
const [pointError, boundError] = [0.04, 0.04];
/** Nothing is told where the most is more than three times the least. */
const mostOverLeastMax = 3;
/** A cache that is less full than this does not say how many requests fill it; what they take may differ by half. */
const [cacheRatioMin, cacheSlack] = [0.1, 1.5];
/** Share of the minutes of a point that must have met the objectives for it to have. */
const metShareMin = 0.5;
/** A queue at a batch below this share of what ran at other times was no limit. */
const queuedBatchMin = 0.6;
/** What is told is worked out again after a minute. */
const toldNanos = 60_000_000_000n;

/** The curve of one server. */
export class CapacityCurve {
  readonly #points = new Map<string, Point & { readonly place: Place }>();
  #told: { readonly at: UnixNanos; readonly plateau: Plateau | undefined } | undefined;

  /** Takes in a minute. */
  observeMinute(minute: CapacityMinute): void {
    const { at, cacheRatio, isMet, outputs, prompts, queued, running, seconds } = minute;
    if (!(running > 0 && seconds > 0 && outputs + prompts > 0)) return;
    const place = placeOf(minute);
    const key = place.join(" ");
    const point = this.#points.get(key) ?? this.#newPoint(key, place, at);
    const kept = fadedBy(point, at) * Math.min(1, minutesMax / (point.minutes + 1));
    for (const value of values) if (value !== "queuedMost") point[value] *= kept;
    point.minutes++;
    point.met += isMet ? 1 : 0;
    point.prompts += prompts;
    point.outputs += outputs;
    point.seconds += seconds;
    point.running += running;
    point.runningSquares += running * running;
    if (cacheRatio !== undefined) point.cacheMinutes++;
    point.cacheRatio += cacheRatio ?? 0;
    point.queuedRunning += queued?.running ?? 0;
    point.queuedMost = Math.max(point.queuedMost, queued?.runningMost ?? 0);
    point.at = at;
    this.#told = undefined;
  }

  /** Returns what `at` knows of the limit of a mix; undefined where that is too little to be told. */
  plateau(at: UnixNanos, mix: ServedMix): Plateau | undefined {
    if (this.#told === undefined || at - this.#told.at >= toldNanos || at < this.#told.at)
      this.#told = { at, plateau: this.#plateau(at, mix) };
    return this.#told.plateau;
  }

  /** For the store. */
  state(): CurveState {
    return [...this.#points.values()].map((point) => [
      ...point.place,
      ...values.map((value) => point[value]),
      String(point.at),
    ]) as unknown as CurveState;
  }

  /** Goes on from `state()`. */
  restore(state: CurveState): void {
    for (const [pace, mix, isQueued, ...rest] of state) {
      const place: Place = [pace, mix, isQueued];
      const point = this.#newPoint(place.join(" "), place, BigInt(rest.at(-1) as string));
      for (const [index, value] of values.entries()) point[value] = rest[index] as number;
    }
  }

  #plateau(at: UnixNanos, mix: ServedMix): Plateau | undefined {
    const known = this.#known(at, mix);
    const minutes = known.reduce((sum, { weight }) => sum + weight, 0);
    if (minutes < minutesMin || !(mix.tokens > 0)) return undefined;
    const costs = fitCosts(known.map(seenWork));
    const limit = limitOf(known, mix);
    if (costs === undefined || limit === undefined) return undefined;
    const { isLimitSeen, least, most } = limit;
    const rateLeast = ((1 - boundError) * mix.tokens) / costs.secondsMost(workOf(mix, least));
    const rateMost = ((1 + boundError) * mix.tokens) / costs.secondsLeast(workOf(mix, most));
    if (!(rateLeast > 0 && rateMost <= mostOverLeastMax * rateLeast)) return undefined;
    const newest = known.reduce((latest, point) => (point.at > latest ? point.at : latest), 0n);
    return { rate: (rateLeast + rateMost) / 2, rateLeast, rateMost, isLimitSeen, minutes, at: newest };
  }

  /** The points that count for a mix, as of now: those with output, or those without. */
  #known(at: UnixNanos, mix: ServedMix): readonly Known[] {
    const isWithout = mixOf(mix) === mixWithoutOutput;
    return [...this.#points.values()].flatMap((point) => {
      const weight = point.minutes * fadedBy(point, at);
      if (point.minutes < pointMinutesMin || weight < forgottenMinutes) return [];
      if ((point.place[1] === mixWithoutOutput) !== isWithout) return [];
      return [{ ...point, weight, batch: point.running / point.minutes }];
    });
  }

  #newPoint(key: string, place: Place, at: UnixNanos): Point & { readonly place: Place } {
    if (this.#points.size >= pointsMax) {
      const weightOf = ([, point]: readonly [string, Point]): number => point.minutes * fadedBy(point, at);
      const lightest = [...this.#points].reduce((one, other) =>
        weightOf(other) < weightOf(one) ? other : one,
      );
      this.#points.delete(lightest[0]);
    }
    const zeros = Object.fromEntries(values.map((value) => [value, 0])) as Record<
      (typeof values)[number],
      number
    >;
    const point = { ...zeros, place, at };
    this.#points.set(key, point);
    return point;
  }
}

/** How many run at a time at the limit, least and most; undefined where no batch met the objectives. */
function limitOf(
  known: readonly Known[],
  mix: ServedMix,
): { readonly least: number; readonly most: number; readonly isLimitSeen: boolean } | undefined {
  const rising = [...known].sort((left, right) => left.batch - right.batch);
  // Beyond the batch at which the objectives are still met, more is made and none of it counts.
  const met = rising.findLastIndex((point) => point.met >= metShareMin * point.minutes);
  const largest = rising[met]?.batch;
  if (largest === undefined) return undefined;
  const missed = rising[met + 1]?.batch;
  const near = rising.slice(0, met + 1).filter((point) => foursApart(point, mix) <= likeMixMax);
  const last = near.at(-1);
  const least = last?.batch ?? largest;
  // Where requests of this mix wait, no more of them run at a time.
  const queued = near.filter((point) => point.place[2] && foursApart(point, mix) <= sameMixMax);
  const minutes = queued.reduce((sum, point) => sum + point.minutes, 0);
  const atQueue = queued.reduce((sum, point) => sum + point.queuedRunning, 0) / minutes;
  if (minutes > 0 && atQueue >= queuedBatchMin * least) {
    const most = Math.max(...queued.map(({ queuedMost }) => queuedMost));
    return { least: atQueue, most: Math.max(atQueue, most), isLimitSeen: true };
  }
  if (missed !== undefined) return { least: largest, most: missed, isLimitSeen: true };
  const cacheRatio = last === undefined ? 0 : last.cacheRatio / last.cacheMinutes;
  const most = cacheRatio >= cacheRatioMin ? Math.max(least, (cacheSlack * least) / cacheRatio) : Infinity;
  return { least, most, isLimitSeen: false };
}

/** What a point shows of the costs: its relative error is that of its gauge, and that of costs that never fit quite. */
function seenWork({ batch, minutes, outputs, prompts, runningSquares, seconds }: Known): SeenWork {
  const spread = Math.max(0, runningSquares / minutes - batch * batch) / (batch * batch);
  const error = pointError ** 2 + (0.05 ** 2 + spread) / Math.max(1, minutes - 1);
  const work = workOf({ prompts, outputs }, batch);
  return { perSecond: [work[0] / seconds, work[1] / seconds, work[2] / seconds], weight: 1 / error };
}

/** The work of a mix at a batch. A server without output works on prompts by steps. */
function workOf({ outputs, prompts }: Pick<ServedMix, "outputs" | "prompts">, batch: number): Work {
  return [prompts, (outputs > 0 ? outputs : prompts) / batch, outputs];
}

function placeOf({ outputs, prompts, queued, seconds }: CapacityMinute): Place {
  const pace = Math.log2((outputs > 0 ? outputs : prompts) / seconds);
  return [Math.round(pointsPerDoubling * pace), mixOf({ prompts, outputs }), queued !== undefined];
}

function mixOf(served: Pick<ServedMix, "outputs" | "prompts">): number {
  return served.outputs > 0 ? Math.round(foursOf(served)) : mixWithoutOutput;
}

/** Prompt tokens per output token, as a power of four. */
function foursOf({ outputs, prompts }: Pick<ServedMix, "outputs" | "prompts">): number {
  return Math.min(mixMost, Math.max(mixLeast, Math.log(prompts / outputs) / Math.log(4)));
}

/** How different two mixes are; those without output are alike. */
function foursApart(one: Pick<ServedMix, "outputs" | "prompts">, other: ServedMix): number {
  return one.outputs > 0 && other.outputs > 0 ? Math.abs(foursOf(one) - foursOf(other)) : 0;
}

function fadedBy(point: Point, at: UnixNanos): number {
  return 0.5 ** (Math.max(0, Number(at - point.at)) / halfLifeNanos);
}
