// Prompts under way where neither a gauge nor fine windows show them: a coarse window (5 to 30 s of a dcgm-exporter) was busier
// than all intervals in which tokens moved are long. Nobody else works then, so what is left was a prefill: its tokens come
// with the interval that ends it, in this window or after it.
import type { Nanos } from "../../model.ts";
import type { ActivityWindow, PollInterval } from "./evidence.ts";

/**
 * Returns the share of a quiet interval that was execution, `perBusy` being what a second of busy GPU stands for where tokens
 * move; a prefill keeps the GPU wholly busy. The time nearest before tokens that move is filled first, then the end of the
 * window, whose tokens were not read yet.
 */
export function hiddenPrefillShare(
  intervals: readonly PollInterval[],
  window: ActivityWindow,
  perBusy: number,
  interval: PollInterval,
): number {
  const inside = ({ from, to }: PollInterval): Nanos =>
    Math.max(0, Math.min(to, window.to) - Math.max(from, window.from));
  let left = (window.to - window.from) * window.busyRatio;
  for (const member of intervals) if (isMoved(member)) left -= inside(member) / perBusy;
  const own = inside(interval);
  if (left <= 0 || own <= 0) return 0;
  const rank = aheadOf(intervals, interval, window);
  for (const member of intervals) {
    if (member === interval || isMoved(member) || member.open) continue;
    const length = inside(member);
    if (length <= 0) continue;
    const ahead = aheadOf(intervals, member, window);
    if (ahead < rank || (ahead === rank && member.from > interval.from)) left -= length;
  }
  return Math.min(1, Math.max(0, left) / own);
}

/** How far an interval is before the tokens it may have led to; beyond all of these, before the end of the window. */
function aheadOf(intervals: readonly PollInterval[], { to }: PollInterval, window: ActivityWindow): Nanos {
  for (const { from, kind, open } of intervals) if (!open && kind !== "quiet" && from >= to) return from - to;
  return window.to - window.from + Math.max(0, window.to - to);
}

function isMoved({ kind, open }: PollInterval): boolean {
  return !open && kind !== "quiet";
}
