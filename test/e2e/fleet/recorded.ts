// A host's stream of beats made from one recording: the agent's own pipeline meters it, its ledger is committed every 10 s, and
// each host gets these snapshots with its own names, its own pace of work and as many GPUs as asked for.
// What a host's ledger says at the end is known exactly: it is the truth that a query must give.

import { fileURLToPath } from "node:url";
import { openRecording } from "../../../agent/cli/replay/run.ts";
import { findMetric } from "../../../agent/export/metrics/metrics.ts";
import type { LedgerPoint, LedgerSnapshot } from "../../../agent/model.ts";
import { snapshotOf } from "../../fakes/snapshot.ts";

const folder = fileURLToPath(new URL("../../../deploy/demo/h100-solo-8b", import.meta.url));
const BEAT_SECONDS = 10;

/** The recording as the ledger committed it, a snapshot every 10 s. */
export async function recordedBeats(): Promise<readonly LedgerSnapshot[]> {
  const beats: LedgerSnapshot[] = [];
  let intervals = 0;
  const run = await openRecording({
    folder,
    ...{ gpuPollMs: 200, tokenPollMs: 1000, intervalMs: 1000 },
    warn: (text) => {
      throw new Error(`the recording cannot be metered whole: ${text}`);
    },
    onInterval: () => {
      if (++intervals % BEAT_SECONDS === 0) beats.push(run.commit());
    },
  });
  await run.run();
  return beats.map((beat) => ({ ...beat, points: beat.points.flatMap(withCustomers) }));
}

const CUSTOMER = { "tokenwatt.gateway.id": "gateway", "gen_ai.request.model": "decoder-8b" };
const RATED = { "tokenwatt.capacity.source": "learned" };
const LIMIT_NOT_SEEN = { "tokenwatt.reason": "limit_not_seen" };
const PRICE = { "tokenwatt.currency": "USD", "tokenwatt.price.version": "1" };

/** The recording has neither customers nor prices: a gateway that saw most of the tokens, and what seconds and tokens cost. */
function withCustomers(point: LedgerPoint): readonly LedgerPoint[] {
  const { dimensions, metric, series, value } = point;
  if (typeof value !== "bigint") return [point];
  const server = { "tokenwatt.server.id": dimensions["tokenwatt.server.id"] ?? "" };
  const hardware = { "hw.model": dimensions["hw.model"] ?? "" };
  const kind = { "tokenwatt.token.kind": dimensions["tokenwatt.token.kind"] ?? "" };
  const made: (readonly [string, bigint, LedgerPoint["dimensions"]])[] = [];
  if (metric === "tokenwatt.tokens") {
    for (const [tenant, endpoint, outcome, part] of [
      ["one", "chat", "ok", 2n],
      ["two", "chat", "ok", 4n],
      ["two", "batch", "error", 20n],
    ] as const)
      made.push([
        "tokenwatt.gateway.tokens",
        value / part,
        {
          ...{ ...CUSTOMER, ...kind, "tokenwatt.tenant": tenant },
          ...{ "tokenwatt.endpoint": endpoint, "tokenwatt.outcome": outcome },
        },
      ]);
    made.push(["tokenwatt.revenue", value * 900n, { ...server, ...kind, ...PRICE }]);
    if (kind["tokenwatt.token.kind"] === "output")
      made.push(
        ["tokenwatt.billable_tokens", value, { ...server, ...hardware }],
        ["tokenwatt.rated_tokens", value, { ...server, ...hardware, ...RATED }],
      );
  }
  if (metric === "tokenwatt.server.gpu_time") {
    const state = { "tokenwatt.gpu.state": dimensions["tokenwatt.gpu.state"] ?? "" };
    made.push(["tokenwatt.cost", value / 1200n, { ...server, ...hardware, ...state, ...PRICE }]);
    const rated = { ...server, ...hardware, ...RATED };
    if (state["tokenwatt.gpu.state"] === "token_active")
      made.push(
        ["tokenwatt.capacity_tokens", value / 100_000n, rated],
        ["tokenwatt.uncertain_capacity_tokens", value / 1_000_000n, { ...rated, ...LIMIT_NOT_SEEN }],
      );
  }
  return [
    point,
    ...made.map(([name, amount, names], at) => ({
      ...point,
      ...{ metric: name, value: amount, dimensions: names, series: 100 + series * 8 + at },
    })),
  ];
}

/** Which host, and how large it is. */
export interface Host {
  readonly index: number;
  readonly gpus: number;
}

/** Names that only one host has. */
export const hostName = ({ index }: Host): string => `gpu-${String(index).padStart(5, "0")}`;
export const instanceId = ({ index }: Host): string => `fleet-${index}`;

/** A host's snapshot of a beat, its times moved by `shift` nanoseconds. */
export function hostBeat(host: Host, beat: LedgerSnapshot, shift: bigint): LedgerSnapshot {
  const points: LedgerPoint[] = [];
  for (let gpu = 0; gpu < host.gpus; gpu++) {
    for (const point of beat.points) {
      const { series, start, time } = point;
      const dimensions = namesOf(point, gpu);
      // Of the whole host or of a model: as a second GPU's it would be the same series again.
      if (gpu > 0 && dimensions === point.dimensions) continue;
      const moved = { start: start + shift, time: time + shift };
      points.push({ ...point, ...moved, dimensions, value: paced(point, host), series: series + gpu * 1000 });
    }
  }
  return snapshotOf(points, { sequence: beat.sequence, time: beat.time + shift });
}

const OF_ONE_GPU = ["hw.id", "tokenwatt.server.id", "tokenwatt.source", "tokenwatt.holder.name"];

function namesOf({ dimensions }: LedgerPoint, gpu: number): LedgerPoint["dimensions"] {
  const renamed = OF_ONE_GPU.flatMap((key) => {
    const name = dimensions[key];
    return name === undefined ? [] : [[key, `${name}-${gpu}`] as const];
  });
  return renamed.length === 0 ? dimensions : { ...dimensions, ...Object.fromEntries(renamed) };
}

/** Tokens, requests and joules grow 1 to 7 times as fast; a second stays a second. */
function paced({ metric, value }: LedgerPoint, { index }: Host): LedgerPoint["value"] {
  if (typeof value !== "bigint" || findMetric(metric)?.unit === "s") return value;
  return value * BigInt(1 + (index % 7));
}

/** How many samples of each metric a consumer has once all of these beats of a host arrived; a time said again counts once. */
export function samplesOf(beats: readonly LedgerSnapshot[]): ReadonlyMap<string, number> {
  const samples = new Map<string, Set<string>>();
  for (const { points } of beats) {
    for (const { dimensions, ended, isNew, metric, start, time } of points) {
      if (ended) throw new Error(`${metric} ends in the recording: its last point has no value`);
      const series = JSON.stringify(dimensions);
      const seen = samples.get(metric) ?? new Set();
      samples.set(metric, seen.add(`${series} ${time / 1_000_000n}`));
      if (isNew && findMetric(metric)?.kind !== "gauge")
        seen.add(`${series} ${(start + 1_000_000n) / 1_000_000n}`);
    }
  }
  return new Map([...samples].map(([metric, seen]) => [metric, seen.size]));
}
