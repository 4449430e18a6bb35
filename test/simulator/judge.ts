// Judges what the real pipeline makes of a simulated recording against its truth, by the bars of METERING.md 2.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openRecording } from "../../agent/cli/replay/run.ts";
import type { GpuInterval, Phase, SettledInterval } from "../../agent/model.ts";
import type { PhaseTruth, Regime, Truth } from "./meters.ts";
import { record } from "./meters.ts";

/** Errors as shares of the recording's length, energy relative to the truth. */
export interface Figures {
  /** The worst GPU: whole recording, and 10 s windows. */
  readonly whole: number;
  readonly windows: number;
  readonly servers: Readonly<
    Record<
      string,
      {
        readonly duty: number;
        readonly active: number;
        readonly windows: number;
        /** Own active time over the truth, less 1. */
        readonly relative: number;
        readonly energy: number;
        readonly uncertain: number;
        /** Shares of prefill in the token-active time and energy: found, true, and how far off it may be; unsplit time. */
        readonly prefill: PrefillFigures;
      }
    >
  >;
  readonly boardEnergy: number;
  /** Joules of the time in execution, of all GPUs; undefined under MIG, and while there is none. */
  readonly activeEnergy: number | undefined;
  readonly missed: readonly string[];
  /** What each server's time and energy, and each GPU's time, is held to. */
  readonly checks: readonly Check[];
}

/** One figure that is held to a bar. */
export interface Check {
  readonly subject: string;
  readonly quantity: "time" | "energy";
  readonly isRight: boolean;
  /** The pipeline says itself that more than the bar of it rests on an assumption. */
  readonly isMarked: boolean;
  /** It is off by no more than its bar and all that the pipeline says to rest on assumptions together. */
  readonly isCovered: boolean;
  /** How far off it is over its bar, how far beyond what is in doubt, and how much of it rests on each assumption, over the same bar. */
  readonly off: number;
  readonly beyond: number;
  readonly doubts: Readonly<Record<string, number>>;
}

/** How prefill and decode were told apart. */
export interface PrefillFigures {
  readonly time: number;
  readonly timeTruth: number;
  readonly timeDoubt: number;
  readonly energy: number;
  readonly energyTruth: number;
  readonly energyDoubt: number;
  readonly unsplit: number;
  /** How far off the joules of prefill and of decode are, over the joules of both; so far off are those per token. */
  readonly prefillOff: number;
  readonly decodeOff: number;
}

const windowSeconds = 10;

/** Records the regime into a folder of its own, replays it and compares. */
export async function judge(regime: Regime, folder?: string): Promise<Figures> {
  const into = folder ?? mkdtempSync(join(tmpdir(), "regime-"));
  try {
    const truth = record(regime, into);
    const intervals: SettledInterval[] = [];
    const run = await openRecording({
      folder: into,
      gpuPollMs: regime.gpus.everyMs,
      tokenPollMs: 1000,
      intervalMs: 1000,
      strict: true,
      warn: (text) => {
        throw new Error(text);
      },
      onInterval: (interval) => intervals.push(interval),
    });
    await run.run();
    return figuresOf(regime, truth, intervals);
  } finally {
    if (folder === undefined) rmSync(into, { recursive: true });
  }
}

/** Bars of METERING.md 2: whole, windows, per server. */
function barsOf(pollMs: number): readonly [number, number, number] {
  return pollMs <= 2000 ? [0.02, 0.035, 0.02] : [0.03, 0.055, 0.08];
}

