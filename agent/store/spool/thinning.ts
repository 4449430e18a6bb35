// Which records an old backlog can do without: those whose series a later record of the same minute carries too.
// Cumulative points make the later one say all the earlier one said, but the shape within the minute.
import type { SpoolHeader } from "./spool.ts";

const MINUTE = 60_000_000_000n;

/** Older records are thinned to the last of each minute. */
export const THIN_AFTER_MS = 300_000;

/** Whether a later record of the same minute carries the same series, and nothing begins or ends in this one. */
export function isSuperseded(
  header: SpoolHeader,
  following: (sequence: number) => SpoolHeader | undefined,
): boolean {
  if (header.layout === 0) return false;
  const minute = header.time / MINUTE;
  for (let after = header.sequence; ; ) {
    const later = following(after);
    if (later === undefined || later.time / MINUTE !== minute) return false;
    if (later.layout === header.layout) return true;
    after = later.sequence;
  }
}
