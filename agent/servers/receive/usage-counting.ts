// Usage records by (source, id): which is new, which was counted, which corrects or contradicts another.
// What was counted is found on disk, so that its number is not bounded by memory; only records that no commit has taken
// yet are held here. Where that bound is reached callers are asked to send again (UNAVAILABLE with RetryInfo).
import { createHash } from "node:crypto";
import type { Clock } from "../../platform/clock.ts";
import type { CountedUsage } from "../../source.ts";
import type { ReceiverMemory } from "./memory.ts";
import { retryLater } from "./recorder.ts";
import type { Usage, UsageTotals } from "./usage-totals.ts";
import { amountMax } from "./usage-totals.ts";

const DAY_NANOS = 86_400n * 1_000_000_000n;
const WINDOW_NANOS = 35n * DAY_NANOS;
const FUTURE_NANOS = 600n * 1_000_000_000n;
/** Records that were counted and are not on disk yet; over it callers are asked to wait. */
const PENDING_MAX = 100_000;
/** Without a disk every id of 35 days is one of these. */
const PENDING_MAX_IN_MEMORY = 200_000;

/** A record as it was sent. */
export interface UsageRecord {
  readonly id: string;
  readonly endTime: bigint;
  /** Id of the record this one replaces; empty = none. */
  readonly corrects: string;
  readonly isVoid: boolean;
  readonly usage: Usage;
}

const contradiction = "its id was counted with other content; to change that, send a record that corrects it";

/** What counting needs of its receiver. */
export interface UsageCountingParts {
  readonly totals: UsageTotals;
  readonly clock: Pick<Clock, "now" | "unixNanos">;
  readonly memory: ReceiverMemory;
  /** Where counted records are found once they are committed; absent = they are kept in memory. */
  readonly stored?: CountedUsage | undefined;
  /** Refuses corrections: what an engine made cannot be taken back. */
  readonly isEngine?: boolean;
  /** Records that may wait; tests bring fewer. */
  readonly pendingMax?: number;
}

/** A counted record as it is remembered: enough to know it again, and to take it back. */
interface Counted {
  readonly endTime: string;
  readonly usage: Usage;
  /** Id of the record that replaced it. */
  readonly replacedBy?: string;
}

/** Decides for every record whether it is new, known, a correction or a contradiction. */
export class UsageCounting {
  readonly #parts: UsageCountingParts;
  readonly #pending = new Map<string, { readonly content: string; readonly until: number }>();

  constructor(parts: UsageCountingParts) {
    this.#parts = parts;
  }

  /** Counts the records of one call. `onRecorded` must be called once they are on disk. Throws where the caller must wait. */
  async count(
    source: string,
    records: readonly UsageRecord[],
  ): Promise<{ readonly answer: Answer; readonly onRecorded: () => void }> {
    const { clock, stored } = this.#parts;
    const now = clock.unixNanos(clock.now());
    const keys = records.flatMap(({ corrects, id }) =>
      [id, corrects].filter((one) => one !== "").map((one) => keyOf(source, one)),
    );
    const wanted = keys.filter((key) => !this.#pending.has(key));
    const found = (wanted.length === 0 ? undefined : await stored?.find(wanted)) ?? new Map<string, string>();
    // From here to the end nothing else runs: a record sent twice at a time is counted by one of the two calls.
    this.#makeRoom(now, records.length);
    const answer = { accepted: 0, duplicates: 0, conflicts: 0, refused: [] as Refused[] };
    for (const record of records) this.#count(record, source, now, found, answer);
    const own = new Set(keys);
    const onRecorded = (): void => {
      if (stored !== undefined) for (const key of own) this.#pending.delete(key);
    };
    return { answer, onRecorded };
  }

  #count(
    record: UsageRecord,
    source: string,
    now: bigint,
    found: ReadonlyMap<string, string>,
    answer: Answer,
  ): void {
    const { corrects, endTime, id, isVoid, usage } = record;
    const known = (one: string): Counted | undefined => {
      const content = this.#pending.get(keyOf(source, one))?.content ?? found.get(keyOf(source, one));
      return content === undefined ? undefined : (JSON.parse(content) as Counted);
    };
    const reason = refusal(record, now);
    if (reason !== undefined) {
      answer.refused.push({ id, reason });
      return;
    }
    const content: Counted & { readonly corrects?: string } = {
      endTime: String(endTime),
      usage: isVoid ? {} : usage,
      ...(corrects === "" ? {} : { corrects }),
    };
    const before = known(id);
    if (before !== undefined) {
      const { replacedBy: _, ...same } = before;
      if (JSON.stringify(same) === JSON.stringify(content)) answer.duplicates++;
      else {
        answer.conflicts++;
        this.#parts.totals.noteDispute({ kind: "conflict", id });
        answer.refused.push({ id, reason: contradiction });
      }
      return;
    }
    if (corrects !== "") {
      const original = known(corrects);
      const problem = this.#cannotCorrect(corrects, original);
      if (original === undefined || problem !== undefined) {
        answer.refused.push({ id, reason: problem ?? "" });
        return;
      }
      const taken = { ...original.usage, endTime: BigInt(original.endTime), takesBack: true };
      this.#parts.totals.addUsage(taken);
      this.#remember(source, corrects, { ...original, replacedBy: id });
      this.#parts.totals.noteDispute({ kind: isVoid ? "void" : "correction", id, corrects });
    }
    answer.accepted++;
    if (!isVoid) this.#parts.totals.addUsage({ ...usage, endTime });
    this.#remember(source, id, content);
  }

