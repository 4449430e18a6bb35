// What an estimator need not remember: readings that no later decision can go by. They leave at every decision, so that what is
// looked through at the next one stays a few seconds long.
import type { ServerPoll } from "../../model.ts";
import type { Activity, ActivityWindow, Credit, PeerStretch } from "./evidence.ts";
import { prefillNanosMax } from "./prefill.ts";
import { stepPauseNanos } from "./runs.ts";

/** Drops what no later decision can need: all before the longest prefill back from the last decision. */
export function forget(activity: Activity): void {
  const { credits, polls, windows, peers } = activity;
  let next = windows.length;
  while (next > 0 && (windows[next - 1] as ActivityWindow).to > activity.decidedUntil) next--;
  const longest = windows[next]?.from ?? activity.decidedUntil;
  const cut = Math.min(activity.decidedUntil - prefillNanosMax, longest) - activity.pollNanos;
  let first = 0;
  while (first + 2 < polls.length && (polls[first + 1] as ServerPoll).at <= cut) first++;
  if (first > 0) polls.splice(0, first);
  const kept = Math.min(cut, polls[0]?.at ?? cut) - 2 * stepPauseNanos;
  let old = 0;
  while (old < windows.length && (windows[old] as ActivityWindow).to <= kept) old++;
  if (old > 0) windows.splice(0, old);
  while (credits.length > 0 && (credits[0] as Credit).to <= kept) credits.shift();
  while (peers.length > 0 && (peers[0] as PeerStretch).to <= kept) peers.shift();
}
