// What belongs on the audit record: gaps of sources from start to end, energy counters that were reset or moved as no
// board can, restarts of servers the agent did not see, and what no destination got (METERING.md 7 and 8).
// Each kind is bounded: a source that flaps all day, or a counter that is wrong for ever, must not fill the record.

import type { Books } from "../meter/books.ts";
import type { Nanos, SettledInterval, UsageDispute } from "../model.ts";
import { BUCKET_NANOS } from "../model.ts";
import type { Clock } from "../platform/clock.ts";
import type { Loss } from "../store/spool/spool.ts";

/** A shorter gap is in `tokenwatt.gap_time` only. */
const GAP_NANOS = 5e9;
const NOTES_PER_HOUR = 24;
const HOUR_NANOS = 3600e9;
const QUARTER_NANOS = Number(BUCKET_NANOS);
const NAMES_MAX = 10_000;
const REASON_MAX = 200;

interface Source {
  hour: number;
  notes: number;
  skipped: number;
  /** A gap whose start is on record. */
  open: boolean;
}

interface Refused {
  since: Nanos;
  windows: number;
  millijoules: number;
}

/** Writes entries into the books; they are stored with the next beat. */
export class RecordKeeper {
  readonly #books: Books;
  readonly #clock: Clock;
  readonly #sources = new Map<string, Source>();
  readonly #refused = new Map<string, Refused>();
  readonly #energyResets = new Map<string, number>();

  constructor(books: Books, clock: Clock) {
    this.#books = books;
    this.#clock = clock;
  }

  /** A source fails at `at`, without a reading since `since`. */
  failing(source: string, since: Nanos, at: Nanos, reason: string): void {
    if (at - since < GAP_NANOS || this.#source(source, at).open) return;
    this.#source(source, at).open = this.#note(source, at, {
      from: this.#unix(since),
      why: reason.slice(0, REASON_MAX),
    });
  }

  /** A source that had no reading since `since` is read again. */
  recovered(source: string, since: Nanos, at: Nanos): void {
    if (at - since < GAP_NANOS) return;
    // The end of a gap whose start was written is written whatever the bound says: at most one for each start.
    const { open } = this.#source(source, at);
    this.#note(source, at, { from: this.#unix(since), to: this.#unix(at) }, open);
    this.#source(source, at).open = false;
  }

  /** A source is no longer read. */
  forget(source: string): void {
    this.#sources.delete(source);
  }

  /** A record of usage that changes what was booked, or contradicts it; a contradiction is counted too. */
  dispute(server: string, { corrects, id, kind }: UsageDispute, at: Nanos): void {
    const cut = (text: string): string => text.slice(0, REASON_MAX);
    const body = { server, record: cut(id), ...(corrects === undefined ? {} : { corrects: cut(corrects) }) };
    this.#books.noteAudit(kind === "conflict" ? "conflict" : "correction", at, {
      ...body,
      void: kind === "void",
    });
    if (kind !== "conflict") return;
    const dimensions = { "tokenwatt.source": `server:${server}`, "tokenwatt.reason": "conflict" };
    this.#books.ledger.bookPostings([{ metric: "tokenwatt.dropped", dimensions, amount: 1 }], at);
  }

  /** The server restarted while the agent was away: what it did between was never seen. */
  unmetered(server: string, at: Nanos): void {
    this.#books.noteAudit("unmetered", at, { server, why: "restarted while the agent was down" });
  }

  /**
   * Energy counters after an interval: `resets` counted since each board was found. One entry for each reset; of refused
   * windows the first at once, then one sum per board and quarter of an hour.
   */
  recordEnergy(
    interval: SettledInterval,
    resets: Readonly<Record<string, { readonly resets: number }>>,
  ): void {
    for (const [gpu, { resets: counted }] of Object.entries(resets)) {
      const more = counted - Math.min(counted, this.#energyResets.get(gpu) ?? 0);
      this.#energyResets.set(gpu, counted);
      if (more === 0) continue;
      this.#books.noteAudit("reset", interval.to, { gpu, counter: "energy", times: more });
      const dimensions = { "tokenwatt.source": `gpu:${gpu}` };
      const posting = { metric: "tokenwatt.counter_resets", dimensions, amount: more };
      this.#books.ledger.bookPostings([posting], interval.to);
    }
    for (const { gpu, rejectedMillijoules } of interval.gpus) {
      if (rejectedMillijoules > 0) this.#refuse(gpu, rejectedMillijoules, interval.to);
    }
    for (const [gpu, refused] of this.#refused) {
      if (interval.to - refused.since < QUARTER_NANOS) continue;
      if (refused.windows === 0) this.#refused.delete(gpu);
      else this.#noteRefused(gpu, refused, interval.to);
      Object.assign(refused, { since: interval.to, windows: 0, millijoules: 0 });
    }
  }

  #refuse(gpu: string, millijoules: number, at: Nanos): void {
    const known = this.#refused.get(gpu);
    if (known !== undefined) {
      known.windows++;
      known.millijoules += millijoules;
      return;
    }
    this.#refused.set(gpu, { since: at, windows: 0, millijoules: 0 });
    this.#noteRefused(gpu, { windows: 1, millijoules }, at);
  }

  #noteRefused(gpu: string, { millijoules, windows }: Omit<Refused, "since">, at: Nanos): void {
    this.#books.noteAudit("rejected", at, { gpu, counter: "energy", windows, millijoules });
  }

  #source(source: string, at: Nanos): Source {
    const hour = Math.floor(at / HOUR_NANOS);
    const known = this.#sources.get(source);
    if (known === undefined && this.#sources.size >= NAMES_MAX) this.#sources.clear();
    const kept = known ?? { hour, notes: 0, skipped: 0, open: false };
    if (known === undefined) this.#sources.set(source, kept);
    if (kept.hour !== hour) Object.assign(kept, { hour, notes: 0 });
    return kept;
  }

  #note(source: string, at: Nanos, body: Readonly<Record<string, unknown>>, always = false): boolean {
    const kept = this.#source(source, at);
    if (kept.notes >= NOTES_PER_HOUR && !always) {
      kept.skipped++;
      return false;
    }
    kept.notes++;
    this.#books.noteAudit("gap", at, {
      source,
      ...body,
      ...(kept.skipped === 0 ? {} : { skipped: kept.skipped }),
    });
    kept.skipped = 0;
    return true;
  }

  #unix(at: Nanos): string {
    return String(this.#clock.unixNanos(at));
  }
}

