// A source whose every value is known in advance: tokens and joules of a handful of series at any beat.

import type { LedgerPoint, LedgerSnapshot } from "../../../agent/model.ts";
import { snapshotOf } from "../../fakes/snapshot.ts";

export const SERIES = 12;
/** Ledger time between two beats. */
export const BEAT_NANOS = 10_000_000n;

/** The total of a series after so many beats, in ledger units; never falls, differs between series. */
export function total(series: number, beat: number): bigint {
  const step = BigInt(7 + series * 13);
  return BigInt(beat) * step + BigInt((beat * (series + 3)) % 5);
}

/** What the ledger commits at a beat; `start` is the start time of every series. */
export function snapshotAt(beat: number, start: bigint): LedgerSnapshot {
  const time = start + BigInt(beat) * BEAT_NANOS;
  const points: LedgerPoint[] = [];
  for (let series = 0; series < SERIES; series++) {
    points.push({
      metric: series % 2 === 0 ? "tokenwatt.tokens" : "tokenwatt.gpu.energy",
      dimensions: { "tokenwatt.server.id": `s${series}`, "tokenwatt.gpu.state": "token_active" },
      series,
      start,
      time,
      value: total(series, beat),
      isNew: beat === 1,
      ended: false,
    });
  }
  return snapshotOf(points, { sequence: beat, time });
}
