// A feed whose snapshots are given, for tests of what stands around it.
import type { FeedOptions } from "../../../agent/export/page/feed.ts";
import { Feed } from "../../../agent/export/page/feed.ts";
import type { View, ViewHistory } from "../../../agent/export/page/view.ts";
import { systemClock } from "../../../agent/platform/clock.ts";

/** A feed of small snapshots that counts how often each was made. */
export function feedOf(rest: Partial<FeedOptions> = {}): Feed & { readonly made: () => readonly number[] } {
  let [views, histories] = [0, 0];
  const feed = new Feed({
    clock: systemClock(),
    beatMs: 1000,
    view: () => ({ type: "view", host: `made ${++views}` }) as View,
    history: () => ({ type: "history", cell_seconds: ++histories }) as ViewHistory,
    cell: () => 0,
    ...rest,
  });
  return Object.assign(feed, { made: () => [views, histories] });
}
