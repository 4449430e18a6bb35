// What is known of one GPU over time: coverage, activity windows, processes, process shares, energy.
// Readings may arrive in any order until they are taken up; `takeUpNext` takes them up by time, once, and what comes later
// than that is late. Every list is bounded; what a bound drops is counted.
import type { GpuInfo, GpuSample, Nanos, ProcessShare } from "../model.ts";
import type { ActivityWindow } from "./activity/evidence.ts";
import type { EnergyOptions } from "./energy/meter.ts";
import { EnergyMeter } from "./energy/meter.ts";
import { Presence } from "./presence.ts";
import { historyFrom, WindowReader } from "./windows.ts";

/** A stretch between two readings, and whether they cover it. */
export interface Cover {
  readonly from: Nanos;
  readonly to: Nanos;
  readonly observed: boolean;
}

/** A driver reading of the SM shares per process, standing for the stretch since the one before it. */
export interface ShareReading {
  readonly from: Nanos;
  readonly to: Nanos;
  /** As the driver gave them, each with the end of its own window; none without a share. */
  readonly samples: readonly ProcessShare[];
}

/** Returns the share that a reading credits a process with: the largest of its samples, 0 without any. */
export function creditOf({ samples }: Pick<ShareReading, "samples">, pid: number): number {
  let most = 0;
  for (const sample of samples) if (sample.pid === pid) most = Math.max(most, sample.smRatio);
  return most;
}

/** GPM or DCGM activity of a MIG instance, standing for the stretch since the reading before it. */
export interface ActiveReading {
  readonly from: Nanos;
  readonly to: Nanos;
  readonly ratio: number;
}

/** What became of a reading that was handed in. */
export type Acceptance = "accepted" | "repeated" | "late" | "absurd";

/** Readings waiting to be taken up at most; 10 Hz for 13 minutes. */
const pendingMax = 8192;
/** Entries kept per derived list at most. */
const keptMax = 8192;

/** The timeline of one GPU or MIG instance. */
export class Timeline {
  info: GpuInfo;
  /** When inventory first named it. */
  readonly since: Nanos;
  /** Longest distance between two readings that still cover the time between them. */
  coverMax: Nanos;
  readonly energy: EnergyMeter;
  readonly presence = new Presence();
  readonly windows: ActivityWindow[] = [];
  readonly covers: Cover[] = [];
  readonly shares: ShareReading[] = [];
  readonly active: ActiveReading[] = [];
  /** A reading with energy or power was taken up. */
  metersEnergy = false;
  /** Readings dropped by a bound. */
  dropped = 0;
  /** Time of the last reading taken up. */
  readAt: Nanos | undefined;
  readonly #pending: GpuSample[] = [];
  readonly #gaps: Nanos[] = [];
  readonly #reader = new WindowReader();
  #sharesAt: Nanos | undefined;

  /** `counter`: where its energy counter stood when an earlier run settled last. */
  constructor(info: GpuInfo, since: Nanos, coverMax: Nanos, counter?: EnergyOptions["before"]) {
    this.info = info;
    this.since = since;
    this.coverMax = coverMax;
    this.energy = new EnergyMeter({
      limitWatts: info.powerLimitWatts,
      since,
      ...(counter === undefined ? {} : { before: counter }),
    });
    // Until it is known who holds it.
    this.energy.isPlaced = info.parent === undefined;
  }

  /** Time of the newest reading, taken up or not. */
  get newestAt(): Nanos | undefined {
    return this.#pending.at(-1)?.at ?? this.readAt;
  }

  /** Time of the next reading to take up. */
  get nextAt(): Nanos | undefined {
    return this.#pending[0]?.at;
  }

