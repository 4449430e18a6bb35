// Claims as stretches of time: joining them, and choosing a given amount out of several pieces of work.
import type { ActivityMethod, Nanos } from "../../model.ts";
import { total } from "./intervals.ts";
import type { WorkRun } from "./runs.ts";

/** A stretch in which the server executed requests, and how that is known. */
export interface Claim {
  readonly from: Nanos;
  readonly to: Nanos;
  readonly method: ActivityMethod;
}

/** The end of an interval at which the server is known to be busy. */
export type Side = "start" | "end" | "both";

/** Appends a claim, joined to the last one where they meet; an empty one is left out. */
export function append(claims: Claim[], from: Nanos, to: Nanos, method: ActivityMethod): void {
  const last = claims.at(-1);
  if (last !== undefined && last.to === from && last.method === method)
    claims[claims.length - 1] = { from: last.from, to, method };
  else if (to > from) claims.push({ from, to, method });
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
