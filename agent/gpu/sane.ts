// The last look at a GPU reading before it enters the agent: what no hardware can mean is dropped, never clamped.
// Drivers and tools have been seen to answer with all-ones, NaN, 65535 % and stamps of another epoch.
import type { GpuSample, Nanos, ProcessShare, Ring } from "../model.ts";

const WATTS_MAX = 20_000;
const HERTZ_MAX = 20e9;
const CELSIUS_MAX = 200;
const BYTES_MAX = 2 ** 50;
const PID_MAX = 2 ** 31 - 1;
/** No reading stands for a later instant than this after it was received. */
const AHEAD_NANOS = 1_000_000_000;
/** Driver rings hold 14 s; anything older is of another time. */
const HISTORY_NANOS = 60_000_000_000;

/** A reading with every absurd value left out, and how many were. */
export interface Sane {
  readonly sample: GpuSample;
  readonly dropped: number;
}

/** Checks one reading received at `now`; undefined when its own instant is absurd. */
export function sane(sample: GpuSample, now: Nanos): Sane | undefined {
  if (!Number.isFinite(sample.at) || sample.at > now + AHEAD_NANOS || sample.at < now - HISTORY_NANOS)
    return undefined;
  // Nearly always nothing is absurd, and the reading goes on as it is: a copy of it and of its rings, each second and for each
  // GPU, would live just long enough to grow old.
  let kept: Record<string, unknown> | undefined;
  let dropped = 0;
  for (const key in sample) {
    const value = sample[key as keyof GpuSample];
    const check = CHECKS[key as keyof GpuSample];
    if (value === undefined || check === undefined) continue;
    const result = check(value as never, now);
    if (result === value) continue;
    kept ??= { ...sample };
    kept[key] = result;
    if (result !== undefined) continue;
    delete kept[key];
    dropped++;
  }
  return { sample: kept === undefined ? sample : (kept as unknown as GpuSample), dropped };
}

/** What shows that a GPU answers; a temperature alone does not say whether anything runs on it. */
const EVIDENCE: readonly (keyof GpuSample)[] = [
  ...(["energyMillijoules", "powerWatts", "powerInstantWatts", "powerRing"] as const),
  ...(["utilizationRatio", "utilizationRing", "memoryBusyRatio", "memoryUsedBytes"] as const),
  ...(["graphicsActiveRatio", "smActiveRatio", "tensorActiveRatio", "dramActiveRatio"] as const),
];

/** Whether a reading says nothing about what the GPU did: it is a gap then, not an idle GPU. */
export function isSilent(sample: GpuSample): boolean {
  return EVIDENCE.every((key) => sample[key] === undefined);
}

type Check = (value: never, now: Nanos) => unknown;

const between =
  (least: number, most: number) =>
  (value: unknown): number | undefined =>
    typeof value === "number" && value >= least && value <= most ? value : undefined;
const ratio = between(0, 1);
const watts = between(0, WATTS_MAX);
const hertz = between(0, HERTZ_MAX);
const celsius = between(0, CELSIUS_MAX);

const CHECKS: Partial<Record<keyof GpuSample, Check>> = {
  energyMillijoules: (value: number) => (Number.isSafeInteger(value) && value >= 0 ? value : undefined),
  powerWatts: watts,
  powerInstantWatts: watts,
  modulePowerWatts: watts,
  utilizationRatio: ratio,
  memoryBusyRatio: ratio,
  memoryUsedBytes: between(0, BYTES_MAX),
  temperatureCelsius: celsius,
  memoryTemperatureCelsius: celsius,
  smClockHertz: hertz,
  memoryClockHertz: hertz,
  graphicsActiveRatio: ratio,
  smActiveRatio: ratio,
  tensorActiveRatio: ratio,
  dramActiveRatio: ratio,
  encoderRatio: ratio,
  decoderRatio: ratio,
  powerLimitWatts: watts,
  utilizationRing: (given: Ring, now: Nanos) => ring(given, now, ratio),
  powerRing: (given: Ring, now: Nanos) => ring(given, now, watts),
  processes: (value: GpuSample["processes"]) => (value?.every(({ pid }) => isPid(pid)) ? value : undefined),
  processShares: (value: readonly ProcessShare[], now: Nanos) => {
    const isGood = ({ at, pid, smRatio }: ProcessShare): boolean =>
      isPid(pid) && inTime(at, now) && ratio(smRatio) !== undefined;
    return value.every(isGood) ? value : value.filter(isGood);
  },
  throttleSeconds: counters,
  eccErrors: counters,
  xidEvents: counters,
  trafficBytes: counters,
};

function isPid(pid: number): boolean {
  return Number.isSafeInteger(pid) && pid > 0 && pid <= PID_MAX;
}

function inTime(at: Nanos, now: Nanos): boolean {
  return at <= now + AHEAD_NANOS && at >= now - HISTORY_NANOS;
}

function ring(given: Ring, now: Nanos, check: (value: unknown) => number | undefined): Ring | undefined {
  const { instants, values } = given;
  const at = (place: number): Nanos => instants[place] as Nanos;
  const isGood = (place: number): boolean => inTime(at(place), now) && check(values[place]) !== undefined;
  let isWhole = instants.length > 0;
  for (let place = 0; place < instants.length && isWhole; place++)
    isWhole = isGood(place) && (place === 0 || at(place - 1) <= at(place));
  if (isWhole) return given;
  const good = [...instants.keys()].filter(isGood).sort((left, right) => at(left) - at(right));
  if (good.length === 0) return undefined;
  return { instants: good.map(at), values: good.map((place) => values[place] as number) };
}

/** Counts by name; an empty set is a measurement (no event yet), one of which nothing is left is absent. */
function counters(value: Readonly<Record<string, number | undefined>>): unknown {
  const isGood = (count: number | undefined): boolean =>
    count !== undefined && count >= 0 && count < Infinity;
  let isWhole = true;
  for (const name in value) isWhole &&= isGood(value[name]);
  if (isWhole) return value;
  const good = Object.entries(value).filter(([, count]) => isGood(count));
  return good.length === 0 ? undefined : Object.fromEntries(good);
}
