// Whether every second of every GPU is in a state: the states of a board fill each bucket between its first and its last.
// Left out are buckets of which the record says why they are not full: the host was off, the clock was stepped, GPUs came
// or went, an older copy was brought back, bookings waited for room.
import type { DatabaseSync } from "node:sqlite";
import { BUCKET_NANOS } from "../../model.ts";

/** Rounding of shares under MIG, over a bucket of intervals. */
const TOLERANCE_NANOS = 1_000_000n;
/** What waited for room may be booked this many buckets later than it happened. */
const WAITED_BUCKETS = 192n;

/** A stretch of unix nanoseconds about which nothing is claimed. */
type Stretch = readonly [from: bigint, to: bigint];

/** Time of a board that is not as it must be. */
export interface TimeProblem {
  readonly board: string;
  readonly bucket: number;
  readonly message: string;
}

/** What the audit record excuses, record by record. */
export class ExcusedTime {
  readonly stretches: Stretch[] = [];
  readonly #goneSince = new Map<string, bigint>();

  /** Takes in the next record. */
  read(kind: string, at: string, body: string): void {
    const stretch = excusedStretch(kind, at, body);
    if (stretch !== undefined) this.stretches.push(stretch);
    if (kind !== "gpus") return;
    const { come = [], gone = [] } = JSON.parse(body) as {
      readonly come?: string[];
      readonly gone?: string[];
    };
    for (const gpu of gone) this.#goneSince.set(gpu, BigInt(at));
    for (const gpu of come) {
      const since = this.#goneSince.get(gpu);
      if (since !== undefined) this.stretches.push([since, BigInt(at)]);
    }
  }
}

/** The stretch an audit record excuses; undefined for one that excuses nothing. */
function excusedStretch(kind: string, at: string, body: string): Stretch | undefined {
  try {
    const record = JSON.parse(body) as Record<string, unknown>;
    const nanos = (key: string): bigint => BigInt(String(record[key]));
    const instant = BigInt(at);
    if (kind === "gpus") return [instant - BUCKET_NANOS, instant + BUCKET_NANOS];
    if (kind === "restore") return [nanos("committed") - BUCKET_NANOS, instant + BUCKET_NANOS];
    if (kind === "clock_step" && typeof record["stored"] === "string") {
      return [nanos("found") - BUCKET_NANOS, nanos("stored") + BUCKET_NANOS];
    }
    if (kind === "clock_step") {
      const off = BigInt(Math.round(Math.abs(Number(record["seconds"])) * 1e9)) + BUCKET_NANOS;
      return [instant - off, instant + off];
    }
    if (kind !== "gap") return undefined;
    if (record["why"] === "host off") return [nanos("from") - BUCKET_NANOS, nanos("to") + BUCKET_NANOS];
    if (typeof record["bucket"] !== "number") return undefined;
    const bucket = BigInt(record["bucket"]);
    return [(bucket - WAITED_BUCKETS) * BUCKET_NANOS, (bucket + 1n) * BUCKET_NANOS];
  } catch {
    return undefined;
  }
}

/** Buckets whose states do not sum to their length. */
export function* timeProblems(database: DatabaseSync, excused: readonly Stretch[]): Generator<TimeProblem> {
  const statement = database.prepare(`
    SELECT r.bucket AS bucket, sum(r.amount) AS nanos,
      coalesce(json_extract(s.dimensions, '$."hw.parent"'), json_extract(s.dimensions, '$."hw.id"')) AS board
    FROM rows r JOIN series s ON s.id = r.series
    WHERE s.metric = 'tokenwatt.gpu.time' GROUP BY board, bucket ORDER BY board, bucket`);
  statement.setReadBigInts(true);
  const isExcused = (bucket: bigint): boolean => {
    const [from, to] = [bucket * BUCKET_NANOS, (bucket + 1n) * BUCKET_NANOS];
    return excused.some((stretch) => stretch[0] < to && from < stretch[1]);
  };
  let before:
    | { readonly board: string; readonly bucket: bigint; readonly nanos: bigint; isFirst: boolean }
    | undefined;
  for (const row of statement.iterate()) {
    const [board, bucket, nanos] = [String(row["board"]), row["bucket"] as bigint, row["nanos"] as bigint];
    const follows = before?.board === board ? before : undefined;
    if (follows !== undefined && !follows.isFirst && !isExcused(follows.bucket)) {
      const off = follows.nanos - BUCKET_NANOS;
      if (off > TOLERANCE_NANOS || off < -TOLERANCE_NANOS) yield unequal(board, follows.bucket, off);
    }
    for (let missing = (follows?.bucket ?? bucket) + 1n; missing < bucket; missing++) {
      if (isExcused(missing)) continue;
      yield { board, bucket: Number(missing), message: "is in no state for the whole bucket" };
      break;
    }
    before = { board, bucket, nanos, isFirst: follows === undefined };
  }
}

function unequal(board: string, bucket: bigint, off: bigint): TimeProblem {
  const seconds = (Number(off < 0n ? -off : off) / 1e9).toFixed(3);
  const message = off < 0n ? `${seconds} s are in no state` : `its states sum to ${seconds} s too much`;
  return { board, bucket: Number(bucket), message };
}
