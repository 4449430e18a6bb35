// Snapshots of a given size for benches and tests, without anything a bench would have to weigh.

import { Snapshot } from "../../agent/meter/ledger/snapshot.ts";
import type { LedgerPoint, LedgerSnapshot } from "../../agent/model.ts";
import { snapshotOf } from "../fakes/snapshot.ts";

/** 2026-01-01T00:00:00Z. */
export const T0 = 1_767_225_600_000_000_000n;
export const SECOND = 1_000_000_000n;

/** `count` sums of realistic shape (8 attributes), `beat` beats after T0; every value moves with each beat. */
export function bulk(count: number, beat = 1, isNew = false): LedgerSnapshot {
  const names = [
    "tokenwatt.server.gpu_time",
    "tokenwatt.server.energy",
    "tokenwatt.tokens",
    "tokenwatt.requests",
  ];
  const time = T0 + BigInt(beat) * 10n * SECOND;
  const points: LedgerPoint[] = [];
  for (let i = 0; i < count; i++) {
    points.push({
      metric: names[i % names.length] as string,
      dimensions: dimensionsOf(i),
      series: i,
      start: T0,
      time,
      value: BigInt(beat) * BigInt(1_000_003 + i * 7919),
      isNew,
      ended: false,
    });
  }
  const snapshot = snapshotOf(points, { sequence: beat, time });
  const series = shown.get(count) ?? snapshot.series;
  shown.set(count, series);
  return new Snapshot({ ...snapshot, series });
}

/** As a ledger does, series of one number are the same from beat to beat. */
const shown = new Map<number, LedgerSnapshot["series"]>();
const kept = new Map<number, LedgerPoint["dimensions"]>();

function dimensionsOf(i: number): LedgerPoint["dimensions"] {
  let dimensions = kept.get(i);
  if (dimensions === undefined) {
    dimensions = {
      "tokenwatt.server.id": `vllm-${i % 97}`,
      "gen_ai.request.model": `meta-llama/Llama-3.1-${i % 7}-Instruct`,
      "hw.id": `GPU-00000000-0000-0000-0000-${String(i).padStart(12, "0")}`,
      "hw.model": "NVIDIA H100 80GB HBM3",
      "hw.parent": `GPU-10000000-0000-0000-0000-${String(i >> 3).padStart(12, "0")}`,
      "tokenwatt.gpu.state": ["token_active", "stalled", "parked"][i % 3] as string,
      "tokenwatt.method": "direct",
      "tokenwatt.server.role": "combined",
    };
    kept.set(i, dimensions);
  }
  return dimensions;
}
