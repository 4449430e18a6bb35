// Instants at which something changes, in order and each once: where an interval is cut.
import type { Nanos } from "../model.ts";

/** A stretch of time. */
export interface Span {
  readonly from: Nanos;
  readonly to: Nanos;
}

/** Adds an instant. Most come in order, so that it is looked for from the end. */
export function addEdge(edges: Nanos[], at: Nanos): void {
  let place = edges.length;
  while (place > 0 && (edges[place - 1] as Nanos) > at) place--;
  if (place > 0 && edges[place - 1] === at) return;
  for (let index = edges.length; index > place; index--) edges[index] = edges[index - 1] as Nanos;
  edges[place] = at;
}

/** Returns the first of some spans that an instant lies in. */
export function spanAt<S extends Span>(spans: readonly S[], at: Nanos): S | undefined {
  for (const span of spans) if (span.from <= at && span.to > at) return span;
  return undefined;
}
