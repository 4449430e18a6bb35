// What each server draws above the floor while it works on a GPU alone: its weight where it shares the GPU. Two servers
// that take turns get equal time, but not equal energy (METERING.md 4).
// A server that never works alone has no such figure of its own and counts with the mean of the others.
import type { Nanos } from "../../model.ts";

interface Alone {
  nanos: number;
  busyNanos: number;
  millijoules: number;
}

/** Work alone is remembered about this long, and this much of it makes a figure. */
const memoryNanos = 120_000_000_000;
const neededNanos = 1_000_000_000;
/** A GPU this busy is full: who works on it takes turns. */
const fullBusyRatio = 0.8;
/** Servers remembered at most. */
const serversMax = 256;

/** The power of the residents of one GPU. */
export class OwnPower {
  readonly #alone = new Map<string, Alone>();
  /** The same of what those that were not seen alone had beside others that were. */
  readonly #beside = new Map<string, Omit<Alone, "millijoules">>();

  /** Takes in a stretch in which one resident worked, and what it drew above the floor. */
  observeAlone(server: string, nanos: Nanos, busyNanos: Nanos, millijoules: number): void {
    let known = this.#alone.get(server);
    if (known === undefined) {
      if (this.#alone.size >= serversMax) this.#alone.clear();
      known = { nanos: 0, busyNanos: 0, millijoules: 0 };
      this.#alone.set(server, known);
    }
    known.nanos += nanos;
    known.busyNanos += busyNanos;
    known.millijoules += millijoules;
    if (known.nanos <= memoryNanos) return;
    const kept = memoryNanos / known.nanos;
    known.nanos *= kept;
    known.busyNanos *= kept;
    known.millijoules *= kept;
  }

  /**
   * Takes in a stretch in which several worked. Beside others none keeps the GPU busier than alone, nor on a full GPU longer than
   * its turns: the one that was never seen alone had the rest.
   */
  observeTogether(working: readonly string[], nanos: Nanos, busyNanos: Nanos): void {
    const turn = busyNanos >= fullBusyRatio * nanos ? busyNanos / working.length : nanos;
    let unknown: string | undefined;
    let [wanted, had] = [0, 0];
    for (const server of working) {
      const ratio = this.busyRatio(server);
      if (ratio !== undefined) {
        wanted += ratio * nanos;
        had += Math.min(ratio * nanos, turn);
      } else if (unknown === undefined) unknown = server;
      else return;
    }
    if (unknown === undefined || !(had > 0)) return;
    const known = this.#beside.get(unknown) ?? { nanos: 0, busyNanos: 0 };
    if (this.#beside.size >= serversMax) this.#beside.clear();
    this.#beside.set(unknown, known);
    known.nanos += nanos;
    // As much more than that as the others would have alone.
    known.busyNanos += Math.max(0, busyNanos - had) * (wanted / had);
    if (known.nanos <= memoryNanos) return;
    known.busyNanos *= memoryNanos / known.nanos;
    known.nanos = memoryNanos;
  }

  /** Returns the watts of a server working alone; undefined while too little was seen. */
  watts(server: string): number | undefined {
    const known = this.#alone.get(server);
    if (known === undefined || known.nanos < neededNanos) return undefined;
    return Math.max(0, (known.millijoules * 1e6) / known.nanos);
  }

  /**
   * Returns for which share of the time that they have the GPU together each of several servers has it. The driver's shares
   * credit each process by a few samples; so they meet half-way what the servers would take if they took turns: as much as
   * each keeps the GPU busy alone. Of one that was never alone that is what it had beside others, else the mean of these.
   */
  turns(working: readonly string[], shares?: ReadonlyMap<string, number>): ReadonlyMap<string, number> {
    let [known, busy, credited] = [0, 0, 0];
    for (const server of working) {
      const ratio = this.#wantedRatio(server);
      credited += shares?.get(server) ?? 0;
      if (ratio === undefined) continue;
      known++;
      busy += ratio;
    }
    const mean = known === 0 ? 1 : busy / known;
    let all = 0;
    for (const server of working) all += this.#wantedRatio(server) ?? mean;
    const turns = new Map<string, number>();
    for (const server of working) {
      const byTurns = (this.#wantedRatio(server) ?? mean) / all;
      const byShares = credited > 0 ? (shares?.get(server) ?? 0) / credited : byTurns;
      turns.set(server, known === 0 ? byShares : (byTurns + byShares) / 2);
    }
    return turns;
  }

  /** How busy a server keeps the GPU alone, by what it had beside others where it was never alone; undefined while too little was seen. */
  #wantedRatio(server: string): number | undefined {
    const alone = this.busyRatio(server);
    const beside = this.#beside.get(server);
    if (alone !== undefined || beside === undefined || beside.nanos < neededNanos) return alone;
    return beside.busyNanos / beside.nanos;
  }

  /** How busy a server keeps the GPU alone; undefined while too little was seen. */
  busyRatio(server: string): number | undefined {
    const known = this.#alone.get(server);
    if (known === undefined || known.nanos < neededNanos || known.busyNanos <= 0) return undefined;
    return Math.min(1, known.busyNanos / known.nanos);
  }

  /** Returns the watts of each of `servers`, the mean of the known ones for the others; undefined when none is known. */
  weights(servers: Iterable<string>): ReadonlyMap<string, number> | undefined {
    const all = [...servers];
    const known = all.flatMap((server) => this.watts(server) ?? []);
    if (known.length === 0) return undefined;
    const mean = known.reduce((sum, watts) => sum + watts, 0) / known.length;
    const weights = new Map(all.map((server) => [server, this.watts(server) ?? mean]));
    return [...weights.values()].some((watts) => watts > 0) ? weights : undefined;
  }
}
