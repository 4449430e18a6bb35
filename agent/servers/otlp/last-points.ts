// The last point of every pushed series, over restarts: what a cumulative value is counted from, and what time a delta
// must be newer than. Stored in rows of 64 series; a row is rewritten when one of its points moved.
// Points older than two days are not taken over, and cumulative series that began before then count from their next look;
// so do those of a series that was forgotten to make room.
import { createHash } from "node:crypto";
import type { Histogram } from "../../model.ts";
import { ReceiverMemory } from "../receive/memory.ts";

const SHARD = 64;
const KEPT_NANOS = 2 * 86_400 * 1e9;

/** The last point of a series, changed in place; `time` -1 = it never had one. */
export interface LastPoint {
  start: number;
  time: number;
  value: number;
  histogram: Histogram | undefined;
  readonly shard: Shard;
}

interface Shard {
  readonly number: number;
  readonly points: Map<string, LastPoint>;
}

/** What a series is known by: a hash, so that its attributes need not be kept. */
export function seriesId(name: string): string {
  return createHash("sha256").update(name).digest("base64url").slice(0, 16);
}

/** The last points of one receiver. */
export class LastPoints {
  /** Unix nanoseconds: of a cumulative series that began later nothing can have been missed. */
  opened: number;
  /** Unix nanoseconds: points up to then may be of series that were forgotten, counted before. */
  forgotten: number;
  readonly #memory: ReceiverMemory;
  readonly #byKey = new Map<string, LastPoint>();
  #shard: Shard = { number: 0, points: new Map() };

  /** `now`: unix nanoseconds. */
  constructor(now: number, memory: ReceiverMemory = new ReceiverMemory("")) {
    this.#memory = memory;
    const first = memory.restored("opened").map(({ value }) => Number(value))[0];
    this.opened = first === undefined || !(first <= now) ? now : Math.max(first, now - KEPT_NANOS);
    this.forgotten = memory.restored("forgotten").map(({ value }) => Number(value))[0] ?? 0;
    memory.set("opened", "", () => this.opened);
    for (const { name, value } of memory.restored("points")) {
      const shard: Shard = { number: Number(name), points: new Map() };
      for (const [key, start, time, amount, histogram] of value as [
        string,
        number,
        number,
        number,
        Histogram?,
      ][]) {
        if (time >= now - KEPT_NANOS) this.#put(shard, key, { start, time, value: amount, histogram });
      }
      if (shard.points.size === 0) memory.set("points", name, () => undefined);
      if (shard.number >= this.#shard.number) this.#shard = shard;
    }
  }

  /** The last point of the series of this id, new or known. */
  of(key: string): LastPoint {
    const known = this.#byKey.get(key);
    if (known !== undefined) return known;
    if (this.#shard.points.size >= SHARD) this.#shard = { number: this.#shard.number + 1, points: new Map() };
    return this.#put(this.#shard, key, { start: -1, time: -1, value: 0, histogram: undefined });
  }

  /** Gives a series without a point the last one of `former`, which an earlier run remembered under another name. */
  adopt(former: string, key: string): void {
    const known = this.#byKey.get(former);
    if (known === undefined || this.#byKey.has(key)) return;
    this.#byKey.delete(former);
    known.shard.points.delete(former);
    known.shard.points.set(key, known);
    this.#byKey.set(key, known);
    this.moved(known);
  }

  /** Says that a point was changed. */
  moved({ shard }: LastPoint): void {
    this.#memory.set("points", String(shard.number), () => {
      const points = [...shard.points].flatMap(([key, { start, time, value, histogram }]) =>
        time === -1 ? [] : [[key, start, time, value, ...(histogram === undefined ? [] : [histogram])]],
      );
      return points.length === 0 ? undefined : points;
    });
  }

  /** Forgets a series. What is not newer than its last point counts no more, whoever sends it. */
  forget(key: string): void {
    const known = this.#byKey.get(key);
    if (known === undefined) return;
    this.#byKey.delete(key);
    known.shard.points.delete(key);
    this.moved(known);
    if (known.time <= this.forgotten) return;
    this.forgotten = known.time;
    this.opened = Math.max(this.opened, known.time);
    this.#memory.set("forgotten", "", () => this.forgotten);
    this.#memory.set("opened", "", () => this.opened);
  }

  #put(shard: Shard, key: string, point: Omit<LastPoint, "shard">): LastPoint {
    const last = { ...point, shard };
    shard.points.set(key, last);
    this.#byKey.set(key, last);
    return last;
  }
}
