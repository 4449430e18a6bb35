// What an estimator is told of who else is on its GPU: other servers, strangers, and whom the driver credits with the work.
import type { Nanos, ServerPoll } from "../../model.ts";
import type { Activity, Credit } from "./evidence.ts";
import { readingsMax } from "./evidence.ts";
import { createLevel } from "./level.ts";
import { noteOthers } from "./outlook.ts";

/** Returns whether a server was busy between two of its polls, so that it is a peer to the servers beside it. */
export function busyBetween(before: ServerPoll, poll: ServerPoll): boolean {
  const moved = poll.inputTokens + poll.outputTokens > before.inputTokens + before.outputTokens;
  return moved || (poll.inFlight ?? 0) > 0 || (before.inFlight ?? 0) > 0;
}

/**
 * Takes in that another server on the same GPUs was busy in `[from, to)`, the time between two of its polls
 * (`busyBetween()`; `thin` where its requests are short), or that a stranger was at work: work in it is no proof of this
 * server's execution.
 */
export function observePeer(
  activity: Activity,
  from: Nanos,
  to: Nanos,
  stranger = false,
  thin = false,
): void {
  const last = activity.peers.at(-1);
  noteOthers(activity, from);
  if (!activity.isShared) beginSharing(activity);
  if (
    last !== undefined &&
    last.stranger === stranger &&
    last.thin === thin &&
    from <= last.to &&
    from >= last.from
  )
    activity.peers[activity.peers.length - 1] = { ...last, to: Math.max(last.to, to) };
  else activity.peers.push({ from, to, stranger, thin });
  if (activity.peers.length > readingsMax) noteOthers(activity, activity.peers.shift()?.from ?? from);
}

/** From here on windows say nothing of its requests until it is known that nobody else worked in them. */
function beginSharing(activity: Activity): void {
  activity.isShared = true;
  const { pairs, roughness } = createLevel();
  Object.assign(activity.level, { pairs, roughness });
}

/** Takes in whether the driver credited a process of the server with work between two of its readings. */
export function observeCredit(activity: Activity, credit: Credit): void {
  if (credit.from < (activity.credits.at(-1)?.to ?? -Infinity)) return;
  activity.credits.push(credit);
  noteOthers(activity, credit.from);
  if (activity.credits.length > readingsMax)
    noteOthers(activity, activity.credits.shift()?.from ?? credit.from);
}
