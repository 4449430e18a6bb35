// Claims as stretches of time: joining them, and choosing a given amount out of several pieces of work.

import type { ActivityMethod, Nanos } from "../../model.ts";
import type { Claim, Doubt, Side, WorkRun } from "./evidence.ts";
import { isSameDoubt } from "./evidence.ts";

/** Appends a claim, joined to the last one where they meet; an empty one is left out. */
export function append(claims: Claim[], from: Nanos, to: Nanos, method: ActivityMethod, doubt?: Doubt): void {
  const last = claims.at(-1);
  if (last !== undefined && last.to === from && last.method === method && isSameDoubt(last.doubt, doubt))
    claims[claims.length - 1] = { ...last, to };
  else if (to > from) claims.push({ from, to, method, doubt });
}

/** Returns `amount` of the pieces, taken from the start, from the end, or half from each. */
export function place(pieces: readonly WorkRun[], amount: Nanos, side: Side): WorkRun[] {
  const all = total(pieces);
  const fromStart = side === "start" ? amount : side === "end" ? 0 : amount - Math.floor(amount / 2);
  const placed: WorkRun[] = [];
  let passed = 0;
  for (const piece of pieces) {
    const length = piece.to - piece.from;
    const head = Math.min(length, Math.max(0, fromStart - passed));
    const rest = Math.min(length - head, Math.max(0, passed + length - (all - (amount - fromStart))));
    if (head > 0) placed.push({ from: piece.from, to: piece.from + head, seen: piece.seen });
    if (rest > 0) placed.push({ from: piece.to - rest, to: piece.to, seen: piece.seen });
    passed += length;
  }
  return placed;
}

/** No work. */
export const none: readonly WorkRun[] = [];

/** The place of the first of `runs` that does not end by `from`, looked for from `place` on. */
export function firstBeyond(runs: readonly WorkRun[], from: Nanos, place = 0): number {
  while (place < runs.length && (runs[place] as WorkRun).to <= from) place++;
  return place;
}

/**
 * The parts of `runs` inside `[from, to)`: those that are in it wholly are the same objects. No run before `place` reaches
 * into it.
 */
export function clipped(runs: readonly WorkRun[], from: Nanos, to: Nanos, place = 0): readonly WorkRun[] {
  const first = firstBeyond(runs, from, place);
  let end = first;
  while (end < runs.length && (runs[end] as WorkRun).from < to) end++;
  if (first === end) return none;
  const pieces = runs.slice(first, end);
  cutAt(pieces, 0, from, to);
  if (pieces.length > 1) cutAt(pieces, pieces.length - 1, from, to);
  return pieces;
}

function cutAt(pieces: WorkRun[], place: number, from: Nanos, to: Nanos): void {
  const run = pieces[place] as WorkRun;
  if (run.from >= from && run.to <= to) return;
  pieces[place] = { from: Math.max(run.from, from), to: Math.min(run.to, to), seen: run.seen };
}

/** True where `pieces` are the parts of `runs` inside `[from, to)`. No run before `place` reaches into it. */
export function isClip(
  pieces: readonly WorkRun[],
  runs: readonly WorkRun[],
  from: Nanos,
  to: Nanos,
  place = 0,
): boolean {
  const first = firstBeyond(runs, from, place);
  for (let index = 0; index < pieces.length; index++) {
    const run = runs[first + index];
    const piece = pieces[index] as WorkRun;
    if (run === undefined || piece.seen !== run.seen) return false;
    if (piece.from !== Math.max(run.from, from) || piece.to !== Math.min(run.to, to)) return false;
  }
  return (runs[first + pieces.length]?.from ?? Infinity) >= to;
}

/** How much of `runs` lies inside `[from, to)`. */
export function lengthIn(runs: readonly Pick<WorkRun, "from" | "to">[], from: Nanos, to: Nanos): Nanos {
  let sum = 0;
  for (const run of runs) {
    if (run.to <= from) continue;
    if (run.from >= to) break;
    sum += Math.min(run.to, to) - Math.max(run.from, from);
  }
  return sum;
}

/** Total length of pieces. */
export function total(pieces: readonly { readonly from: Nanos; readonly to: Nanos }[]): Nanos {
  let sum = 0;
  for (const piece of pieces) sum += piece.to - piece.from;
  return sum;
}
