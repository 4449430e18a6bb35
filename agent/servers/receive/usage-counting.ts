// Usage records by (source, id): which is new, which was counted, which corrects or contradicts another.
// What was counted is found on disk, so that its number is not bounded by memory; only records that no commit has taken
// yet are held here. An id belongs to the caller that sent it: another's may be the same. Where that bound is reached callers are asked to send again (UNAVAILABLE with RetryInfo).
import { createHash } from "node:crypto";
import type { Clock } from "../../platform/clock.ts";
import type { CountedUsage } from "../../source.ts";
import { defined } from "../entry.ts";
import type { ReceiverMemory } from "./memory.ts";
import { retryLater } from "./recorder.ts";
import { SharedBound } from "./shares.ts";
import type { Usage, UsageTotals } from "./usage-totals.ts";
import { amountMax } from "./usage-totals.ts";

const MILLISECOND = 1_000_000n;
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

/** Usage as it was counted: enough to take it back from the row it was booked in, whatever was configured since. */
interface CountedUsageOf {
  readonly endTime: string;
  readonly usage: Usage;
  /** Unix milliseconds; absent in rows of before it was kept. */
  readonly at?: number;
  /** The endpoint it was counted under, where it named none. */
  readonly endpoint?: string;
  /** It was of an upstream that is not counted here: nothing was booked. */
  readonly left?: true;
}

/** A counted record as it is remembered: enough to know it again, and to take it back. */
interface Counted extends CountedUsageOf {
  /** Id of the record that replaced it. */
  readonly replacedBy?: string;
  readonly corrects?: string;
  /** Whose record it is; absent in rows of before callers were told apart, which are everyone's. */
  readonly by?: string;
  /** A record of this id without any token that came first: its request is the one that counts. */
  readonly first?: CountedUsageOf;
}

/** Decides for every record whether it is new, known, a correction or a contradiction. */
export class UsageCounting {
  readonly #parts: UsageCountingParts;
  readonly #pending = new Map<string, Pending>();
  /** How many of them each caller brought. */
  readonly #bound: SharedBound;

  constructor(parts: UsageCountingParts) {
    const most = parts.stored === undefined ? PENDING_MAX_IN_MEMORY : PENDING_MAX;
    this.#parts = parts;
    this.#bound = new SharedBound(parts.pendingMax ?? most);
  }

