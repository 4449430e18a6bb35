// What the kinds of work of a server cost in GPU time, by least squares with no cost below 0, and between which bounds a sum
// of them lies: least and most over all costs of 0 or more that are nearly as good as the best ones. A cost that nothing
// tells from another leaves the bounds wide; it is not guessed.
import { inverted } from "../../matrix.ts";

/** Prompt tokens, decode steps, output tokens: amounts, or what each of them costs. */
export type Work = readonly [prompts: number, steps: number, outputs: number];

/** Work as seen: what of each kind there was per second, and one over the square of its relative error. */
export interface SeenWork {
  readonly perSecond: Work;
  readonly weight: number;
}

/** Costs that explain what was seen. */
export interface CostFit {
  /** Seconds that an amount of work takes: the best answer, the least and the most that can be. */
  seconds(work: Work): number;
  secondsLeast(work: Work): number;
  secondsMost(work: Work): number;
}

/** Standard errors to the bounds: 9 of 10. */
const errorsToBounds = 1.64;
/** Added to the diagonal, as a share of it: costs of kinds that always move together share what they explain. */
const ridgeRatio = 1e-9;
/** Rounding below 0. */
const zeroMin = -1e-12;

/** Costs of which some are held at 0: the best of the others, and how much worse they are than nothing held at all. */
interface Face {
  readonly used: readonly number[];
  readonly inverse: readonly (readonly number[])[];
  readonly best: readonly number[];
  /** Sum of squares it explains. */
  readonly explained: number;
}

/** Returns the costs; undefined where nothing was seen. */
export function fitCosts(seen: readonly SeenWork[]): CostFit | undefined {
  const scale = [0, 1, 2].map((kind) =>
    Math.sqrt(sumOf(seen, ({ perSecond, weight }) => weight * (perSecond[kind] as number) ** 2)),
  );
  const kinds = [0, 1, 2].filter((kind) => (scale[kind] as number) > 0);
  const scaled = (work: Work, kind: number): number => (work[kind] as number) / (scale[kind] as number);
  const faces = subsetsOf(kinds).map((used) =>
    faceOf(
      used,
      used.map((row) =>
        used.map(
          (column) =>
            sumOf(
              seen,
              ({ perSecond, weight }) => weight * scaled(perSecond, row) * scaled(perSecond, column),
            ) + (row === column ? ridgeRatio : 0),
        ),
      ),
      used.map((row) => sumOf(seen, ({ perSecond, weight }) => weight * scaled(perSecond, row))),
    ),
  );
  const possible = faces.filter(({ best }) => best.every((cost) => cost >= zeroMin));
  const first = possible.reduce<Face | undefined>(
    (found, face) => (found === undefined || face.explained > found.explained ? face : found),
    undefined,
  );
  if (first === undefined) return undefined;
  const rest = Math.max(0, sumOf(seen, ({ weight }) => weight) - first.explained);
  // Errors are known beforehand; where the costs explain less well than that, they are as large as it shows.
  const room = errorsToBounds ** 2 * Math.max(1, rest / Math.max(1, seen.length - kinds.length));
  const extreme = (work: Work, sign: 1 | -1): number =>
    faces.reduce(
      (found, face) => {
        const value = extremeOn(face, first.explained, room, sign, (kind) => scaled(work, kind));
        return value === undefined ? found : sign * Math.min(sign * found, sign * value);
      },
      secondsOf(first, work, scaled),
    );
  return {
    seconds: (work) => secondsOf(first, work, scaled),
    secondsLeast: (work) => extreme(work, 1),
    secondsMost: (work) => extreme(work, -1),
  };
}

function secondsOf(face: Face, work: Work, scaled: (work: Work, kind: number) => number): number {
  return face.used.reduce((sum, kind, at) => sum + scaled(work, kind) * (face.best[at] as number), 0);
}

/** The least (sign 1) or most (-1) of a sum of costs on a face, nowhere more than `room` worse; undefined where it leaves the face. */
function extremeOn(
  { best, explained, inverse, used }: Face,
  explainedMost: number,
  room: number,
  sign: 1 | -1,
  amountOf: (kind: number) => number,
): number | undefined {
  const left = room - (explainedMost - explained);
  if (left < 0) return undefined;
  const amounts = used.map(amountOf);
  const towards = inverse.map((line) => dot(line, amounts));
  const length = Math.sqrt(Math.max(0, dot(amounts, towards)));
  const reach = length > 0 ? (sign * Math.sqrt(left)) / length : 0;
  const costs = best.map((cost, at) => cost - reach * (towards[at] as number));
  return costs.every((cost) => cost >= zeroMin) ? dot(amounts, costs) : undefined;
}

function faceOf(
  used: readonly number[],
  products: readonly (readonly number[])[],
  sides: readonly number[],
): Face {
  const inverse = inverted(products);
  const best = inverse.map((line) => dot(line, sides));
  return { used, inverse, best, explained: dot(best, sides) };
}

/** All subsets but the empty one. */
function subsetsOf(kinds: readonly number[]): number[][] {
  const sets: number[][] = [];
  for (const kind of kinds) {
    for (const known of sets.slice()) sets.push([...known, kind]);
    sets.push([kind]);
  }
  return sets;
}

function dot(left: readonly number[], right: readonly number[]): number {
  return left.reduce((sum, value, at) => sum + value * (right[at] as number), 0);
}

function sumOf(seen: readonly SeenWork[], amountOf: (one: SeenWork) => number): number {
  return seen.reduce((sum, one) => sum + amountOf(one), 0);
}
