// Which compute processes held a GPU, from the process lists of its readings.
// A process is there from the first reading that lists it to the first that does not. It is a resident once it was seen
// for 2 s, and then from the beginning; MPS servers, DCGM, persistenced and display servers never are (METERING.md 4).
import type { GpuProcess, GpuSample, Nanos } from "../model.ts";

/** One process on one GPU, as of the last reading. */
export interface Stay {
  readonly pid: number;
  readonly from: Nanos;
  name: string | undefined;
  /** Last reading that listed it. */
  seenAt: Nanos;
  /** First reading that did not; undefined while it is there. */
  to: Nanos | undefined;
}

/** A process must have been seen for this long to be a resident. */
const residentAfterNanos = 2_000_000_000;
/**
 * Stands for processes that hold memory but are not listed: other containers' without the host's PID namespace, and
 * sources without process lists (dcgm-exporter).
 */
const unlistedPid = 0;
/** Drivers keep up to 0.7 GB for themselves; a context with a model on it takes more than this. */
const heldBytesMin = 2 * 1024 ** 3;
/** Stays kept at most; a GPU lists a handful. */
const staysMax = 1024;

const helpers =
  /^(nvidia-cuda-mps-(server|control)|nv-hostengine|dcgm.*|dcgmi|nvidia-persiste.*|Xorg|X|Xwayland|gnome-shell|gnome-remote-de.*|kwin.*|plasmashell|sddm.*|gdm.*|weston|sway|mutter|compiz|cinnamon|cosmic-comp)$/;

/** True for processes that hold a GPU without being a workload, by executable name. */
export function isHelper(name: string | undefined): boolean {
  if (name === undefined) return false;
  const path = name.split(/\s/, 1)[0] ?? name;
  return helpers.test(path.slice(path.lastIndexOf("/") + 1));
}

/** The processes of one GPU. */
export class Presence {
  /** Any reading so far listed processes, be it none. */
  known = false;
  /** Some reading listed a process: lists can be trusted. */
  #seen = false;
  readonly stays: Stay[] = [];
  /** Counts every process that came, went, was named or forgotten. */
  changes = 0;
  /** The last list of processes had clients of MPS in it. */
  hasMpsClients = false;
  /** The list of the last reading, while all of it is among the stays. */
  #last: readonly GpuProcess[] | undefined;

  /** Takes the process list of a reading in; a reading that says nothing of processes changes nothing. */
  read(sample: GpuSample): void {
    const { at, processes } = sample;
    if (this.#repeats(processes)) {
      for (const stay of this.stays) if (stay.to === undefined) stay.seenAt = at;
      return;
    }
    const listed = this.#listed(sample);
    if (listed === undefined) return;
    this.known = true;
    for (const stay of this.stays) {
      if (stay.to !== undefined) continue;
      const process = listed.get(stay.pid);
      listed.delete(stay.pid);
      if (process === undefined) stay.to = at;
      else stay.seenAt = at;
      const name = process?.name ?? stay.name;
      if (process === undefined || name !== stay.name) this.changes++;
      stay.name = name;
    }
    for (const { pid, name } of listed.values()) {
      if (this.stays.length >= staysMax) break;
      this.stays.push({ pid, name, from: at, seenAt: at, to: undefined });
      this.changes++;
    }
    this.#last = this.stays.length < staysMax ? processes : undefined;
  }

  /** True where a reading lists processes, and just those of the last one. */
  #repeats(processes: readonly GpuProcess[] | undefined): boolean {
    const last = this.#last;
    if (processes === undefined || last === undefined || !this.#seen) return false;
    if (processes.length === 0 || processes.length !== last.length) return false;
    for (let index = 0; index < processes.length; index++) {
      const one = processes[index] as GpuProcess;
      const other = last[index] as GpuProcess;
      if (one.pid !== other.pid || one.name !== other.name || one.type !== other.type) return false;
    }
    return true;
  }

  /** Returns the instant up to which residency is decided: the first sighting of a process still too young to tell. */
  decidedUntil(): Nanos {
    let decided = Infinity;
    for (const stay of this.stays)
      if (stay.to === undefined && stay.seenAt - stay.from < residentAfterNanos)
        decided = Math.min(decided, stay.from);
    return decided;
  }

  /** By pid; where no process was ever listed, used memory stands for one that cannot be seen. */
  #listed(sample: GpuSample): Map<number, GpuProcess> | undefined {
    const listed = new Map<number, GpuProcess>();
    for (const process of sample.processes ?? [])
      if (Number.isInteger(process.pid) && process.pid > 0) listed.set(process.pid, process);
    if (sample.processes !== undefined)
      this.hasMpsClients = sample.processes.some(({ type }) => type === "mps");
    if (listed.size > 0) this.#seen = true;
    const { memoryUsedBytes } = sample;
    if (this.#seen || memoryUsedBytes === undefined)
      return sample.processes === undefined ? undefined : listed;
    if (memoryUsedBytes >= heldBytesMin) listed.set(unlistedPid, { pid: unlistedPid, type: "compute" });
    return listed;
  }

  /** Drops stays that ended before `before`. */
  forget(before: Nanos): void {
    if (!this.stays.some((stay) => stay.to !== undefined && stay.to <= before)) return;
    this.changes++;
    const kept = this.stays.filter((stay) => stay.to === undefined || stay.to > before);
    this.stays.splice(0, this.stays.length, ...kept);
  }
}

/** True once a process counts as a resident. A process that left earlier never does. */
export function isResident(stay: Stay): boolean {
  return stay.seenAt - stay.from >= residentAfterNanos;
}
