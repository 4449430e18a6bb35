// Quotas over what a ledger holds of a range: the reader's amounts through the fold of policy/past.ts.
import type { Dimensions, Family } from "../../model.ts";
import { BUCKET_NANOS } from "../../model.ts";
import type { Quota } from "../../policy/config.ts";
import type { CutWindows, PastMovement, PastWindow } from "../../policy/past.ts";
import { pastStart, replayPast } from "../../policy/past.ts";
import { countedMetrics, metricPrefix } from "../../policy/usage.ts";
import type { LedgerReader } from "../../store/ledger/reader.ts";

const bucketMillis = Number(BUCKET_NANOS / 1_000_000n);

/** What is asked. */
export interface PastQuestion {
  readonly quotas: readonly Quota[];
  /** What is read today; what ever counted into the ledger is added. */
  readonly families?: ReadonlySet<Family>;
  /** Unix milliseconds, on the grid of the ledger. */
  readonly from: number;
  readonly to: number;
  readonly onWindow: (window: PastWindow) => void;
  /** Is told how far the work is, 0 to 1. */
  readonly progress?: ((share: number, what: string) => void) | undefined;
}

/** Hands out every window of these quotas that meets the range, as far as the ledger goes. Minutes are left out before. */
export function readPast(
  reader: LedgerReader,
  { families, from, onWindow, progress, quotas, to }: PastQuestion,
): readonly CutWindows[] {
  const { heldSince } = reader;
  const heldTo = Number((reader.time ?? 0n) / 1_000_000n);
  const end = Math.min(to, Math.ceil(heldTo / bucketMillis) * bucketMillis);
  if (heldSince === undefined || quotas.length === 0 || end <= from) return [];
  const first = Math.max(from, Math.floor(heldSince / bucketMillis) * bucketMillis);
  const start = pastStart(quotas, first);
  const known = fedFamilies(reader);
  const isFed = (source: Quota["source"]): boolean => known.has(source) || families?.has(source) === true;
  const movements = movementsOf(reader, start, end, progress);
  const frame = { from: first, to: end, heldFrom: heldSince, heldTo, doubtedAt: reader.doubtedAt, isFed };
  return replayPast(quotas, movements, frame, onWindow);
}

function* movementsOf(
  reader: LedgerReader,
  from: number,
  to: number,
  progress: PastQuestion["progress"],
): Generator<PastMovement> {
  const series = new Map<number, { readonly metric: string; readonly dimensions: Dimensions }>(
    reader.series(countedMetrics),
  );
  const [first, end] = [Math.floor(from / bucketMillis), Math.ceil(to / bucketMillis)];
  let bucket = first;
  for (const one of reader.booked([...countedMetrics], first, end)) {
    if (one.from !== bucket) progress?.((one.from - first) / (end - first), "reading the ledger");
    bucket = one.from;
    const known = series.get(one.series);
    if (known === undefined) continue;
    const arrived = one.arrived === undefined ? undefined : Number(one.arrived / 1_000_000n);
    yield { ...known, amount: one.amount, from: one.from * bucketMillis, to: one.to * bucketMillis, arrived };
  }
}

/** The families that ever counted anything into this ledger. */
function fedFamilies(reader: LedgerReader): ReadonlySet<Quota["source"]> {
  const metrics = [...reader.series(countedMetrics).values()].map(({ metric }) => metric);
  const families = (["gateway", "engine"] as const).filter((source) =>
    metrics.some(
      (metric) =>
        metric === `${metricPrefix({ source })}tokens` || metric === `${metricPrefix({ source })}requests`,
    ),
  );
  return new Set(families);
}
