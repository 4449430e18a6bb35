// Polls of a page that something may keep a copy of. One that shows nothing new and nothing in flight while the GPU works is
// no reading of the server: what it shows may be as old as a copy lives (page-age.ts). Only the next poll that shows something
// new says what that work was, so such polls are left out before it; work that is older than a copy lives is someone else's.
import type { Nanos } from "../../model.ts";
import type { Activity, ActivityWindow, Credit, Doubt, PollInterval, SeenPoll, WorkRun } from "./evidence.ts";
import { creditWindow } from "./intervals.ts";
import { stepPauseNanos } from "./runs.ts";
import { isCoarse } from "./shares.ts";
import { unread } from "./unread.ts";

/**
 * What of the execution in an interval may be otherwise because its poll may be of a copy, as two standard errors. Beside others
 * it is not known who worked; that a page which was never seen to change is a copy at all is seldom so. A GPU that nobody else
 * uses worked for the server, whatever instant the copy is of: where near windows are full, only the pauses between its
 * requests are in doubt; those of short requests and of long windows are seen less well.
 */
const [besideDoubt, seldomDoubt, aloneDoubt, hiddenDoubt] = [0.6, 0.35, 0.05, 0.35];

/** What may be otherwise of time that is taken for execution, and of work that is not. */
export interface PollDoubts {
  readonly executed: Doubt | undefined;
  readonly rest: Doubt;
}

/**
 * True of an interval whose poll says nothing of the work of the only server in it: it showed nothing new and nothing in flight,
 * and may be of a copy that is older than the work, whether the page is known to be copied or not.
 */
export function mayHideWork({ contended, kind, mayBeStale }: PollInterval): boolean {
  return mayBeStale === true && kind === "quiet" && !contended;
}

/**
 * Returns what the poll that ended an interval leaves in doubt; one that only may be of a copy, the work that nothing explains.
 * Where none ended it all is in doubt.
 */
export function pollDoubts(
  interval: PollInterval,
  windows: readonly ActivityWindow[],
  short: boolean,
): PollDoubts {
  const { contended, doubt, from, isCopied, isOfCopy, open, to } = interval;
  if (open) return { executed: unread, rest: unread };
  if (doubt === undefined) return { executed: undefined, rest: { reason: "cached_page", ratio: 1 } };
  const by = (ratio: number): Doubt => ({ reason: doubt, ratio });
  if (doubt !== "cached_page") return { executed: by(1), rest: by(1) };
  if (contended) {
    const ratio = isOfCopy === true || isCopied === true ? besideDoubt : seldomDoubt;
    return { executed: by(ratio), rest: by(ratio) };
  }
  return { executed: by(short || isCoarse(windows, from, to) ? hiddenDoubt : aloneDoubt), rest: by(1) };
}

/** What an estimator knows about copies: its polls and peers, and when it was last shown that others work. */
export type CopyEvidence = Pick<Activity, "credits" | "polls" | "peers" | "refutedAt" | "windows">;

/** Returns the polls that are readings; one that follows copies is a renewal, and its counters stood for an older instant. */
export function withoutCopies(evidence: CopyEvidence, runs: readonly WorkRun[]): readonly SeenPoll[] {
  const { polls } = evidence;
  let kept: SeenPoll[] | undefined;
  for (let index = 0; index < polls.length; index++) {
    const poll = polls[index] as SeenPoll;
    const from = isNews(poll, polls[index - 1]) ? unexplainedFrom(evidence, runs, index) : Infinity;
    if (from < Infinity) {
      kept ??= polls.slice(0, index);
      while (kept.length > 1 && (kept.at(-1) as SeenPoll).at > from) kept.pop();
      kept.push({ ...poll, doubt: poll.doubt ?? "cached_page", isRenewal: true });
    } else kept?.push(poll);
  }
  return kept ?? polls;
}

/** True of a poll that showed nothing new and nothing in flight, and may be of a copy. */
function isStale({ inFlight = 0, isRepeated }: SeenPoll): boolean {
  return isRepeated === true && !(inFlight > 0);
}

/** True where something moved, or is in flight, that the poll before, which may be of a copy, did not show. */
function isNews(poll: SeenPoll, before: SeenPoll | undefined): boolean {
  if (before?.isRepeated !== true || isStale(poll) || !isStale(before)) return false;
  const moved = poll.inputTokens + poll.outputTokens > before.inputTokens + before.outputTokens;
  return moved || (poll.inFlight ?? 0) > 0 || (poll.activeNanos ?? 0) > (before.activeNanos ?? 0);
}

