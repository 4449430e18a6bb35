// A job on the ledger in small steps. SQLite runs on the main thread, so a job gives it back every few hundred rows, and
// never waits for the disk there: it asks for a sync, which a thread of libuv's pool makes, and goes on when it is done.
import { setImmediate } from "node:timers/promises";

/**
 * What a job wants before its next step: others to have their turn, a sign that the disk takes writes, or what was written to
 * a file of the ledger on the disk.
 */
export type Pause = "turn" | "disk" | "journal" | "file";

/** A job, which ends with its result. What cannot be synced is thrown into it. */
export type Steps<T> = Generator<Pause, T, undefined>;

/** Rows, of some 2 microseconds each, that are written in one step. */
const ROWS_A_STEP = 500;

/** Does something with each item, in steps of so many. */
export function* forEach<T>(
  items: Iterable<T>,
  run: (item: T) => void,
  itemsAStep = ROWS_A_STEP,
): Steps<void> {
  let done = 0;
  for (const item of items) {
    run(item);
    if (++done % itemsAStep === 0) yield "turn";
  }
}

/** Does something at each place of a column, in steps. */
export function* forEachPlace(length: number, run: (place: number) => void): Steps<void> {
  for (let place = 0; place < length; place++) {
    run(place);
    if ((place + 1) % ROWS_A_STEP === 0) yield "turn";
  }
}

/** Runs a job in one go, for those who have nothing else to do. Nothing is synced. */
export function runAtOnce<T>(steps: Steps<T>): T {
  let next = steps.next();
  while (next.done !== true) next = steps.next();
  return next.value;
}

/** Runs a job to its end between everything else that the main thread does. */
export async function runInTurns<T>(
  steps: Steps<T>,
  sync: (what: Exclude<Pause, "turn">) => Promise<void>,
): Promise<T> {
  let next = steps.next();
  while (next.done !== true) {
    try {
      await (next.value === "turn" ? setImmediate() : sync(next.value));
    } catch (error) {
      next = steps.throw(error);
      continue;
    }
    next = steps.next();
  }
  return next.value;
}
