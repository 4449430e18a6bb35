// What did not reach a destination, for the audit record: from when to when, how much and why.
// The first loss of a kind is told with the next beat, further ones as one sum per quarter of an hour: an outage that
// evicts all day must not fill the record.
import type { Nanos } from "../model.ts";
import type { Loss } from "../store/spool/spool.ts";

const TELL_EVERY_NANOS = 900e9;
/** Reasons are a destination's own words; beyond so many kinds they are told as "other". */
const KINDS_MAX = 200;

/** A loss, and of a refusal the destination's reason. */
export interface ToldLoss extends Loss {
  readonly reason?: string;
}

interface Kind {
  untold: ToldLoss | undefined;
  toldAt: Nanos;
}

/** Collects losses and writes entries of kind `loss`. */
export class LossRecord {
  readonly #note: (at: Nanos, body: Readonly<Record<string, unknown>>) => void;
  readonly #kinds = new Map<string, Kind>();

  constructor(note: (at: Nanos, body: Readonly<Record<string, unknown>>) => void) {
    this.#note = note;
  }

  add(loss: ToldLoss): void {
    const isKnown = this.#kinds.has(keyOf(loss)) || this.#kinds.size < KINDS_MAX;
    const told = isKnown ? loss : { ...loss, reason: "other" };
    const key = keyOf(told);
    const kind = this.#kinds.get(key) ?? { untold: undefined, toldAt: Number.NEGATIVE_INFINITY };
    kind.untold = kind.untold === undefined ? told : together(kind.untold, told);
    this.#kinds.set(key, kind);
  }

  /** Writes what is due; `all` also what is not: the agent stops. */
  tell(at: Nanos, all = false): void {
    for (const kind of this.#kinds.values()) {
      if (kind.untold === undefined || (!all && at - kind.toldAt < TELL_EVERY_NANOS)) continue;
      const { from, to, ...rest } = kind.untold;
      this.#note(at, { ...rest, from: String(from), to: String(to) });
      kind.untold = undefined;
      kind.toldAt = at;
    }
  }
}

function keyOf({ destination, reason, why }: ToldLoss): string {
  return [why, reason, destination].join(" ");
}

function together(a: ToldLoss, b: ToldLoss): ToldLoss {
  const from = a.from < b.from ? a.from : b.from;
  const to = a.to > b.to ? a.to : b.to;
  return { ...b, from, to, records: a.records + b.records, points: a.points + b.points };
}
