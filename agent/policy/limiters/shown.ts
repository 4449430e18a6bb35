// Limiters as `/-/policy`, the stored state and `policy show` have them: what each limit decided since it was looked at.
import type { LimitTotal } from "./counts.ts";

/** One limiter as of its last page. */
export interface LimiterShown {
  readonly name: string;
  readonly type: string;
  /** From when on it is counted, and its last page; undefined before there was one. */
  readonly sinceMillis: number | undefined;
  readonly readMillis: number | undefined;
  /** Why it cannot be read; undefined while it can. */
  readonly failure: string | undefined;
  readonly totals: readonly LimitTotal[];
}

/** Key of the row of the stored state that keeps them, as JSON, for who reads the ledger. */
export const limitersKey = '["limiters"]';

/** Limiters as `/-/policy` and `policy show --json` give them; names of limits may be those of customers. */
export function limitersPage(
  limiters: readonly LimiterShown[],
  withTenants: boolean,
): readonly Readonly<Record<string, unknown>>[] {
  return limiters.map(({ failure, name, readMillis, sinceMillis, totals, type }) => ({
    name,
    type,
    since: iso(sinceMillis),
    read: iso(readMillis),
    failure: failure ?? null,
    limits: withTenants ? byLimit(totals) : [],
  }));
}

function byLimit(totals: readonly LimitTotal[]): readonly Readonly<Record<string, unknown>>[] {
  const limits = new Map<string, Record<string, Record<string, number>>>();
  for (const { amount, counted, decided, limit } of totals) {
    const of = limits.get(limit) ?? {};
    limits.set(limit, of);
    of[counted] = { ...of[counted], [decided]: amount };
  }
  return [...limits].map(([limit, of]) => ({ limit, ...of }));
}

function iso(millis: number | undefined): string | null {
  return millis === undefined ? null : new Date(millis).toISOString();
}