function figuresOf(regime: Regime, truth: Truth, intervals: readonly SettledInterval[]): Figures {
  const length = truth.lengthSeconds;
  const polls = Object.values(regime.pages).map(({ pollMs }) => pollMs);
  const [wholeMax, windowsMax, serverMax] = barsOf(Math.max(...polls));
  const missed: string[] = [];
  const checks: Check[] = [];
  let [whole, windows] = [0, 0];
  Object.entries(truth.gpus).forEach(([gpu, { active }], index) => {
    const weight = regime.mig === undefined ? 1 : (regime.mig[index] as number) / 7;
    const found = perSecond(intervals, length, ({ gpus }) => {
      const row = gpus.find((candidate) => candidate.gpu === gpu);
      return (row?.nanos.token_active ?? 0) / 1e9 / weight;
    });
    const error = compared(found, active);
    if (Math.abs(error.whole) > Math.abs(whole)) whole = error.whole;
    windows = Math.max(windows, error.windows);
    const doubts = uncertainOf(intervals, (row) => row.gpu === gpu);
    const nanos = 1e9 * weight * length;
    const errors: Missed[] = [
      { error: error.whole * nanos, most: wholeMax * nanos },
      { error: error.windows * nanos, most: windowsMax * nanos },
    ];
    checks.push(checked(gpu, "time", errors, doubts.nanos, wholeMax * nanos));
  });
  if (Math.abs(whole) > wholeMax) missed.push(`GPU ${whole.toFixed(3)} L`);
  if (windows > windowsMax) missed.push(`GPU windows ${windows.toFixed(3)} L`);
  const servers: Record<string, Figures["servers"][string]> = {};
  const shared = regime.mig !== undefined || Object.keys(truth.servers).length + regime.host.jobs.length > 1;
  for (const [id, own] of Object.entries(truth.servers)) {
    const found = perSecond(intervals, length, (interval) => {
      const row = interval.servers.find(({ server }) => server === id);
      return (row?.nanos.token_active ?? 0) / 1e9;
    });
    const error = compared(found, own.active);
    const seconds = sum(own.active) / 1000;
    const relative = seconds > 0 ? (error.whole * length) / seconds : 0;
    const energy = energyOf(intervals, id) / own.joules - 1;
    const doubts = uncertainOf(intervals, (row) => holds(row, id), id);
    const energyMax = shared ? 0.1 : 0.02;
    servers[id] = {
      duty: seconds / length,
      active: error.whole,
      windows: error.windows,
      relative,
      energy,
      uncertain: sum(doubts.nanos.values()) / 1e9 / length,
      prefill: prefillOf(intervals, id, own.prefill, own.decode),
    };
    if (Math.abs(error.whole) > serverMax) missed.push(`${id} ${error.whole.toFixed(3)} L`);
    if (error.windows > Math.max(windowsMax, serverMax))
      missed.push(`${id} windows ${error.windows.toFixed(3)} L`);
    if (seconds > 0.01 * length && Math.abs(relative) > 0.15)
      missed.push(`${id} ${percent(relative)} active`);
    // Seconds of a MIG instance count by its slices.
    const place = Object.keys(truth.gpus).findIndex((gpu) => ownGpu(intervals, id, gpu));
    const slices = regime.mig === undefined ? 1 : (regime.mig[place] ?? 7) / 7;
    const isBusy = seconds > 0.01 * length;
    const timeMax = isBusy ? Math.min(serverMax * length, 0.15 * seconds) : serverMax * length;
    const nanos = 1e9 * slices;
    const times: Missed[] = [
      { error: error.whole * length * nanos, most: timeMax * nanos },
      { error: error.windows * length * nanos, most: Math.max(windowsMax, serverMax) * length * nanos },
    ];
    const energyMost = 1000 * energyMax * own.joules;
    checks.push(
      checked(id, "time", times, doubts.nanos, timeMax * nanos),
      checked(
        id,
        "energy",
        [{ error: 1000 * energy * own.joules, most: energyMost }],
        doubts.millijoules,
        energyMost,
      ),
    );
    if (Math.abs(energy) > energyMax) missed.push(`${id} ${percent(energy)} energy`);
  }
  const booked =
    sum(intervals.flatMap(({ gpus }) => gpus.flatMap((row) => Object.values(row.millijoules)))) / 1000;
  const all = Object.values(truth.gpus).map(({ joules }) => joules);
  const wanted = regime.mig === undefined ? sum(all) : (all[0] as number);
  const boardEnergy = booked / wanted - 1;
  const active = sum(Object.values(truth.gpus).map(({ activeJoules }) => activeJoules));
  const found = sum(intervals.flatMap(({ gpus }) => gpus.map(({ millijoules }) => millijoules.token_active)));
  const activeEnergy = regime.mig === undefined && active > 0 ? found / 1000 / active - 1 : undefined;
  if (Math.abs(boardEnergy) > 0.01) missed.push(`board ${percent(boardEnergy)} energy`);
  return { whole, windows, servers, boardEnergy, activeEnergy, missed, checks };
}

/** Seconds found in each second of the recording. */
function perSecond(
  intervals: readonly SettledInterval[],
  length: number,
  found: (interval: SettledInterval) => number,
): number[] {
  const seconds = Array.from({ length }, () => 0);
  for (const interval of intervals) {
    if (interval.to <= interval.from) continue;
    const at = Math.min(length - 1, Math.floor(interval.from / 1e9));
    seconds[at] = (seconds[at] as number) + found(interval);
  }
  return seconds;
}

function compared(found: readonly number[], active: Uint8Array): { whole: number; windows: number } {
  let [whole, windows] = [0, 0];
  for (let from = 0; from < found.length; from += windowSeconds) {
    const truth = sum(active.subarray(from * 1000, (from + windowSeconds) * 1000)) / 1000;
    const error = sum(found.slice(from, from + windowSeconds)) - truth;
    whole += error;
    windows += Math.abs(error);
  }
  return { whole: whole / found.length, windows: windows / found.length };
}