  /** Counts the records of one call. `onRecorded` must be called once they are on disk. Throws where the caller must wait. */
  async count(
    source: string,
    records: readonly UsageRecord[],
    caller = "",
  ): Promise<{ readonly answer: Answer; readonly onRecorded: () => void }> {
    const { clock, stored } = this.#parts;
    const now = clock.unixNanos(clock.now());
    const keys = records.flatMap(({ corrects, id }) =>
      [id, corrects]
        .filter((one) => one !== "")
        .flatMap((one) => [keyOf(source, one), keyOf(source, one, caller)]),
    );
    // What waits now may be on disk, and waits no more, before the disk has answered.
    const waiting = keys.flatMap((key) => {
      const content = this.#pending.get(key)?.content;
      return content === undefined ? [] : [[key, content] as const];
    });
    const wanted = keys.filter((key) => !this.#pending.has(key));
    const onDisk = wanted.length === 0 ? undefined : await stored?.find(wanted);
    const found = new Map([...(onDisk ?? []), ...waiting]);
    // From here to the end nothing else runs: a record sent twice at a time is counted by one of the two calls.
    this.#makeRoom(now, records.length, caller);
    const answer = { accepted: 0, duplicates: 0, conflicts: 0, refused: [] as Refused[] };
    const sender = { source, caller, found };
    for (const record of records) this.#count(record, sender, now, answer);
    const own = new Set(keys);
    const onRecorded = (): void => {
      if (stored !== undefined) for (const key of own) this.#letGo(key);
    };
    return { answer, onRecorded };
  }

  #count(record: UsageRecord, sender: Sender, now: bigint, answer: Answer): void {
    const { corrects, endTime, id, isVoid, usage } = record;
    const reason = refusal(record, now);
    if (reason !== undefined) {
      answer.refused.push({ id, reason });
      return;
    }
    const content: Counted = {
      ...this.#counted(endTime, isVoid ? {} : usage, now),
      ...(corrects === "" ? {} : { corrects }),
    };
    // A latency that was observed stays as it was: a correction that says it again is no second request.
    let timed: object = {};
    const before = this.#known(id, sender, content);
    if (before !== undefined) {
      this.#countAgain(record, content, before, sender, answer);
      return;
    }
    if (corrects !== "") {
      const original = this.#known(corrects, sender);
      const problem = this.#cannotCorrect(corrects, original);
      if (original === undefined || problem !== undefined) {
        answer.refused.push({ id, reason: problem ?? "" });
        return;
      }
      this.#takeBack(original);
      this.#remember(sender, corrects, { ...original, replacedBy: id });
      this.#parts.totals.noteDispute({ kind: isVoid ? "void" : "correction", id, corrects });
      timed = original.usage.seconds ?? {};
    }
    answer.accepted++;
    if (!isVoid) {
      const seconds = Object.entries(usage.seconds ?? {}).filter(([name]) => !(name in timed));
      this.#parts.totals.addUsage(
        { ...usage, seconds: Object.fromEntries(seconds), endTime, countedAt: instantOf(content) },
        sender.caller,
      );
    }
    this.#remember(sender, id, content);
  }

  #counted(endTime: bigint, usage: Usage, now: bigint): CountedUsageOf {
    const { totals } = this.#parts;
    const endpoint = usage.endpoint === undefined ? totals.endpoint : undefined;
    return {
      endTime: String(endTime),
      usage,
      at: Number(now / MILLISECOND),
      ...(endpoint === undefined ? {} : { endpoint }),
      ...(totals.isCounted(usage) ? {} : { left: true as const }),
    };
  }

  /** A record whose id was counted: a repeat, the tokens of a request that came without any, or a contradiction. */
  #countAgain(
    { id, usage, endTime }: UsageRecord,
    content: Counted,
    before: Counted,
    sender: Sender,
    answer: Answer,
  ): void {
    if (isSame(before, content)) answer.duplicates++;
    else if (isOpen(before) && content.corrects === undefined && hasTokens(usage)) {
      answer.accepted++;
      const countedAt = instantOf(content);
      this.#parts.totals.addUsage({ ...usage, endTime, countedAt, requests: 0, seconds: {} }, sender.caller);
      const { at, endpoint, endTime: firstEnd, left, usage: first } = before;
      this.#remember(sender, id, {
        ...content,
        first: { endTime: firstEnd, usage: first, ...defined({ at, endpoint, left }) },
      });
    } else {
      answer.conflicts++;
      this.#parts.totals.noteDispute({ kind: "conflict", id });
      answer.refused.push({ id, reason: contradiction });
    }
  }

  #takeBack(counted: Counted): void {
    const { first, usage } = counted;
    this.#takeBackPart(counted, first === undefined ? usage : { ...usage, requests: 0 });
    if (first !== undefined) this.#takeBackPart(first, first.usage);
  }

  #takeBackPart(counted: CountedUsageOf, usage: Usage): void {
    if (counted.left === true) return;
    const { totals } = this.#parts;
    const endpoint = counted.at === undefined ? totals.endpoint : counted.endpoint;
    totals.addUsage({
      ...usage,
      endpoint: usage.endpoint ?? endpoint,
      endTime: BigInt(counted.endTime),
      countedAt: instantOf(counted),
      takesBack: true,
    });
  }

  /** What this caller's id stands for; what another sent under it is known only where `content` repeats it. */
  #known(id: string, { caller, found, source }: Sender, content?: Counted): Counted | undefined {
    const read = (key: string): Counted | undefined => {
      const text = this.#pending.get(key)?.content ?? found.get(key);
      return text === undefined ? undefined : (JSON.parse(text) as Counted);
    };
    const shared = read(keyOf(source, id));
    if (shared === undefined || isOf(shared, caller)) return shared;
    const own = read(keyOf(source, id, caller));
    if (own !== undefined) return own;
    return content !== undefined && isSame(shared, content) ? shared : undefined;
  }

  #cannotCorrect(id: string, original: Counted | undefined): string | undefined {
    if (this.#parts.isEngine === true) return "tokens of an engine cannot be taken back (family: engine)";
    if (original === undefined) return `no record ${JSON.stringify(id)} was counted in the last 35 days`;
    if (original.replacedBy === undefined) return undefined;
    return `record ${JSON.stringify(id)} was corrected by ${JSON.stringify(original.replacedBy)} already`;
  }

  #remember({ caller, found, source }: Sender, id: string, counted: Counted): void {
    const plain = keyOf(source, id);
    const text = this.#pending.get(plain)?.content ?? found.get(plain);
    const isTaken = text !== undefined && !isOf(JSON.parse(text) as Counted, caller);
    const key = isTaken ? keyOf(source, id, caller) : plain;
    const until = Number((BigInt(counted.endTime) + WINDOW_NANOS + FUTURE_NANOS) / 1_000_000_000n);
    const content = JSON.stringify(caller === "" ? counted : { ...counted, by: caller });
    this.#letGo(key);
    this.#pending.set(key, { content, until, caller });
    this.#bound.change(caller, 1);
    if (this.#parts.stored !== undefined) this.#parts.memory.setCounted(key, until, content);
  }

  #letGo(key: string): void {
    const known = this.#pending.get(key);
    if (known === undefined) return;
    this.#pending.delete(key);
    this.#bound.change(known.caller, -1);
  }

  /** Throws what asks the caller to wait where no more records can be told apart from later ones. */
  #makeRoom(now: bigint, records: number, caller: string): void {
    if (this.#bound.has(caller, records)) return;
    const seconds = Number(now / 1_000_000_000n);
    if (this.#parts.stored === undefined) {
      for (const [key, { until }] of this.#pending) if (until < seconds) this.#letGo(key);
    }
    if (!this.#bound.has(caller, records)) throw retryLater("too many records wait to be stored");
  }
}

/** A record that was counted and is not on disk yet. */
interface Pending {
  readonly content: string;
  readonly until: number;
  readonly caller: string;
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

/** Who sends, and what was found of its records on disk. */
interface Sender {
  readonly source: string;
  readonly caller: string;
  readonly found: ReadonlyMap<string, string>;
}

/** When it was counted, as those who book it are told: to the millisecond that is remembered. */
function instantOf({ at }: CountedUsageOf): bigint | undefined {
  return at === undefined ? undefined : BigInt(at) * MILLISECOND;
}

function isOf({ by }: Counted, caller: string): boolean {
  return by === undefined || by === caller;
}

/** Whether a record is the one that was counted, or the one without tokens before it. */
function isSame(counted: Counted, { corrects, endTime, usage }: Counted): boolean {
  const text = JSON.stringify([endTime, usage, corrects]);
  const { first } = counted;
  return (
    text === JSON.stringify([counted.endTime, counted.usage, counted.corrects]) ||
    (first !== undefined && text === JSON.stringify([first.endTime, first.usage, undefined]))
  );
}

/** Whether a record said nothing of tokens and may get them by a later one of its id. */
function isOpen({ corrects, first, replacedBy, usage }: Counted): boolean {
  return !hasTokens(usage) && corrects === undefined && first === undefined && replacedBy === undefined;
}

function hasTokens({ reasoningTokens = 0, tokens = {} }: Usage): boolean {
  return reasoningTokens > 0 || Object.values(tokens).some((amount) => amount > 0);
}

/** 128 bits: of a billion ids two are the same but for one chance in 10^20. */
function keyOf(source: string, id: string, caller = ""): string {
  const whose = caller === "" ? "" : `${caller.length} ${caller}`;
  return createHash("sha256").update(`${whose}${source.length} ${source}${id}`).digest("hex").slice(0, 32);
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
