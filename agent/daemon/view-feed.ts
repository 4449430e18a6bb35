// What people who look at an agent are sent, wired: its snapshots, its last hour, and tenants only where they may be shown.
import type { Correlator } from "../correlate/correlator.ts";
import { Feed } from "../export/page/feed.ts";
import type { Clock } from "../platform/clock.ts";
import type { Exports } from "./export-beat.ts";
import type { Pipeline } from "./pipeline.ts";
import type { PolicyDesk } from "./policy-desk.ts";
import type { BackendTried } from "./sources.ts";
import { TenantWatch } from "./tenant-watch.ts";
import type { ViewParts } from "./view.ts";
import { historyOf, viewOf } from "./view.ts";

const VIEW_MS = 1000;

/** What a feed is made from. */
export interface ViewFeedParts {
  readonly clock: Clock;
  readonly pipeline: Pipeline;
  readonly exports: Exports;
  readonly correlator: Correlator;
  readonly policy: PolicyDesk;
  readonly capacityOf: ViewParts["capacityOf"];
  readonly tried: () => readonly BackendTried[];
  /** `export.prometheus.tenants`. */
  readonly mayShow: boolean;
  /** Time between snapshots; default a second. */
  readonly viewMs: number | undefined;
}

/** The feed of an agent. */
export function createViewFeed(parts: ViewFeedParts): Feed {
  const {
    capacityOf,
    clock,
    correlator,
    exports,
    mayShow,
    pipeline,
    policy,
    tried,
    viewMs = VIEW_MS,
  } = parts;
  const tenants = new TenantWatch(mayShow, () => exports.snapshot);
  const known = { clock, pipeline, exports, correlator, tenants, capacityOf };
  return new Feed({
    clock,
    beatMs: viewMs,
    view: () => viewOf({ ...known, tried: tried(), policy: policy.page(mayShow) }),
    history: () => historyOf({ clock, pipeline }),
    cell: () => pipeline.recent.hour.cell,
  });
}
