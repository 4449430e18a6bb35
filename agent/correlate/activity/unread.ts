// Time that is decided although no poll followed it: an interval waits only so long for a server whose polls fail. Whether the server
// did what its GPU did then is not known.
import type { Nanos } from "../../model.ts";
import type { Activity, Doubt, PollInterval } from "./evidence.ts";

/** For so many of its polls a server is thought to be as the last one left it. */
export const openPolls = 2;
/** Whatever is decided of such work. */
export const unread: Doubt = { reason: "unread_page", ratio: 1 };

/** For how long after its last poll a server is thought to be as that left it: not at all once a poll failed. */
export function trustedNanosOf({ isFailing, pollNanos }: Pick<Activity, "isFailing" | "pollNanos">): Nanos {
  return isFailing ? 0 : openPolls * pollNanos;
}

/** True of the time after the last poll that is decided although the next one is due, or failed. */
export function isUnread({ from, open, to }: PollInterval, trustedNanos: Nanos): boolean {
  return open && to - from > trustedNanos;
}