/**
 * Returns since when the GPU works without a sign on the last of the polls before `end`, which may be of a copy: Infinity
 * where it does not, and where it worked before the oldest such copy was made. Where other servers are known to work it is
 * the server's since the driver credits it.
 */
export function unexplainedFrom(
  evidence: CopyEvidence,
  runs: readonly WorkRun[],
  end = evidence.polls.length,
): Nanos {
  const { peers, refutedAt } = evidence;
  const stretch = staleStretch(evidence, end);
  if (stretch === undefined) return Infinity;
  const { from, oldest, to } = stretch;
  const start = workFrom(evidence, runs, stretch);
  if (start === undefined) return Infinity;
  const beside = peers.filter((peer) => peer.from < to && peer.to > start);
  const isRefuted = (refutedAt > from && refutedAt <= to) || start < oldest;
  if (!isRefuted && beside.length === 0) return start;
  if (beside.some(({ stranger }) => stranger)) return Infinity;
  const credited = creditedFrom(evidence, stretch);
  return credited < oldest ? Infinity : credited;
}

/** Since when the driver credits the server in a stretch; its window may reach over the beginning of that. */
function creditedFrom({ credits }: CopyEvidence, { from, to }: StaleStretch): Nanos {
  let first = Infinity;
  for (let index = credits.length - 1; index >= 0; index--) {
    const credit = credits[index] as Credit;
    if (credit.from < from + creditWindow) break;
    if (credit.credited && credit.from < to) first = credit.from;
  }
  return first;
}

/** True where work is older than the oldest copy that the last poll may be of: the server did not do it. */
export function isRefuted(evidence: CopyEvidence, runs: readonly WorkRun[]): boolean {
  const stretch = staleStretch(evidence, evidence.polls.length);
  const start = stretch === undefined ? undefined : workFrom(evidence, runs, stretch);
  return start !== undefined && start < (stretch as StaleStretch).oldest;
}

/** Since when work is known to be someone else's, because no copy is as old as it is; Infinity where the page showed something new since. */
export function refutedFrom({ polls, refutedAt }: Pick<Activity, "polls" | "refutedAt">): Nanos {
  if (refutedAt === -Infinity) return Infinity;
  for (let index = polls.length - 1; index >= 0; index--) {
    const poll = polls[index] as SeenPoll;
    if (poll.at <= refutedAt) break;
    if (!isStale(poll)) return Infinity;
  }
  return refutedAt;
}

/** The time in which polls showed nothing new. */
interface StaleStretch {
  /** The last one that did; before all time where it is not known any more. */
  readonly from: Nanos;
  readonly to: Nanos;
  /** The page is known to be a copy. */
  readonly isKnown: boolean;
  /** When the oldest copy was made that the last one may be of. */
  readonly oldest: Nanos;
}

function staleStretch({ polls }: CopyEvidence, end: number): StaleStretch | undefined {
  const last = polls[end - 1];
  if (last?.shownFrom === undefined || !isStale(last)) return undefined;
  let index = end - 1;
  while (index >= 0 && isStale(polls[index] as SeenPoll)) index--;
  const isKnown = last.isOfCopy === true;
  return { from: polls[index]?.at ?? -Infinity, to: last.at, isKnown, oldest: last.shownFrom };
}

/** When the GPU first worked in a stretch, as far as windows tell; the end of what its beginning shows aside. */
function workFrom(
  { windows }: CopyEvidence,
  runs: readonly WorkRun[],
  { from, isKnown, oldest, to }: StaleStretch,
): Nanos | undefined {
  for (const run of runs) {
    if (!run.seen || run.to <= from || run.from >= to) continue;
    if (run.from < from && run.to - from <= stepPauseNanos) continue;
    if (!isCoarse(windows, run.from, run.to)) return Math.max(run.from, from);
    // Where in a long window the work was is not known: it is taken to be as young as the copy needs it to be.
    if (isKnown && run.to > oldest) return Math.max(run.from, from, oldest);
  }
  return undefined;
}

/**
 * True of a poll whose gauge and counters say how much work a request stands for: of the page itself, or the first one that
 * showed a copy. What that says was so at some time after the poll before.
 */
export function isTelling(poll: SeenPoll, interval: PollInterval): boolean {
  if (interval.isCopied) return false;
  if (poll.doubt === undefined) return !isStandstill(interval);
  return poll.isOfCopy === true && poll.isRepeated !== true && interval.mayBeLonger !== true;
}

/** Requests of a server that counts each step were in flight and made none: the poll is more likely of a copy. */
function isStandstill({ kind, inFlightFrom, inFlightTo, mayBeStale }: PollInterval): boolean {
  return mayBeStale === true && kind === "held" && inFlightFrom === inFlightTo;
}
