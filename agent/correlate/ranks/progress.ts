// How much each data-parallel rank made lately, by the counters that move soonest: where a server counts its tokens for all ranks
// together (SGLang's tokenizer), that says which part of them is whose, and how much was made by ranks that its page does not
// show. Older progress fades.
import type { Nanos, ServerPoll, TokenIncrement } from "../../model.ts";

/** Progress counts half after so long: requests are counted when they end, their progress while they run. */
const halfLifeNanos: Nanos = 300_000_000_000;

/** Requests that ran before the first poll count their tokens whole: what is counted and what was made compare later. */
const firstNanos: Nanos = 600_000_000_000;
/** Output tokens it takes to compare the two, and by how much they differ by chance. */
const [countedMin, chanceRatio] = [10_000, 0.1];

interface Made {
  input: number;
  output: number;
}

/** The progress of the ranks of one server. */
export class RankProgress {
  readonly #made = new Map<string, Made>();
  /** What rounding still owes to ranks elsewhere, by kind of token. */
  readonly #owed = new Map<string, number>();
  /** Output tokens that were counted and made since the two compare. */
  #counted = 0;
  #compared = 0;
  #firstAt: Nanos | undefined;
  #polledAt: Nanos = -Infinity;

  /** Takes in what ranks counted between two polls. */
  takePoll(before: ServerPoll, poll: ServerPoll): void {
    const kept = 0.5 ** ((poll.at - before.at) / halfLifeNanos);
    for (const made of this.#made.values()) {
      made.input *= kept;
      made.output *= kept;
    }
    this.#counted *= kept;
    this.#compared *= kept;
    this.#firstAt ??= before.at;
    this.#polledAt = poll.at;
    const told = new Set<string>();
    for (const { inputTokens, outputTokens, rank } of poll.ranks ?? []) {
      told.add(rank);
      const then = before.ranks?.find((one) => one.rank === rank);
      if (then === undefined) continue;
      const made = this.#made.get(rank) ?? { input: 0, output: 0 };
      made.input += Math.max(0, inputTokens - then.inputTokens);
      const output = Math.max(0, outputTokens - then.outputTokens);
      made.output += output;
      if (this.#compares) this.#compared += output;
      this.#made.set(rank, made);
    }
    for (const rank of this.#made.keys()) if (!told.has(rank)) this.#made.delete(rank);
  }

  /** Takes in what the server counted. */
  noteCounted(increments: readonly TokenIncrement[]): void {
    if (!this.#compares) return;
    for (const { late, tokens } of increments) if (!late) this.#counted += tokens.output ?? 0;
  }

  get #compares(): boolean {
    return this.#firstAt !== undefined && this.#polledAt - this.#firstAt >= firstNanos;
  }

  /** The part of the tokens counted that ranks made which the page does not show; 0 until that is known, and by chance. */
  get unseenPart(): number {
    if (this.#counted < countedMin) return 0;
    const part = 1 - this.#compared / this.#counted;
    return part > chanceRatio ? part : 0;
  }

  /** Whole tokens, at most `all`, of a part of them; what is rounded off is carried to the next part of that kind. */
  wholeOf(kind: string, amount: number, all: number): number {
    const wanted = Math.min(all, amount) + (this.#owed.get(kind) ?? 0);
    const whole = Math.min(all, Math.max(0, Math.round(wanted)));
    this.#owed.set(kind, wanted - whole);
    return whole;
  }

  /** The part of each rank in what all of them made; undefined while none made anything. */
  parts(kind: "input" | "output"): ReadonlyMap<string, number> | undefined {
    let all = 0;
    for (const made of this.#made.values()) all += made[kind];
    if (!(all > 0)) return undefined;
    return new Map([...this.#made].map(([rank, made]) => [rank, made[kind] / all]));
  }
}
