// Proves a ledger: the audit chain, the seals of closed buckets, rollups against rows, running totals against bookings.
// Reads only, and may run beside the agent. Every problem says where it is, down to the row; a rewritten history that
// is consistent in itself is found with `--against`, a file of heads that left the host earlier.
import type { DatabaseSync } from "node:sqlite";
import { BucketHash, chainHash, chainStart, checkOf } from "./digests.ts";
import { openReadOnly } from "./read-only.ts";
import { bucketsPerDay, rollupDigest } from "./rollups.ts";
import { rowsWait } from "./settle.ts";
import { ExcusedTime, timeProblems } from "./verify-time.ts";
import { LedgerWriter } from "./writer.ts";

/** Something that does not fit. */
export interface LedgerProblem {
  /** The record, bucket, day, series or state it is in. */
  readonly where: string;
  readonly message: string;
}

/** The chain's length and last hash, or how that began, at some moment. */
export interface ChainHead {
  readonly length: number;
  readonly hash: string;
}

/** What was read and what did not fit; sound when `problems` is empty. */
export interface Verdict {
  readonly records: number;
  readonly buckets: number;
  readonly rows: number;
  readonly days: number;
  readonly series: number;
  readonly head: ChainHead;
  readonly problems: readonly LedgerProblem[];
  /** What is as it should be now, and worth knowing. */
  readonly notes: readonly string[];
}

/** What is checked one after the other. */
const CHECKS = 8;
const problemsMax = 100;
const rowsShownMax = 20;

/** Is told how far the work is, 0 to 1, and what is read now. */
export type VerifyProgress = (share: number, what: string) => void;

/** Reads a whole ledger file. Throws only when it cannot be opened at all. */
export function verifyLedger(
  path: string,
  against: readonly ChainHead[] = [],
  progress: VerifyProgress = () => {},
): Verdict {
  const { close, database } = openReadOnly(path);
  try {
    return new Verifier(database, progress).run(against);
  } finally {
    close();
  }
}

class Verifier {
  readonly #database: DatabaseSync;
  readonly #problems: LedgerProblem[] = [];
  readonly #sealed = new Map<string, string>();
  readonly #rollups = new Map<number, string>();
  readonly #hashes: string[] = [];
  readonly #excused = new ExcusedTime();
  readonly #notes: string[] = [];
  readonly #rowsWait: boolean;
  readonly #progress: VerifyProgress;
  #rows = 0;
  #steps = 0;

  constructor(database: DatabaseSync, progress: VerifyProgress) {
    this.#database = database;
    this.#progress = progress;
    this.#rowsWait = rowsWait(database);
  }

  run(against: readonly ChainHead[]): Verdict {
    const counts = { buckets: 0, days: 0, series: 0 };
    // A damaged page may stop any of these; what can still be read is read.
    this.#guarded("file", () => this.#integrity());
    this.#guarded("audit record", () => this.#chain());
    this.#guarded("buckets", () => (counts.buckets = this.#buckets()));
    this.#guarded("rows", () => this.#countRows());
    this.#guarded("days", () => (counts.days = this.#days()));
    this.#guarded("series", () => (counts.series = this.#series()));
    this.#guarded("state", () => this.#state());
    if (!this.#rowsWait) this.#guarded("time", () => this.#time());
    for (const head of against) this.#against(head);
    const head = { length: this.#hashes.length, hash: this.#hashes.at(-1) ?? "" };
    return {
      records: head.length,
      rows: this.#rows,
      ...counts,
      head,
      problems: this.#problems,
      notes: this.#notes,
    };
  }

  #integrity(): void {
    for (const row of this.#database.prepare("PRAGMA integrity_check(20)").all()) {
      const found = String(row["integrity_check"]);
      if (found !== "ok") this.#report("file", found);
    }
  }

  #chain(): void {
    const records = Number(
      this.#database.prepare("SELECT max(sequence) AS last FROM audit").get()?.["last"] ?? 1,
    );
    let previous = chainStart;
    let expected = 1;
    const rows = this.#database.prepare("SELECT sequence, at, kind, body, hash FROM audit ORDER BY sequence");
    for (const row of rows.iterate()) {
      const [sequence, at, kind, body] = [
        Number(row["sequence"]),
        String(row["at"]),
        String(row["kind"]),
        String(row["body"]),
      ];
      const where = `audit record ${sequence} (${kind})`;
      if (sequence !== expected)
        this.#report(where, `follows record ${expected - 1}: records between are missing`);
      const hash = String(row["hash"]);
      const entry = { at, kind: kind as "close", body: {} };
      if (chainHash(previous, sequence, entry, body) !== hash)
        this.#report(where, "does not fit the chain: it or its hash was changed");
      previous = hash;
      expected = sequence + 1;
      this.#hashes.push(hash);
      this.#within(sequence / records, `audit record ${sequence} of ${records}`);
      this.#remember(kind, body);
      this.#excused.read(kind, at, body);
    }
  }

