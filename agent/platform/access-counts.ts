// Who called a listener, how often, and with which result: a tally for the audit record, not a log of requests.
// Callers are bounded: those beyond are counted together as `other`.

/**
 * `ok` answered, or a stream that was let in; `unauthenticated` without the token; `refused` over a bound or not served
 * here; `malformed` could not be read; `broken` the caller left before its answer.
 */
export type AccessResult = "ok" | "unauthenticated" | "refused" | "malformed" | "broken";

/** Calls of one caller with one result. */
export interface AccessCount {
  readonly caller: string;
  readonly result: AccessResult;
  readonly calls: number;
}

const CALLERS_MAX = 50;
const NAME_MAX = 200;
const OTHER = "other";

/** Adds calls up by caller and result. */
export class AccessCounts {
  #callers = new Map<string, Map<AccessResult, number>>();

  /** Counts calls of one caller. */
  count(caller: string, result: AccessResult, calls = 1): void {
    const name = printable(caller);
    const known = this.#callers.has(name) || this.#callers.size < CALLERS_MAX;
    const kept = known ? name : OTHER;
    const results = this.#callers.get(kept) ?? new Map<AccessResult, number>();
    this.#callers.set(kept, results);
    results.set(result, (results.get(result) ?? 0) + calls);
  }

  /** Everything counted so far; it stays counted. */
  counts(): readonly AccessCount[] {
    return [...this.#callers].flatMap(([caller, results]) =>
      [...results].map(([result, calls]) => ({ caller, result, calls })),
    );
  }

  /** Everything counted since the last call. */
  take(): readonly AccessCount[] {
    const counts = this.counts();
    this.#callers = new Map();
    return counts;
  }
}

/** Subjects of certificates have a line for each part. */
function printable(name: string): string {
  return name
    .replaceAll("\n", ", ")
    .replaceAll(/\p{Cc}/gu, "?")
    .slice(0, NAME_MAX);
}