function energyOf(intervals: readonly SettledInterval[], id: string): number {
  let millijoules = 0;
  for (const { gpus } of intervals)
    for (const { residents } of gpus)
      for (const share of residents)
        if (share.server === id) millijoules += sum(Object.values(share.millijoules));
  return millijoules / 1000;
}

function prefillOf(
  intervals: readonly SettledInterval[],
  id: string,
  prefill: PhaseTruth,
  decode: PhaseTruth,
): PrefillFigures {
  const shares = intervals
    .flatMap(({ gpus }) => gpus.flatMap(({ residents }) => residents))
    .filter(({ server }) => server === id)
    .flatMap(({ phases }) => phases ?? []);
  const of = (
    phase: Phase,
    key: "nanos" | "millijoules" | "uncertainNanos" | "uncertainMillijoules",
  ): number => sum(shares.filter((share) => share.phase === phase).map((share) => share[key]));
  const split = (key: "nanos" | "millijoules"): number => of("prefill", key) + of("decode", key);
  return {
    time: of("prefill", "nanos") / split("nanos"),
    timeTruth: prefill.seconds / (prefill.seconds + decode.seconds),
    timeDoubt: of("prefill", "uncertainNanos") / split("nanos"),
    energy: of("prefill", "millijoules") / split("millijoules"),
    energyTruth: prefill.joules / (prefill.joules + decode.joules),
    energyDoubt: of("prefill", "uncertainMillijoules") / split("millijoules"),
    unsplit: of("unsplit", "nanos") / (split("nanos") + of("unsplit", "nanos")),
    prefillOff: (of("prefill", "millijoules") / 1000 - prefill.joules) / (prefill.joules + decode.joules),
    decodeOff: (of("decode", "millijoules") / 1000 - decode.joules) / (prefill.joules + decode.joules),
  };
}

function ownGpu(intervals: readonly SettledInterval[], id: string, gpu: string): boolean {
  return intervals.some(({ gpus }) => gpus.some((row) => row.gpu === gpu && holds(row, id)));
}

function holds({ residents }: GpuInterval, id: string): boolean {
  return residents.some(({ server }) => server === id);
}

/** By how much something is off, and by how much it may be, in one unit. */
interface Missed {
  readonly error: number;
  readonly most: number;
}

/** How far off a figure is, by itself and beyond its doubts, and by reason how much of it rests on an assumption, over `most`. */
function checked(
  subject: string,
  quantity: Check["quantity"],
  errors: readonly Missed[],
  doubts: ReadonlyMap<string, number>,
  most: number,
): Check {
  const doubt = sum(doubts.values());
  const off = Math.max(...errors.map((one) => Math.abs(one.error) / one.most));
  const beyond = Math.max(0, ...errors.map((one) => (Math.abs(one.error) - doubt) / one.most));
  return {
    ...{ subject, quantity, off, beyond, isRight: off <= 1, isMarked: doubt > most, isCovered: beyond <= 1 },
    doubts: Object.fromEntries([...doubts].map(([reason, amount]) => [reason, amount / most])),
  };
}

/** Seconds and joules that rest on an assumption about a server, or about any; of joules assumed about no server its part by its energy. */
function uncertainOf(
  intervals: readonly SettledInterval[],
  isMeant: (row: GpuInterval) => boolean,
  id?: string,
): { readonly nanos: ReadonlyMap<string, number>; readonly millijoules: ReadonlyMap<string, number> } {
  const [nanos, millijoules] = [new Map<string, number>(), new Map<string, number>()];
  const amount = (sums: Map<string, number>, reason: string, more: number): void => {
    if (more > 0) sums.set(reason, (sums.get(reason) ?? 0) + more);
  };
  for (const { gpus } of intervals)
    for (const row of gpus)
      for (const part of isMeant(row) ? (row.uncertain ?? []) : []) {
        const isOwn = id === undefined || part.server === id;
        if (isOwn) amount(nanos, part.reason, part.nanos);
        const share = isOwn ? 1 : part.server === undefined ? energyShare(row, id) : 0;
        amount(millijoules, part.reason, part.millijoules * share);
      }
  return { nanos, millijoules };
}

/** A server's part of what the residents of a GPU drew. */
function energyShare({ residents }: GpuInterval, id: string): number {
  const of = (shares: GpuInterval["residents"]): number =>
    sum(shares.flatMap(({ millijoules }) => Object.values(millijoules)));
  const all = of(residents);
  return all > 0 ? of(residents.filter(({ server }) => server === id)) / all : 0;
}

/** A relative error as people write it. */
export function percent(ratio: number): string {
  return `${ratio >= 0 ? "+" : ""}${(100 * ratio).toFixed(1)} %`;
}

function sum(amounts: Iterable<number>): number {
  let total = 0;
  for (const amount of amounts) total += amount;
  return total;
}