  #time(): void {
    for (const { board, bucket, message } of timeProblems(this.#database, this.#excused.stretches)) {
      this.#report(`bucket ${bucketName(bucket)}, GPU ${board}`, message);
    }
  }

  #remember(kind: string, body: string): void {
    if (kind !== "close" && kind !== "revision" && kind !== "rollup") return;
    try {
      const record = JSON.parse(body) as {
        bucket?: number;
        revision?: number;
        day?: number;
        digest?: string;
      };
      if (kind === "rollup") this.#rollups.set(record.day ?? -1, record.digest ?? "");
      else this.#sealed.set(`${record.bucket} ${record.revision}`, record.digest ?? "");
    } catch {
      // Reported by the chain already.
    }
  }

  #buckets(): number {
    const writer = new LedgerWriter(this.#database);
    const latest = this.#database.prepare(
      "SELECT bucket, max(revision) AS revision, digest, checks FROM buckets GROUP BY bucket ORDER BY bucket",
    );
    let count = 0;
    const all = latest.all();
    for (const [place, sealed] of all.entries()) {
      this.#within(place / all.length, `bucket ${place + 1} of ${all.length}`);
      // Opened again by a step of the clock, and not ended once more yet.
      if (sealed["digest"] === "") continue;
      count++;
      const bucket = Number(sealed["bucket"]);
      const where = `bucket ${bucketName(bucket)}`;
      const rows = [...writer.digestRows(bucket)];
      const hash = new BucketHash(bucket);
      for (const row of rows) hash.add(row);
      const { digest, checks } = hash.end();
      const recorded = this.#sealed.get(`${bucket} ${sealed["revision"]}`);
      if (recorded !== String(sealed["digest"]))
        this.#report(where, "its seal is not the one in the audit record");
      if (digest === recorded) continue;
      const kept = sealed["checks"] as Uint8Array;
      this.#report(where, `its rows do not fit the seal (${kept.length / 2} sealed, ${rows.length} found)`);
      let shown = 0;
      for (const [index, row] of rows.entries()) {
        if (checks[2 * index] === kept[2 * index] && checks[2 * index + 1] === kept[2 * index + 1]) continue;
        if (shown++ < rowsShownMax)
          this.#report(`${where}, ${this.#name(row.series)}`, `was changed: reads ${row.value}`);
      }
    }
    return count;
  }

  #countRows(): void {
    this.#rows = Number(this.#database.prepare("SELECT count(*) AS rows FROM rows").get()?.["rows"]);
  }

  #days(): number {
    const writer = new LedgerWriter(this.#database);
    const pruned = Number(writer.meta("prunedDay") ?? -1);
    const days = this.#database.prepare("SELECT DISTINCT day FROM days ORDER BY day").all();
    for (const [place, { day: found }] of days.entries()) {
      this.#within(place / days.length, `day ${place + 1} of ${days.length}`);
      const day = Number(found);
      const where = `rollup of ${new Date(day * 86_400_000).toISOString().slice(0, 10)}`;
      if (this.#rollups.get(day) !== rollupDigest(this.#database, day))
        this.#report(where, "does not fit its digest in the audit record");
      if (day > pruned) this.#compareDay(day, where);
    }
    return days.length;
  }

  #compareDay(day: number, where: string): void {
    const differing = this.#database.prepare(`
      SELECT d.series AS series, d.amount AS rolled, coalesce(s.amount, 0) AS summed FROM days d LEFT JOIN
        (SELECT series, sum(amount) AS amount FROM rows WHERE bucket >= ? AND bucket < ? GROUP BY series) s
      ON s.series = d.series WHERE d.day = ? AND d.amount IS NOT NULL AND d.amount <> coalesce(s.amount, 0)`);
    differing.setReadBigInts(true);
    for (const row of differing.iterate(day * bucketsPerDay, (day + 1) * bucketsPerDay, day)) {
      this.#report(
        `${where}, ${this.#name(Number(row["series"]))}`,
        `says ${row["rolled"]}, its rows sum to ${row["summed"]}`,
      );
    }
  }

  /** A running total is what was booked: what is carried for pruned rollups and revisions, rollups kept, rows. */
  #series(): number {
    const pruned = Number(new LedgerWriter(this.#database).meta("prunedDay") ?? -1);
    const statement = this.#database.prepare(`
      SELECT s.id AS id, s.metric AS metric, s.dimensions AS dimensions, s."check" AS "check", s.total AS total, s.histogram AS histogram, s.live AS live, s.role AS role,
        s.carried
        + coalesce((SELECT sum(amount) FROM days d WHERE d.series = s.id AND d.day <= ?), 0)
        + coalesce(r.amount, 0) AS booked
      FROM series s LEFT JOIN (
        SELECT series, sum(amount) AS amount FROM rows GROUP BY series) r ON r.series = s.id`);
    statement.setReadBigInts(true);
    let [count, waiting] = [0, 0];
    for (const row of statement.iterate(pruned)) {
      count++;
      const where = this.#name(Number(row["id"]));
      if (checkOf(String(row["metric"]), String(row["dimensions"])) !== row["check"]) {
        this.#report(where, "its name was changed");
      }
      if (row["total"] === null && row["histogram"] === null) this.#report(where, "its total is missing");
      if (row["total"] === null || row["role"] === "exported" || row["total"] === row["booked"]) continue;
      if (this.#rowsWait && (row["total"] as bigint) > (row["booked"] as bigint)) {
        waiting++;
        continue;
      }
      this.#report(where, `its total says ${row["total"]}, its bookings sum to ${row["booked"]}`);
    }
    if (waiting > 0) {
      this.#notes.push(
        `totals of ${waiting} series are ahead of their rows: the disk was nearly full, rows wait in the agent's memory, or ` +
          "are booked at its next start",
      );
    }
    return count;
  }

  #state(): void {
    for (const row of this.#database.prepare(`SELECT key, value, "check" FROM state`).iterate()) {
      if (checkOf(String(row["key"]), String(row["value"])) === row["check"]) continue;
      this.#report(`state ${row["key"]}`, "does not fit its check");
    }
  }

  #against(head: ChainHead): void {
    if (head.length === 0) return;
    const found = this.#hashes[head.length - 1];
    if (head.hash !== "" && found?.startsWith(head.hash) === true) return;
    const seen = found === undefined ? `the chain ends at ${this.#hashes.length}` : `it reads ${found}`;
    this.#report(
      `audit record ${head.length}`,
      `left the host as ${head.hash}, ${seen}: the history was rewritten`,
    );
  }

  #name(series: number): string {
    const row = this.#database.prepare("SELECT metric, dimensions FROM series WHERE id = ?").get(series);
    return row === undefined ? `series ${series}` : `series ${series} ${row["metric"]} ${row["dimensions"]}`;
  }

  /** How far the present one of all checks is. */
  #within(share: number, what: string): void {
    this.#progress((this.#steps + share) / CHECKS, what);
  }

  #guarded(where: string, check: () => unknown): void {
    this.#within(0, where);
    try {
      check();
    } catch (error) {
      this.#report(where, `cannot be read: ${(error as Error).message}`);
    }
    this.#steps++;
  }

  #report(where: string, message: string): void {
    if (this.#problems.length < problemsMax) this.#problems.push({ where, message });
  }
}

/** A bucket by the instant it begins, as people and reports name it. */
function bucketName(bucket: number): string {
  return `${new Date(bucket * 900_000).toISOString().slice(0, 16)}Z`;
}