  #cannotCorrect(id: string, original: Counted | undefined): string | undefined {
    if (this.#parts.isEngine === true) return "tokens of an engine cannot be taken back (family: engine)";
    if (original === undefined) return `no record ${JSON.stringify(id)} was counted in the last 35 days`;
    if (original.replacedBy === undefined) return undefined;
    return `record ${JSON.stringify(id)} was corrected by ${JSON.stringify(original.replacedBy)} already`;
  }

  #remember(source: string, id: string, counted: Counted): void {
    const key = keyOf(source, id);
    const until = Number((BigInt(counted.endTime) + WINDOW_NANOS + FUTURE_NANOS) / 1_000_000_000n);
    const content = JSON.stringify(counted);
    this.#pending.set(key, { content, until });
    if (this.#parts.stored !== undefined) this.#parts.memory.setCounted(key, until, content);
  }

  /** Throws what asks the caller to wait where no more records can be told apart from later ones. */
  #makeRoom(now: bigint, records: number): void {
    const bound = this.#parts.stored === undefined ? PENDING_MAX_IN_MEMORY : PENDING_MAX;
    const most = this.#parts.pendingMax ?? bound;
    if (this.#pending.size + records <= most) return;
    const seconds = Number(now / 1_000_000_000n);
    if (this.#parts.stored === undefined) {
      for (const [key, { until }] of this.#pending) if (until < seconds) this.#pending.delete(key);
    }
    if (this.#pending.size + records > most) throw retryLater("too many records wait to be stored");
  }
}

interface Refused {
  readonly id: string;
  readonly reason: string;
}

/** What became of the records of one call. */
export interface Answer {
  accepted: number;
  duplicates: number;
  conflicts: number;
  readonly refused: Refused[];
}

/** 128 bits: of a billion ids two are the same but for one chance in 10^20. */
function keyOf(source: string, id: string): string {
  return createHash("sha256").update(`${source.length} ${source}${id}`).digest("hex").slice(0, 32);
}

function refusal({ corrects, endTime, id, isVoid, usage }: UsageRecord, now: bigint): string | undefined {
  if (id === "") return "it has no id";
  if (isVoid && corrects === "") return "it is a void and names no record in `corrects`";
  if (id === corrects) return "it corrects itself";
  if (endTime < now - WINDOW_NANOS) return "it ended more than 35 days ago";
  if (endTime > now + FUTURE_NANOS) return "it ends in the future";
  const amounts = [...Object.values(usage.tokens ?? {}), usage.reasoningTokens ?? 0, usage.requests ?? 0];
  return amounts.every((amount) => amount <= amountMax) ? undefined : `a count is above ${amountMax}`;
}
