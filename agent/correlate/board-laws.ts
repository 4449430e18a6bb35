// Judges the rows of a board by the conservation laws; a board that breaks one is booked as unattributed as a whole.
import type { GpuInterval } from "../model.ts";
import type { BoardInterval } from "./board.ts";
import type { Violation } from "./laws.ts";
import { broken, brokenBoard, brokenJoules, disowned } from "./laws.ts";
import type { Settling } from "./member.ts";
import { lifeIn, weightOf } from "./member.ts";

/** Rows fit to be booked, and the laws that were broken on the way. */
export interface Judgement {
  readonly rows: readonly GpuInterval[];
  readonly violations: readonly Violation[];
}

/** Returns the rows of a board as they are when all laws hold, else its time unobserved and its energy unattributed. */
export function judge(
  uuid: string,
  settled: BoardInterval,
  interval: Pick<Settling, "from" | "to">,
): Judgement {
  const { rows, parts, sliced, wallNanos, millijoules } = settled;
  const weights = parts.map(({ member }) => weightOf(member.timeline.info));
  const violations = rows.flatMap((row, index) => {
    const part = parts[index];
    const weight = weights[index] ?? 1;
    // The remainder, and slices that overlap, are judged by the sum over the board alone.
    const alone = part !== undefined && !(sliced && (row.gpu === uuid || crowded(weights)));
    if (!alone) return broken(row, undefined, 0);
    const { from, to } = lifeIn(part.member, interval);
    return broken(row, (to - from) * weight, weight === 1 ? 0 : 2);
  });
  if (sliced) violations.push(...brokenBoard(uuid, rows, wallNanos));
  violations.push(...brokenJoules(uuid, rows, millijoules));
  return { rows: violations.length === 0 ? rows : unattributed(settled), violations };
}

function crowded(weights: readonly number[]): boolean {
  return weights.reduce((sum, weight) => sum + weight, 0) > 1 + 1e-9;
}

/** All time unobserved; what the meter moved is unattributed on the last row. */
function unattributed({ rows, parts, wallNanos, millijoules }: BoardInterval): GpuInterval[] {
  let left = wallNanos;
  return rows.map((row, index) => {
    const last = index === rows.length - 1;
    const part = parts[index];
    const wanted = Math.round(wallNanos * (part === undefined ? 1 : weightOf(part.member.timeline.info)));
    const wall = last ? left : Math.min(left, wanted);
    left -= wall;
    return disowned(row, wall, last ? Math.max(0, millijoules) : 0);
  });
}
