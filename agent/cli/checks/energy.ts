// gpu.energy: whether the energy counter of each GPU agrees with its power over the few seconds doctor looks.
// A counter that stands still while the board draws power, or that counts a whole module (Grace Hopper, zeus#172), bills
// wrong joules; the daemon compares them every minute and replaces the counter (METERING.md 4).
import type { GpuInfo, GpuSample } from "../../model.ts";
import type { GpuPoll } from "../../source.ts";
import type { Finding } from "./check.ts";

const ID = "gpu.energy";
/** Shorter than this the counter's steps of 100 ms and the lag of averages decide. */
const LOOK_SECONDS = 2;
const RATIO_LEAST = 0.8;
const RATIO_MOST = 1.25;
/** Below this a difference is noise of two small numbers. */
const WATTS_LEAST = 5;

const REMEDY =
  "the daemon compares them every minute and bills by power where they disagree (method integrated); look for a counter " +
  "of the whole module (Grace Hopper) or a driver that needs an update";

/** A warning for every GPU whose counter and power disagree; one ok where both were seen and agree. */
export function judgeEnergy(gpus: readonly GpuInfo[], polls: readonly GpuPoll[]): readonly Finding[] {
  const compared = gpus.flatMap(({ uuid }) => {
    const readings = polls.flatMap(({ samples }) => samples.filter(({ gpu }) => gpu === uuid));
    const both = compare(readings);
    return both === undefined ? [] : [{ subject: uuid, ...both }];
  });
  const doubtful = compared.filter(({ counted, powered }) => disagree(counted, powered));
  if (doubtful.length > 0) {
    return doubtful.map(({ counted, powered, subject }) => ({
      id: ID,
      subject,
      verdict: "warn",
      seen: `its energy counter and its power disagree: ${watts(counted)} by the counter, ${watts(powered)} by power`,
      remedy: REMEDY,
      facts: { counterWatts: counted, powerWatts: powered },
    }));
  }
  if (compared.length === 0) return [];
  return [{ id: ID, verdict: "ok", seen: `energy counter and power agree on ${compared.length} GPUs` }];
}

/** What the running daemon saw over minutes, as its status says it: the counters it doubts or replaces. */
export function replacedCounters(status: Readonly<Record<string, unknown>> | undefined): readonly Finding[] {
  const { correlation } = (status ?? {}) as {
    readonly correlation?: { readonly energy?: Readonly<Record<string, Replaced>> };
  };
  return Object.entries(correlation?.energy ?? {}).flatMap(([subject, energy]) => {
    const {
      counter_doubt: doubt,
      counter_ratio: ratio,
      counter_scope: scope,
      counter_suspect: suspect,
    } = energy;
    if (suspect !== true) return [];
    const module = scope === "module" ? ": it counts the module the GPU is a part of" : "";
    const moved = ratio === undefined ? "" : `, ${ratio.toFixed(2)} times what power integrates to${module}`;
    const seen =
      doubt === undefined
        ? `the daemon saw its energy counter and its power disagree in the last minute${moved}`
        : doubt === "stands_still"
          ? "the daemon replaces its energy counter by power: it stands still while the GPU draws power"
          : `the daemon replaces its energy counter by power: it disagreed for 5 minutes${moved}`;
    return [{ id: ID, subject, verdict: "warn", seen, remedy: REMEDY, facts: { ...energy } }];
  });
}

interface Replaced {
  readonly counter_doubt?: string;
  readonly counter_ratio?: number;
  readonly counter_scope?: string;
  readonly counter_suspect?: boolean;
}

function disagree(counted: number, powered: number): boolean {
  if (Math.max(counted, powered) < WATTS_LEAST) return false;
  return counted < RATIO_LEAST * powered || counted > RATIO_MOST * powered;
}

function watts(value: number): string {
  return `${Math.round(value)} W`;
}

/** Mean watts by counter and by power over the same stretch; undefined where one is missing or it was too short. */
function compare(
  readings: readonly GpuSample[],
): { readonly counted: number; readonly powered: number } | undefined {
  const counting = readings.filter(({ energyMillijoules }) => energyMillijoules !== undefined);
  const [first, last] = [counting[0], counting.at(-1)];
  if (first === undefined || last === undefined || first.energyEpoch !== last.energyEpoch) return undefined;
  const seconds = (last.at - first.at) / 1e9;
  const moved = (last.energyMillijoules ?? 0) - (first.energyMillijoules ?? 0);
  const powers = counting.slice(1).flatMap((sample) => sample.powerInstantWatts ?? sample.powerWatts ?? []);
  if (seconds < LOOK_SECONDS || moved < 0 || powers.length === 0) return undefined;
  const powered = powers.reduce((sum, value) => sum + value, 0) / powers.length;
  return { counted: moved / 1000 / seconds, powered };
}
