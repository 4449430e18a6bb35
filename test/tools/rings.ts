// Rings of a driver's history from points, and back: how tests write them.
import type { Ring } from "../../agent/model.ts";

/** A value at an instant. */
export interface RingPoint {
  readonly at: number;
  readonly value: number;
}

/** Returns points as the columns of a ring. */
export function ringOf(points: readonly RingPoint[]): Ring {
  return { instants: points.map(({ at }) => at), values: points.map(({ value }) => value) };
}

/** Returns the points of a ring, none without one. */
export function pointsOf(ring: Ring | undefined): RingPoint[] {
  return (ring?.instants ?? []).map((at, place) => ({ at, value: ring?.values[place] as number }));
}
