// What is true at every beat of the power test: tokens by series, and one series that tells which life made the beat.
import { readRequest } from "../../../../agent/export/otlp/reader.ts";

export const DESTINATIONS = ["patient", "away"] as const;
export const SERIES = 8;
/** 2026-11-01T00:00Z. */
export const START = 1_793_491_200_000_000_000n;

/** Tokens a series gets in one beat. */
export function stepOf(series: number, beat: number): number {
  return 7 + series * 13 + (Math.imul(beat, 2_654_435_761) >>> 20);
}

/** The beat a request was made in. */
export function beatOf(bytes: Uint8Array, spacingMs: number): number {
  let time = 0n;
  readRequest(bytes, (point) => {
    if (point.time > time) time = point.time;
  });
  return Number((time - START) / 1_000_000n) / spacingMs;
}

/** Totals by series in a request, the series of lives last. */
export function totalsOf(bytes: Uint8Array): number[] {
  const totals: number[] = [];
  const times: bigint[] = [];
  readRequest(bytes, (point) => {
    const text = Buffer.concat(point.attributes).toString("latin1");
    const name = text.match(/power-(\d+)/)?.[1];
    const series = Number(name ?? -1);
    if (series < 0 || point.time < (times[series] ?? 0n)) return;
    times[series] = point.time;
    totals[series] = Number(point.value);
  });
  return totals;
}

/** What `totalsOf` should find after `beat`, where `lives[n]` made beat n. */
export function truthAt(beat: number, lives: readonly number[]): number[] {
  const totals = Array.from({ length: SERIES + 1 }, () => 0);
  for (let one = 1; one <= beat; one++) {
    for (let series = 0; series < SERIES; series++)
      totals[series] = (totals[series] ?? 0) + stepOf(series, one);
    totals[SERIES] = (totals[SERIES] ?? 0) + (lives[one] ?? Number.NaN);
  }
  return totals;
}