/** Reasons are a destination's own words; beyond so many kinds they are written as "other". */
const LOSS_KINDS_MAX = 200;

/** A loss, and of a refusal the destination's reason. */
export interface RecordedLoss extends Loss {
  readonly reason?: string;
}

interface LossKind {
  unwritten: RecordedLoss | undefined;
  writtenAt: Nanos;
}

/**
 * What did not reach a destination: from when to when, how much and why. The first loss of a kind is written with the next
 * beat, further ones as one sum per quarter of an hour: an outage that evicts all day must not fill the record.
 */
export class LossRecord {
  readonly #note: (at: Nanos, body: Readonly<Record<string, unknown>>) => void;
  readonly #kinds = new Map<string, LossKind>();

  constructor(note: (at: Nanos, body: Readonly<Record<string, unknown>>) => void) {
    this.#note = note;
  }

  /** Adds a loss to those of its kind. */
  addLoss(loss: RecordedLoss): void {
    const isKnown = this.#kinds.has(keyOf(loss)) || this.#kinds.size < LOSS_KINDS_MAX;
    const kept = isKnown ? loss : { ...loss, reason: "other" };
    const key = keyOf(kept);
    const kind = this.#kinds.get(key) ?? { unwritten: undefined, writtenAt: Number.NEGATIVE_INFINITY };
    kind.unwritten = kind.unwritten === undefined ? kept : together(kind.unwritten, kept);
    this.#kinds.set(key, kind);
  }

  /** Writes what is due; `all` also what is not: the agent stops. */
  writeDue(at: Nanos, all = false): void {
    for (const kind of this.#kinds.values()) {
      if (kind.unwritten === undefined || (!all && at - kind.writtenAt < QUARTER_NANOS)) continue;
      const { from, to, ...rest } = kind.unwritten;
      this.#note(at, { ...rest, from: String(from), to: String(to) });
      kind.unwritten = undefined;
      kind.writtenAt = at;
    }
  }
}

function keyOf({ destination, reason, why }: RecordedLoss): string {
  return [why, reason, destination].join(" ");
}

function together(a: RecordedLoss, b: RecordedLoss): RecordedLoss {
  const from = a.from < b.from ? a.from : b.from;
  const to = a.to > b.to ? a.to : b.to;
  return { ...b, from, to, records: a.records + b.records, points: a.points + b.points };
}
