// Which record of the spool a destination gets next: live ones at once, old ones thinned and at a measured pace.
// An outage ends for many hosts in the same second: ten times the live rate at most, begun at a random moment.
import type { UnixNanos } from "../../model.ts";
import type { Spool, SpoolHeader } from "../../store/spool/spool.ts";
import { isSuperseded, THIN_AFTER_MS } from "../../store/spool/spool.ts";

/** How a destination takes what it missed; see `export.otlp.backlog`. */
export type BacklogMode = "strict" | "parallel" | "skip";

/** How a backlog is thinned and how fast it is sent. */
export interface BacklogLimits {
  /** Older records are thinned to the last of each minute. */
  readonly thinAfterMs: number;
  /** Backlog points per second, as a multiple of the live rate. */
  readonly drainTimesLive: number;
  /** A drain begins at a random moment within this time after the destination is back. */
  readonly jitterMs: number;
}

/** The limits in force unless a test brings others. */
export const BACKLOG_LIMITS: BacklogLimits = {
  thinAfterMs: THIN_AFTER_MS,
  drainTimesLive: 10,
  jitterMs: 300_000,
};

/** A record to send now, or at `notBefore`. */
export interface Next {
  readonly header: SpoolHeader;
  /** Live records advance only the live position where backlog and live run side by side. */
  readonly live: boolean;
}

/** Reads one destination's way through the spool. Nothing here waits or sends. */
export class Backlog {
  readonly #spool: Spool;
  readonly #destination: string;
  readonly #mode: BacklogMode;
  readonly #limits: BacklogLimits;
  /** Ranges sent live beside the backlog, ascending, disjoint. */
  #ahead: { from: number; to: number }[] = [];
  /** A drain may go on from this agent time on. */
  #pausedUntil: UnixNanos = 0n;
  #thinned = 0;
  #skippedPoints = 0;

  constructor(spool: Spool, destination: string, mode: BacklogMode, limits: BacklogLimits) {
    this.#spool = spool;
    this.#destination = destination;
    this.#mode = mode;
    this.#limits = limits;
  }

  /** Records left out because a later one of the same minute says as much, and points given up in mode skip. */
  get counts(): { thinnedRecords: number; skippedPoints: number } {
    return { thinnedRecords: this.#thinned, skippedPoints: this.#skippedPoints };
  }

  /**
   * The record to send next, or how long to wait for one that is held back, or undefined when nothing is left.
   * `urgent` ignores pace and jitter: the agent is stopping.
   */
  async next(now: UnixNanos, urgent: boolean): Promise<Next | { waitMs: number } | undefined> {
    let position = this.#spool.position(this.#destination);
    for (;;) {
      const header = this.#spool.peek(position);
      if (header === undefined) return undefined;
      const ahead = this.#ahead[0];
      if (ahead !== undefined && header.sequence >= ahead.from) {
        if (header.sequence <= ahead.to) position = await this.#pass(ahead.to);
        if (position >= ahead.to) this.#ahead.shift();
        continue;
      }
      const old = this.#isOld(header, now);
      if (old && this.#mode === "skip") {
        this.#skippedPoints += header.points;
        await this.#spool.abandon(this.#destination, header);
        position = header.sequence;
      } else if (old && isSuperseded(header, (after) => this.#spool.peek(after))) {
        this.#thinned++;
        position = await this.#pass(header.sequence);
      } else if (old && !urgent && now < this.#pausedUntil) {
        const live = this.#mode === "parallel" ? this.#live(now) : undefined;
        return live ?? { waitMs: Number(this.#pausedUntil - now) / 1e6 };
      } else if (old && this.#mode === "parallel") {
        return this.#live(now) ?? { header, live: false };
      } else {
        return { header, live: false };
      }
    }
  }

  /** Called when a record was dealt with: sent, parked or given up. */
  async done(next: Next, now: UnixNanos): Promise<void> {
    const { header } = next;
    if (next.live) {
      const last = this.#ahead.at(-1);
      if (last !== undefined && last.to === header.sequence - 1) last.to = header.sequence;
      else this.#ahead.push({ from: header.sequence, to: header.sequence });
      return;
    }
    await this.#pass(header.sequence);
    if (!this.#isOld(header, now)) return;
    const perSecond = this.#livePointsPerSecond() * this.#limits.drainTimesLive;
    const pause = perSecond > 0 ? BigInt(Math.ceil((header.points / perSecond) * 1e9)) : 0n;
    const from = this.#pausedUntil > now - 1_000_000_000n ? this.#pausedUntil : now;
    this.#pausedUntil = from + pause;
  }

  /** The destination answers again after an outage: `share` (0-1) of the jitter passes before old records flow. */
  resumed(now: UnixNanos, share: number): void {
    const header = this.#spool.peek(this.#spool.position(this.#destination));
    if (header === undefined || !this.#isOld(header, now)) return;
    const until = now + BigInt(Math.floor(share * this.#limits.jitterMs)) * 1_000_000n;
    if (until > this.#pausedUntil) this.#pausedUntil = until;
  }

  #pass(sequence: number): Promise<number> {
    return this.#spool.acknowledge(this.#destination, sequence).then(() => sequence);
  }

  #isOld(header: SpoolHeader, now: UnixNanos): boolean {
    return now - header.time > BigInt(this.#limits.thinAfterMs) * 1_000_000n;
  }

  /** The oldest record young enough to be live that was not sent yet. */
  #live(now: UnixNanos): Next | undefined {
    // What was left behind by an outage since the last live record is backlog by now.
    const from = Math.max(this.#ahead.at(-1)?.to ?? 0, this.#firstYoung(now) - 1);
    const header = this.#spool.peek(from);
    return header === undefined ? undefined : { header, live: true };
  }

  /** Sequence of the first record that is not old, by bisection. */
  #firstYoung(now: UnixNanos): number {
    let low = this.#spool.position(this.#destination);
    let high = this.#spool.head();
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      const header = this.#spool.peek(middle);
      if (header !== undefined && this.#isOld(header, now)) low = Math.max(middle + 1, header.sequence);
      else high = middle;
    }
    return low + 1;
  }

  /**
   * Points of the newest beat over the time since the one before. After a day switched off that time says nothing: it
   * counts as no longer than the oldest record that is still live.
   */
  #livePointsPerSecond(): number {
    const longest = this.#limits.thinAfterMs / 1000;
    const newest = this.#spool.peek(this.#spool.head() - 1);
    if (newest === undefined) return 0;
    let points = 0;
    for (let sequence = newest.sequence; ; sequence--) {
      const header = this.#spool.peek(sequence - 1);
      if (header?.sequence !== sequence) return points / longest;
      const seconds = Number(newest.time - header.time) / 1e9;
      if (seconds !== 0) return points / Math.min(longest, Math.max(1, seconds));
      points += header.points;
    }
  }
}
