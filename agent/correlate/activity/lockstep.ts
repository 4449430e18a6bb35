// Whether the GPU of a data-parallel rank works for the other ranks while its own has nothing to do, or rests: ranks that share
// experts step together. What follows from it is in lent.ts.
import type { Level } from "./learned.ts";

/** Intervals in which a GPU worked for others say so; fewer are chance. */
const lentMin = 2;
/** Older intervals fade. */
const fadeRatio = 0.98;

/** Takes in whether the GPU worked for other ranks while its own had nothing to do, or rested. */
export function observeLent(level: Level, isLent: boolean): void {
  level.lent = level.lent * fadeRatio + (isLent ? 1 : 0);
  level.rested = level.rested * fadeRatio + (isLent ? 0 : 1);
}

/** True of the GPU of a rank that steps along with the others. */
export function worksForOthers({ lent, rested }: Level): boolean {
  return lent > Math.max(rested, lentMin);
}

/** True of the GPU of a rank that rests while others work. */
export function restsForOthers({ lent, rested }: Level): boolean {
  return rested > Math.max(lent, lentMin);
}
