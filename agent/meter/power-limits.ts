// Which enforced power limit seconds, joules and tokens count under, so that a report can tell tokens per joule by cap.
// Both sides of that figure must be of the same subjects (METERING.md 1.6): GPUs that a server holds together count under a
// limit only while all of them have the same one; else they, and every server on them, count under none.
import type { GpuInfo, Nanos, SettledInterval } from "../model.ts";

/** Intervals settle within half a minute: of more changes than these in it the oldest are forgotten. */
const changesMax = 64;
const gpusMax = 1024;

/** The attribute of the ledger's rows; no exported series carries it. */
export const powerLimitKey = "tokenwatt.power_limit";

/** What is known of the GPUs of an interval and their limits. */
export interface LimitFacts {
  readonly gpus: ReadonlyMap<string, GpuInfo>;
  /** The enforced power limit of a GPU at an instant, in watts; absent = none is known. */
  readonly powerLimit?: (gpu: string, at: Nanos) => number | undefined;
}

/** What was read of each GPU's limit, and when: an interval is booked after its limit may have changed again. */
export class PowerLimits {
  readonly #changes = new Map<string, { readonly at: Nanos; readonly watts: number }[]>();

  /** Takes a limit as read at `at`. */
  noteLimit(gpu: string, limitWatts: number, at: Nanos): void {
    const changes = this.#changes.get(gpu) ?? [];
    const [last, watts] = [changes.at(-1), Math.round(limitWatts)];
    if (!Number.isFinite(watts) || last?.watts === watts) return;
    changes.push({ at: Math.max(at, last?.at ?? at), watts });
    if (changes.length > changesMax) changes.shift();
    this.#changes.set(gpu, changes);
    const [oldest] = this.#changes.keys();
    if (this.#changes.size > gpusMax && oldest !== undefined) this.#changes.delete(oldest);
  }

  /** The limit in force at an instant, in whole watts; undefined where none was read by then. */
  limitAt(gpu: string, at: Nanos): number | undefined {
    return this.#changes.get(gpu)?.findLast((change) => change.at <= at)?.watts;
  }
}

/** What rows of an interval carry more than what is exported; undefined where no one limit is known. */
export class LimitSets {
  readonly #gpus = new Map<string, string | undefined>();
  readonly #held = new Map<string, readonly string[]>();

  /** `homes`: the GPUs of each server, as last seen. */
  constructor(
    interval: SettledInterval,
    homes: ReadonlyMap<string, readonly string[]>,
    { gpus: infos, powerLimit }: LimitFacts,
  ) {
    const hold = (server: string): void => {
      const gpus = homes.get(server);
      // Processes of nobody in particular do not belong together.
      if (gpus !== undefined && server !== "unmetered") this.#held.set(server, gpus);
    };
    const note = (gpu: string): void => {
      if (this.#gpus.has(gpu)) return;
      // A MIG instance is held to its board's limit.
      const watts =
        powerLimit?.(infos.get(gpu)?.parent ?? gpu, interval.to) ?? powerLimit?.(gpu, interval.to);
      this.#gpus.set(gpu, watts === undefined ? undefined : String(watts));
    };
    for (const { gpu, residents } of interval.gpus) {
      note(gpu);
      for (const { server } of residents) hold(server);
    }
    for (const { increments, server } of interval.servers) if (increments.length > 0) hold(server);
    for (const gpus of this.#held.values()) for (const gpu of gpus) note(gpu);
    while (this.#partOne());
  }

  /** Of a GPU's seconds and joules, whoever they are given to: the value of `powerLimitKey`. */
  ofGpu(gpu: string): string | undefined {
    return this.#gpus.get(gpu);
  }

  /** Of a server's tokens. */
  ofServer(server: string): string | undefined {
    const [gpu] = this.#held.get(server) ?? [];
    return gpu === undefined ? undefined : this.ofGpu(gpu);
  }

  /** Whether GPUs held together were under several limits, and count under none from here on. */
  #partOne(): boolean {
    for (const gpus of this.#held.values()) {
      const [first = ""] = gpus;
      const watts = this.#gpus.get(first);
      if (gpus.every((gpu) => this.#gpus.get(gpu) === watts)) continue;
      for (const gpu of gpus) this.#gpus.set(gpu, undefined);
      return true;
    }
    return false;
  }
}
