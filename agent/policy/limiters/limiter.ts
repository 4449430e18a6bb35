// What a rate limiter's metric page says of its limits: counters by limit, of calls or of hits (what a limit is counted in:
// calls or tokens), by how they were decided. A kind of limiter is a file that names them, and a line in the registry.

/** How a limiter decided; `would_limit`: let through by a limit that is only tried. */
export type Decided = "allow" | "limit" | "would_limit";

/** What is counted: whole calls, or hits of them. */
export type Counted = "calls" | "hits";

/** A counter on a page. */
export interface LimiterCounter {
  /** Its name on the page. */
  readonly family: string;
  readonly counted: Counted;
  readonly decided: Decided;
  /** What it counts is counted as this, too, and is taken out there. */
  readonly within?: Decided;
}

/** A kind of rate limiter. */
export interface LimiterType {
  readonly name: string;
  readonly counters: readonly LimiterCounter[];
  /** Families that the page has before any call came. */
  readonly signs: readonly string[];
  /** The limit that a series is of, as its operator knows it. */
  limitOf(labels: Readonly<Record<string, string>>): string;
}
