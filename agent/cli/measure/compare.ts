// Holds what several backends read of the same GPUs against each other. Bounds are stated on each line: the driver's own
// resolutions (windows of 1 s against 200 ms, readings 1 s apart) leave a few percent on a steady load.
import type { GpuInfo, GpuSample } from "../../model.ts";
import { formatTable } from "../common/table.ts";

/** What one backend read. */
export interface BackendReadings {
  readonly backend: string;
  readonly gpus: readonly GpuInfo[];
  readonly samples: ReadonlyMap<string, readonly GpuSample[]>;
  readonly seconds: number;
  readonly failures: readonly string[];
  /** Of the process that reads for it. */
  readonly processorSeconds?: number;
}

/** One comparison and its verdict. */
export interface MeasuredLine {
  readonly what: string;
  readonly gpu?: string;
  readonly seen: string;
  readonly bound: string;
  /** skip = one of the sides does not exist on this host. */
  readonly verdict: "ok" | "fail" | "skip";
}

/** Two readings of the same may differ by this share, or by this much where both are small. */
const POWER_SHARE = 0.05;
const POWER_WATTS = 5;
const UTILIZATION = 0.05;
/** Milliseconds of processor time per GPU and second of the reader. */
const PROCESSOR_MS = 20;

/** What one backend says of one GPU over the whole time. */
interface Means {
  readonly utilization?: number;
  readonly powerWatts?: number;
  /** By the energy counter. */
  readonly counterWatts?: number;
}

/** All comparisons: each counter with its own power, every further backend with the first, and the cost of reading. */
export function compareBackends(all: readonly BackendReadings[]): readonly MeasuredLine[] {
  const [first, ...others] = all;
  if (first === undefined)
    return [
      { what: "readings", seen: "no backend works here", bound: "a GPU and its driver", verdict: "skip" },
    ];
  const lines = all.flatMap((one) => [...countersOf(one), costOf(one), failuresOf(one)]);
  for (const other of others) lines.push(...pairsOf(first, other));
  if (others.length === 0)
    lines.push({
      what: "backends against each other",
      seen: `${first.backend} only`,
      bound: "a second backend",
      verdict: "skip",
    });
  return lines;
}

/** The lines as a table for people and pages. */
export function formatLines(lines: readonly MeasuredLine[]): string {
  const rows = lines.map(({ bound, gpu = "", seen, verdict, what }) => [verdict, what, gpu, seen, bound]);
  return formatTable([["verdict", "what", "gpu", "seen", "bound"], ...rows]);
}

function countersOf({ backend, gpus, samples }: BackendReadings): MeasuredLine[] {
  return boardsOf(gpus).map(({ uuid }) => {
    const { counterWatts, powerWatts } = meansOf(samples.get(uuid) ?? []);
    const line = { what: `${backend}: energy counter against power`, gpu: uuid, bound: bound(POWER_SHARE) };
    if (counterWatts === undefined || powerWatts === undefined)
      return { ...line, seen: "no counter, or no power beside it", verdict: "skip" as const };
    return { ...line, ...judged(counterWatts, powerWatts, "W") };
  });
}

function costOf({ backend, gpus, processorSeconds, seconds }: BackendReadings): MeasuredLine {
  const line = {
    what: `${backend}: processor time of its reader`,
    bound: `${PROCESSOR_MS} ms per GPU and second`,
  };
  const boards = boardsOf(gpus).length;
  if (processorSeconds === undefined || boards === 0 || seconds <= 0)
    return { ...line, seen: "no process of its own", verdict: "skip" };
  const ms = (1000 * processorSeconds) / boards / seconds;
  return { ...line, seen: `${ms.toFixed(1)} ms`, verdict: ms <= PROCESSOR_MS ? "ok" : "fail" };
}

function failuresOf({ backend, failures, samples }: BackendReadings): MeasuredLine {
  const count = [...samples.values()].reduce((sum, own) => sum + own.length, 0);
  return {
    what: `${backend}: readings`,
    seen: `${count} of ${samples.size} GPUs, ${failures.length} polls failed${failures[0] === undefined ? "" : `: ${failures[0]}`}`,
    bound: "none fails",
    verdict: failures.length === 0 && count > 0 ? "ok" : "fail",
  };
}

function pairsOf(first: BackendReadings, other: BackendReadings): MeasuredLine[] {
  return boardsOf(first.gpus).flatMap(({ uuid }) => {
    const [one, two] = [first, other].map(({ samples }) => meansOf(samples.get(uuid) ?? []));
    const pair = `${first.backend} against ${other.backend}`;
    const line = (
      what: string,
      left: number | undefined,
      right: number | undefined,
      unit: "W" | "",
    ): MeasuredLine => {
      const about = {
        what: `${pair}: ${what}`,
        gpu: uuid,
        bound: unit === "W" ? bound(POWER_SHARE) : `${UTILIZATION}`,
      };
      if (left === undefined || right === undefined)
        return { ...about, seen: "one of them does not say it", verdict: "skip" };
      return { ...about, ...judged(left, right, unit) };
    };
    return [
      line("utilisation", one?.utilization, two?.utilization, ""),
      line("power", one?.powerWatts, two?.powerWatts, "W"),
      line("energy by counter", one?.counterWatts, two?.counterWatts, "W"),
    ];
  });
}

function judged(left: number, right: number, unit: "W" | ""): Pick<MeasuredLine, "seen" | "verdict"> {
  const off = Math.abs(left - right);
  const most = unit === "W" ? Math.max(POWER_WATTS, POWER_SHARE * Math.max(left, right)) : UTILIZATION;
  const shown = (value: number): string => (unit === "W" ? `${value.toFixed(1)} W` : value.toFixed(3));
  return { seen: `${shown(left)} and ${shown(right)}`, verdict: off <= most ? "ok" : "fail" };
}

function bound(share: number): string {
  return `${share * 100} %, or ${POWER_WATTS} W`;
}

function boardsOf(gpus: readonly GpuInfo[]): readonly GpuInfo[] {
  return gpus.filter(({ parent }) => parent === undefined);
}

function meansOf(samples: readonly GpuSample[]): Means {
  const mean = (values: readonly number[]): number | undefined =>
    values.length === 0 ? undefined : values.reduce((sum, value) => sum + value, 0) / values.length;
  const windows = samples.flatMap(({ utilizationRing }) => utilizationRing?.values ?? []);
  const snapshots = samples.flatMap(({ utilizationRatio }) => utilizationRatio ?? []);
  const utilization = mean(windows.length > 0 ? windows : snapshots);
  const powerWatts = mean(samples.flatMap((sample) => sample.powerInstantWatts ?? sample.powerWatts ?? []));
  const counted = samples.filter(({ energyMillijoules }) => energyMillijoules !== undefined);
  const [first, last] = [counted[0], counted.at(-1)];
  const seconds = ((last?.at ?? 0) - (first?.at ?? 0)) / 1e9;
  const moved = (last?.energyMillijoules ?? 0) - (first?.energyMillijoules ?? 0);
  return {
    ...(utilization === undefined ? {} : { utilization }),
    ...(powerWatts === undefined ? {} : { powerWatts }),
    ...(seconds > 0 && moved >= 0 ? { counterWatts: moved / 1000 / seconds } : {}),
  };
}