  /** Takes a reading in by its time. */
  queueReading(sample: GpuSample): Acceptance {
    if (!Number.isFinite(sample.at)) return "absurd";
    if (this.readAt !== undefined && sample.at <= this.readAt)
      return sample.at === this.readAt ? "repeated" : "late";
    let place = this.#pending.length;
    while (place > 0 && (this.#pending[place - 1] as GpuSample).at > sample.at) place--;
    if (this.#pending[place - 1]?.at === sample.at) return "repeated";
    this.#pending.splice(place, 0, sample);
    if (this.#pending.length > pendingMax) {
      this.#pending.shift();
      this.dropped++;
    }
    return "accepted";
  }

  /** Notes that the GPU could not be read at `at`: nothing covers the stretch around it. */
  noteGap(at: Nanos): void {
    if (!Number.isFinite(at)) return;
    this.#gaps.push(at);
    if (this.#gaps.length > pendingMax) this.#gaps.shift();
  }

  /** Drops waiting readings from after `latest`: their clock is wrong. Returns how many. */
  dropAfter(latest: Nanos): number {
    let keep = this.#pending.length;
    while (keep > 0 && (this.#pending[keep - 1] as GpuSample).at > latest) keep--;
    return keep === this.#pending.length ? 0 : this.#pending.splice(keep).length;
  }

  /** Takes up the next reading, if there is one; returns whether there was. */
  takeUpNext(): boolean {
    const sample = this.#pending.shift();
    if (sample === undefined) return false;
    const previous = this.readAt;
    const coveredFrom = previous === undefined ? sample.at : this.#coveredFrom(previous, sample);
    const observed = coveredFrom === previous;
    if (previous !== undefined && coveredFrom > previous)
      this.#cover({ from: previous, to: coveredFrom, observed: false });
    if (coveredFrom < sample.at) this.#cover({ from: coveredFrom, to: sample.at, observed: true });
    const since = observed ? previous : undefined;
    keep(this.windows, this.#reader.read(sample, since));
    this.presence.read(sample);
    this.metersEnergy ||= hasEnergy(sample);
    this.energy.take(sample, observed || previous === undefined);
    this.#share(sample);
    const ratio = sample.smActiveRatio ?? sample.graphicsActiveRatio;
    if (since !== undefined && ratio !== undefined && ratio >= 0 && ratio <= 1.01)
      keep(this.active, [{ from: since, to: sample.at, ratio }]);
    this.readAt = sample.at;
    return true;
  }

  /** Mean GPM activity of `[from, to)`; 0 where it is not known. */
  activeRatio(from: Nanos, to: Nanos): number {
    let weighted = 0;
    let known = 0;
    for (const reading of this.active) {
      const inside = Math.min(reading.to, to) - Math.max(reading.from, from);
      if (inside <= 0) continue;
      weighted += inside * reading.ratio;
      known += inside;
    }
    return known > 0 ? weighted / known : 0;
  }

  /** The place of the first window that ends after `from`. */
  windowAfter(from: Nanos): number {
    let place = this.windows.length;
    while (place > 0 && (this.windows[place - 1] as ActivityWindow).to > from) place--;
    return place;
  }

  /** How long the GPU was busy in `[from, to)`, by its windows. */
  busyNanos(from: Nanos, to: Nanos): number {
    let busy = 0;
    for (let index = this.windows.length - 1; index >= 0; index--) {
      const window = this.windows[index] as ActivityWindow;
      if (window.to <= from) break;
      busy += Math.max(0, Math.min(window.to, to) - Math.max(window.from, from)) * window.busyRatio;
    }
    return busy;
  }

  /** Drops what no interval from `before` on can need. */
  forget(before: Nanos, windowsBefore: Nanos): void {
    dropEnded(this.covers, before);
    dropEnded(this.shares, before);
    dropEnded(this.active, before);
    dropEnded(this.windows, windowsBefore);
    this.presence.forget(before);
    this.energy.forget(before);
  }

  /** From when on readings cover the time since the last one, at `from`: all of it, what the driver's own history reaches over, or none. */
  #coveredFrom(from: Nanos, sample: GpuSample): Nanos {
    while (this.#gaps.length > 0 && (this.#gaps[0] as Nanos) < from) this.#gaps.shift();
    const gap = this.#gaps.some((at) => at >= from && at < sample.at);
    if (!gap && sample.at - from <= this.coverMax) return from;
    return Math.max(from, historyFrom(sample));
  }

  #cover(cover: Cover): void {
    const last = this.covers.at(-1);
    if (last !== undefined && last.observed === cover.observed)
      this.covers[this.covers.length - 1] = { ...last, to: cover.to };
    else keep(this.covers, [cover]);
  }

  #share(sample: GpuSample): void {
    if (sample.processShares === undefined) return;
    const from = this.#sharesAt;
    if (from !== undefined && sample.at - from <= this.coverMax) {
      const { processShares: given } = sample;
      const samples = given.every(isCredit) ? given : given.filter(isCredit);
      keep(this.shares, [{ from, to: sample.at, samples }]);
    }
    this.#sharesAt = sample.at;
  }
}

function hasEnergy(sample: GpuSample): boolean {
  const { energyMillijoules, powerWatts, powerInstantWatts, powerRing } = sample;
  return (
    energyMillijoules !== undefined ||
    powerWatts !== undefined ||
    powerInstantWatts !== undefined ||
    powerRing !== undefined
  );
}

function isCredit({ at, smRatio }: ProcessShare): boolean {
  return Number.isFinite(at) && smRatio > 0 && smRatio <= 1.01;
}

function keep<T>(list: T[], added: readonly T[]): void {
  for (const entry of added) list.push(entry);
  if (list.length > keptMax) list.splice(0, list.length - keptMax);
}

function dropEnded(list: { readonly to: Nanos }[], before: Nanos): void {
  let drop = 0;
  while (drop < list.length && (list[drop] as { to: Nanos }).to <= before) drop++;
  if (drop > 0) list.splice(0, drop);
}
