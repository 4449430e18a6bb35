// Which quotas' feeds are silent, for the record: one when a quota's first counter is not fed any more, with how it is known
// instead, and one when all of them are fed again. Counters that fall silent meanwhile are in the metric.
import type { QuotaReading } from "../policy/states.ts";

/** Follows the feeds of one policy. */
export class FeedSilence {
  readonly #silent = new Set<string>();

  /** What is to be on record of a beat. */
  follow(readings: readonly QuotaReading[]): readonly Readonly<Record<string, unknown>>[] {
    const now = new Map<string, QuotaReading[]>();
    for (const reading of readings) {
      if (reading.silentSince === undefined) continue;
      const { name } = reading.quota;
      now.set(name, [...(now.get(name) ?? []), reading]);
    }
    const bodies: Readonly<Record<string, unknown>>[] = [];
    for (const [quota, silent] of now) {
      if (this.#silent.has(quota)) continue;
      this.#silent.add(quota);
      const since = Math.min(...silent.map((one) => one.silentSince ?? 0));
      const method = silent.some((one) => one.method === "rls") ? "rls" : "none";
      bodies.push({
        quota,
        feed: "silent",
        since: new Date(since).toISOString(),
        method,
        keys: silent.length,
      });
    }
    for (const quota of [...this.#silent]) {
      if (now.has(quota)) continue;
      this.#silent.delete(quota);
      bodies.push({ quota, feed: "back", method: "ledger" });
    }
    return bodies;
  }
}
