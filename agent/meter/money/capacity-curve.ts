// What a server's GPUs can make at most, from how much they make at each number of requests running (METERING.md 6).
// Weighted tokens per token-active GPU-second rise with the batch and level off: w = C r / (r + k), so that r / w is a
// straight line over r with the slope 1 / C. No queue is needed; a plateau that was never near is not guessed.
import type { UnixNanos } from "../../model.ts";

/** A minute of a server. */
export interface CapacityMinute {
  /** Requests running on average while any ran. */
  readonly running: number;
  /** Weighted tokens per token-active GPU-second. */
  readonly rate: number;
  /** Every objective was met in it. */
  readonly isMet: boolean;
  /** Requests waited in most of it: the server runs no more at a time. */
  readonly isQueued: boolean;
  readonly at: UnixNanos;
}

/** What a curve says. */
export interface Plateau {
  /** Weighted tokens per GPU-second. */
  readonly rate: number;
  /** The share of it that was seen: 1 where requests waited, or objectives were missed, beyond it; the rest is the curve's. */
  readonly seenRatio: number;
  /** Minutes behind it, older ones faded, and the newest of them. */
  readonly minutes: number;
  readonly at: UnixNanos;
}

interface Point {
  minutes: number;
  met: number;
  queued: number;
  running: number;
  rate: number;
  at: UnixNanos;
}

/** A curve for the store: place, minutes, minutes that met, mean running, mean rate, instant, minutes with a queue. */
export type CurveState = readonly (readonly [number, number, number, number, number, string, number])[];

/** Points per doubling of the requests running, and the most of them that are kept: 16,384 requests. */
const [pointsPerDoubling, pointsMax] = [2, 29];
/** Minutes count half after 14 days; a point of fewer than one is forgotten, and the newest 240 speak for it. */
const [halfLifeNanos, forgottenMinutes, minutesMax] = [14 * 86_400e9, 0.05, 240];
/** Minutes of a point to count (two, faded for a day), minutes of all, and points apart from each other. */
const [pointMinutesMin, minutesMin, pointsMin] = [1.9, 9.5, 2];
/** The curve must have been followed to this many times its half: 2/3 of the plateau. */
const followedMin = 2;
/** Share of the minutes of a point that must have met the objectives, or had a queue, for it to have. */
const [metShareMin, queuedShareMin] = [0.5, 0.5];

/** The curve of one server. */
export class CapacityCurve {
  readonly #points = new Map<number, Point>();

  /** Takes in a minute. */
  observeMinute({ at, isMet, isQueued, rate, running }: CapacityMinute): void {
    if (!(running > 0) || !(rate > 0)) return;
    const place = Math.min(pointsMax, Math.max(0, Math.round(pointsPerDoubling * Math.log2(running))));
    const point = this.#points.get(place) ?? { minutes: 0, met: 0, queued: 0, running: 0, rate: 0, at };
    const kept = fadedBy(point, at) * Math.min(1, minutesMax / (point.minutes + 1));
    point.minutes = point.minutes * kept + 1;
    point.met = point.met * kept + (isMet ? 1 : 0);
    point.queued = point.queued * kept + (isQueued ? 1 : 0);
    point.running += (running - point.running) / point.minutes;
    point.rate += (rate - point.rate) / point.minutes;
    point.at = at;
    this.#points.set(place, point);
  }

  /** Returns the plateau that `at` knows of; undefined until the server was seen near it. */
  plateau(at: UnixNanos): Plateau | undefined {
    const known = [...this.#points.values()]
      .map((point) => ({ ...point, weight: point.minutes * fadedBy(point, at) }))
      .filter(({ weight }) => weight >= forgottenMinutes);
    const points = known
      .filter(({ minutes }) => minutes >= pointMinutesMin)
      .sort((left, right) => left.running - right.running);
    const minutes = points.reduce((sum, point) => sum + point.weight, 0);
    const last = points.at(-1);
    if (last === undefined || points.length < pointsMin || minutes < minutesMin) return undefined;
    const line = lineThrough(points);
    if (line === undefined) return undefined;
    const half = Math.max(0, line.intercept / line.slope);
    if (last.running < followedMin * half) return undefined;
    // Beyond the batch at which the objectives are still met, more is made and none of it counts.
    const met = points.filter((point) => point.met >= metShareMin * point.minutes).at(-1);
    if (met === undefined) return undefined;
    // Where requests wait, no more of them run at a time: the plateau beyond is out of reach.
    const isLast = met === last && last.queued < queuedShareMin * last.minutes;
    const rate = isLast ? 1 / line.slope : met.running / (line.slope * (met.running + half));
    const newest = points.reduce((latest, point) => (point.at > latest ? point.at : latest), 0n);
    const seenRatio = isLast ? last.running / (last.running + half) : 1;
    return { rate, seenRatio, minutes, at: newest };
  }

  /** For the store. */
  state(): CurveState {
    return [...this.#points].map(([place, { at, met, minutes, queued, rate, running }]) => [
      ...([place, minutes, met, running, rate] as const),
      String(at),
      queued,
    ]);
  }

  /** Goes on from `state()`. */
  restore(state: CurveState): void {
    for (const [place, minutes, met, running, rate, at, queued] of state)
      this.#points.set(place, { minutes, met, running, rate, at: BigInt(at), queued });
  }
}

function fadedBy(point: Point, at: UnixNanos): number {
  return 0.5 ** (Math.max(0, Number(at - point.at)) / halfLifeNanos);
}

/** Running over rate as a line over running; undefined where it does not rise. */
function lineThrough(
  points: readonly (Point & { readonly weight: number })[],
): { readonly slope: number; readonly intercept: number } | undefined {
  let [weight, meanX, meanY] = [0, 0, 0];
  for (const point of points) {
    weight += point.weight;
    meanX += point.weight * point.running;
    meanY += (point.weight * point.running) / point.rate;
  }
  meanX /= weight;
  meanY /= weight;
  let [products, squares] = [0, 0];
  for (const point of points) {
    const away = point.running - meanX;
    products += point.weight * away * (point.running / point.rate - meanY);
    squares += point.weight * away * away;
  }
  if (!(squares > 0) || !(products > 0)) return undefined;
  const slope = products / squares;
  return { slope, intercept: meanY - slope * meanX };
}
